"""What a check found, and the verdict over all of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from components.contract import Class
from components.dataset.layouts.model import Use

Level = Literal["fatal", "warning", "fine"]
LEVELS: tuple[Level, ...] = ("fatal", "warning", "fine")


@dataclass(frozen=True)
class Item:
    """One instance of a finding: a line of text, and the files that it is about."""

    text: str
    image: str = ""
    label: str = ""
    other: str = ""
    """The other image of a pair."""
    ids: tuple[int, ...] = ()
    """Of the label: those that are wrong."""


@dataclass(frozen=True)
class Finding:
    kind: str
    """For scripts: unreadable, size, mode, ids, …"""
    level: Level
    title: str
    advice: str
    """What it does to a training, and what to do."""
    items: tuple[Item, ...]

    def line(self) -> str:
        """For a log."""
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
    """What a split would give."""

    ratio: str
    origin: str
    """`lists`, `seeded`, or empty where `problem` says why there is none."""
    labeled: int = 0
    unlabeled: int = 0
    missing: tuple[str, ...] = ()
    """Classes that the training labels show, and the labelled part does not."""
    problem: str = ""


@dataclass(frozen=True)
class CheckReport:
    dataset: str
    layout: str
    folder: str
    classes: tuple[Class, ...]
    ignore_index: int
    images: dict[str, int]
    """Number of images by part: labeled, unlabeled, val, test."""
    sizes: dict[str, int]
    """Number of images by size, as "2048x1024"."""
    void_share: float
    """Of the training labels' pixels."""
    balance: tuple[ClassBalance, ...]
    ratios: tuple[RatioRow, ...]
    seed: int
    findings: tuple[Finding, ...]
    """The fatal ones first."""
    files: int
    bytes: int
    seconds: float
    source: str = ""
    """What the dataset was read from, as its user named it; the folder may be one that it was unpacked to."""
    notes: tuple[str, ...] = ()
    """What people should know of how the folder was read."""
    account: tuple[Use, ...] = ()
    """What every file of the dataset's folder is used for."""
    pools: dict[str, int] = field(default_factory=dict)
    """Number of images by further unlabelled pool that was not taken, and so not looked at."""
    checks: tuple[str, ...] = field(default=())
    """Titles of all that was looked for."""

    @property
    def verdict(self) -> Level:
        return verdict(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; names are relative to the dataset's folder."""
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
        return plain


def verdict(findings: Iterable[Finding]) -> Level:
    """The worst level; `fine` where nothing was found."""
    return min((finding.level for finding in findings), key=LEVELS.index, default="fine")


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Without the empty ones, the fatal ones first."""
    return tuple(sorted((f for f in findings if f.items), key=lambda finding: LEVELS.index(finding.level)))


def _without_empty(value: Any) -> dict[str, Any]:
    return {name: content for name, content in vars(value).items() if content not in ("", ())}
