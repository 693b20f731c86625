"""Fetch a file from a path, http(s):// or s3://, and verify it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from components.dataset.sources.address import Source, is_url, redacted, source_name
from components.dataset.sources.credentials import Credentials
from components.dataset.sources.download import Remote, download, forget
from components.errors import UserError
from components.files import file_sha256

if TYPE_CHECKING:
    from components.storage.client import Store

__all__ = ["fetch", "fetch_source", "file_sha256", "is_url", "source_name"]

_LINK_LASTS = timedelta(hours=6)
"""Longer than any single attempt. The next attempt gets a new link."""


def fetch(source: str, sha256: str, folder: Path, store: "Store", step: str) -> tuple[Path, str]:
    """Return the file's local path and sha256. Files that are not local are downloaded to `folder`.

    Args:
        sha256: the expected digest in hex; empty to accept any file.

    Raises:
        UserError: the file does not exist, or its sha256 differs.
        WorkFailed: the connection failed several times in a row.
    """
    return fetch_source(Source(source, sha256.lower()), folder, store, step)


def fetch_source(
    source: Source, folder: Path, store: "Store | None", step: str, credentials: Credentials | None = None
) -> tuple[Path, str]:
    """Fetch like `fetch`, and resume a download that was interrupted in `folder`. Only s3:// needs the store."""
    if not is_url(source.text):
        path = Path(source.text)
        return path, _verified(source, path)
    path = folder / _file_name(source.text)
    if path.exists() and source.sha256 and file_sha256(path) == source.sha256:
        return path, source.sha256  # an earlier process downloaded it
    remote = _object(source, store) if source.text.startswith("s3://") else _address(source, credentials)
    resumed = path.with_name(f"{path.name}.part").exists()
    headers = download(remote, path, step)
    try:
        found = _verified(source, path)
        stored = headers.get("x-amz-meta-sha256", "").lower() if headers and remote.explain else ""
        if stored and stored != found:
            raise UserError(f"{source.text} is damaged: its sha256 is {found}, but was {stored} when it was uploaded")
    except UserError:
        forget(path)
        if not resumed:
            raise
        # Only the digest reveals that the two halves belong to different files.
        return fetch_source(source, folder, store, step, credentials)
    return path, found


def _file_name(url: str) -> str:
    """Return a safe name for a downloaded file. A URL may end in `..`, or in more than fits into a name."""
    name = "".join(letter for letter in source_name(url) if letter.isprintable())[-200:]
    return name if name.strip(". ") else "download"


def _verified(source: Source, path: Path) -> str:
    found = file_sha256(path)
    size = path.stat().st_size
    if source.sha256 and found != source.sha256:
        raise UserError(
            f"{redacted(source.text)} has sha256 {found}, not {source.sha256}: "
            "correct the digest, or fetch the file again"
        )
    if source.size and size != source.size:
        raise UserError(f"{redacted(source.text)} has {size} bytes, not {source.size}: correct the size or the file")
    return found


def _address(source: Source, credentials: Credentials | None) -> Remote:
    def authorization(url: str) -> str:
        return credentials.header(url) if credentials else ""

    url = quote(source.text, safe="%/:=&?~#+!$,;'@()*[]")
    return Remote(redacted(source.text), lambda: url, authorization, sha256=source.sha256, size=source.size)


def _object(source: Source, store: "Store | None") -> Remote:
    """Return an object on the store's endpoint, which is downloaded through links signed with the store's keys."""
    if store is None:
        raise ValueError(f"{source.text} needs a store")
    from components.storage.failures import MissingObject

    def explain(code: int, reason: str) -> Exception:
        if code == 404:
            return MissingObject(source.text)
        return UserError(
            f"the object store at {store.settings.endpoint} refused reading {source.text} ({code} {reason}): "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their permissions"
        )

    return Remote(source.text, _link(source, store), sha256=source.sha256, size=source.size, explain=explain)


def _link(source: Source, store: "Store") -> Callable[[], str]:
    import urllib3

    from components.storage.client import connect, parse_uri

    bucket, key = parse_uri(source.text)
    client = connect(store.settings, urllib3.PoolManager())
    return lambda: str(client.presigned_get_object(bucket, key, expires=_LINK_LASTS))
