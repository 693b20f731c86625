"""Bring a file here from a path, http(s):// or s3://. It appears whole and verified, or not at all."""

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
"""Longer than any one attempt; the next has a link of its own."""


def fetch(source: str, sha256: str, folder: Path, store: "Store", step: str) -> tuple[Path, str]:
    """The file's local path and sha256. A local file stays where it is; others are put into `folder`.

    Args:
        sha256: what the file's should be, in hex; empty takes what comes.

    Raises:
        UserError: there is no such file, or its sha256 is another.
        WorkFailed: the connection failed, several times.
    """
    return fetch_source(Source(source, sha256.lower()), folder, store, step)


def fetch_source(
    source: Source, folder: Path, store: "Store | None", step: str, credentials: Credentials | None = None
) -> tuple[Path, str]:
    """As `fetch`. What a cut download has left in `folder` is gone on with. The store is for s3:// alone."""
    if not is_url(source.text):
        path = Path(source.text)
        return path, _verified(source, path)
    path = folder / _file_name(source.text)
    if path.exists() and source.sha256 and file_sha256(path) == source.sha256:
        return path, source.sha256  # a process before this one had it, and got no further
    remote = _object(source, store) if source.text.startswith("s3://") else _address(source, credentials)
    resumed = path.with_name(f"{path.name}.part").exists()
    headers = download(remote, path, step)
    try:
        found = _verified(source, path)
        stored = headers.get("x-amz-meta-sha256", "").lower() if headers and remote.explain else ""
        if stored and stored != found:
            raise UserError(f"{source.text} is damaged: its sha256 is {found}, and was {stored} when it was stored")
    except UserError:
        forget(path)
        if not resumed:
            raise
        # The first half may be of another file than the second, where only the digest can tell.
        return fetch_source(source, folder, store, step, credentials)
    return path, found


def _file_name(url: str) -> str:
    """What a download is called here. An address may end in `..`, or in more than a name can be."""
    name = "".join(letter for letter in source_name(url) if letter.isprintable())[-200:]
    return name if name.strip(". ") else "download"


def _verified(source: Source, path: Path) -> str:
    found = file_sha256(path)
    size = path.stat().st_size
    if source.sha256 and found != source.sha256:
        raise UserError(
            f"{redacted(source.text)} has sha256 {found}, and not {source.sha256}: correct it, or fetch the file again"
        )
    if source.size and size != source.size:
        raise UserError(f"{redacted(source.text)} has {size} bytes, and not {source.size}: correct one of them")
    return found


def _address(source: Source, credentials: Credentials | None) -> Remote:
    def authorization(url: str) -> str:
        return credentials.header(url) if credentials else ""

    url = quote(source.text, safe="%/:=&?~#+!$,;'@()*[]")
    return Remote(redacted(source.text), lambda: url, authorization, sha256=source.sha256, size=source.size)


def _object(source: Source, store: "Store | None") -> Remote:
    """An object of the store's endpoint, by links that are signed with the store's keys."""
    if store is None:
        raise ValueError(f"{source.text} needs a store")
    from components.storage.failures import MissingObject

    def explain(code: int, reason: str) -> Exception:
        if code == 404:
            return MissingObject(source.text)
        return UserError(
            f"the object store at {store.settings.endpoint} refused reading {source.text} ({code} {reason}): "
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they are allowed to do"
        )

    return Remote(source.text, _link(source, store), sha256=source.sha256, size=source.size, explain=explain)


def _link(source: Source, store: "Store") -> Callable[[], str]:
    import urllib3

    from components.storage.client import connect, parse_uri

    bucket, key = parse_uri(source.text)
    client = connect(store.settings, urllib3.PoolManager())
    return lambda: str(client.presigned_get_object(bucket, key, expires=_LINK_LASTS))
