"""Choose the training images that keep their labels at a ratio.

If the dataset has its own lists for the ratio, they are used. Otherwise the training images are ranked by the sha256 of
`"<seed>:<image>"`, and the first n * ratio (halves round up) keep their labels. The ranking does not depend on the
ratio, so the 1/16 set is part of the 1/8 set; nor does it depend on the machine or library versions. The recipe's
`split` settings change the ranking, as described in `ranking.py`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from pydantic import model_validator

from components.contract import Frozen, canonical_json, renamed
from components.dataset.manifest import Manifest, Sample
from components.dataset.ranking import prefix_length, ranked_groups
from components.errors import UserError
from components.labeled_ratio import parse_ratio, ratio_text
from components.recipes.model import Split as SplitSettings


class Split(Frozen):
    labeled_ratio: str
    """A reduced fraction such as "1/8"."""
    seed: int
    origin: Literal["lists", "seeded"]
    """`lists`: the dataset's own lists, which do not depend on the seed."""
    labeled: tuple[Sample, ...]
    unlabeled: tuple[str, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    fingerprint: str
    """sha256 of dataset digest, ratio, seed and the lists."""

    @model_validator(mode="before")
    @classmethod
    def _read_0_1(cls, value: Any) -> Any:
        return renamed(value, {"ratio": "labeled_ratio"})


def split_labels(
    manifest: Manifest,
    ratio: str | Fraction,
    seed: int,
    settings: SplitSettings = SplitSettings(),  # noqa: B008 - frozen
    classes: Mapping[str, Sequence[int]] | None = None,
) -> Split:
    """Split the dataset's training images into labelled and unlabelled ones.

    The unlabelled images are the remaining training images and those that never had a label.

    Args:
        settings: how images are ranked; ignored for the dataset's own lists.
        classes: the class ids in each label, by the label's name; required if `settings.stratify` is set.

    Raises:
        UserError: the ratio is malformed or selects no image, or the groups are too large for it.
    """
    fraction = parse_ratio(ratio) if isinstance(ratio, str) else ratio
    text = ratio_text(fraction)
    own = manifest.ratio_lists.get(text)
    if own is None:
        labeled, unlabeled = _ranked(manifest, fraction, seed, settings, classes)
    else:
        labeled, unlabeled = own.labeled, own.unlabeled
    known = {*unlabeled, *(sample.image for sample in labeled)}
    unlabeled = (*unlabeled, *(image for image in manifest.unlabeled if image not in known))
    if not labeled:
        raise UserError(_none_left(manifest, text, own is not None))
    return Split(
        labeled_ratio=text,
        seed=seed,
        origin="seeded" if own is None else "lists",
        labeled=labeled,
        unlabeled=unlabeled,
        val=manifest.val,
        test=manifest.test,
        fingerprint=_fingerprint(manifest, text, seed, labeled, unlabeled),
    )


def labeled_count(images: int, ratio: Fraction) -> int:
    """Return how many of `images` training images keep their label; halves round up."""
    return math.floor(images * ratio + Fraction(1, 2))


def _ranked(
    manifest: Manifest,
    ratio: Fraction,
    seed: int,
    settings: SplitSettings,
    classes: Mapping[str, Sequence[int]] | None,
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    if settings.stratify and classes is None:
        raise ValueError("a stratified split needs the classes in each label")
    groups = ranked_groups(
        manifest.train, seed, group_by=settings.group_by, classes=classes if settings.stratify else None
    )
    ranked = [sample for group in groups for sample in group.samples]
    count = wanted = labeled_count(len(ranked), ratio)
    if settings.group_by and wanted:
        sizes = [len(group.samples) for group in groups]
        count = sum(sizes[: prefix_length(sizes, wanted)])
        if not wanted <= 2 * count <= 4 * wanted:
            raise UserError(
                f"split.group_by {settings.group_by!r} forms {len(groups)} groups of {min(sizes)} to {max(sizes)} "
                f"images in dataset {manifest.name}, but ratio {ratio_text(ratio)} needs {wanted} and the closest "
                f"choice has {count}: use an expression that forms smaller groups"
            )
    return tuple(ranked[:count]), tuple(sample.image for sample in ranked[count:])


def _none_left(manifest: Manifest, ratio: str, own: bool) -> str:
    if own:
        return f"dataset {manifest.name}: its own labelled list for ratio {ratio} is empty; fill or delete it"
    count = len(manifest.train)
    if not count:
        return f"dataset {manifest.name}: no training image has a label; add `image label` lines to train.txt"
    # The smallest 1/n that still rounds up to one image: count / n >= 1/2.
    return (
        f"ratio {ratio} selects none of the {count} labelled images in dataset {manifest.name}: "
        f"the smallest ratio that selects one is 1/{2 * count}"
    )


def _fingerprint(
    manifest: Manifest, ratio: str, seed: int, labeled: tuple[Sample, ...], unlabeled: tuple[str, ...]
) -> str:
    parts = {
        "dataset": manifest.digest,
        "ratio": ratio,
        "seed": seed,
        "labeled": [[sample.image, sample.label] for sample in labeled],
        "unlabeled": unlabeled,
        "val": [[sample.image, sample.label] for sample in manifest.val],
        "test": [[sample.image, sample.label] for sample in manifest.test],
    }
    return hashlib.sha256(canonical_json(parts)).hexdigest()
