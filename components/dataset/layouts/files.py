"""List the files in a dataset's folder, and read its text files."""

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
        "extract frames from the videos, for example with `ffmpeg -i FILM -vf fps=1 images/%05d.jpg`",
    ),
    ".gif": "convert the images to PNG",
}
"""What to do about image and video formats that we cannot read, by file extension."""


def is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Return whether an operating system or a tool created the file for its own use, as macOS creates ._name.png."""
    return name.startswith((".", "__", "@ea", "$RECYCLE", "#recycle")) or name.lower() in ("thumbs.db", "desktop.ini")


def files_below(root: Path, folder: str = "", *, hidden: bool = False, loops: list[str] | None = None) -> Iterator[str]:
    """Yield the sorted names, relative to `root`, of all files below one of its folders.

    Symbolic links to folders are followed, except a link to a folder that contains it; those are added to `loops`.

    Raises UserError if a folder cannot be read, or the name of an image is not UTF-8.
    """
    yield from _walk(root / folder, root, (), hidden=hidden, loops=loops)


def subfolders(folder: Path) -> list[Path]:
    """Return the sorted direct subfolders, without hidden ones."""
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
        elif entry.is_file() or entry.is_symlink():  # a dangling link is reported when it is opened
            if is_picture(entry.name) and any("\udc80" <= letter <= "\udcff" for letter in entry.name):
                raise UserError(f"{folder}: the file name {os.fsencode(entry.name)!r} is not UTF-8: rename the file")
            yield (folder / entry.name).relative_to(root).as_posix()


def pictures(root: Path, folder: str) -> tuple[str, ...]:
    """Return the sorted names, relative to `root`, of all images below `folder`; empty if it does not exist."""
    return tuple(sorted(name for name in files_below(root, folder) if is_picture(name)))


def read_text(path: Path) -> str:
    """Return a file's text: UTF-16 if it has that byte order mark, else UTF-8 with or without one.

    Raises UserError if the text is neither, OSError if the file cannot be read.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
