"""List the files in a dataset's folder, and read its text files."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from components.dataset import heic
from components.errors import UserError
from components.reading import is_file, mistaken, read_bytes

_ALWAYS = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm"}
SUFFIXES = frozenset({*_ALWAYS, *(heic.SUFFIXES if heic.reads_heic() else ())})

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

CONVERT = {
    **({} if heic.reads_heic() else dict.fromkeys(heic.SUFFIXES, f"{heic.CONVERT}, or {heic.install()}")),
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


def files_below(
    root: Path,
    folder: str = "",
    *,
    hidden: bool = False,
    loops: list[str] | None = None,
    unreadable: dict[str, str] | None = None,
) -> Iterator[str]:
    """Yield the sorted names, relative to `root`, of everything but folders below one of its folders.

    This includes pipes and links that lead nowhere, which are reported when they are opened. Symbolic links to folders
    are followed, except a link to a folder that contains it; those are added to `loops`.

    Args:
        unreadable: gets the reason for each folder that cannot be read; without it, the first one is an error.

    Raises:
        UserError: a folder cannot be read.
    """
    yield from _walk(root / folder, root, (), hidden=hidden, loops=loops, unreadable=unreadable)


def subfolders(folder: Path) -> list[Path]:
    """Return the sorted direct subfolders, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    except OSError as error:
        raise unreadable_folder(folder, error) from None


def _walk(
    folder: Path,
    root: Path,
    above: tuple[str, ...],
    *,
    hidden: bool,
    loops: list[str] | None,
    unreadable: dict[str, str] | None,
) -> Iterator[str]:
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
        if unreadable is None:
            raise unreadable_folder(folder, error) from None
        unreadable[folder.relative_to(root).as_posix()] = error.strerror or type(error).__name__
        return
    for entry in entries:
        if is_hidden(entry.name) and not hidden:
            continue
        if _is_folder(entry):
            below = folder / entry.name
            yield from _walk(below, root, (*above, real), hidden=hidden, loops=loops, unreadable=unreadable)
        else:
            yield (folder / entry.name).relative_to(root).as_posix()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself or through a folder that cannot be read
        return False


def unreadable_folder(folder: Path, error: OSError) -> UserError:
    """Return the error for a folder that cannot be listed."""
    return UserError(f"{folder} cannot be read: {error.strerror}; correct its permissions, or move it elsewhere")


def pictures(root: Path, folder: str) -> tuple[str, ...]:
    """Return the sorted names, relative to `root`, of all images below `folder`; empty if it does not exist."""
    return tuple(sorted(name for name in files_below(root, folder) if is_picture(name)))


def is_text_file(path: Path) -> bool:
    """Return whether a file exists. Raises UserError if its name exists but leads to no file, as a broken link does."""
    try:
        return is_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """Return a file's text: UTF-16 if it has that byte order mark, else UTF-8 with or without one.

    Raises UserError if the text is neither, OSError if the file cannot be read.
    """
    data = read_bytes(path)
    if data and (why := mistaken(data)):
        raise UserError(f"{path} cannot be read: {why}")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
