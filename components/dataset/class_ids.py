"""Convert label files to class ids when a dataset is stored.

Labels hold ids from 0, ids from 1, 0 and 255, palette indices, or colours. The dataset declares what these mean
(`components.dataset.classes.Declared`). Ambiguous labels are refused.
"""

import io
import json
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
from components.dataset.check.facts import FileFacts, label_facts
from components.dataset.check.inspect import STEP
from components.dataset.class_files import RGB
from components.dataset.classes import FILES, Declared
from components.dataset.converted import LEVEL, UnreadableLabel, write_labels
from components.dataset.drawn_labels import with_drawn_labels
from components.dataset.label_pixels import MAX_COLORS, LabelPixels, is_smoothed, stored_values
from components.dataset.layouts import Layout
from components.dataset.layouts.cityscapes import LABEL_IDS, TRAIN_IDS
from components.dataset.manifest import Lists, Sample
from components.dataset.palettes import read_palettes
from components.reading import mistaken, read_bytes
from components.threads import in_threads

Ids = NDArray[np.uint8]

_VOC_NAME = re.compile(r"(?:20[0-9]{2}_)?[0-9]{6}")
"""An image name of PASCAL VOC, such as 2007_000032."""
_SHOWN = 4
"""Maximum number of colours in a message."""
_EXPORT = "export it again as PNG without anti-aliasing, and resize it without interpolation"


@dataclass(frozen=True)
class Reading:
    """How labels are read: the class ids of values and colours, and which labels use which."""

    values: Mapping[int, int]
    colors: Mapping[RGB, int] = field(default_factory=dict)
    ignored: int = 255
    unknown: str = (
        'which belong to no class: map them to a class with "values" in classes.json, or to void with "ignore_values"'
    )
    """End of the error message for any other value."""
    by_color: frozenset[str] = frozenset()
    """Palette labels that are read by colour; the others are read by index."""
    near: Mapping[RGB, int] = field(default_factory=dict)
    """The class ids of palette colours that are almost those of classes."""
    is_plain: bool = False
    """Whether the stored bytes of every label are already class ids."""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Labels that cannot be read, by name, with the finding's kind and text."""
    notes: tuple[str, ...] = ()


def with_class_ids(
    layout: Layout, folder: Path, *, keep_going: bool = False, facts: Mapping[str, FileFacts] | None = None
) -> Layout:
    """Return the layout with labels that hold class ids, which are written to `folder` if they must be converted.

    Args:
        folder: created if needed, with converted labels and links to the dataset's other files. The dataset's own
            folder is not touched.
        keep_going: leave labels that cannot be read as they are, and list them in `refused`.
        facts: of every label by name, if they are known.

    Raises:
        UnreadableLabel: a label does not hold ids, has values or colours that belong to no class, or cannot be drawn.
        UserError: the disk is full.
    """
    if layout.drawing is not None:
        return with_drawn_labels(layout, layout.drawing, folder, keep_going=keep_going)
    if layout.label_ids is not None:
        reading = Reading(layout.label_ids, unknown="which are not Cityscapes label ids: download the label again")
    elif layout.label_colors is not None:
        reading = Reading({}, layout.label_colors)
    else:
        facts = facts or scan_labels(layout)
        reading = choose_reading(layout.declared, facts, layout.kind)
        layout = replace(layout, notes=(*layout.notes, *reading.notes))
        if reading.refused and not keep_going:
            kind, text = next(iter(reading.refused.values()))
            raise UnreadableLabel(kind, text.replace("label ", f"label {layout.root}", 1))
        if reading.is_plain:
            return replace(layout, refused=reading.refused, label_facts=facts)
    labels = {sample.label for sample in _samples(layout.lists) if sample.label is not None}
    ending = "_L" if layout.label_colors is not None else ""
    mapped = {name: name if name in reading.refused else _mapped_name(name, ending) for name in sorted(labels)}
    changed = {name: target for name, target in mapped.items() if target != name}

    def convert(name: str, target: Path) -> None:
        try:
            _map(layout.folder / name, target, reading, by_color=name in reading.by_color)
        except UnreadableLabel:
            os.symlink((layout.folder / name).absolute(), target)
            raise

    results = write_labels(layout, changed, folder, convert, keep_going=keep_going, what="labels mapped to class ids")
    refused = {name: (error.kind, str(error)) for name, error in results if isinstance(error, UnreadableLabel)}
    return replace(
        layout,
        folder=folder,
        origin=layout.origin or str(layout.folder),
        lists=_with_mapped_labels(layout.lists, mapped),
        label_ids=None,
        label_colors=None,
        refused={**reading.refused, **refused},
        label_sources={target: name for name, target in mapped.items()},
    )


