"""From what label files hold to class ids, once, when a dataset is stored.

Labels come as ids from 0, ids from 1, 0 and 255, indices into a palette, or colours. What their pixels stand for is
what the dataset declares (`components.dataset.classes.Declared`); where two readings are possible, it is refused.
"""

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from components import progress
from components.dataset.check.facts import FileFacts, label_facts, read_bytes
from components.dataset.check.inspect import STEP
from components.dataset.class_files import RGB
from components.dataset.classes import Declared
from components.dataset.label_pixels import MAX_COLORS, LabelPixels, stored_values
from components.dataset.layouts import Layout
from components.dataset.layouts.cityscapes import LABEL_IDS, TRAIN_IDS
from components.dataset.manifest import Lists, Sample
from components.errors import UserError
from components.files import writing
from components.threads import in_threads

Ids = NDArray[np.uint8]

_LEVEL = 6
"""Of zlib; a part of what the mapped labels' digests are over, so it stays."""
_PASCALS = re.compile(r"(?:20[0-9]{2}_)?[0-9]{6}")
"""A name in PASCAL VOC, such as 2007_000032."""
_SHOWN = 4
"""Colours, or values, that a message names."""


class Unmapped(UserError):
    """A label whose class ids cannot be read; `kind` is what a check calls that."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Reading:
    """How labels are read: what values and colours stand for, and which labels go by which."""

    values: Mapping[int, int]
    colors: Mapping[RGB, int] = field(default_factory=dict)
    ignored: int = 255
    unknown: str = (
        'which no class has: give the values to one as its "values" in classes.json, or to void in "ignore_values"'
    )
    """The message for any other value."""
    by_color: frozenset[str] = frozenset()
    """Labels with a palette that are read by its colours; the others go by their indices."""
    is_plain: bool = False
    """Every label is read as it is stored."""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By name: a kind of the check, and why."""
    notes: tuple[str, ...] = ()


def with_class_ids(layout: Layout, folder: Path, *, keep_going: bool = False) -> Layout:
    """Return the layout with labels that hold class ids, in `folder` where they have to be written anew.

    Args:
        folder: is made where it is needed; gets links to the dataset's files, and the mapped labels. The dataset's own
            folder is not touched.
        keep_going: labels that cannot be read stay as they are, and are in `refused`.

    Raises:
        Unmapped: a label is no picture of ids, or holds what has no meaning.
        WorkFailed: the disk is full.
    """
    if layout.label_ids is not None:
        reading = Reading(layout.label_ids, unknown="which are no label ids of Cityscapes")
    elif layout.label_colors is not None:
        reading = Reading({}, layout.label_colors)
    else:
        facts = _scan(layout)
        reading = read_as(layout.declared, facts, layout.kind)
        layout = replace(layout, notes=(*layout.notes, *reading.notes))
        if reading.refused and not keep_going:
            kind, text = next(iter(reading.refused.values()))
            raise Unmapped(kind, text.replace("label ", f"label {layout.root}", 1))
        if reading.is_plain:
            return replace(layout, refused=reading.refused, label_facts=facts)
    labels = {sample.label for sample in _samples(layout.lists) if sample.label is not None}
    ending = "_L" if layout.label_colors is not None else ""
    mapped = {name: name if name in reading.refused else _mapped_name(name, ending) for name in sorted(labels)}
    with writing(folder):
        refused = dict(_write(layout, mapped, folder, reading, keep_going=keep_going))
    return replace(
        layout,
        folder=folder,
        origin=layout.origin or str(layout.folder),
        lists=_renamed(layout.lists, mapped),
        label_ids=None,
        label_colors=None,
        refused={**reading.refused, **refused},
    )


def read_as(declared: Declared, facts: Mapping[str, FileFacts], kind: str = "") -> Reading:
    """Decide how labels are read, from what all of them hold together.

    Args:
        facts: of every label, by name. Those that cannot be decoded are left to the checks.
        kind: of the layout, which says whose classes it takes for granted.
    """
    pixels = _grey_by_color({name: each.pixels for name, each in facts.items() if each.pixels is not None})
    refused = {name: problem for name, each in pixels.items() if (problem := _unfit(name, each, declared))}
    fit = {name: each for name, each in pixels.items() if name not in refused}
    by_color, conflicts = _palettes({name: each for name, each in fit.items() if each.kind == "palette"}, declared)
    refused |= conflicts
    by_value = [
        each
        for name, each in fit.items()
        if name not in refused and name not in by_color and _has_values(each, declared)
    ]
    values, notes = _values({value for each in by_value for value in _value_counts(each)}, declared)
    refused |= _mixed_binary(fit, values, declared)
    notes += _notes(fit.values(), declared, by_color=bool(by_color))
    shown = {values[value] for each in by_value for value in _value_counts(each) if value in values}
    # PASCAL's own names say whose classes a few of its images show.
    other = next((name for name in fit if not _PASCALS.fullmatch(PurePosixPath(name).stem)), "")
    if kind == "voc" and declared.is_known and by_value and other and len(shown) < len(declared.classes) // 2:
        refused[other] = ("classes", _not_pascals(other, shown, declared))
    identity = all(value == number for value, number in values.items())
    return Reading(
        values,
        declared.colors,
        declared.ignore_index,
        by_color=frozenset(by_color),
        is_plain=identity and not by_color and all(each.plain for each in fit.values()),
        refused=refused,
        notes=tuple(notes),
    )


