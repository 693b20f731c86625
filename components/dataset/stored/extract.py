"""Extract a stored dataset to a folder, to examine it like one that a user gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from components.dataset.classes import Declared
from components.dataset.layouts.model import Layout
from components.dataset.manifest import Lists, Manifest
from components.dataset.stored.reader import DatasetReader
from components.disk import scratch_folder, writing
from components.errors import WorkFailed

if TYPE_CHECKING:
    from components.storage.client import Store


@contextmanager
def extracted(store: "Store", digest: str, work: Path) -> Iterator[Layout]:
    """Yield a stored dataset as a layout, in a temporary folder in `work`, which is removed afterwards.

    Its labels hold class ids, whatever they held before the dataset was stored; files that it does not use are not
    stored.

    Raises:
        MissingObject: the dataset is not in the store.
        WorkFailed: it is damaged.
        Unwritable: it does not fit in `work`.
    """
    with DatasetReader(store, digest) as reader, scratch_folder(work) as folder:
        with writing(folder, needed=sum(entry.size for entry in reader.manifest.files.values())):
            for name in reader.manifest.file_names():
                path = folder / _inside(name, reader.manifest)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(reader.read(name))
        yield _layout(reader.manifest, folder)


def _layout(manifest: Manifest, folder: Path) -> Layout:
    lists = Lists(**{name: getattr(manifest, name) for name in Lists.model_fields})
    return Layout(
        folder=folder,
        name=manifest.name,
        kind=manifest.layout,
        lists=lists,
        # Before a dataset is stored, its classes are checked against its labels. Those of a well-known dataset, which
        # the manifest does not tell apart, may be missing.
        declared=Declared(lists.classes, lists.ignore_index, values={}, is_known=True),
        origin=manifest.name,
        notes=("as stored, where labels hold class ids",),
    )


def _inside(name: str, manifest: Manifest) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise WorkFailed(f"dataset {manifest.name} ({manifest.digest[:12]}) has a file outside its folder: {name!r}")
    return path
