"""Summarise the labels of a draft: the values or colours in each, before anybody has said what they mean."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from components.dataset.check.facts import FileFacts
from components.dataset.class_files import RGB
from components.dataset.class_ids import Reading, content_problem, mark_painted
from components.dataset.label_pixels import LabelPixels
from components.dataset.layouts import Layout
from components.dataset.palettes import shuffled_grey
from components.errors import UserError

Mark = int | RGB
"""What marks the pixels of a class in label files: a value, a palette index or a colour."""

BLACK: RGB = (0, 0, 0)


@dataclass(frozen=True)
class Contents:
    """The marks in all labels that can be decoded."""

    labels: Mapping[str, Mapping[Mark, int]]
    """The number of pixels of each mark, by label."""
    palette: Mapping[int, RGB] = field(default_factory=dict)
    """The colour of each index, if labels have palettes that agree."""
    has_zeros: bool = False
    """Whether some labels have the value 0 only, although the others are coloured."""

    @cached_property
    def pixels(self) -> Counter[Mark]:
        """The number of pixels of each mark in all labels."""
        total: Counter[Mark] = Counter()
        for counts in self.labels.values():
            total.update(counts)
        return total

    @cached_property
    def images(self) -> Counter[Mark]:
        """The number of labels that contain each mark."""
        return Counter(mark for counts in self.labels.values() for mark in counts)

    @property
    def is_colored(self) -> bool:
        """Whether the labels are read by colour."""
        return any(not isinstance(mark, int) for mark in self.pixels)

    @property
    def values(self) -> list[int]:
        """The values in the labels, in order."""
        return sorted(mark for mark in self.pixels if isinstance(mark, int))


def mark_text(mark: Mark) -> str:
    """Return a value as it is, and a colour as #rrggbb."""
    return str(mark) if isinstance(mark, int) else "#{:02x}{:02x}{:02x}".format(*mark)


def mark_order(mark: Mark) -> tuple[int, ...]:
    """Return the key that sorts values by size, and colours by red, green and blue."""
    return (mark,) if isinstance(mark, int) else mark


def read_contents(layout: Layout, facts: Mapping[str, FileFacts], reading: Reading | None = None) -> Contents:
    """Return the marks in the labels of a draft.

    Args:
        facts: about every label by name. Labels that cannot be decoded are left to the check.
        reading: how a class file says that the labels are read, if there is one.

    Raises:
        UserError: a label cannot hold classes, whatever they are; or values and colours are mixed.
    """
    pixels = mark_painted({name: each.pixels for name, each in facts.items() if each.pixels is not None})
    for name, each in pixels.items():
        if problem := content_problem(name, each) or _shuffled(name, each):
            raise UserError(problem[1].replace("label ", f"label {layout.root}", 1))
    if not pixels:
        name, first = next(iter(facts.items()))
        raise UserError(f"label {layout.root}{name} cannot be read ({first.problem}), nor can any other: replace them")
    painted = {name for name, each in pixels.items() if each.kind == "colors" and (each.painted or not each.is_grey)}
    palettes = {name: each for name, each in pixels.items() if each.kind == "palette" and not _is_ramp(each)}
    if painted or not _agree(palettes):
        painted |= palettes.keys()
    if reading:
        painted |= reading.by_color
    marks = {name: _colors(each) if name in painted else _values(each) for name, each in pixels.items()}
    is_declared = reading is not None and not reading.refused
    has_zeros = not is_declared and _check_mixture(layout, marks, painted)
    if has_zeros:
        marks = {name: counts if name in painted else {BLACK: counts[0]} for name, counts in marks.items()}
    indexed = {} if painted else {index: color for each in palettes.values() for index, color in each.palette.items()}
    return Contents(marks, indexed, has_zeros)


def _shuffled(name: str, pixels: LabelPixels) -> tuple[str, str] | None:
    problem = shuffled_grey(name, pixels.palette) if pixels.kind == "palette" else ""
    return ("palette", problem) if problem else None


def _is_ramp(pixels: LabelPixels) -> bool:
    return all(color == (index, index, index) for index, color in pixels.palette.items())


def _agree(palettes: Mapping[str, LabelPixels]) -> bool:
    """Return whether each index has the same colour in all palettes."""
    pairs = sorted({pair for each in palettes.values() for pair in each.palette.items()})
    return all(len(list(same)) == 1 for _, same in groupby(pairs, key=lambda pair: pair[0]))


def _values(pixels: LabelPixels) -> dict[Mark, int]:
    if pixels.kind == "colors":  # grey, saved with three channels
        return {color[0]: count for color, count in (pixels.colors or {}).items()}
    return dict[Mark, int](pixels.counts.items())


def _colors(pixels: LabelPixels) -> dict[Mark, int]:
    if pixels.kind != "palette":
        return dict[Mark, int]((pixels.colors or {}).items())
    counts: Counter[Mark] = Counter()
    for index, count in pixels.counts.items():
        if index in pixels.palette:  # a palette may be too short; such pixels are read as void
            counts[pixels.palette[index]] += count
    return dict(counts)


def _check_mixture(layout: Layout, marks: Mapping[str, Mapping[Mark, int]], painted: set[str]) -> bool:
    """Return whether some labels are all 0 while others are coloured.

    Raises UserError if some labels have other values while others are coloured.
    """
    grey = [name for name in marks if name not in painted]
    if not painted or not grey:
        return False
    mixed = next((name for name in grey if set(marks[name]) != {0}), None)
    if mixed:
        raise UserError(
            f"label {layout.root}{mixed} has grey values, but label {layout.root}{min(painted)} has colours: nothing "
            "tells which value is which colour; export all labels in one way"
        )
    return True
