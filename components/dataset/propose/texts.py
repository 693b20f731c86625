"""Write a proposal as the files of a dataset: classes.json and lists."""

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from components.dataset.classes import FILES, class_file
from components.dataset.layouts import Layout
from components.dataset.layouts.names import part_of
from components.dataset.manifest import Lists, Sample
from components.dataset.propose.classes import Plan, PlannedClass
from components.dataset.propose.contents import Contents, Mark

CLASSES = FILES[0]


def classes_text(layout: Layout, plan: Plan, contents: Contents) -> str:
    """Return the text of classes.json."""
    if plan.is_kept and layout.declared.is_known:
        return _json([], {"classes": layout.kind})
    explicit = contents.has_zeros  # ids must not count as values, because the value 0 means black
    if plan.added:
        value = class_file(layout.folder / layout.declared.files[0])
        lines = value.pop("classes")
        return _json([*map(_row, lines), *(_line(each, explicit=explicit) for each in plan.added)], value)
    void = [mark for mark in plan.void if mark != 255]
    more: dict[str, Any] = {"ignore_index": 255} if 255 in plan.void else {}
    if contents.has_zeros and (0, 0, 0) in void:
        void.append(0)
    return _json(
        [_line(each, explicit=explicit) for each in plan.classes], more | ({"ignore_values": void} if void else {})
    )


def _line(each: PlannedClass, *, explicit: bool) -> str:
    """Return a class as JSON, with its `values` unless its id and colour say the same."""
    marks: list[Mark] = list(each.marks)
    if explicit and (0, 0, 0) in marks:
        marks.append(0)
    plain = not explicit and (set(marks) | {each.color} == {each.id, each.color} or marks == [each.color])
    return _row({"id": each.id, "name": each.name, "color": each.color} | ({} if plain else {"values": marks}))


def _row(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json(lines: Sequence[str], more: dict[str, Any]) -> str:
    """Return JSON with one class per line, after which come the items of `more`."""
    classes = ['  "classes": [\n' + ",\n".join(f"    {line}" for line in lines) + "\n  ]"] if lines else []
    others = [f"  {_row(key)}: {_row(value)}" for key, value in more.items()]
    return "{\n" + ",\n".join([*classes, *others]) + "\n}\n"


def list_texts(layout: Layout, lists: Lists) -> dict[str, str]:
    """Return the texts of the lists by file name below the dataset's folder.

    A list for training that already exists is replaced, and the list for validation gets a place beside it.
    """
    listed = next((name for name in layout.read if part_of(PurePosixPath(name).stem) == "train"), None)
    if listed is not None:
        val = posixpath.join(posixpath.dirname(listed), f"val{PurePosixPath(listed).suffix}")
        unlabeled = [Sample(image=image) for image in lists.unlabeled]
        return {val: _lines(lists.val), listed: _lines([*lists.train, *unlabeled])}
    parts = {
        "unlabeled.txt": [Sample(image=image) for image in lists.unlabeled],
        "test.txt": lists.test,
        "val.txt": lists.val,
        "train.txt": lists.train,
    }
    return {name: _lines(samples) for name, samples in parts.items() if samples}


def _lines(samples: Sequence[Sample]) -> str:
    return "".join("\t".join(filter(None, (_name(each.image), _name(each.label)))) + "\n" for each in samples)


def _name(name: str | None) -> str | None:
    return f"./{name}" if name and name.startswith("#") else name  # else the line would be a comment


def mirror(top: Path, shadow: Path, texts: dict[str, str]) -> None:
    """Make `shadow` look like the folder `top` with these files in it, by links to everything else.

    Args:
        texts: by file name below `top`.
    """
    shadow.mkdir()
    inside: dict[str, dict[str, str]] = {}
    for name, text in texts.items():
        first, _, rest = name.partition("/")
        if rest:
            inside.setdefault(first, {})[rest] = text
        else:
            (shadow / name).write_text(text, encoding="utf-8")
    for path in top.iterdir():
        if path.name in inside:
            mirror(path, shadow / path.name, inside[path.name])
        elif path.name not in texts:
            (shadow / path.name).symlink_to(path)