def choose_reading(declared: Declared, facts: Mapping[str, FileFacts], kind: str = "") -> Reading:
    """Decide how labels are read, based on the content of all of them.

    Args:
        facts: facts about every label, by name. Labels that cannot be decoded are left to the checks.
        kind: the kind of layout; `voc` implies PASCAL VOC's classes unless the dataset declares others.
    """
    pixels = mark_painted({name: each.pixels for name, each in facts.items() if each.pixels is not None})
    refused = {name: problem for name, each in pixels.items() if (problem := _label_problem(name, each, declared))}
    fit = {name: each for name, each in pixels.items() if name not in refused}
    palettes = read_palettes({name: each for name, each in fit.items() if each.kind == "palette"}, declared)
    by_color = palettes.by_color
    refused |= palettes.refused
    by_value = {
        name: each
        for name, each in fit.items()
        if name not in refused and name not in by_color and _has_values(each, declared)
    }
    found = {name: set(_value_counts(each)) for name, each in by_value.items()}
    values, notes = _values(set().union(*found.values()), declared)
    refused |= _mixed_binary(fit, values, declared)
    refused |= _spread_values(found, values, declared)
    notes += [*_notes(fit.values(), declared, by_color=bool(by_color)), *palettes.notes]
    shown = {values[value] for each in found.values() for value in each if value in values}
    # A few images of PASCAL VOC itself contain few of its classes; their names show that they are VOC's.
    other = next((name for name in fit if not _VOC_NAME.fullmatch(PurePosixPath(name).stem)), "")
    if kind == "voc" and declared.is_known and by_value and other and len(shown) < len(declared.classes) // 2:
        refused[other] = ("classes", _not_voc(other, shown, declared))
    identity = all(value == number for value, number in values.items())
    return Reading(
        values,
        declared.colors,
        declared.ignore_index,
        by_color=by_color,
        near=palettes.near,
        is_plain=identity and not by_color and all(each.plain for each in fit.values()),
        refused=refused,
        notes=tuple(notes),
    )


def mark_painted(pixels: Mapping[str, LabelPixels]) -> dict[str, LabelPixels]:
    """Mark every colour label as painted if any is, so that an all-black mask among them is not read as values."""
    painted = any(each.kind == "colors" and not each.is_grey for each in pixels.values())
    return {name: replace(each, painted=painted) if each.kind == "colors" else each for name, each in pixels.items()}


def _mixed_binary(
    fit: Mapping[str, LabelPixels], values: Mapping[int, int], declared: Declared
) -> dict[str, tuple[str, str]]:
    """Refuse two-class labels of which some use 1 and others 255, but none both: 255 may be class 1 or void."""
    if len(declared.classes) != 2 or declared.ignores_255 or values.get(255) != declared.ignore_index:
        return {}
    counts = {name: set(_value_counts(each)) for name, each in fit.items()}
    ones = [name for name, found in counts.items() if 1 in found and 255 not in found]
    highs = [name for name, found in counts.items() if 255 in found and 1 not in found and 0 in found]
    if not ones or not highs or any({1, 255} <= found for found in counts.values()):
        return {}
    text = f"label {highs[0]} has 0 and 255, but label {ones[0]} has 1: declare in classes.json whether 255 is void"
    return {highs[0]: ("ids", f'{text} ("ignore_index": 255) or class 1 ("values": [1, 255])')}


def _notes(labels: Iterable[LabelPixels], declared: Declared, *, by_color: bool) -> Iterator[str]:
    """Yield remarks on labels that are not read as 8-bit grey values."""
    listed = list(labels)
    if by_color or any(each.kind == "colors" and not _has_values(each, declared) for each in listed):
        yield "labels are read by colour"
    if any(each.kind == "values" and not each.plain and each.mode in ("1", "L") for each in listed):
        yield "grey labels with fewer than 8 bits are read as stored, without scaling"


def content_problem(name: str, pixels: LabelPixels) -> tuple[str, str] | None:
    """Return why this label cannot be read, whatever the classes are: the finding's kind and text."""
    if pixels.lossy:
        return (
            "lossy",
            f"label {name} is saved as {pixels.lossy}, which changes class ids: export it again as PNG, because a "
            "converted copy keeps the wrong ids",
        )
    if pixels.transparent:
        return "mode", f"label {name} has transparent pixels, whose class is undefined: save it without transparency"
    if pixels.kind == "unknown":
        return "mode", _not_ids(name, pixels.mode)
    if pixels.colors is None:
        return (
            "mode",
            f"label {name} has more than {MAX_COLORS:,} colours, but a mask has one for each class: "
            f"{_EXPORT}; a converted JPEG keeps the wrong colours",
        )
    return None