def _grey_by_color(pixels: Mapping[str, LabelPixels]) -> dict[str, LabelPixels]:
    """The same labels, where a black one among painted ones is painted, too."""
    painted = any(each.kind == "colors" and not each.is_grey for each in pixels.values())
    return {name: replace(each, painted=painted) if each.kind == "colors" else each for name, each in pixels.items()}


def _mixed_binary(
    fit: Mapping[str, LabelPixels], values: Mapping[int, int], declared: Declared
) -> dict[str, tuple[str, str]]:
    """Two classes of which some labels have 1 and others 255, and none has both: 255 may be class 1 or void."""
    if len(declared.classes) != 2 or declared.ignores_255 or values.get(255) != declared.ignore_index:
        return {}
    counts = {name: set(_value_counts(each)) for name, each in fit.items()}
    ones = [name for name, found in counts.items() if 1 in found and 255 not in found]
    highs = [name for name, found in counts.items() if 255 in found and 1 not in found and 0 in found]
    if not ones or not highs or any({1, 255} <= found for found in counts.values()):
        return {}
    text = f"label {highs[0]} has 0 and 255, and label {ones[0]} has 1: say in classes.json whether 255 is void"
    return {highs[0]: ("ids", f'{text} ("ignore_index": 255) or class 1 ("values": [1, 255])')}


def _notes(labels: Iterable[LabelPixels], declared: Declared, *, by_color: bool) -> Iterator[str]:
    """How labels are read, where that is not by the values of 8-bit grey."""
    listed = list(labels)
    if by_color or any(each.kind == "colors" and not _has_values(each, declared) for each in listed):
        yield "labels are read by the colours of the classes"
    if any(each.kind == "values" and not each.plain and each.mode in ("1", "L") for each in listed):
        yield "grey labels of fewer than 8 bits are read by their samples as stored"


def _unfit(name: str, pixels: LabelPixels, declared: Declared) -> tuple[str, str] | None:
    """Why a label cannot be read whatever the others hold."""
    if pixels.lossy:
        return (
            "lossy",
            f"label {name} is saved as {pixels.lossy}, which changes class ids: export it again as PNG, since they "
            "cannot be restored from it",
        )
    if pixels.transparent:
        return "mode", f"label {name} has transparent pixels, whose class it does not say: save it without transparency"
    if pixels.kind == "unknown":
        return "mode", _not_ids(name, pixels.mode)
    if pixels.kind == "colors" and not _has_values(pixels, declared):
        return _unknown_colors(name, pixels, declared)
    return None


def _unknown_colors(name: str, pixels: LabelPixels, declared: Declared) -> tuple[str, str] | None:
    if pixels.colors is None:
        return (
            "mode",
            f"label {name} has more than {MAX_COLORS:,} colours, and a mask has one for each class: "
            "save it as PNG, without smoothed edges",
        )
    if not declared.colors:
        return "mode", _not_ids(name, pixels.mode) + ', or give each class its "color" in classes.json'
    unknown = {color: count for color, count in pixels.colors.items() if color not in declared.colors}
    wrong = sorted(unknown, key=unknown.__getitem__, reverse=True)
    if not wrong:
        return None
    return (
        "mode",
        f"label {name} has {_colors_text(wrong)}, which no class has: give it to a class as its "
        f'"color", or to void in "ignore_values"',
    )


