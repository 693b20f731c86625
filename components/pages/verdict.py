"""The sentence that opens a page: whether something is good, why, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "doubtful", "bad"]
"""Shown as a mark, a word and a colour, so that colour is never alone."""


@dataclass(frozen=True)
class PageVerdict:
    level: Level
    word: str
    sentence: str
    why: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return `a, b and c`, or `a, b, c and 5 more` for more than `most` names."""
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
