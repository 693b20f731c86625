"""The findings of a dataset check, and the resulting verdict."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from components.contract import Class
from components.dataset.layouts.model import Use

Level = Literal["fatal", "warning", "fine"]
LEVELS: tuple[Level, ...] = ("fatal", "warning", "fine")


@dataclass(frozen=True)
class Item:
    """One instance of a finding: a line of text, and the files it concerns."""

    text: str
    image: str = ""
    label: str = ""
    other: str = ""
    """The other image of a pair."""
    ids: tuple[int, ...] = ()
    """The invalid ids in the label."""


@dataclass(frozen=True)
class Finding:
    kind: str
    """A stable code for scripts: unreadable, size, mode, ids, …"""
    level: Level
    title: str
    advice: str
    """How the problem affects training, and how to fix it."""
    items: tuple[Item, ...]

    def line(self) -> str:
        """Return the finding as one log line that quotes its first item."""
        more = f" (and {len(self.items) - 1:,} more)" if len(self.items) > 1 else ""
        return f"{self.level}: {self.title[0].lower()}{self.title[1:]}: {self.items[0].text}{more}"


@dataclass(frozen=True)
class ClassBalance:
    name: str
    color: tuple[int, int, int]
    train_pixels: int
    train_images: int
    val_pixels: int
    val_images: int


@dataclass(frozen=True)
class RatioRow:
    """The size of a split at one ratio."""

    ratio: str
    origin: str
    """`lists` or `seeded`; empty if `problem` explains why there is no split."""
    labeled: int = 0
    unlabeled: int = 0
    missing: tuple[str, ...] = ()
    """Classes that occur in the training labels but not in the labelled part."""
    problem: str = ""


@dataclass(frozen=True)
class CheckReport:
    dataset: str
    layout: str
    folder: str
    classes: tuple[Class, ...]
    ignore_index: int
    images: dict[str, int]
    """Number of images in each part: labeled, unlabeled, val, test."""
    sizes: dict[str, int]
    """Number of images of each size, as "2048x1024"."""
    void_share: float
    """Share of the training labels' pixels that are void, 0 to 1."""
    balance: tuple[ClassBalance, ...]
    ratios: tuple[RatioRow, ...]
    seed: int
    findings: tuple[Finding, ...]
    """Fatal findings come first."""
    files: int
    bytes: int
    seconds: float
    source: str = ""
    """The dataset's source as the user gave it; `folder` may be a temporary folder with the unpacked archive."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the folder was interpreted."""
    account: tuple[Use, ...] = ()
    """What every file in the dataset's folder is used for."""
    pools: dict[str, int] = field(default_factory=dict)
    """Number of images in each additional unlabelled pool, which was neither selected nor checked."""
    samples: tuple[Item, ...] = ()
    """Some labelled training images without problems, to look at."""
    checks: tuple[str, ...] = field(default=())
    """Titles of all checks that ran."""

    @property
    def verdict(self) -> Level:
        return verdict(self.findings)

    def as_json(self) -> str:
        """Return the report as JSON; file names are relative to the dataset's folder."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "dataset",
                "source",
                "layout",
                "notes",
                "pools",
                "folder",
                "images",
                "sizes",
                "files",
                "bytes",
                "seed",
            )
        }
        plain |= {
            "format": 1,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "void_share": self.void_share,
        }
        plain["findings"] = [
            {
                "kind": finding.kind, "level": finding.level, "title": finding.title, "advice": finding.advice,
                "count": len(finding.items), "items": [_without_empty(item) for item in finding.items],
            }
            for finding in self.findings
        ]  # fmt: skip
        plain["account"] = [_without_empty(use) for use in self.account]
        plain["classes"] = [vars(entry) for entry in self.balance]
        plain["ratios"] = [_without_empty(row) for row in self.ratios]
        return json.dumps(plain, indent=2)


def verdict(findings: Iterable[Finding]) -> Level:
    """Return the worst level; `fine` if there are no findings."""
    return min((finding.level for finding in findings), key=LEVELS.index, default="fine")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Drop findings without items and sort the others, fatal ones first."""
    return tuple(sorted((f for f in findings if f.items), key=lambda finding: LEVELS.index(finding.level)))


def _without_empty(value: object) -> dict[str, str | int | float | tuple[str, ...]]:
    return {name: content for name, content in vars(value).items() if content not in ("", ())}
