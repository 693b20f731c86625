"""The classes of annotated images: those of the annotation files and a background, or those of a class file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from components.contract import Class
from components.dataset.class_files import Entry
from components.dataset.classes import FILES, Declared, read_own_classes, read_tool_entries
from components.dataset.layouts.annotations.model import BACKGROUND, AnnotationFile, Format
from components.errors import UserError, nearest
from components.pages.palette import class_colors

_IGNORED = 255
_MAX_CLASSES = 255


def declared_classes(root: Path, kind: Format, files: Sequence[AnnotationFile], used: Mapping[str, int]) -> Declared:
    """Return the classes, and which of them each annotated name means.

    Raises:
        UserError: the dataset's class file does not say what a name or the background means.
    """
    own = read_own_classes(root)
    if own is not None:
        return _own_classes(root, own, used)
    listed = read_tool_entries(root) if kind == "labelme" else None
    if listed:
        names, entries = listed
        rest = [Entry(name) for name in sorted(used) if name not in {entry.name for entry in entries}]
        unknown = next((entry.name for entry in rest if not entry.is_void), None)  # labelme lists no __ignore__
        if unknown is not None:
            raise UserError(f"{root / names[0]} does not name {unknown!r}, which is annotated: add it")
        return _used_classes(root, [*entries, *rest], used, f"from {names[0]}", names)
    colors = {label.name: label.color for file in reversed(files) for label in file.labels}
    order = dict.fromkeys([*(label.name for file in files for label in file.labels), *sorted(used)])
    how = {
        "coco": "the background and the categories in the order of their ids",
        "labelme": "the background and the label names in alphabetical order",
        "cvat": "the background and the labels in the order of the XML",
    }[kind]
    return _used_classes(root, [Entry(name, color=colors.get(name)) for name in order], used, how)


def _own_classes(root: Path, own: Declared, used: Mapping[str, int]) -> Declared:
    path = own.files[0]
    background = next((own.names[name] for name in BACKGROUND if name in own.names), None)
    if background is None:
        raise UserError(
            f'{root / path} does not say what pixels without an annotation are: add a class "background", or '
            '"ignore_names": ["background"] to leave them out of training'
        )
    unknown = next((name for name in sorted(used) if name not in own.names), None)
    if unknown is not None:
        raise UserError(
            f"{root / path} does not name {unknown!r}, which is annotated: add a class, or add the name to a class's "
            f'"names" or to "ignore_names"{nearest(unknown, own.names)}'
        )
    what = "void" if background == own.ignore_index else f"class {background} ({own.classes[background].name})"
    return replace(
        own,
        background=background,
        notes=(*own.notes, f"pixels without an annotation are {what}, as {path} says"),
    )


def _used_classes(
    root: Path, entries: Sequence[Entry], used: Mapping[str, int], how: str, files: tuple[str, ...] = ()
) -> Declared:
    """Return the classes that some image has, with one for the background; `how` says where they come from."""
    rest = [entry.name for entry in entries if entry.name not in used and entry.name not in BACKGROUND]
    kept = [entry for entry in entries if entry.name not in rest]
    if not any(entry.name in BACKGROUND for entry in kept):
        kept = [Entry(BACKGROUND[0]), *kept]
    named = [entry for entry in kept if not entry.is_void]
    if not 2 <= len(named) <= _MAX_CLASSES:
        raise UserError(
            f"dataset {root} has annotations of {len(named) - 1:,} classes, but 1 to {_MAX_CLASSES - 1} and the "
            f"background are possible: write {FILES[0]} that merges or ignores some"
        )
    background = next(number for number, entry in enumerate(named) if entry.name in BACKGROUND)
    colors = class_colors([entry.name for entry in named], [entry.color for entry in named])
    void = [entry.name for entry in kept if entry.is_void]
    notes = [f"classes are {how}", *(f"{name!r} is treated as void because of its name" for name in void)]
    if rest:
        notes.append(f"no image has an annotation of {_listed(rest)}: left out of the classes")
    notes.append(
        f"pixels without an annotation are class {background} ({named[background].name}); to leave them out of "
        f'training, list the other classes in {FILES[0]} with "ignore_names": ["background"]'
    )
    return Declared(
        tuple(Class(name=entry.name, color=color) for entry, color in zip(named, colors, strict=True)),
        _IGNORED,
        {number: number for number in (*range(len(named)), _IGNORED)},
        names={entry.name: number for number, entry in enumerate(named)} | dict.fromkeys(void, _IGNORED),
        background=background,
        files=files,
        notes=tuple(notes),
    )


def _listed(names: Iterable[str]) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
