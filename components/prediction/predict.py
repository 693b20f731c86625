"""Predict from the command line or in the pipeline's step; both give the same masks for the same images."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.contract import Frozen, read
from components.errors import UserError, WorkFailed
from components.inference.engine import AUTO, EXACT, choose, is_exact
from components.labeled_ratio import labels_text
from components.storage import keys

if TYPE_CHECKING:
    from components.dataset.split import Split
    from components.dataset.stored.reader import DatasetReader
    from components.inference.checkpoint import Checkpoint
    from components.inference.sliding import Window
    from components.prediction.photographs import Photograph
    from components.runs.result import RunResult
    from components.storage.client import Store

STEP = "predict"
LISTS = ("val", "test", "unlabeled")
"""The dataset's lists that the pipeline's step accepts as `images`, in addition to files."""


class PredictionSummary(Frozen):
    """predictions.json: describes a run's stored predictions for a set of images."""

    run_key: str
    batch: str
    """Identifies the images and settings; part of the URIs."""
    images: int
    """Number of predicted images."""
    refused: tuple[str, ...]
    """A line for each image that could not be read."""
    gallery: str
    """URI of the gallery page."""
    predictions: str
    """URI of the prefix that all outputs are below."""


def predict_files(  # noqa: PLR0913 - the options of `cps predict`
    images: Path | str | Sequence[str],
    weights: Path,
    out: Path,
    *,
    crop: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    sha256: str = "",
    triptychs: bool = False,
    confidence: bool = False,
    engine: str = AUTO,
    bf16: bool = False,
    open_store: "Callable[[], Store] | None" = None,
) -> list[str]:
    """Predict photographs with a weights file, without a pipeline or a store.

    Args:
        images: a file, a folder, a pattern, a list (.txt) or an s3:// prefix, or several of them.
        out: the folder for masks/, color/, overlays/ and gallery.html. Existing outputs from the same weights and
            settings are kept.
        crop, stride: (height, width) in pixels; by default, those that the weights were scored with.
        scales, flip: resize each image by every scale, also mirror it, and average the probabilities.
        sha256: the expected sha256 of the weights; empty skips the check.
        triptychs, confidence: optional outputs; see `Outputs`.
        engine, bf16: one of ENGINES, and whether to allow bfloat16.
        open_store: returns the store for s3:// URIs.

    Returns:
        A line for each image that could not be read, which is also logged. All other images are predicted.

    Raises:
        UserError: there are no images; the weights are not from this project or do not match `sha256`; the crop or
            stride is invalid; or the engine is not available.
        WorkFailed: none of the images could be read.
    """
    from components.files import check_digest
    from components.inference.checkpoint import open_checkpoint
    from components.networks.processor import usable_cores
    from components.prediction.destinations import LocalFolder, check_targets, is_earlier_output
    from components.prediction.masks import Outputs, Page, predict_photographs
    from components.prediction.photographs import find_photographs

    if sha256:
        check_digest(weights, sha256)
    paths = [str(images)] if isinstance(images, (str, Path)) else images
    photographs = find_photographs(paths, open_store, is_earlier_output(out))
    outputs = Outputs(triptychs=triptychs, confidence=confidence)
    check_targets(out, photographs, outputs.names)
    checkpoint = open_checkpoint(weights, threads=usable_cores(), engine=engine, allow_bf16=bf16)
    window = window_of(checkpoint, crop, stride, scales, flip)
    progress.say(STEP, f"predicting {len(photographs)} images with {weights}; output folder: {out}")
    page = Page(f"Predictions of {weights.name}", _facts(checkpoint, window, str(weights)), link=True)
    with LocalFolder(out, _stamp(weights, window, choose(engine, allow_bf16=bf16))) as place:
        outcome = predict_photographs(checkpoint, photographs, window, place, page, outputs)
    refused = outcome.refused_lines()
    if refused and not outcome.done:
        raise WorkFailed(_refused_text(refused, 0, ""))
    if refused:
        progress.warn(STEP, f"{len(refused)} of {len(photographs)} images could not be read; all others are in {out}:")
        for line in refused:
            progress.warn(STEP, f"  {line}")
    return refused


def predict_step(run_key: str, images: str = "val", limit: int = 24, html_path: str = "") -> PredictionSummary:
    """Predict with a run's best weights, and store masks, overlays and the gallery.

    Args:
        images: "val", "test" or "unlabeled" for that list of the run's dataset, or files as in `predict_files`.
        limit: maximum number of images, evenly spaced over the list; 0 for all.
        html_path: where to write a copy of the gallery; empty for none.

    Raises:
        UserError: there are no images.
        WorkFailed: the run has no best weights yet, or some images could not be read; all others are predicted.
    """
    from components.storage.client import reopen_store

    return predict_run(reopen_store(), run_key, images, limit, html_path)


