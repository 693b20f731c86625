"""Download a file over HTTP, and resume where the connection broke, in this process or the next.

name            the file, once it is complete
name.part       the bytes that have arrived so far
name.state      the validators of this version of the file on the server (ETag, Last-Modified), as JSON
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError, InvalidHeader, LocationValueError, MaxRetryError

from components import progress
from components.addresses import through_proxy
from components.dataset.check.inspect import STEP
from components.dataset.sources import web
from components.disk import Unwritable, setting_of, writing
from components.errors import UserError, WorkFailed, is_disk_full
from components.files import holding, locked, replacing
from components.storage.failures import reason
from components.units import size_text

_CHUNK = 1 << 20
_ATTEMPTS = 5
"""Attempts in a row that make no progress before the download fails."""
_PROGRESS_SECONDS = 0.5
_BACKOFF = 1.0  # seconds before the third attempt, doubled before each further one
_LONGEST_WAIT = 60  # seconds
_RETRIED = (408, 425, 429, *range(500, 1000))
_VALIDATORS = (("etag", "ETag"), ("last_modified", "Last-Modified"))
_ABANDONED = 30 * 24 * 3600.0
"""Seconds after which a download that nobody has resumed is removed."""


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    name: str
    """Its name in messages, which holds no secret."""
    address: Callable[[], str]
    """Returns its URL. Called before each attempt, since a signed URL expires."""
    authorization: Callable[[str], str] = lambda _: ""
    """Returns the Authorization header for a URL, or an empty string."""
    sha256: str = ""
    size: int = 0
    explain: Callable[[int, str], Exception] | None = None
    """Turns a 4xx status and its reason into an error, if this module's own message does not fit."""


