"""The two ways a step fails, the user's mistake and a failure of the work, and what their texts are made with."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. The text is one line: what is wrong, where, and what to do. Exit code 2."""


class WorkFailed(Exception):
    """The work could not be done although the input was right. The text is one line. Exit code 1."""


def one_line(error: BaseException) -> str:
    """An error's text as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a misspelt name, or nothing where none is near."""
    matches = difflib.get_close_matches(wrong, list(valid), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
