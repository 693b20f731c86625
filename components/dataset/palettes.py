"""Decide whether palette labels are read by their indices or by their colours.

Each tool orders palettes differently, and some alter colours slightly: 15-bit colours are off by up to 7 of 255. A
label is therefore read by colour if each of its colours almost equals that of a different class, and is much closer to
it than to any other. If its colours only resemble those of the classes, in an order that contradicts the indices, the
label is refused. Any other palette is only for display, and the label is read by index.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.dataset.class_files import RGB
from components.dataset.classes import Declared
from components.dataset.label_pixels import LabelPixels

_NEAR = 8
"""Colours that differ by at most this much in every channel, of 255, are taken for the same."""
_SIMILAR = 24
"""If all colours of a palette are this close to those of classes, it may be meant as theirs."""


@dataclass(frozen=True)
class Palettes:
    by_color: frozenset[str]
    """The labels to read by colour; the others are read by index."""
    near: Mapping[RGB, int]
    """The class ids of colours that are not exactly those of classes."""
    refused: Mapping[str, tuple[str, str]]
    """Labels whose palettes are contradictory, with the finding's kind and text."""
    notes: tuple[str, ...]


@dataclass
class _Reader:
    declared: Declared
    by_color: set[str] = field(default_factory=set)
    near: dict[RGB, int] = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    largest: int = 0
    """The largest difference between a colour and that of its class."""
    example: str = ""
    """A label that is read by the nearest colours."""


def read_palettes(pixels: Mapping[str, LabelPixels], declared: Declared) -> Palettes:
    """Decide for every palette label, by its name, how it is read."""
    used = {name: _used(each, declared) for name, each in pixels.items()}
    used = {name: colors for name, colors in used.items() if not _is_ramp(colors)}
    shared = _shared(used)
    reader = _Reader(declared)
    meant: dict[int, tuple[RGB, str]] = {}
    for name, colors in used.items():
        problem = _read(reader, name, colors, shared or colors) or _other_meaning(reader, name, colors, meant)
        if problem:
            reader.refused[name] = ("palette", problem)
    notes: tuple[str, ...] = ()
    if reader.example:
        notes = (
            f"palette colours that differ from those of the classes by up to {reader.largest} of 255 are read as the "
            f"nearest, for example in {reader.example}",
        )
    return Palettes(frozenset(reader.by_color), reader.near, reader.refused, notes)


def shuffled_grey(name: str, used: Mapping[int, RGB]) -> str:
    """Return why a palette is ambiguous whose colours are greys, but not in the order of the indices; "" if not.

    Args:
        used: the colour of each index that occurs.
    """
    greys = [color[0] for _, color in sorted(used.items()) if len(set(color)) == 1]
    if not len(greys) == len(used) > 1 or greys == sorted(greys):
        return ""
    return (
        f"label {name} has a grey palette in another order than its indices, so its ids are ambiguous: "
        "save ids as 8-bit grey"
    )


def _used(pixels: LabelPixels, declared: Declared) -> dict[int, RGB]:
    """Return the colours of the indices in use, except void."""
    void = declared.ignore_index
    return {index: color for index, color in pixels.palette.items() if declared.values.get(index) != void}


def _is_ramp(colors: Mapping[int, RGB]) -> bool:
    """Return whether the palette is plain grey, which does not identify classes."""
    return all(color == (index, index, index) for index, color in colors.items())


def _shared(used: Mapping[str, Mapping[int, RGB]]) -> dict[int, RGB]:
    """Return the colours of all labels together, or {} if an index has two."""
    colors: dict[int, RGB] = {}
    for each in used.values():
        if any(colors.setdefault(index, color) != color for index, color in each.items()):
            return {}
    return colors