def _palettes(pixels: Mapping[str, LabelPixels], declared: Declared) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """The labels that are read by the colours of their palettes, and those whose palettes contradict."""
    by_color: set[str] = set()
    refused: dict[str, tuple[str, str]] = {}
    meant: dict[int, tuple[RGB, str]] = {}
    for name, each in pixels.items():
        used = {index: color for index, color in each.palette.items() if not _is_void(index, declared)}
        if all(color == (index, index, index) for index, color in used.items()):
            continue  # a ramp of greys says nothing of classes
        if not declared.colors and _is_shuffled_grey(used):
            refused[name] = (
                "palette",
                f"label {name} has a palette of greys in another order than its indices, and either may count: "
                "save ids as 8-bit grey",
            )
            continue
        known = {index: color for index, color in used.items() if color in declared.colors}
        at_home = all(declared.values.get(index) == declared.colors[color] for index, color in known.items())
        if len(known) == len(used) and not at_home:
            by_color.add(name)
        elif not at_home:
            index, color = next((i, c) for i, c in known.items() if declared.values.get(i) != declared.colors[c])
            other = next(color for index, color in used.items() if index not in known)
            owner = _class_name(declared, declared.colors[color])
            refused[name] = (
                "palette",
                f"label {name} has the colour {color} of {owner!r} at index {index} of its palette, and {other}, which "
                "no class has: save ids as 8-bit grey, or give every colour to a class",
            )
        elif len(known) < len(used):
            for index, color in used.items():
                before, where = meant.setdefault(index, (color, name))
                if before != color:
                    refused[name] = (
                        "palette",
                        f"label {name} has {color} at index {index} of its palette, and label {where} has {before}: "
                        'save ids as 8-bit grey, or give each class its "color" in classes.json',
                    )
    return by_color, refused


def _is_shuffled_grey(used: Mapping[int, RGB]) -> bool:
    greys = [color[0] for _, color in sorted(used.items()) if len(set(color)) == 1]
    return len(greys) == len(used) > 1 and greys != sorted(greys)


def _values(found: set[int], declared: Declared) -> tuple[dict[int, int], list[str]]:
    """What each value stands for, with a note where that is not what the classes say."""
    values = dict(declared.values)
    if len(declared.classes) == 2 and len(found) == 2 and min(found) == 0 and values.get(0) == 0:
        high = max(found)
        free = high not in values or (high == 255 and values[255] == declared.ignore_index and not declared.ignores_255)
        if free and 1 not in found:
            values[high] = 1
            name = declared.classes[1].name
            return values, [
                f"labels hold 0 and {high} alone: {high} is read as class 1 ({name}), which no label has as 1"
            ]
    return values, []


def _not_pascals(name: str, shown: set[int], declared: Declared) -> str:
    return (
        f"label {name} and the others show {len(shown)} of PASCAL VOC's {len(declared.classes)} classes: add "
        'class_names.txt with the names of your own, a line each, or classes.json with {"classes": "voc"}'
    )


def _has_values(pixels: LabelPixels, declared: Declared) -> bool:
    """Whether a label goes by values: a grey one, a palette's indices, or colours that are greys and no class's."""
    if pixels.kind != "colors":
        return pixels.kind in ("values", "palette")
    if pixels.painted or not pixels.is_grey:
        return False
    return not all(color in declared.colors for color in pixels.colors or ())


def _value_counts(pixels: LabelPixels) -> Iterable[int]:
    return pixels.counts if pixels.kind != "colors" else [color[0] for color in pixels.colors or ()]


def _is_void(index: int, declared: Declared) -> bool:
    return declared.values.get(index) == declared.ignore_index


def _class_name(declared: Declared, number: int) -> str:
    return declared.classes[number].name if number < len(declared.classes) else "void"


def _not_ids(name: str, mode: str) -> str:
    return f"label {name} is a picture of mode {mode}, and should hold class ids: save it as 8-bit grey or palette PNG"


def _colors_text(colors: list[RGB]) -> str:
    named = ", ".join(map(str, colors[:_SHOWN]))
    return f"the colour{'s' if len(colors) > 1 else ''} {named}" + (" and more" if len(colors) > _SHOWN else "")


def _scan(layout: Layout) -> dict[str, FileFacts]:
    """Decode every label once; the checks use it again."""
    names = sorted({sample.label for sample in _samples(layout.lists) if sample.label is not None})
    found = {}
    for done, facts in enumerate(in_threads(lambda name: label_facts(layout.folder, name), names), start=1):
        found[facts.name] = facts
        if done % 200 == 0:
            progress.advance(STEP, done, len(names), "labels read")
    return found


