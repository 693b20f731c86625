"""What one step writes and another reads: frozen models, and digests over their content."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Class(Frozen):
    name: str
    color: tuple[int, int, int]
    """Red, green, blue, 0-255: how masks of this class are painted."""


def digest_lines(lines: Iterable[str]) -> str:
    """sha256 of the lines, each ended by a newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """One spelling for equal values, so that their digests are equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
