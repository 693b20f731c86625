"""A dataset that was found in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.dataset.manifest import Lists


@dataclass(frozen=True)
class Layout:
    """Every file its lists name is there."""

    folder: Path
    name: str
    kind: str
    lists: Lists
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further images without labels, by the name of their pool. Taken on demand, and looked for only then."""
    label_ids: Mapping[int, int] | None = None
    """Where labels hold other ids than the classes': what each means; `components.dataset.train_ids` maps them."""
    label_colors: Mapping[tuple[int, int, int], int] | None = None
    """Where labels are colour masks: what each colour means; mapped like other ids."""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Labels that could not be mapped to class ids, and lie there as they were: a kind of the check, and why."""
    notes: tuple[str, ...] = ()
    """What people should know of how the folder was read."""
    origin: str = ""
    """What people call its folder, where that is a temporary one: the archive that was unpacked there."""

    @property
    def root(self) -> str:
        """What stands before its files' names in messages."""
        return f"{self.origin or self.folder}/"

    @property
    def pool_sizes(self) -> dict[str, int]:
        """Number of images by pool."""
        return {name: len(images) for name, images in self.pools.items()}


def pools_text(sizes: Mapping[str, int]) -> str:
    """For people: `train_extra_3000 (3,000 images), train_extra_6000 (6,000 images)`."""
    return ", ".join(f"{name} ({number:,} image{'' if number == 1 else 's'})" for name, number in sizes.items())