def _write(
    layout: Layout, mapped: Mapping[str, str], folder: Path, reading: Reading, *, keep_going: bool
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Links to the files as they are, and the mapped labels; yields those that cannot be mapped, and why."""
    for name in layout.lists.file_names():
        place = folder / mapped.get(name, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if mapped.get(name, name) == name:
            os.symlink((layout.folder / name).absolute(), place)
    names = [name for name, target in mapped.items() if target != name]

    def map_one(name: str) -> Unmapped | None:
        try:
            _map(layout.folder / name, folder / mapped[name], reading, by_color=name in reading.by_color)
        except Unmapped as error:
            if not keep_going:
                raise Unmapped(error.kind, str(error).replace(f"{layout.folder}/", layout.root, 1)) from None
            os.symlink((layout.folder / name).absolute(), folder / mapped[name])
            return error
        return None

    for done, (name, error) in enumerate(zip(names, in_threads(map_one, names), strict=True), start=1):
        if error:
            yield mapped[name], (error.kind, str(error).replace(f"{layout.folder}/", "", 1))
        if done % 200 == 0 or done == len(names):
            progress.advance(STEP, done, len(names), "labels mapped to class ids")


def _map(source: Path, target: Path, reading: Reading, *, by_color: bool) -> None:
    data = read_bytes(source)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            ids = _ids(source, picture, reading, by_color=by_color)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise Unmapped("unreadable", f"label {source} cannot be read ({reason}): replace it") from None
    Image.fromarray(ids).save(target, "PNG", compress_level=_LEVEL)


def _ids(source: Path, picture: Image.Image, reading: Reading, *, by_color: bool) -> Ids:
    """(H, W) class ids of a label. Raises Unmapped for a value or colour that stands for nothing."""
    if picture.mode == "P" and not by_color and reading.values:
        return _looked_up(source, np.asarray(picture), reading)
    values = stored_values(picture) if reading.values else None
    if values is not None:
        return _looked_up(source, values, reading)
    if not reading.colors and picture.mode not in ("RGB", "RGBA", "LA"):
        raise Unmapped("mode", f"label {source} is a picture of mode {picture.mode}, and should hold label ids")
    if by_color:
        return _of_palette(picture, reading)
    pixels = np.asarray(picture.convert("RGB"))
    flat = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    codes, places = np.unique(flat, return_inverse=True)
    colors = [(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()]
    wrong = [color for color in colors if color not in reading.colors]
    if wrong and reading.values and all(red == green == blue for red, green, blue in colors):
        return _looked_up(source, pixels[..., 0], reading)
    if wrong:
        raise Unmapped("ids", f"label {source} has {_colors_text(wrong)}, which no class has")
    return np.array([reading.colors[color] for color in colors], np.uint8)[places].reshape(flat.shape)


def _of_palette(picture: Image.Image, reading: Reading) -> Ids:
    indices = np.asarray(picture)
    flat = picture.getpalette("RGB") or []
    table: Ids = np.full(256, reading.ignored, np.uint8)
    for index in range(len(flat) // 3):
        table[index] = reading.colors.get((flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]), reading.ignored)
    return np.asarray(table[indices])


def _looked_up(source: Path, values: NDArray[np.integer[Any]], reading: Reading) -> Ids:
    found = np.flatnonzero(np.bincount(values.ravel())) if values.itemsize == 1 else np.unique(values)
    wrong = [value for value in found.tolist() if value not in reading.values]
    if wrong:
        listed = ", ".join(map(str, wrong[:8]))
        raise Unmapped("ids", f"label {source} has {listed}, {reading.unknown}")
    known = np.array(sorted(reading.values))
    table: Ids = np.array([reading.values[value] for value in known.tolist()], np.uint8)
    return np.asarray(table[np.searchsorted(known, values)])


def _samples(lists: Lists) -> Iterator[Sample]:
    for part in (lists.train, lists.val, lists.test, *(own.labeled for own in lists.ratio_lists.values())):
        yield from part


def _renamed(lists: Lists, mapped: Mapping[str, str]) -> Lists:
    def renamed(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(
            sample.model_copy(update={"label": mapped[sample.label]}) if sample.label else sample for sample in samples
        )

    own = {
        ratio: each.model_copy(update={"labeled": renamed(each.labeled)}) for ratio, each in lists.ratio_lists.items()
    }
    return lists.model_copy(
        update={
            "train": renamed(lists.train),
            "val": renamed(lists.val),
            "test": renamed(lists.test),
            "ratio_lists": own,
        }
    )


def _mapped_name(name: str, ending: str) -> str:
    """Where a mapped label lies: by Cityscapes' name for labels of class ids, without an ending such as CamVid's."""
    if name.endswith(LABEL_IDS):
        return f"{name.removesuffix(LABEL_IDS)}{TRAIN_IDS}"
    return f"{name.removesuffix('.png').removesuffix(ending)}_trainIds.png"
