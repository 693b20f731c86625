"""`cps label-next`: suggest which unlabelled images of a run to label next, as a table and a page."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.errors import UserError
from components.files import write_whole
from components.labeling.measures import STEP, BestNetworks, measure_images, open_best_networks
from components.labeling.suggestions import Suggestion, suggest

if TYPE_CHECKING:
    from components.dataset.manifest import Manifest
    from components.dataset.split import Split
    from components.dataset.stored.reader import DatasetReader
    from components.storage.client import Store

COLUMNS = ("rank", "image", "priority", "disagreement", "uncertainty", "novelty", "nearest")


@dataclass(frozen=True)
class Suggested:
    """The suggestions for a run, and the files written for them, by kind."""

    run_key: str
    dataset: str
    epoch: int
    unlabeled: int
    """Number of candidate images."""
    suggestions: tuple[Suggestion, ...]
    files: dict[str, Path]

    def as_json(self) -> str:
        described = {
            "run": self.run_key,
            "dataset": self.dataset,
            "epoch": self.epoch,
            "unlabelled_images": self.unlabeled,
            "suggestions": [asdict(item) for item in self.suggestions],
            "files": {kind: str(path) for kind, path in self.files.items()},
        }
        return json.dumps(described, indent=2)


def label_next(store: "Store", run_key: str, count: int, folder: Path, cache: Path | None = None) -> Suggested:
    """Suggest `count` of a run's unlabelled images, and write label-next.csv, .html and labeled.txt to `folder`.

    No label of the dataset is read. labeled.txt is written only if the dataset has a label for every suggested image.

    Raises:
        UserError: the run has not been trained yet, or has no unlabelled image.
    """
    from components.dataset.stored.reader import DatasetReader
    from components.runs.record import load_run

    record, split = load_run(store, run_key)
    with DatasetReader(store, record.dataset.digest, cache) as reader:
        if not split.unlabeled:
            raise UserError(f"run {run_key} has no unlabelled image left to suggest")
        networks = open_best_networks(store, record, split, len(reader.manifest.classes))
        labeled = [sample.image for sample in split.labeled]
        progress.say(
            STEP,
            f"running both networks of epoch {networks.epoch} on {len(split.unlabeled)} unlabelled and {len(labeled)} "
            "labelled images",
        )
        # Labelled images are measured too, because images that look like them need no label.
        measures = measure_images(store, run_key, networks, reader, [*labeled, *split.unlabeled])
        found = suggest(
            {name: measures[name] for name in split.unlabeled}, {name: measures[name] for name in labeled}, count
        )
        files = _write(folder, found, networks, reader, split, record.run_key)
    return Suggested(run_key, record.dataset.name, networks.epoch, len(split.unlabeled), tuple(found), files)


def table(suggestions: Sequence[Suggestion]) -> str:
    """Return the suggestions as CSV. `image` is the image's name in the dataset's lists."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item in suggestions:
        row = asdict(item)
        writer.writerow([f"{row[name]:.4f}" if isinstance(row[name], float) else row[name] for name in COLUMNS])
    return out.getvalue()


def label_list(split: "Split", manifest: "Manifest", suggestions: Sequence[Suggestion]) -> str | None:
    """Return the run's labelled images and the suggested ones, in the format of a dataset's own list for a ratio.

    Return None if a suggested image has no label in the dataset yet.
    """
    labels = manifest.train_labels()
    pairs = [(sample.image, sample.label) for sample in split.labeled]
    pairs += [(item.image, labels.get(item.image)) for item in suggestions]
    if any(label is None for _, label in pairs):
        return None
    return "".join(f"{image}\t{label}\n" for image, label in pairs)


def _write(
    folder: Path,
    found: Sequence[Suggestion],
    networks: BestNetworks,
    reader: "DatasetReader",
    split: "Split",
    run_key: str,
) -> dict[str, Path]:
    from components.labeling.page import render_suggestions

    files = {kind: folder / f"label-next.{kind}" for kind in ("csv", "html")}
    write_whole(files["csv"], table(found))
    whole = label_list(split, reader.manifest, found)
    if whole is None:
        (folder / "labeled.txt").unlink(missing_ok=True)
    else:
        files["list"] = folder / "labeled.txt"
        write_whole(files["list"], whole)
    page = render_suggestions(found, networks, reader, run_key, len(split.unlabeled))
    write_whole(files["html"], page)
    return files
