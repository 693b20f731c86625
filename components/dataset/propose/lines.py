"""Describe a proposal in lines of text."""

from collections.abc import Iterator, Sequence

from components.dataset.layouts.model import counted
from components.dataset.propose.contents import mark_text
from components.dataset.propose.proposal import Proposal, Split
from components.dataset.propose.rare import RARE_IMAGES, RARE_PIXELS
from components.units import percent

_MARKS = 40
"""How many values or colours are listed."""
_SHOWN = 3
"""How many items of a problem, or groups of a split, are named."""
_INDENT = " " * 9


def describe(proposal: Proposal) -> Iterator[str]:
    """Yield what was found in the folder, what is proposed, and what the check says about it.

    The files are left out if the check would refuse the dataset, because then they are not to be written.
    """
    images = proposal.images
    parts = [
        counted(images["labeled"], "images with a label"),
        *(f"{images[part]:,} {part}" for part in ("unlabeled", "val", "test") if images[part]),
    ]
    kind = "several folders, read as one dataset" if proposal.joined else f"layout {proposal.layout}"
    yield f"{proposal.dataset}: {kind}; {', '.join(parts).replace('unlabeled', 'without a label')}"
    yield from _marks(proposal)
    yield from (f"note     {note}" for note in proposal.notes)
    yield from _rare(proposal)
    if proposal.split:
        yield from _split(proposal.split)
    for problem in proposal.problems:
        yield f"{problem.level:<9}{problem.title} ({len(problem.items):,})"
        yield from (f"{_INDENT}{item}" for item in problem.items[:_SHOWN])
        if len(problem.items) > _SHOWN:
            yield f"{_INDENT}… and {len(problem.items) - _SHOWN:,} more"
    is_fatal = any(problem.level == "fatal" for problem in proposal.problems)
    for file in () if is_fatal else proposal.files:
        lines = f" ({counted(file.images, 'images')})" if file.images else f" ({len(proposal.classes)} classes)"
        yield f"{'replace' if file.replaces else 'create':<9}{proposal.folder}/{file.path}{lines}"


def _marks(proposal: Proposal) -> Iterator[str]:
    colors = {each.name: mark_text(each.color) for each in proposal.classes}
    rows = [("in labels", "pixels", "labels", "class", "shown as")]
    rows += [
        (
            mark_text(each.mark),
            _share(each.pixel_share),
            _share(each.image_share),
            each.meaning,
            colors.get(each.meaning, ""),
        )
        for each in proposal.marks[:_MARKS]
    ]
    width = max(len(row[3]) for row in rows)
    for mark, pixels, labels, name, color in rows:
        yield f"{_INDENT}{mark:>9}  {pixels:>8}  {labels:>8}  {name:<{width}}  {color}".rstrip()
    if len(proposal.marks) > _MARKS:
        yield f"{_INDENT}… and {len(proposal.marks) - _MARKS:,} more; --json lists them all"
    if proposal.names_from:
        yield f"names    from {proposal.names_from}"
    elif any(file.path.startswith("classes") for file in proposal.files):
        yield "names    are placeholders: replace them in classes.json"


def _share(share: float) -> str:
    return percent(share) if share >= 0.001 or share == 0 else f"{100 * share:.1g} %"


def _rare(proposal: Proposal) -> Iterator[str]:
    rare = [each for each in proposal.classes if each.is_rare]
    if rare:
        limit = f"fewer than {RARE_IMAGES} labels or {100 * RARE_PIXELS:g} % of the pixels"
        listed = ", ".join(f"{each.name} ({each.images} labels, {_share(each.pixel_share)})" for each in rare)
        yield f"rare     {listed}: {limit}, too little to learn"
        yield f"{_INDENT}`--merge-rare NAME` makes them part of a class, `--merge-rare void` ignores their pixels"


def _split(split: Split) -> Iterator[str]:
    start = f"val      {split.images:,} of {split.labeled:,} labelled images"
    if split.method == "sequences":
        yield f"{start}, whole sequences by their names: {_listed(split.groups)}"
    elif split.method == "blocks":
        yield f"{start}, in blocks of consecutive numbers: {_listed(split.groups)}"
    else:
        yield f"{start}, at random (seed {split.seed}), since their names show no sequences"
    if split.missing:
        yield f"{_INDENT}val lacks {', '.join(split.missing)}, whose IoU is therefore not measured"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