def predict_run(
    store: "Store", run_key: str, images: str, limit: int, html_path: str = "", cache: Path | None = None
) -> PredictionSummary:
    """Do the work of `predict_step` on a given store."""
    from components.dataset.stored.reader import DatasetReader
    from components.runs.record import load_run
    from components.runs.result import read_result

    record, split = load_run(store, run_key)
    result = read_result(store, run_key)
    selection = _select(images, limit, split, record.dataset.name, store)
    batch = _batch(result, images, selection)
    made = _find_summary(store, run_key, batch)
    if made is None:
        with DatasetReader(store, record.dataset.digest, cache) as reader:
            photographs = selection.photographs(reader)
            made = _predict_and_store(store, result, photographs, batch, reader.manifest.ignore_index)
    else:
        progress.say(STEP, f"already predicted: {made.gallery}")
    if html_path:
        Path(html_path).parent.mkdir(parents=True, exist_ok=True)
        store.get_file(keys.prediction(run_key, batch, "gallery.html"), Path(html_path))
    if made.refused:
        raise WorkFailed(_refused_text(made.refused, made.images, made.predictions))
    return made


def find_predictions(
    store: "Store", result: "RunResult", split: "Split", images: str, limit: int
) -> PredictionSummary | None:
    """Return the stored predictions that `predict_run` would return, or None. Raises UserError if it has no images."""
    selection = _select(images, limit, split, result.dataset.name, store)
    return _find_summary(store, result.run_key, _batch(result, images, selection))


def _predict_and_store(
    store: "Store", result: "RunResult", photographs: "Sequence[Photograph]", batch: str, ignore_index: int
) -> PredictionSummary:
    from components.inference.checkpoint import open_checkpoint
    from components.networks.processor import usable_cores
    from components.prediction.destinations import StoreFolder
    from components.prediction.masks import Outputs, Page, predict_photographs

    run_key, weights, protocol = result.run_key, result.weights, result.protocol
    pair, bf16 = result.best.variant == "ensemble", protocol.engine != EXACT
    with tempfile.TemporaryDirectory(prefix="cps-predict-") as folder:
        path = store.get_file(keys.best_weights(run_key, pair=pair), Path(folder) / "best", weights.sha256)
        checkpoint = open_checkpoint(path, threads=usable_cores(), allow_bf16=bf16)
    window = window_of(checkpoint, None, None, protocol.scales, protocol.flip)
    title = f"{result.dataset.name} with {labels_text(result.labeled_ratio)}: predictions"
    facts = [("run", run_key), *_facts(checkpoint, window, weights.uri)]
    page = Page(title, facts, link=False, ignore_index=ignore_index)
    place = StoreFolder(store, keys.prediction(run_key, batch, ""))
    outcome = predict_photographs(checkpoint, photographs, window, place, page, Outputs(triptychs=True))
    if not outcome.done:
        raise WorkFailed(_refused_text(outcome.refused_lines(), 0, ""))
    made = PredictionSummary(
        run_key=run_key,
        batch=batch,
        images=outcome.done,
        refused=tuple(outcome.refused_lines()),
        gallery=store.uri(keys.prediction(run_key, batch, "gallery.html")),
        predictions=store.uri(keys.prediction(run_key, batch, "")),
    )
    # Written last, because it marks the predictions as complete.
    store.put_json(keys.prediction(run_key, batch, "predictions.json"), made.model_dump(mode="json"))
    progress.say(STEP, f"{outcome.done} images predicted: {made.gallery}")
    return made


@dataclass(frozen=True)
class _Selection:
    """The images to predict: files, or members of one of the dataset's lists with their labels' names."""

    identity: list[Any]
    """A JSON value that identifies the images and their content."""
    files: "Sequence[Photograph]" = ()
    members: Sequence[tuple[str, str | None]] = ()

    def photographs(self, reader: "DatasetReader") -> "Sequence[Photograph]":
        from components.prediction.photographs import Photograph, unique_names

        if self.files:
            return self.files
        return [
            Photograph(
                name,
                image,
                read=lambda image=image: reader.image(image),  # type: ignore[misc]
                version=lambda image=image: image,  # type: ignore[misc]
                truth=None if label is None else lambda label=label: reader.label(label),  # type: ignore[misc]
            )
            for (image, label), name in zip(
                self.members, unique_names([image for image, _ in self.members]), strict=True
            )
        ]


