"""Download a file over HTTP. A cut goes on where it was, in this process or the next; whole or not there at all.

name            the file, once it is whole
name.part       what has come of it so far
name.state      how the server tells this version of it from another (ETag, Last-Modified), as JSON
"""

import errno
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import certifi

from components import progress
from components.dataset.check.inspect import STEP
from components.errors import UserError, WorkFailed, is_disk_full
from components.files import holding, locked, replacing
from components.units import size_text

_CHUNK = 1 << 20
_ATTEMPTS = 5
"""In a row without a byte more than before."""
_TIMEOUT = 60.0  # seconds without a byte
_SAY_EVERY = 0.5  # seconds
_RETRY_AFTER = 1.0  # seconds, and twice as long the next time
_LONGEST_WAIT = 60.0  # seconds
_VALIDATORS = (("etag", "ETag"), ("last_modified", "Last-Modified"))
_ABANDONED = 30 * 24 * 3600.0
"""Seconds after which a download that nobody has gone on with is given up."""


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    name: str
    """How it is called in messages; nothing secret."""
    address: Callable[[], str]
    """Where it is now. Asked before each attempt, as a signed address expires."""
    authorization: Callable[[str], str] = lambda _: ""
    """The Authorization header for an address; empty for none."""
    sha256: str = ""
    size: int = 0
    explain: Callable[[int, str], Exception] | None = None
    """What an answer of 4xx means, where that is not known here."""


