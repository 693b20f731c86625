"""How checkpoints are dealt out to the steps of a fan-out."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from components.errors import UserError

T = TypeVar("T")


class Shard(NamedTuple):
    """Part `number` (from 0) of `total`."""

    number: int
    total: int

    def take(self, items: Sequence[T]) -> list[T]:
        """Every `total`-th item: parts differ by one item at most, and some are empty where items are few."""
        return list(items[self.number :: self.total])

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """Read "1/4", the second of four. Raises UserError."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"shard {text!r} must be i/n with 0 <= i < n, as 1/4 for the second of four")
    return Shard(int(match[1]), int(match[2]))