def _label_problem(name: str, pixels: LabelPixels, declared: Declared) -> tuple[str, str] | None:
    """Return why this label cannot be read, regardless of the others."""
    if problem := content_problem(name, pixels) or _smoothed(name, pixels, declared):
        return problem
    if pixels.kind != "colors" or _has_values(pixels, declared):
        return None
    if not declared.colors:
        return "mode", _not_ids(name, pixels.mode) + ', or give each class its "color" in classes.json'
    colors = pixels.colors or {}
    unknown = {color: count for color, count in colors.items() if color not in declared.colors}
    wrong = sorted(unknown, key=unknown.__getitem__, reverse=True)
    if not wrong:
        return None
    return (
        "mode",
        f"label {name} has {_colors_text(wrong)}, which belongs to no class: assign it to a class with "
        '"color", or to void with "ignore_values"',
    )


def _smoothed(name: str, pixels: LabelPixels, declared: Declared) -> tuple[str, str] | None:
    """Return why a label with smoothed edges or JPEG's noise cannot be read; None for any other."""
    what = "values" if _has_values(pixels, declared) else "colours"
    counts: Mapping[Any, int] = pixels.colors or {} if pixels.kind == "colors" else pixels.counts
    known: set[Any] = {*declared.values, *declared.colors, *((value,) * 3 for value in declared.values)}
    known |= {index for index, color in pixels.palette.items() if color in declared.colors}
    if not is_smoothed(counts, known):
        return None
    strange = sum(mark not in known for mark in counts)
    return (
        "lossy",
        f"label {name} has {strange} {what} that belong to no class, most of them in few "
        f"pixels, as anti-aliasing and JPEG leave them: {_EXPORT}; if they are classes, "
        "declare them in classes.json",
    )


def _spread_values(
    counts: Mapping[str, set[int]], values: Mapping[int, int], declared: Declared
) -> dict[str, tuple[str, str]]:
    """Refuse labels whose values are far apart, such as 0, 128 and 255, and propose the class of each value."""
    found = set().union(*counts.values()) - ({255} if declared.ignores_255 else set())
    unknown = found - values.keys()
    if not unknown or found & values.keys() - {0, 255} or len(found) != len(declared.classes):
        return {}
    if any(values.get(number) != number for number in range(len(declared.classes))):
        return {}
    text = _assignment(sorted(found), declared)
    return {
        name: ("ids", f"label {name} has {min(each & unknown)}, which belongs to no class: {text}")
        for name, each in counts.items()
        if each & unknown
    }


def _assignment(values: list[int], declared: Declared) -> str:
    """Return what to declare if the classes, in their order, are these values."""
    listed = f"the labels hold {', '.join(map(str, values))}; if these are the classes in this order,"
    pairs = list(zip(values, declared.classes, strict=True))
    if declared.files and declared.files[0] in FILES:
        proposed = ", ".join(f'"values": [{value}] to {entry.name!r}' for value, entry in pairs)
        return f"{listed} add in {declared.files[0]} {proposed}"
    lines = [
        {"id": number, "name": entry.name, "color": entry.color, "values": [value]}
        for number, (value, entry) in enumerate(pairs)
    ]
    return f"{listed} write classes.json with {json.dumps({'classes': lines})}"


def _values(found: set[int], declared: Declared) -> tuple[dict[int, int], list[str]]:
    """Return the class id of each value, and a remark if that differs from the declared classes."""
    values = dict(declared.values)
    if len(declared.classes) == 2 and len(found) == 2 and min(found) == 0 and values.get(0) == 0:
        high = max(found)
        free = high not in values or (high == 255 and values[255] == declared.ignore_index and not declared.ignores_255)
        if free and 1 not in found:
            values[high] = 1
            name = declared.classes[1].name
            return values, [f"labels contain only 0 and {high}: {high} is read as class 1 ({name})"]
    return values, []


def _not_voc(name: str, shown: set[int], declared: Declared) -> str:
    return (
        f"label {name} and the others contain only {len(shown)} of PASCAL VOC's {len(declared.classes)} classes: list "
        'your own classes in class_names.txt, one per line, or confirm VOC\'s with {"classes": "voc"} in classes.json'
    )


def _has_values(pixels: LabelPixels, declared: Declared) -> bool:
    """Return whether a label holds values: grey, palette indices, or grey stored as colours that no class has."""
    if pixels.kind != "colors":
        return pixels.kind in ("values", "palette")
    if pixels.painted or not pixels.is_grey:
        return False
    return not all(color in declared.colors for color in pixels.colors or ())