def download(remote: Remote, target: Path, step: str) -> Message | None:
    """Bring the file to `target`. Returns the answer's headers; None where what is there already is still right.

    Raises:
        UserError: there is no such file, or it is not allowed to be read, or not of the expected size.
        WorkFailed: the connection failed, several times in a row.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(remote, target, step)
    failures, furthest = 0, transfer.have
    while True:
        wait = 0.0
        try:
            return transfer.attempt()
        except urllib.error.HTTPError as error:
            with error:
                wait = _asked_wait(error.headers)
                if error.code < 500 and error.code not in (408, 425, 429):
                    transfer.give_up()
                    raise _refused(remote, error) from None
                reason = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and (is_disk_full(error) or error.errno in (errno.EROFS, errno.EACCES)):
                advice = "make room" if is_disk_full(error) else "set CPS_CACHE to a folder that you may write to"
                raise UserError(f"{target.parent} cannot be written: {error.strerror}; {advice}") from None
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        failures = failures + 1 if transfer.have <= furthest else 1
        furthest = max(furthest, transfer.have)
        if failures == _ATTEMPTS:
            transfer.give_up()
            raise WorkFailed(f"{remote.name} could not be downloaded in {_ATTEMPTS} attempts: {reason}")
        progress.say(step, f"{remote.name}: {reason}; trying again")
        time.sleep(max(wait, random.uniform(0.5, 1.0) * _RETRY_AFTER * 2 ** (failures - 1)))


def forget(target: Path) -> None:
    """Remove a download and all that is known of it."""
    for path in (target, _part(target), _state(target)):
        path.unlink(missing_ok=True)


@dataclass
class _Transfer:
    remote: Remote
    target: Path
    step: str
    have: int = 0
    """Bytes in the .part that a next attempt can go on from, or that the last one got to."""
    _validators: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.part = _part(self.target)
        self._validators = _read_state(_state(self.target))
        self.have = self._resumable()

    def attempt(self) -> Message | None:
        start = 0 if self.target.exists() else self._resumable()
        request = self._request(start)
        try:
            response = _opener().open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == 304 and self.target.exists():
                error.close()
                return None
            if error.code != 416:
                raise
            return self._after_416(error, start)
        with response:
            headers = response.headers
            if response.status == 206 and not self._continues(headers, start):
                self._restart()
                raise OSError("the server went on with another file than it began with")
            start = start if response.status == 206 else 0
            total = start + int(headers.get("Content-Length") or 0) if headers.get("Content-Length") else 0
            self._check(headers, total)
            self._write_state(headers)
            self._receive(response, start, total)
        return self._finish(headers)

    def give_up(self) -> None:
        """Keep what a next process can go on from, and nothing else."""
        if not self._resumable():
            self._restart()

    def _request(self, start: int) -> urllib.request.Request:
        address = self.remote.address()
        headers = {"User-Agent": "cps-pipeline", "Accept-Encoding": "identity"}
        etag, modified = self._validators.get("etag", ""), self._validators.get("last_modified", "")
        if self.target.exists():
            headers |= {"If-None-Match": etag} if etag else {"If-Modified-Since": modified} if modified else {}
        elif start:
            headers["Range"] = f"bytes={start}-"
            strong = etag if etag and not etag.startswith("W/") else modified
            headers |= {"If-Range": strong} if strong else {}
        request = urllib.request.Request(address, headers=headers)
        if authorization := self.remote.authorization(address):
            # Unredirected: it is not for whatever host an answer may name.
            request.add_unredirected_header("Authorization", authorization)
        return request

    def _resumable(self) -> int:
        """How much of the .part may be gone on from: nothing where a change of the file would not show."""
        size = self.part.stat().st_size if self.part.exists() else 0
        etag = self._validators.get("etag", "")
        known = (etag and not etag.startswith("W/")) or self._validators.get("last_modified") or self.remote.sha256
        return size if known else 0

    def _continues(self, headers: Message, start: int) -> bool:
        match = re.match(r"bytes ([0-9]+)-", headers.get("Content-Range", ""))
        same = all(
            not headers[header] or headers[header] == self._validators.get(name, headers[header])
            for name, header in _VALIDATORS
        )
        return match is not None and int(match[1]) == start and same

    def _after_416(self, error: urllib.error.HTTPError, start: int) -> Message:
        total = re.match(r"bytes \*/([0-9]+)", error.headers.get("Content-Range", ""))
        error.close()
        if start and total and int(total[1]) == start:
            return self._finish(error.headers)  # all of it had come when the last process ended
        self._restart()
        raise OSError("the file is shorter than what had come of it")

    def _check(self, headers: Message, total: int) -> None:
        if headers.get_content_type() == "text/html" and not self.target.name.endswith((".html", ".htm")):
            raise UserError(
                f"{self.remote.name} answers a web page and no file: where it needs a login, set CPS_DOWNLOAD_TOKEN, "
                "or CPS_DOWNLOAD_USER and CPS_DOWNLOAD_PASSWORD"
            )
        if self.remote.size and total and total != self.remote.size:
            raise UserError(f"{self.remote.name} has {total} bytes, and not {self.remote.size}: correct one of them")
        free = shutil.disk_usage(self.target.parent).free
        if total - self.have > free:
            raise UserError(
                f"{self.remote.name} has {size_text(total)} and {self.target.parent} "
                f"{size_text(free)} free: "
                "make room, or set CPS_CACHE to a folder on a larger disk"
            )

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int) -> None:
        done, said = start, 0.0
        with _opened(self.part, start) as file:
            try:
                while chunk := response.read1(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    if time.monotonic() - said > _SAY_EVERY:
                        note = f"{size_text(done)} of {self.target.name}"
                        progress.advance(self.step, done, total or done, note)
                        said = time.monotonic()
            finally:
                self.have = done
                file.flush()
                os.fsync(file.fileno())
        if total and done != total:
            raise OSError(f"the connection ended after {done} of {total} bytes")
        if self.remote.size and done != self.remote.size:
            self._restart()
            raise UserError(f"{self.remote.name} has {done} bytes, and not {self.remote.size}: correct one of them")

    def _finish(self, headers: Message) -> Message:
        os.replace(self.part, self.target)
        return headers

    def _restart(self) -> None:
        self._validators = {}
        self.part.unlink(missing_ok=True)
        if not self.target.exists():
            _state(self.target).unlink(missing_ok=True)

    def _write_state(self, headers: Message) -> None:
        self._validators = {name: headers[header] for name, header in _VALIDATORS if headers[header]}
        # First what was of another version goes: a state must never be that of a file it does not belong to.
        self.target.unlink(missing_ok=True)
        with replacing(_state(self.target)) as partial:
            partial.write_text(json.dumps(self._validators))


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if following is not None and authorization and _origin(newurl) == _origin(req.full_url):
            following.add_unredirected_header("Authorization", authorization)
        return following


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _opener() -> urllib.request.OpenerDirector:
    authorities = os.environ.get("SSL_CERT_FILE") or certifi.where()
    context = ssl.create_default_context(cafile=authorities)
    return urllib.request.build_opener(_Redirects(), urllib.request.HTTPSHandler(context=context))


def _opened(part: Path, start: int) -> IO[bytes]:
    file = part.open("r+b" if start else "wb")
    file.seek(start)
    file.truncate()
    return file


def _refused(remote: Remote, error: urllib.error.HTTPError) -> Exception:
    reason = " ".join(str(error.reason).split())
    if remote.explain is not None:
        return remote.explain(error.code, reason)
    todo = "correct the address"
    if error.code in (401, 403):
        todo = "set CPS_DOWNLOAD_TOKEN, or CPS_DOWNLOAD_USER and CPS_DOWNLOAD_PASSWORD, to what it lets in"
    return UserError(f"{remote.name} answers {error.code} {reason}: {todo}")


def _asked_wait(headers: Message | None) -> float:
    text = (headers.get("Retry-After") or "") if headers is not None else ""
    return min(float(text), _LONGEST_WAIT) if text.isascii() and text.isdigit() else 0.0


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
    """A folder for each address, this process's own while the stack lasts; those that were given up long ago go."""
    _prune(downloads)
    return {
        url: stack.enter_context(_exclusive(downloads / hashlib.sha256(url.encode()).hexdigest()[:16]))
        # In one order, so that no two processes wait for each other.
        for url in sorted(set(urls))
    }


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@contextmanager
def _exclusive(folder: Path) -> Iterator[Path]:
    """The folder, for this process alone: the lock lasts until the dataset is stored, then the folder goes."""
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
    """Leave nothing where there is nothing to go on from."""
    try:
        folder.rmdir()
        lock.unlink()
        folder.parent.rmdir()
    except OSError:
        return


def _prune(downloads: Path) -> None:
    """Remove what was begun long ago and is nobody's now; whoever downloads holds its lock, and touches its files."""
    for lock in downloads.glob("*.lock"):
        folder = lock.with_suffix("")
        try:
            newest = max(path.stat().st_mtime for path in (lock, *folder.glob("*")))
            if time.time() - newest < _ABANDONED:
                continue
            with holding(lock, os.O_RDWR, wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink()
            progress.say(STEP, f"removed a download that was begun {(time.time() - newest) / 86400:.0f} days ago")
        except OSError:
            continue  # it is in use, or gone
