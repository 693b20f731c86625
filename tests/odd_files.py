"""Files that are not what their name says: what a download, a cloud folder or another program leaves behind."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

Make = Callable[[Path], object]

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"


ODD: dict[str, tuple[Make, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "git-lfs": (lambda path: path.write_bytes(POINTER), "a Git LFS pointer instead of the file; fetch the file with"),
    "annexed": (lambda path: path.write_text("/annex/objects/SHA256E-s1--00.jpg\n"), "a git-annex pointer"),
    "annex link": (
        lambda path: path.symlink_to("../.git/annex/objects/a/b/c"),
        "its content is not on this machine; fetch it with `git annex get`",
    ),
    "page": (lambda path: path.write_bytes(PAGE), "a web page, such as a download's error message"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "it begins with zeros"),
    "broken link": (lambda path: path.symlink_to("/nowhere/x"), "a symbolic link to /nowhere/x, which does not exist"),
    "link to itself": (lambda path: path.symlink_to(path.name), ", which leads back to it"),
    "pipe": (os.mkfifo, "a named pipe, not a file"),
    "socket": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a file"),
}
"""How to make each, and what is said of it."""


def spoil(path: Path, kind: str) -> str:
    """Put an odd file in the place of a good one, and return what is said of it."""
    make, said = ODD[kind]
    path.unlink(missing_ok=True)
    make(path)
    return said
