"""Find photographs by file, folder, pattern, list or s3:// prefix."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from components.dataset.layouts.files import SUFFIXES
from components.dataset.layouts.lists import line_names, list_lines
from components.errors import UserError
from components.metrics.confusion import ClassIds
from components.prediction.decode import Pixels, Unreadable, decode, read_file, read_label

if TYPE_CHECKING:
    from components.storage.client import ObjectRef, Store

LISTS = frozenset({".txt", ".lst"})
"""Each line is `image` or `image label`, relative to the list's folder."""
S3 = "s3://"
_MISSING = (
    "images {!r} do not exist: give a file, a folder, a list (.txt), an s3:// prefix, "
    "or a quoted pattern such as 'street/*.jpg'"
)


@dataclass(frozen=True)
class Photograph:
    """An image to predict.

    `name` determines the paths of its outputs: a relative path without a suffix, unique among the images predicted
    together. `shown` is its name in logs and on pages.
    """

    name: str
    shown: str
    read: Callable[[], Pixels]
    """Return the pixels, (H, W, 3) uint8 RGB. May raise Unreadable."""
    version: Callable[[], str]
    """Return a text that changes with the content. May raise Unreadable."""
    truth: Callable[[], ClassIds] | None = None
    """Return the true class ids, (H, W), if they are known. May raise Unreadable."""


def find_photographs(
    paths: Sequence[str], open_store: "Callable[[], Store] | None" = None, not_below: Path | None = None
) -> list[Photograph]:
    """Return the photographs that `paths` refer to, without duplicates.

    Args:
        paths: files, folders (searched recursively), patterns such as "street/**/*.jpg", lists (.txt) of lines `image`
            or `image label`, and s3://bucket/prefix.
        open_store: returns the store for s3:// URIs; only called if there are any.
        not_below: a folder to ignore, such as an output folder inside an input folder.

    Raises:
        UserError: a path does not exist, or there are no images.
    """
    found: dict[str, Photograph] = {}
    for text in paths:
        expanded = _in_store(text, open_store) if text.startswith(S3) else _in_files(text)
        for identity, photograph in expanded:
            if not_below is None or not_below.resolve() not in Path(identity).parents:
                found.setdefault(identity, photograph)
    if not found:
        raise UserError(
            f"no images in {', '.join(paths) or 'an empty list'}: supported suffixes are {' '.join(sorted(SUFFIXES))}"
        )
    names = unique_names([item.name for item in found.values()])
    return [replace(item, name=name) for item, name in zip(found.values(), names, strict=True)]


def check_exist(paths: Sequence[str]) -> None:
    """Raise UserError if a file or folder does not exist, before any expensive work starts."""
    for text in paths:
        if not (text.startswith(S3) or glob.has_magic(text) or os.path.exists(text)):
            raise UserError(_MISSING.format(text))


def unique_names(files: Sequence[str]) -> list[str]:
    """Return relative paths without suffixes. Duplicates get "-2", "-3" and so on."""
    taken: set[str] = set()
    names = []
    for file in files:
        stem = str(Path(*(part for part in Path(file).with_suffix("").parts if part not in ("..", "/"))))
        name, number = stem, 1
        while name.lower() in taken:  # for case-insensitive file systems
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _in_files(text: str) -> Iterator[tuple[str, Photograph]]:
    """Yield the local photographs that an argument refers to, each with its resolved path."""
    for path, below, label in _expand(text):
        photograph = Photograph(
            below.as_posix(),
            _shown(path),
            read=partial(_read, path),
            version=partial(_digest, path),
            truth=None if label is None else partial(read_label, label),
        )
        yield str(path.resolve()), photograph


def _shown(path: Path) -> str:
    """Return the path relative to the working directory if it is inside, else as given, which is easier to read."""
    below = os.path.relpath(path)
    return str(path) if below.startswith(os.pardir) else below


def _expand(text: str) -> list[tuple[Path, Path, Path | None]]:
    """Return (image file, relative path of its outputs, label file or None) of each image."""
    path = Path(text)
    if path.is_dir():
        return [(file, file.relative_to(path), None) for file in sorted(path.rglob("*")) if _is_image(file)]
    if path.is_file() and path.suffix.lower() in LISTS:
        return _listed(path)
    if path.is_file():
        return [(path, Path(path.name), None)]
    if glob.has_magic(text):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        return [(file, Path(file.name), None) for file in matches if _is_image(file)]
    raise UserError(_MISSING.format(text))


def _listed(path: Path) -> list[tuple[Path, Path, Path | None]]:
    """Return the images in a list file, as `_expand` does. Raises UserError."""
    found = []
    for where, line in list_lines(path.parent, path.name):
        fields = line_names(line, where, lambda name: (path.parent / name).is_file())
        files = [path.parent / field for field in fields]
        for file, field in zip(files, fields, strict=True):
            if not file.is_file():
                raise UserError(f"{where}: {field} does not exist in {path.parent}; correct the line or add the file")
        below = Path(fields[0])
        label = files[1] if len(files) == 2 else None
        found.append((files[0], Path(below.name) if below.is_absolute() else below, label))
    return found


def _in_store(text: str, open_store: "Callable[[], Store] | None") -> Iterator[tuple[str, Photograph]]:
    """Yield the images below a prefix, or the single object with that key."""
    from components.storage.client import MissingObject, Store

    bucket, _, prefix = text.removeprefix(S3).partition("/")
    if open_store is None or not bucket:
        raise UserError(f"images {text!r}: write s3://bucket/prefix, and set AWS_ENDPOINT_URL to the store's URL")
    own = open_store()
    store = own if own.settings.bucket == bucket else Store(replace(own.settings, bucket=bucket))
    try:
        listed = store.list(prefix)
    except MissingObject:
        raise UserError(f"images {text!r}: bucket {bucket!r} does not exist at {store.settings.endpoint}") from None
    objects = [item for item in listed if PurePosixPath(item.key).suffix.lower() in SUFFIXES]
    exact = [item for item in objects if item.key == prefix]
    base = prefix.rpartition("/")[0]
    for item in exact or objects:
        photograph = Photograph(
            item.key[len(base) :].lstrip("/"),
            item.uri,
            read=partial(_fetch, store, item.key),
            version=partial(_stored_version, item),
        )
        yield item.uri, photograph


def _stored_version(item: "ObjectRef") -> str:
    return f"{item.uri} {item.size} {item.modified.isoformat()}"


def _fetch(store: "Store", key: str) -> Pixels:
    from components.storage.client import MissingObject

    try:
        return decode(store.get_bytes(key))
    except MissingObject:
        raise Unreadable("it is no longer in the store") from None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _read(path: Path) -> Pixels:
    return decode(read_file(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()
