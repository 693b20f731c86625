"""Which classes each label of a stored dataset shows: what a stratified split ranks the images by."""

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
    """Class ids by the label's name, void left out.

    The checks wrote them down before the dataset was stored. For a dataset stored without, they are read from the
    training labels now, once.

    Raises:
        WorkFailed: what is written down is not this.
    """
    key = keys.dataset_label_classes(manifest.digest)
    found = _read(store, manifest) if store.stat(key) is None else store.get_json(key)
    if not isinstance(found, dict) or not all(sample.label in found for sample in manifest.train):
        raise WorkFailed(f"{store.uri(key)} does not have every training label: delete it, and it is made again")
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
