"""Parse the dataset parameter: one source, or several that are unpacked in order.

    scenes:train=160            photos/            https://host/camvid.tar.gz
    leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip
    'my data/images.zip' s3://bucket/labels.tar.zst

Separate several sources with spaces, and quote a name with spaces, unless it is the only one and exists.
`stored:DIGEST` is a dataset that is already in the object store.
`sha256` lists the digests in the same order: `HEX`, `HEX:BYTES`, or `-` for an unknown one.
"""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from components.dataset.sources.archive import SUFFIXES, archive_stem
from components.errors import UserError
from components.reading import expanded, open_file
from components.scenes.generate import is_scenes, parse_scenes

_DIGEST = re.compile(r"([0-9a-f]{64})(?::([0-9]{1,15}))?")
_SECRETS = frozenset(
    {"access_token", "api_key", "apikey", "auth", "auth_token", "password", "passwd", "secret", "token"}
)


STORED = "stored:"
"""The prefix of a dataset that is already in the object store. Its digest follows."""


@dataclass(frozen=True)
class Source:
    text: str
    """`scenes…`, a path, or a URL."""
    sha256: str = ""
    """In lower-case hex; empty if unknown."""
    size: int = 0
    """In bytes; 0 if unknown."""


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://", "s3://"))


def source_name(source: str) -> str:
    """Return the last part of a path or URL: `camvid.tar` for `https://host/data/camvid.tar?download=1`."""
    path = unquote(urlsplit(source).path) if is_url(source) else source
    return path.rstrip("/").rsplit("/", 1)[-1]


def redacted(source: str) -> str:
    """Return a source without its query, which may hold a signature, so that it may be logged."""
    return source.partition("?")[0].partition("#")[0] if source.startswith(("http://", "https://")) else source


def parse_sources(dataset: str, sha256: str = "") -> tuple[Source, ...]:
    """Return the sources in order. Raises UserError if they cannot be separated or their digests do not match."""
    texts = _separate(dataset)
    digests = [text for text in re.split(r"[\s,]+", sha256.strip().lower()) if text]
    if digests and len(digests) != len(texts):
        raise UserError(
            f"sha256 has {len(digests)} values for {len(texts)} sources: give one per source, and - for none"
        )
    if len(texts) > 1 and any(is_scenes(text) for text in texts):
        raise UserError(f"dataset {dataset!r}: generated scenes cannot be combined with other sources")
    if any(text.startswith(STORED) for text in texts) and (len(texts) > 1 or digests):
        raise UserError(f"dataset {dataset!r}: a stored dataset cannot be combined with other sources or a sha256")
    return tuple(
        Source(text, *_digest(digest)) for text, digest in zip(texts, digests or ["-"] * len(texts), strict=True)
    )


def check_source(source: str, *, is_here: bool) -> None:
    """Check as much of a source as possible without fetching it.

    Args:
        is_here: a path must exist on this machine. False if another machine reads it.

    Raises:
        UserError: the source is malformed or does not exist.
    """
    if is_scenes(source):
        parse_scenes(source)
    elif source.startswith(STORED):
        if not re.fullmatch("[0-9a-f]{64}", source.removeprefix(STORED)):
            raise UserError(f"dataset {source!r}: write {STORED} and the dataset's digest of 64 hexadecimal digits")
    elif source.startswith("s3://"):
        from components.storage.client import parse_uri

        parse_uri(source)
    elif is_url(source):
        _check_url(source)
    elif "://" in source:
        scheme = source.partition("://")[0]
        raise UserError(f"dataset {scheme}://…: only http://, https:// and s3:// are supported, or a path")
    elif is_here:
        _check_path(source)


def _separate(dataset: str) -> list[str]:
    text = dataset.strip()
    if " " not in text or is_scenes(text) or (not is_url(text) and os.path.exists(expanded(text))):
        return [expanded(text)]
    try:
        return [expanded(each) for each in shlex.split(text)]
    except ValueError as error:
        raise UserError(f"dataset: {str(error).lower()}: quote a name with spaces, and close every quote") from None


def _digest(text: str) -> tuple[str, int]:
    if text == "-":
        return "", 0
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise UserError(f"sha256 {text!r} is not 64 hexadecimal digits: copy all of it, or leave it empty")
    return match[1], int(match[2] or 0)


def _check_url(source: str) -> None:
    parts = _split(source)
    # Messages never quote the query or the login, which may hold a password.
    if "@" in parts.netloc:
        raise UserError(
            f"dataset {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path} has a login in its address: "
            "remove it, and set CPS_DOWNLOAD_USER and CPS_DOWNLOAD_PASSWORD, or CPS_DOWNLOAD_TOKEN"
        )
    secret = next((name for name, _ in parse_qsl(parts.query) if name.lower() in _SECRETS), None)
    if secret:
        raise UserError(
            f"dataset {redacted(source)} has {secret!r} in its address: remove it, and set CPS_DOWNLOAD_TOKEN"
        )
    if not parts.hostname or not parts.path.strip("/") or re.search(r"\s", source):
        raise UserError(f"dataset {redacted(source)!r} is not the URL of a file: write https://host/path/archive.tar")


def _split(source: str) -> SplitResult:
    try:
        parts = urlsplit(source)
        _ = parts.port
    except ValueError as error:
        raise UserError(
            f"the dataset's address is malformed ({type(error).__name__}): write https://host/path"
        ) from None
    return parts


def _check_path(source: str) -> None:
    path = Path(source)
    if not source or not os.path.lexists(path):
        raise UserError(f"dataset {source!r} does not exist: give a folder, an archive, a URL or `scenes`")
    if path.is_dir():
        return
    try:
        open_file(path).close()
    except OSError as error:
        raise UserError(f"dataset {source!r} cannot be read: {error.strerror}") from None
    if archive_stem(path.name) is None:
        raise UserError(f"dataset {source!r} is not an archive: give one of {', '.join(SUFFIXES)}, or a folder")