def _read(reader: _Reader, name: str, colors: Mapping[int, RGB], shared: Mapping[int, RGB]) -> str:
    """Add the label to those that are read by colour if it is one, and return why it is refused, or "".

    Args:
        shared: the colours of all labels with the same palette, which say more than those of one.
    """
    declared = reader.declared
    if not declared.colors:
        return shuffled_grey(name, colors)
    if all(color in declared.colors for color in colors.values()):
        if not _in_order(colors, declared.colors, declared):
            reader.by_color.add(name)
        return ""
    sure = _sure(shared, declared)
    if len(sure) == len(shared) and len(set(sure.values())) == len(sure):
        if not _in_order(shared, sure, declared):
            reader.by_color.add(name)
            reader.near.update({color: sure[color] for color in colors.values()})
            reader.largest = max(reader.largest, *(_nearest(color, declared)[1] for color in colors.values()))
            reader.example = reader.example or name
        return ""
    return _doubt(name, colors, shared, sure, declared)


def _doubt(
    name: str, colors: Mapping[int, RGB], shared: Mapping[int, RGB], sure: Mapping[RGB, int], declared: Declared
) -> str:
    """Return why a palette that is only partly that of the classes is refused; "" if its colours mean nothing."""
    exact = {index: color for index, color in colors.items() if color in declared.colors}
    wrong = [index for index, color in exact.items() if declared.values.get(index) != declared.colors[color]]
    if wrong:
        other = next(color for index, color in colors.items() if index not in exact)
        owner = _class_name(declared, declared.colors[exact[wrong[0]]])
        return (
            f"label {name} has the colour {exact[wrong[0]]} of {owner!r} at palette index {wrong[0]}, but also "
            f"{other}, which belongs to no class: save ids as 8-bit grey, or assign every colour to a class"
        )
    nearest = {index: _nearest(color, declared) for index, color in shared.items()}
    moved = [index for index, (number, _) in nearest.items() if declared.values.get(index) != number]
    moved_surely = [index for index in moved if shared[index] in sure]
    similar = all(distance <= _SIMILAR for _, distance in nearest.values())
    if 2 * len(moved_surely) < len(shared) and not (similar and 2 * len(moved) >= len(shared)):
        return ""
    index = next((each for each in (*moved_surely, *moved) if each in colors), moved[0])
    number = nearest[index][0]
    return (
        f"label {name} has {shared[index]} at palette index {index}, close to the colour "
        f"{_color_of(declared, number)} of {_class_name(declared, number)!r}, so that its colours and indices may "
        "disagree: give the classes the palette's colours in classes.json, or save ids as 8-bit grey"
    )


def _other_meaning(reader: _Reader, name: str, colors: Mapping[int, RGB], meant: dict[int, tuple[RGB, str]]) -> str:
    """Return why a label that is read by index contradicts another one, or ""."""
    declared = reader.declared
    if name in reader.by_color or all(color in declared.colors for color in colors.values()):
        return ""
    for index, color in colors.items():
        before, where = meant.setdefault(index, (color, name))
        if before != color:
            return (
                f"label {name} has {color} at palette index {index}, but label {where} has {before}: "
                'save ids as 8-bit grey, or give each class its "color" in classes.json'
            )
    return ""


def _sure(colors: Mapping[int, RGB], declared: Declared) -> dict[RGB, int]:
    """Return the class ids of the colours that are almost those of one class, and much less those of any other."""
    found = {}
    for color in colors.values():
        number, distance = _nearest(color, declared)
        others = [_difference(color, each) for each, meaning in declared.colors.items() if meaning != number]
        if distance <= _NEAR and min(others, default=256) > 2 * distance:
            found[color] = number
    return found


def _nearest(color: RGB, declared: Declared) -> tuple[int, int]:
    """Return the class id of the nearest colour, and the largest difference in any channel."""
    distance, number = min((_difference(color, each), number) for each, number in declared.colors.items())
    return number, distance


def _difference(one: RGB, other: RGB) -> int:
    return max(abs(first - second) for first, second in zip(one, other, strict=True))


def _in_order(colors: Mapping[int, RGB], meanings: Mapping[RGB, int], declared: Declared) -> bool:
    return all(declared.values.get(index) == meanings[color] for index, color in colors.items())


def _class_name(declared: Declared, number: int) -> str:
    return declared.classes[number].name if number < len(declared.classes) else "void"


def _color_of(declared: Declared, number: int) -> RGB:
    return next(color for color, meaning in declared.colors.items() if meaning == number)