def _value_counts(pixels: LabelPixels) -> Iterable[int]:
    return pixels.counts if pixels.kind != "colors" else [color[0] for color in pixels.colors or ()]


def _not_ids(name: str, mode: str) -> str:
    return f"label {name} has pixel mode {mode}, but must hold class ids: save it as 8-bit grey or palette PNG"


def _colors_text(colors: list[RGB]) -> str:
    named = ", ".join(map(str, colors[:_SHOWN]))
    return f"the colour{'s' if len(colors) > 1 else ''} {named}" + (" and more" if len(colors) > _SHOWN else "")


def scan_labels(layout: Layout) -> dict[str, FileFacts]:
    """Decode every label once and return the facts, which the checks reuse."""
    names = sorted({sample.label for sample in _samples(layout.lists) if sample.label is not None})
    found = {}
    for done, facts in enumerate(in_threads(lambda name: label_facts(layout.folder, name), names), start=1):
        found[facts.name] = facts
        if done % 200 == 0:
            progress.advance(STEP, done, len(names), "labels read")
    return found


def _map(source: Path, target: Path, reading: Reading, *, by_color: bool) -> None:
    data = b""
    try:
        data = read_bytes(source)
        with Image.open(io.BytesIO(data)) as picture:
            ids = _ids(source, picture, reading, by_color=by_color)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if isinstance(error, UnidentifiedImageError):
            reason = mistaken(data) or "not an image"
        raise UnreadableLabel("unreadable", f"label {source} cannot be read ({reason}): replace it") from None
    Image.fromarray(ids).save(target, "PNG", compress_level=LEVEL)


def _ids(source: Path, picture: Image.Image, reading: Reading, *, by_color: bool) -> Ids:
    """Return a label's (H, W) class ids. Raises UnreadableLabel for a value or colour that belongs to no class."""
    if picture.mode == "P" and not by_color and reading.values:
        return _map_values(source, np.asarray(picture), reading)
    values = stored_values(picture) if reading.values else None
    if values is not None:
        return _map_values(source, values, reading)
    if not reading.colors and picture.mode not in ("RGB", "RGBA", "LA"):
        raise UnreadableLabel("mode", f"label {source} has pixel mode {picture.mode}, but must hold label ids")
    if by_color:
        return _map_palette(picture, reading)
    pixels = np.asarray(picture.convert("RGB"))
    flat = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    codes, places = np.unique(flat, return_inverse=True)
    colors = [(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()]
    wrong = [color for color in colors if color not in reading.colors]
    if wrong and reading.values and all(red == green == blue for red, green, blue in colors):
        return _map_values(source, pixels[..., 0], reading)
    if wrong:
        raise UnreadableLabel("ids", f"label {source} has {_colors_text(wrong)}, which belongs to no class")
    return np.array([reading.colors[color] for color in colors], np.uint8)[places].reshape(flat.shape)


def _map_palette(picture: Image.Image, reading: Reading) -> Ids:
    indices = np.asarray(picture)
    flat = picture.getpalette("RGB") or []
    colors = {**reading.near, **reading.colors}
    table: Ids = np.full(256, reading.ignored, np.uint8)
    for index in range(len(flat) // 3):
        table[index] = colors.get((flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]), reading.ignored)
    return np.asarray(table[indices])


def _map_values(source: Path, values: NDArray[np.integer[Any]], reading: Reading) -> Ids:
    found = np.flatnonzero(np.bincount(values.ravel())) if values.itemsize == 1 else np.unique(values)
    wrong = [value for value in found.tolist() if value not in reading.values]
    if wrong:
        listed = ", ".join(map(str, wrong[:8]))
        raise UnreadableLabel("ids", f"label {source} has {listed}, {reading.unknown}")
    known = np.array(sorted(reading.values))
    table: Ids = np.array([reading.values[value] for value in known.tolist()], np.uint8)
    return np.asarray(table[np.searchsorted(known, values)])


def _samples(lists: Lists) -> Iterator[Sample]:
    for part in (lists.train, lists.val, lists.test, *(own.labeled for own in lists.ratio_lists.values())):
        yield from part


def _with_mapped_labels(lists: Lists, mapped: Mapping[str, str]) -> Lists:
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
    """Return the name of a converted label, with Cityscapes' suffix for class ids and without `ending`."""
    if name.endswith(LABEL_IDS):
        return f"{name.removesuffix(LABEL_IDS)}{TRAIN_IDS}"
    return f"{name.removesuffix('.png').removesuffix(ending)}_trainIds.png"
