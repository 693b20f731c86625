"""Read files that may be something else: a pipe, a broken link, a pointer to a file that was never downloaded.

Files that a user names, or that lie in a user's folder, are opened here, so that nothing waits for a pipe, and every
error gives the reason.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
_HEAD = 512
"""Bytes that are enough to recognise a file's content."""
_GIT_LFS = b"version https://git-lfs"
_ANNEX = "/annex/objects/"


def open_file(path: Path) -> BufferedReader:
    """Open a file for reading. Raises OSError, whose strerror is the reason in words, also for anything but a file."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, _special(mode), str(path))
        return path.open("rb")
    except OSError as error:
        raise OSError(error.errno, _why(path, error), str(path)) from None


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises OSError like `open_file`."""
    with open_file(path) as file:
        return file.read()


def is_file(path: Path) -> bool:
    """Return whether the path is a file. Raises OSError, like `open_file`, if its name exists but no file is there.

    A folder of that name does not count: it may have another purpose.
    """
    if path.is_file():
        return True
    if os.path.lexists(path) and not path.is_dir():
        open_file(path).close()
    return False


def expanded(path: str) -> str:
    """Return a path with a leading ~ replaced by the home folder. Shells leave it in quotes and after `--option=`."""
    return path if os.path.lexists(path) else os.path.expanduser(path)


def mistaken(data: bytes) -> str:
    """Return what content is instead of an image, an archive or weights, and what to do; "" if that is unknown.

    `data` are the file's first bytes, or all of them.
    """
    head = data[:_HEAD].lstrip()
    if not data:
        return "the file is empty"
    if head.startswith(_GIT_LFS):
        return "it is a Git LFS pointer instead of the file; fetch the file with `git lfs pull`"
    if head.startswith((_ANNEX.encode(), b"../.git" + _ANNEX.encode())):
        return "it is a git-annex pointer instead of the file; fetch the file with `git annex get`"
    if head[:64].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is a web page, such as a download's error message; download the file again"
    if not any(data[:_HEAD]):
        return "it begins with zeros, as after an interrupted copy; copy or download the file again"
    return ""


def placeholder_of(name: str) -> str:
    """Return the file name that an iCloud placeholder stands for, x.jpg for .x.jpg.icloud, or "" for any other name."""
    return name[1:].removesuffix(".icloud") if name.startswith(".") and name.endswith(".icloud") else ""


PLACEHOLDER = "only in iCloud: download the files to this machine, for example with `brctl download FOLDER`"


def shown(name: str) -> str:
    """Return a file name for people: bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(name).decode(errors="replace")


def _special(mode: int) -> str:
    kind = next((text for matches, text in _KINDS if matches(mode)), "a device")
    return f"it is {kind}, not a file"


def _why(path: Path, error: OSError) -> str:
    """Return the reason for an error, which for a link is where it leads."""
    if not path.is_symlink() or error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
        return error.strerror or str(error)
    target = os.readlink(path)
    if _ANNEX in target:
        return "its content is not on this machine; fetch it with `git annex get`"
    if error.errno == errno.ELOOP:
        return f"it is a symbolic link to {target}, which leads back to it"
    return f"it is a symbolic link to {target}, which does not exist"