class _ErrorStatus(Exception):
    """The server answered with an error status."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        super().__init__(f"{response.status} {' '.join((response.reason or '').split())}")
        self.response = response


def download(remote: Remote, target: Path, step: str) -> Mapping[str, str] | None:
    """Download the file to `target`, and return the headers of the response.

    Returns None if `target` exists and the server reports that the file has not changed.

    Raises:
        UserError: the file does not exist, access is denied, its size is not the expected one, or the disk is full.
        WorkFailed: the connection failed several times in a row.
    """
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(remote, target, step)
    retries, furthest = _new_retries(), transfer.have
    while True:
        response = None
        try:
            return transfer.attempt()
        except _ErrorStatus as error:
            response, problem = error.response, str(error)
            if not retries.is_retry("GET", response.status, "Retry-After" in response.headers):
                transfer.give_up()
                raise _refused(remote, response.status, problem) from None
        except LocationValueError:  # its message contains the URL, which may be signed
            raise UserError(f"{remote.name} leads to an address that is not http:// or https://: correct it") from None
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(error, OSError) and (is_disk_full(error) or error.errno in (errno.EROFS, errno.EACCES)):
                raise Unwritable(target.parent, error, setting_of(target)) from None
            problem = reason(error)
        if transfer.have > furthest:
            retries, furthest = _new_retries(), transfer.have
        try:
            retries = retries.increment("GET", response=response)
        except MaxRetryError:
            transfer.give_up()
            way = through_proxy(remote.address())
            raise WorkFailed(f"{remote.name} could not be downloaded in {_ATTEMPTS} attempts: {problem}{way}") from None
        progress.say(step, f"{remote.name}: {problem}; retrying")
        _wait(retries, response)


def _new_retries() -> urllib3.Retry:
    return urllib3.Retry(
        _ATTEMPTS - 1,
        status_forcelist=_RETRIED,
        backoff_factor=_BACKOFF,
        backoff_jitter=_BACKOFF / 2,
        backoff_max=_LONGEST_WAIT,
        retry_after_max=_LONGEST_WAIT,
    )


def _wait(retries: urllib3.Retry, response: urllib3.BaseHTTPResponse | None) -> None:
    try:
        retries.sleep(response)
    except InvalidHeader:  # a Retry-After that is neither seconds nor a date
        retries.sleep()


def forget(target: Path) -> None:
    """Remove a download, with its partial file and its state."""
    for path in (target, _part(target), _state(target)):
        path.unlink(missing_ok=True)


@dataclass
class _Transfer:
    remote: Remote
    target: Path
    step: str
    have: int = 0
    """Bytes in the .part file that the next attempt can resume from, or that the last attempt reached."""
    _validators: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.part = _part(self.target)
        self._validators = _read_state(_state(self.target))
        self.have = self._resumable()

    def attempt(self) -> Mapping[str, str] | None:
        start = 0 if self.target.exists() else self._resumable()
        with self._request(start) as response:
            headers, status = response.headers, response.status
            if status == 304 and self.target.exists():
                return None
            if status == 416:
                return self._after_416(headers, start)
            if not 200 <= status < 300:
                raise _ErrorStatus(response)
            if status == 206 and not self._continues(headers, start):
                self._restart()
                raise OSError("the server resumed with a different file")
            start = start if status == 206 else 0
            length = int(headers.get("Content-Length") or 0)
            total = start + length if length else 0
            self._check(headers, total)
            self._write_state(headers)
            self._receive(response, start, total)
        return self._finish(headers)

    def give_up(self) -> None:
        """Keep only what a later process can resume from."""
        if not self._resumable():
            self._restart()

    def _request(self, start: int) -> urllib3.BaseHTTPResponse:
        address = self.remote.address()
        headers = {"User-Agent": "cps-pipeline", "Accept-Encoding": "identity"}
        etag, modified = self._validators.get("etag", ""), self._validators.get("last_modified", "")
        if self.target.exists():
            headers |= {"If-None-Match": etag} if etag else {"If-Modified-Since": modified} if modified else {}
        elif start:
            headers["Range"] = f"bytes={start}-"
            strong = etag if etag and not etag.startswith("W/") else modified
            headers |= {"If-Range": strong} if strong else {}
        if authorization := self.remote.authorization(address):
            headers["Authorization"] = authorization
        return web.get(address, headers)

    def _resumable(self) -> int:
        """Return how many bytes of the .part file can be kept: none if a changed file would go unnoticed."""
        size = self.part.stat().st_size if self.part.exists() else 0
        etag = self._validators.get("etag", "")
        known = (etag and not etag.startswith("W/")) or self._validators.get("last_modified") or self.remote.sha256
        return size if known else 0

    def _continues(self, headers: Mapping[str, str], start: int) -> bool:
        match = re.match(r"bytes ([0-9]+)-", headers.get("Content-Range", ""))
        same = all(
            not headers.get(header) or headers[header] == self._validators.get(name, headers[header])
            for name, header in _VALIDATORS
        )
        return match is not None and int(match[1]) == start and same

    def _after_416(self, headers: Mapping[str, str], start: int) -> Mapping[str, str]:
        total = re.match(r"bytes \*/([0-9]+)", headers.get("Content-Range", ""))
        if start and total and int(total[1]) == start:
            return self._finish(headers)  # the previous process ended after the last byte
        self._restart()
        raise OSError("the file is shorter than the bytes that have arrived")

    def _check(self, headers: Mapping[str, str], total: int) -> None:
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html" and not self.target.name.endswith((".html", ".htm")):
            raise UserError(
                f"{self.remote.name} returned a web page instead of a file: if it needs a login, set "
                "CPS_DOWNLOAD_TOKEN, or CPS_DOWNLOAD_USER and CPS_DOWNLOAD_PASSWORD"
            )
        if self.remote.size and total and total != self.remote.size:
            raise self._wrong_size(total)
        free = shutil.disk_usage(self.target.parent).free
        if total - self.have > free:
            raise UserError(
                f"{self.remote.name} has {size_text(total)}, but {self.target.parent} has only {size_text(free)} free: "
                f"make room, or set {setting_of(self.target) or 'CPS_CACHE'} to a folder on a larger disk"
            )

    def _receive(self, response: urllib3.BaseHTTPResponse, start: int, total: int) -> None:
        done, shown = start, 0.0
        with _opened(self.part, start) as file:
            try:
                while chunk := response.read1(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if time.monotonic() - shown > _PROGRESS_SECONDS:
                        note = f"{size_text(done)} of {self.target.name}"
                        progress.advance(self.step, done, total or done, note)
                        shown = time.monotonic()
            finally:
                self.have = done
                file.flush()
                os.fsync(file.fileno())
        if total and done != total:
            raise OSError(f"the connection ended after {done} of {total} bytes")
        if self.remote.size and done != self.remote.size:
            self._restart()
            raise self._wrong_size(done)

    def _wrong_size(self, size: int) -> UserError:
        return UserError(
            f"{self.remote.name} has {size} bytes, not {self.remote.size}: correct the size or the address"
        )

    def _finish(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        os.replace(self.part, self.target)
        return headers

    def _restart(self) -> None:
        self._validators = {}
        self.part.unlink(missing_ok=True)
        if not self.target.exists():
            _state(self.target).unlink(missing_ok=True)

    def _write_state(self, headers: Mapping[str, str]) -> None:
        self._validators = {name: headers[header] for name, header in _VALIDATORS if headers.get(header)}
        # Remove the old version first, so that its file never stands beside the new version's state.
        self.target.unlink(missing_ok=True)
        with replacing(_state(self.target)) as partial:
            partial.write_text(json.dumps(self._validators))


def _opened(part: Path, start: int) -> IO[bytes]:
    file = part.open("r+b" if start else "wb")
    file.seek(start)
    file.truncate()
    return file


def _refused(remote: Remote, status: int, answer: str) -> Exception:
    if remote.explain is not None:
        return remote.explain(status, answer.partition(" ")[2])
    todo = "correct the address"
    if status in (401, 403):
        todo = "set CPS_DOWNLOAD_TOKEN, or CPS_DOWNLOAD_USER and CPS_DOWNLOAD_PASSWORD, to a login that has access"
    return UserError(f"{remote.name} answered {answer}: {todo}")


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _state(target: Path) -> Path:
    return target.with_name(f"{target.name}.state")


def _read_state(path: Path) -> dict[str, str]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def folders_for(urls: Iterable[str], downloads: Path, stack: ExitStack) -> dict[str, Path]:
    """Return a folder for each URL, locked until `stack` closes. Abandoned downloads are removed first."""
    _prune(downloads)
    return {
        url: stack.enter_context(_exclusive(downloads / hashlib.sha256(url.encode()).hexdigest()[:16]))
        # Sorted, so that no two processes wait for each other.
        for url in sorted(set(urls))
    }


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@contextmanager
def _exclusive(folder: Path) -> Iterator[Path]:
    """Lock the folder for this process. If it is empty at the end, remove it and its lock."""
    path = folder.with_name(f"{folder.name}.lock")
    handle = _lock(path)
    try:
        folder.mkdir(exist_ok=True)
        yield folder
    finally:
        _tidy(folder, path)
        os.close(handle)


def _lock(path: Path) -> int:
    """Return a handle that holds the lock on `path`, and make its folder."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process removed the folder in between
            return locked(path, os.O_RDWR | os.O_CREAT)


def _tidy(folder: Path, lock: Path) -> None:
    """Remove the folder, its lock and the folder above if nothing is left to resume from."""
    try:
        folder.rmdir()
        lock.unlink()
        folder.parent.rmdir()
    except OSError:
        return


def _prune(downloads: Path) -> None:
    """Remove abandoned downloads. A process that uses one holds its lock and keeps writing to its files."""
    for lock in downloads.glob("*.lock"):
        folder = lock.with_suffix("")
        try:
            newest = max(path.stat().st_mtime for path in (lock, *folder.glob("*")))
            if time.time() - newest < _ABANDONED:
                continue
            with holding(lock, os.O_RDWR, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink()
            progress.say(STEP, f"removed a download that was abandoned {(time.time() - newest) / 86400:.0f} days ago")
        except OSError:
            continue  # in use, or already removed
