"""Write a dataset's labels in another form, next to links to its images."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from components import progress
from components.dataset.check.inspect import STEP
from components.dataset.layouts import Layout
from components.disk import WORK_VARIABLE, writing
from components.errors import UserError
from components.threads import in_threads

LEVEL = 6
"""zlib's compression level. Fixed, because the digests of the written labels depend on it."""

_Result = TypeVar("_Result")


class UnreadableLabel(UserError):
    """A label whose class ids cannot be read; `kind` is the kind of the check's finding."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def write_labels(
    layout: Layout,
    names: Mapping[str, str],
    folder: Path,
    write: Callable[[str, Path], _Result],
    *,
    keep_going: bool,
    what: str,
) -> Iterator[tuple[str, _Result | UnreadableLabel]]:
    """Write labels to `folder` in parallel, and links to all other files; yield each name with its result.

    Args:
        names: the name of each label to write by the name that it has now.
        write: called with the label's present name and the path to write to. Names in its errors begin with the
            layout's folder.
        keep_going: yield the error of a label that cannot be written, instead of raising it, without that folder.
        what: what was done, for messages about progress.

    Raises:
        UnreadableLabel: a label cannot be written.
        Unwritable: the disk is full.
    """

    def write_one(name: str) -> _Result | UnreadableLabel:
        try:
            return write(name, folder / names[name])
        except UnreadableLabel as error:
            root = "" if keep_going else layout.root
            named = UnreadableLabel(error.kind, str(error).replace(f"{layout.folder}/", root, 1))
            if not keep_going:
                raise named from None
            return named

    with writing(folder, WORK_VARIABLE):
        for name in layout.lists.file_names():
            place = folder / names.get(name, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if name not in names:
                os.symlink((layout.folder / name).absolute(), place)
        for done, (name, result) in enumerate(zip(names, in_threads(write_one, names), strict=True), start=1):
            yield names[name], result
            if done % 200 == 0 or done == len(names):
                progress.advance(STEP, done, len(names), what)
