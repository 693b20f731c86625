"""The two ways a step fails, a user's mistake or a failure of the work, and helpers for error messages."""

import difflib
import errno
from collections.abc import Callable, Iterable

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """A mistake that the user can correct. The message is one line: what is wrong, where, what to do. Exit code 2."""


class WorkFailed(Exception):
    """The work failed although the input was valid. The message is one line. Exit code 1."""


def one_line(error: BaseException) -> str:
    """Return the error's message on one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether a write failed because the disk, the quota or the file size limit was exhausted."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for a misspelt name, or an empty string if no valid name is similar."""
    matches = difflib.get_close_matches(wrong, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def find_one(given: str, names: Iterable[str], what: str, show: Callable[[str], str] = str) -> str:
    """Return the name that equals `given`, or else the only one that starts with it.

    Args:
        what: the kind of thing that is named, such as "run in s3://cps/runs/".
        show: returns a name as the error displays it.

    Raises:
        UserError: no name matches, or several do. It lists the candidates.
    """
    known = list(names)
    matching = [name for name in known if name == given] or [name for name in known if name.startswith(given)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(show(name) for name in (matching or known)[:5]) or "none"
    if matching:
        raise UserError(f"{given!r} is ambiguous, it matches {listed}: type more of it")
    raise UserError(f"{given!r} is not a {what}{nearest(given, known)}; available: {listed}")
