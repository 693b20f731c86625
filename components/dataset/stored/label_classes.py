"""The classes in each label of a stored dataset, by which a stratified split ranks the images."""

from typing import TYPE_CHECKING

import numpy as np

from components import progress
from components.dataset.manifest import Manifest
from components.dataset.stored.reader import DatasetReader
from components.errors import WorkFailed
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store


def label_classes(store: "Store", manifest: Manifest) -> dict[str, list[int]]:
    """Return the class ids in each label by its name, without void.

    The checks record them before a dataset is stored. If the record is missing, this reads the training labels and
    adds it.

    Raises:
        WorkFailed: the record is malformed or incomplete.
    """
    key = keys.dataset_label_classes(manifest.digest)
    found = _read(store, manifest) if store.stat(key) is None else store.get_json(key)
    if not isinstance(found, dict) or not all(sample.label in found for sample in manifest.train):
        raise WorkFailed(f"{store.uri(key)} lacks training labels: delete it, and it will be created again")
    return {str(name): [int(number) for number in ids] for name, ids in found.items()}


def _read(store: "Store", manifest: Manifest) -> dict[str, list[int]]:
    progress.say("split-labels", f"{manifest.name}: reading the classes in {len(manifest.train)} labels")
    names = sorted({sample.label for sample in manifest.train if sample.label})
    with DatasetReader(store, manifest.digest) as reader:
        found = {
            name: np.flatnonzero(
                np.bincount(reader.label(name).ravel(), minlength=256)[: len(manifest.classes)]
            ).tolist()
            for name in names
        }
    store.put_json(keys.dataset_label_classes(manifest.digest), found)
    return found