def _select(images: str, limit: int, split: "Split", dataset: str, store: "Store") -> _Selection:
    """Return the selected images; `dataset` is its name. Raises UserError if there are none."""
    if images not in LISTS:
        from components.prediction.photographs import find_photographs

        found = spaced(find_photographs([images], lambda: store), limit)
        return _Selection([[item.shown, _version(item)] for item in found], files=found)
    if images == "unlabeled":
        members: list[tuple[str, str | None]] = [(name, None) for name in split.unlabeled]
    else:
        members = [(sample.image, sample.label) for sample in (split.val if images == "val" else split.test)]
    chosen = spaced(members, limit)
    if not chosen:
        raise UserError(f"dataset {dataset} has no images in its list {images!r}: choose another list")
    return _Selection([image for image, _ in chosen], members=chosen)


def _batch(result: "RunResult", images: str, selection: _Selection) -> str:
    """Return the name of the predictions of these images with these weights under this protocol."""
    parts = [result.weights.sha256, result.protocol.model_dump(mode="json"), selection.identity]
    return f"{_slug(images)}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"


def _version(photograph: "Photograph") -> str:
    from components.prediction.decode import Unreadable

    try:
        return photograph.version()
    except Unreadable:
        return ""


def _stamp(weights: Path, window: "Window", engine: str) -> str:
    """Return a text that identifies everything that predictions depend on, other than the image."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settings = {"crop": window.crop, "stride": window.stride, "scales": window.scales, "flip": window.flip}
    if window.longest_side:
        settings["longest_side"] = window.longest_side
    rounding = {} if is_exact(engine) else {"engine": engine}
    return json.dumps({"weights": digest, **settings, **rounding})


def spaced(items: Sequence[Any], limit: int) -> list[Any]:
    """Return at most `limit` items, or all if it is 0. Evenly spaced: neighbours are often frames of the same video."""
    if limit <= 0 or len(items) <= limit:
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]


def _find_summary(store: "Store", run_key: str, batch: str) -> PredictionSummary | None:
    key = keys.prediction(run_key, batch, "predictions.json")
    made = store.find_json(key)
    if made is None or store.stat(keys.prediction(run_key, batch, "gallery.html")) is None:
        return None
    return read(PredictionSummary, made, store.uri(key))


def window_of(
    checkpoint: "Checkpoint",
    crop: tuple[int, int] | None,
    stride: tuple[int, int] | None,
    scales: Sequence[float],
    flip: bool,
) -> "Window":
    """Return the sliding window, by default the one that the weights were scored with; sizes are (height, width).

    Raises UserError if the stride is not positive or is larger than the crop.
    """
    from components.inference.sliding import Window

    description = checkpoint.description
    crop = crop or description.crop
    # A custom crop without a stride keeps the overlap, as a share of the crop, that the weights were scored with.
    if stride is None:
        kept = [
            max(1, side * step // original)
            for side, step, original in zip(crop, description.stride, description.crop, strict=True)
        ]
        stride = (kept[0], kept[1])
    if any(not 0 < step <= side for side, step in zip(crop, stride, strict=True)):
        raise UserError(
            f"stride {stride[1]}x{stride[0]} must be positive and at most crop {crop[1]}x{crop[0]} (width x height)"
        )
    return Window(crop, stride, scales=tuple(scales), flip=flip, longest_side=description.longest_side)


def _facts(checkpoint: "Checkpoint", window: "Window", weights: str) -> list[tuple[str, str]]:
    description = checkpoint.description
    networks = len(checkpoint.engines)
    longest = [("reduced to", f"{window.longest_side} pixels along the longer side")] if window.longest_side else []
    return [
        ("weights", weights),
        ("network", f"{description.structure}, {'mean of two networks' if networks == 2 else 'one network'}"),
        ("engine", ", ".join(sorted({engine.name for engine in checkpoint.engines.values()}))),
        ("trained in run", f"{description.run_key or 'unknown'}, epoch {description.epoch}"),
        ("crop", f"{window.crop[1]} × {window.crop[0]} pixels (width × height)"),
        ("stride", f"{window.stride[1]} × {window.stride[0]} pixels"),
        ("scales", ", ".join(f"{scale:g}" for scale in window.scales) + (", and mirrored" if window.flip else "")),
        *longest,
    ]


def _refused_text(refused: Sequence[str], done: int, place: str) -> str:
    shown = "; ".join(refused[:20]) + (f"; and {len(refused) - 20} more" if len(refused) > 20 else "")
    rest = f"; the other {done} were predicted: {place}" if done else ""
    return f"{len(refused)} of {len(refused) + done} images could not be read: {shown}{rest}"


def _slug(images: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", Path(images).name).strip("-.")[:40] or "images"
