"""Which files lie in a dataset's folder, and the text of those that are text."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from components.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

CONVERT = {
    **dict.fromkeys((".heic", ".heif", ".avif"), "convert the photographs to JPEG, for example with `heif-convert`"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf"), "develop the raw photographs to JPEG"),
    **dict.fromkeys(
        (".mp4", ".mov", ".avi", ".mkv", ".webm"),
        "extract frames from the films, for example with `ffmpeg -i FILM -vf fps=1 images/%05d.jpg`",
    ),
    ".gif": "convert the pictures to PNG",
}
"""Photographs that are not read, by their ending, and what to do."""


def is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether an operating system or a tool left it for itself, as a Mac leaves ._name.png beside name.png."""
    return name.startswith((".", "__", "@ea", "$RECYCLE", "#recycle")) or name.lower() in ("thumbs.db", "desktop.ini")


def files_below(root: Path, folder: str = "", *, hidden: bool = False, loops: list[str] | None = None) -> Iterator[str]:
    """Yield the names, from the root, of all files below one of its folders, in the order of their names.

    Links to folders are followed, except one to a folder that contains the link; these are added to `loops`.
    """
    yield from _walk(root / folder, root, (), hidden=hidden, loops=loops)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, in the order of their names, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None


def _walk(folder: Path, root: Path, above: tuple[str, ...], *, hidden: bool, loops: list[str] | None) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:
        if loops is not None:
            loops.append(folder.relative_to(root).as_posix())
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        if is_hidden(entry.name) and not hidden:
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, root, (*above, real), hidden=hidden, loops=loops)
        elif entry.is_file() or entry.is_symlink():  # a link to nothing is missed when it is opened
            yield (folder / entry.name).relative_to(root).as_posix()


def pictures(root: Path, folder: str) -> tuple[str, ...]:
    """The names, from the root, of all pictures below one of its folders; sorted, none where there is no folder."""
    return tuple(sorted(name for name in files_below(root, folder) if is_picture(name)))


def read_text(path: Path) -> str:
    """Text as Windows and Unix write it: UTF-8, or UTF-16 where a byte order mark says so.

    Raises UserError where it is neither, OSError where the file cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
