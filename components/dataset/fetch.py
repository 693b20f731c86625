"""Bring a file here from a path, http(s):// or s3://. It appears whole and verified, or not at all."""

import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from components import progress
from components.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from components.storage.client import Store

_CHUNK = 1 << 20
_ATTEMPTS = 3
_TIMEOUT = 60.0  # seconds without a byte
_SAY_EVERY = 0.5  # seconds
_RETRY_AFTER = 1.0  # seconds, and twice as long the next time


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://", "s3://"))


def source_name(source: str) -> str:
    """The last part of a path or URL: `camvid.tar` of `https://host/data/camvid.tar?download=1`."""
    path = unquote(urlsplit(source).path) if is_url(source) else source
    return path.rstrip("/").rsplit("/", 1)[-1]


def fetch(source: str, sha256: str, folder: Path, store: "Store", step: str) -> tuple[Path, str]:
    """The file's local path and sha256. A local file stays where it is; others are put into `folder`.

    Args:
        sha256: what the file's should be, in hex; empty takes what comes.

    Raises:
        UserError: there is no such file, or its sha256 is another.
        WorkFailed: the connection failed, several times.
    """
    if source.startswith("s3://"):
        path = store.get_uri(source, folder / source_name(source))
    elif is_url(source):
        path = _download(source, folder / (source_name(source) or "download"), step)
    else:
        path = Path(source)
    found = file_sha256(path)
    if sha256 and found != sha256.lower():
        if is_url(source):
            path.unlink()
        raise UserError(f"{source} has sha256 {found}, and not {sha256}: correct it, or fetch the file again")
    return path, found


def file_sha256(path: Path) -> str:
    """In hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None


def _download(url: str, target: Path, step: str) -> Path:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _download_once(url, target, step)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UserError(f"{url} answers {error.code} {error.reason}: correct the address") from None
            reason = f"{error.code} {error.reason}"
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt < _ATTEMPTS:
            progress.say(step, f"{url}: {reason}; trying again")
            time.sleep(_RETRY_AFTER * 2 ** (attempt - 1))
    raise WorkFailed(f"{url} could not be downloaded in {_ATTEMPTS} attempts: {reason}")


def _download_once(url: str, target: Path, step: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers={"User-Agent": "cps-pipeline"})
    handle, temporary = tempfile.mkstemp(prefix=".download-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            total, done, said = int(response.headers.get("Content-Length") or 0), 0, 0.0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if time.monotonic() - said > _SAY_EVERY:
                    progress.advance(step, done, total, f"{done / 1e6:.0f} MB of {target.name}")
                    said = time.monotonic()
            if total and done != total:
                raise OSError(f"the connection ended after {done} of {total} bytes")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target
