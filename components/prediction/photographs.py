"""Find photographs by file, folder, pattern, list or s3:// prefix."""

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from components import progress
from components.dataset.layouts.files import SUFFIXES, files_below, is_hidden, is_picture
from components.dataset.layouts.lists import line_names, list_lines
from components.errors import UserError
from components.metrics.confusion import ClassIds
from components.prediction.decode import Pixels, Unreadable, decode, read_file, read_label
from components.reading import PLACEHOLDER, placeholder_of, shown

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
    file: Path | None = None
    """The local file, with all links resolved."""


def find_photographs(
    paths: Sequence[str],
    open_store: "Callable[[], Store] | None" = None,
    skip: Callable[[Path], bool] = lambda _path: False,
) -> list[Photograph]:
    """Return the photographs that `paths` refer to, without duplicates.

    A folder's hidden files, such as macOS's ._x.jpg, are skipped. Files that cannot be read are included, so that the
    caller reports them.

    Args:
        paths: files, folders (searched recursively), patterns such as "street/**/*.jpg", lists (.txt) of lines `image`
            or `image label`, and s3://bucket/prefix.
        open_store: returns the store for s3:// URIs; only called if there are any.
        skip: whether to ignore a file that a folder or a pattern matches, such as an earlier output.

    Raises:
        UserError: a path does not exist, or there are no images.
    """
    found: dict[str, Photograph] = {}
    for text in paths:
        for identity, photograph in _in_store(text, open_store) if text.startswith(S3) else _in_files(text, skip):
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
        if not (text.startswith(S3) or glob.has_magic(text) or os.path.lexists(text)):
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


def _in_files(text: str, skip: Callable[[Path], bool]) -> Iterator[tuple[str, Photograph]]:
    """Yield the local photographs that an argument refers to, each with its resolved path."""
    path = Path(text)
    if path.is_dir():
        yield from _in_folder(path, skip)
    elif os.path.lexists(path) and path.suffix.lower() in LISTS:
        for file, below, label in _listed(path):
            yield _local(file, below, label)
    elif os.path.lexists(path):
        yield _local(path, Path(path.name))
    elif glob.has_magic(text):
        for file in map(Path, sorted(glob.glob(text, recursive=True))):
            if _is_image(file) and not skip(file):
                yield _local(file, Path(file.name))
    else:
        raise UserError(_MISSING.format(text))


def _in_folder(folder: Path, skip: Callable[[Path], bool]) -> Iterator[tuple[str, Photograph]]:
    """Yield the folder's photographs, and an unreadable one for each subfolder or file that cannot be read."""
    unreadable: dict[str, str] = {}
    hidden, skipped, found = [], 0, 0
    for name in files_below(folder, hidden=True, unreadable=unreadable):
        below = PurePosixPath(name)
        original = below.with_name(placeholder_of(below.name) or below.name)
        if original != below and is_picture(original.name):
            yield _refused(folder / original, Path(original), PLACEHOLDER)
        elif is_picture(name) and any(map(is_hidden, below.parts)):
            hidden.append(name)
        elif is_picture(name) and skip(folder / name):
            skipped += 1
        elif is_picture(name):
            found += 1
            yield _local(folder / name, Path(name))
    if "." in unreadable:
        raise UserError(f"folder {folder} cannot be read: {unreadable['.']}; correct its permissions")
    if skipped and not found:
        raise UserError(f"folder {folder} has only results of earlier predictions: choose other images")
    for name, reason in unreadable.items():
        if not any(map(is_hidden, PurePosixPath(name).parts)):
            yield _refused(folder / name, Path(name), f"the folder cannot be read: {reason}")
    if hidden:
        progress.say("predict", f"{folder}: skipped {len(hidden)} hidden files, such as {shown(hidden[0])}")


def _local(file: Path, below: Path, label: Path | None = None) -> tuple[str, Photograph]:
    """Return a file's resolved path and photograph; `below` is the relative path of its outputs."""
    resolved = Path(os.path.realpath(file))
    photograph = Photograph(
        below.as_posix(),
        _shown(file),
        read=partial(_read, file),
        version=partial(_digest, file),
        truth=None if label is None else partial(read_label, label),
        file=resolved,
    )
    return str(resolved), photograph


def _refused(path: Path, below: Path, reason: str) -> tuple[str, Photograph]:
    def refuse() -> Any:
        raise Unreadable(reason)

    return str(path.absolute()), Photograph(below.as_posix(), _shown(path), read=refuse, version=refuse)


def _shown(path: Path) -> str:
    """Return the path relative to the working directory if it is inside, else as given, which is easier to read."""
    below = os.path.relpath(path)
    return shown(str(path) if below.startswith(os.pardir) else below)


def _listed(path: Path) -> list[tuple[Path, Path, Path | None]]:
    """Return the images in a list file, as `_expand` does. Raises UserError."""
    found = []
    for where, line in list_lines(path.parent, path.name):
        fields = line_names(line, where, lambda name: os.path.lexists(path.parent / name))
        files = [path.parent / field for field in fields]
        for file, field in zip(files, fields, strict=True):
            if not os.path.lexists(file):
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
    objects = [item for item in listed if is_picture(item.key)]
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
    return is_picture(path.name) and not path.is_dir()


def _read(path: Path) -> Pixels:
    return decode(read_file(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()
