"""Select the best checkpoint by its scores, store its weights separately, and write the result and the report.

Everything is derived from the scores. result.json is written last, so if it exists, everything else does too.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.contract import read
from components.dataset.check.balance import missing_classes
from components.dataset.stored.label_classes import label_classes
from components.dataset.stored.reader import DatasetReader
from components.disk import default_cache, scratch_of
from components.errors import WorkFailed
from components.evaluation.baseline import find_baseline, gain_over
from components.evaluation.doubts import likely_reasons
from components.evaluation.held_out import score_test_list
from components.evaluation.report.examples import Example, choose, draw
from components.evaluation.report.page import Link, Parts, render_report
from components.evaluation.report.progress import Masks, Progress, draw_progress, image_figures, shown_epochs
from components.evaluation.result import build_result
from components.evaluation.scores import Protocol, Scores
from components.evaluation.snapshots import unpack as unpack_masks
from components.evaluation.sweep import Sweep, open_sweep, stored_scores
from components.evaluation.verdict import Verdict, decide
from components.inference.checkpoint import Checkpoint
from components.inference.engine import EXACT
from components.inference.output import Output, Truth
from components.inference.segmentation import segment
from components.inference.sliding import SINGLE
from components.networks.processor import usable_cores
from components.pages.shown import Painter
from components.runs.checkpoints import CheckpointEntry, fetch_checkpoint, finished_result, read_index
from components.runs.record import RunOutcome, RunRecord, load_run, note_outcome
from components.runs.result import (
    PseudoLabelRecord,
    RunResult,
    StoredObject,
    TrainingCurve,
    Variant,
)
from components.storage import keys
from components.storage.client import MissingObject, ObjectRef
from components.storage.settings import object_link
from components.tracking.published import published_link
from components.units import quantity, size_text

if TYPE_CHECKING:
    from components.storage.client import Store

STEP = "select"


def select(run_key: str, store: "Store", cache: Path | None = None) -> RunResult:
    """Return the run's result, and write it unless it exists already.

    Raises:
        WorkFailed: a checkpoint has not been scored, or has changed since.
    """
    sweep, reader = open_sweep(store, run_key, cache)
    with reader:
        entries = read_index(store, run_key)
        record, _ = load_run(store, run_key)
        baseline = find_baseline(store, record, entries[-1].step) if entries else None
        finished = finished_result(store, run_key, entries)
        # A baseline that has finished since is added to the report.
        if finished is not None and (baseline is None or finished.baseline is not None):
            progress.say(STEP, f"already selected: {_headline(finished)}")
            note_outcome(store, run_key, _outcome(finished, entries))
            return finished
        verdict = decide(_all_scores(store, sweep, entries))
        entry = next(item for item in entries if item.epoch == verdict.best.epoch)
        [chosen] = _all_scores(store, sweep, [entry])
        scratch = scratch_of(cache or default_cache())
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            path = Path(folder) / "checkpoint.safetensors"
            checkpoint = fetch_checkpoint(
                store,
                entry,
                path,
                split=sweep.protocol.split,
                classes=len(sweep.protocol.classes),
                threads=usable_cores(),
                allow_bf16=sweep.recipe.evaluation.bf16,
            )
            weights = _store_weights(store, run_key, path, verdict.best.variant)
        test = score_test_list(store, sweep, reader, entry, verdict.best.variant, checkpoint, scratch)
        result = build_result(
            record,
            verdict,
            chosen,
            test,
            reasons=_reasons(store, sweep, chosen, verdict),
            weights=StoredObject(uri=weights.uri, sha256=weights.sha256, size=weights.size),
            report=StoredObject(uri=store.uri(keys.run(run_key, "report.html"))),
        )
        if baseline is not None:
            result = result.model_copy(update={"baseline": gain_over(store, baseline, result, chosen)})
        painter = Painter(sweep.manifest.classes)
        parts = Parts(
            painter=painter,
            examples=_examples(sweep, reader, chosen, verdict.best.variant, checkpoint, painter),
            facts=protocol_facts(record, sweep, chosen, result),
            links=_links(store, result),
            progress=_progress(store, sweep, reader, entries, verdict.best.variant, painter),
            curve=_training_curve(store, run_key),
            pseudo_labels=_pseudo_labels(store, run_key),
        )
        page = render_report(result, verdict, parts)
    store.put_json(keys.run(run_key, "confusion-matrix.json"), result.confusion_matrix.model_dump(mode="json"))
    store.put_bytes(keys.run(run_key, "report.html"), page.encode(), "text/html; charset=utf-8")
    note_outcome(store, run_key, _outcome(result, entries))
    store.put_json(keys.run(run_key, "result.json"), result.model_dump(mode="json"))
    progress.say(STEP, _headline(result))
    return result


def _reasons(store: "Store", sweep: Sweep, scores: Scores, verdict: Verdict) -> tuple[str, ...]:
    has_classes = store.stat(keys.dataset_label_classes(sweep.manifest.digest)) is not None  # not before 0.1.0
    missing = (
        missing_classes(sweep.manifest, sweep.split.labeled, label_classes(store, sweep.manifest))
        if has_classes
        else ()
    )
    steps = verdict.last.step
    return likely_reasons(sweep.recipe, sweep.split, scores, verdict.best.variant, steps=steps, missing=missing)


def _outcome(result: RunResult, entries: Sequence[CheckpointEntry]) -> RunOutcome:
    best = result.best
    assert best.mIoU is not None, "decide() never selects a choice without mIoU"
    return RunOutcome(
        mean_iou=best.mIoU,
        epoch=best.epoch,
        variant=best.variant,
        weights={entry.epoch: entry.content for entry in entries if entry.content},
    )


def _pseudo_labels(store: "Store", run_key: str) -> PseudoLabelRecord | None:
    key = keys.pseudo_labels(run_key)
    found = store.find_json(key)
    return None if found is None else read(PseudoLabelRecord, found, store.uri(key))


def _training_curve(store: "Store", run_key: str) -> TrainingCurve | None:
    key = keys.training_curve(run_key)
    found = store.find_json(key)  # not before 0.2.0
    return None if found is None else read(TrainingCurve, found, store.uri(key))


def _progress(
    store: "Store",
    sweep: Sweep,
    reader: DatasetReader,
    entries: Sequence[CheckpointEntry],
    variant: Variant,
    painter: Painter,
) -> Progress | None:
    """Return the strip of thumbnails. Checkpoints that an earlier version scored have no masks and are left out."""
    masks: dict[int, Masks] = {}
    for entry in entries:
        key = keys.snapshots(sweep.run_key, entry.epoch)
        try:
            masks[entry.epoch] = unpack_masks(store.get_bytes(key), variant, store.uri(key))
        except MissingObject:
            continue
    shown = shown_epochs(masks)
    figures = {
        scores.epoch: image_figures(scores, variant, list(masks[scores.epoch]))
        for scores in _all_scores(store, sweep, [entry for entry in entries if entry.epoch in shown])
    }
    labels = _labels(sweep)
    return draw_progress(figures, masks, painter, lambda name: (reader.image(name), reader.label(labels[name])))


def _labels(sweep: Sweep) -> dict[str, str]:
    """Return the label of each validation image that has one."""
    return {sample.image: sample.label for sample in sweep.split.val if sample.label is not None}


def _baseline_links(store: "Store", result: RunResult) -> tuple[Link, ...]:
    gain = result.baseline
    if gain is None:
        return ()
    command = f"cps compare {result.run_key} {gain.run_key}"
    return (Link("Supervised baseline", f"run {gain.run_key}", published_link(store, gain.run_key), command),)


def _links(store: "Store", result: RunResult) -> tuple[Link, ...]:
    run_key, size = result.run_key, size_text(result.weights.size)
    networks = "both networks" if result.best.variant == "ensemble" else "one network"
    figures = f"{result.report.uri.removesuffix('report.html')}result.json"
    return (
        Link(
            "Weights",
            f"safetensors, {size}, {networks}",
            object_link(result.weights.uri),
            f"cps weights pull {run_key}",
        ),
        Link(
            "Gallery", "predictions of your own photographs", command=f"cps predict PHOTOS --weights {run_key} -o out"
        ),
        Link("What to label next", "the unlabelled images that help most", command=f"cps label-next {run_key}"),
        Link("Dataset check", "files, class balance, duplicates", command="cps dataset check SOURCE -o check.html"),
        *_baseline_links(store, result),
        Link("MLflow run", f"every metric by step: {run_key} in experiment {result.dataset.name}"),
        Link(
            "result.json", "every figure of this page, for programs", object_link(figures), f"cps runs show {run_key}"
        ),
    )


def _all_scores(store: "Store", sweep: Sweep, entries: Sequence[CheckpointEntry]) -> Iterator[Scores]:
    """Yield the checkpoints' scores, of which memory holds one at a time. Raises WorkFailed if any are missing."""
    missing = []
    for entry in entries:
        scores = stored_scores(store, sweep.run_key, entry, sweep.protocol)
        if scores is None:
            missing.append(str(entry.epoch))
        elif not missing:
            yield scores
        del scores  # before the next ones are loaded
    if missing:
        raise WorkFailed(
            f"{len(missing)} of {len(entries)} checkpoints of run {sweep.run_key} have no scores (epochs "
            f"{', '.join(missing[:8])}{', …' if len(missing) > 8 else ''}): evaluate them first"
        )


def _store_weights(store: "Store", run_key: str, path: Path, variant: Variant) -> ObjectRef:
    """Store the winning weights as a separate file: one network, or both if the ensemble won."""
    data = winner_bytes(path, variant)
    return store.put_bytes(keys.best_weights(run_key, pair=variant == "ensemble"), data)


def winner_bytes(path: Path, variant: Variant) -> bytes:
    """Return the part of a checkpoint that `variant` needs as a weights file, whose bytes are reproducible."""
    from components.networks.weights import extract_branch, whole_pair

    return whole_pair(path, variant) if variant == "ensemble" else extract_branch(path, variant)


def _examples(
    sweep: Sweep,
    reader: DatasetReader,
    scores: Scores,
    variant: Variant,
    checkpoint: Checkpoint,
    painter: Painter,
) -> list[Example]:
    labels = _labels(sweep)
    branches = ("left", "right") if variant == "ensemble" else (variant,)
    engines = [checkpoint.engines[branch] for branch in branches]
    description, protocol = checkpoint.description, sweep.protocol
    window = protocol.window(sweep.recipe.evaluation.batch)

    def example(number: int) -> Example:
        name = scores.images[number]
        image, label = reader.image(name), reader.label(labels[name])
        truth = Truth(label, len(protocol.classes), protocol.ignore_index)
        [found] = segment(
            engines, image, window, mean=description.mean, std=description.std, output=Output(truth=truth)
        )
        assert found.matrix is not None, "the truth was given"
        return draw(name, found.matrix, image, label, found.ids, painter=painter)

    return [example(number) for number in choose(scores, variant)]


def protocol_facts(record: RunRecord, sweep: Sweep, scores: Scores, result: RunResult) -> list[tuple[str, str]]:
    """Return the report's (name, value) pairs that are needed to reproduce its metrics."""
    protocol, split = sweep.protocol, sweep.split
    crop, stride = protocol.crop, protocol.stride
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record.versions.items()))
    labels = (
        f"{len(split.labeled):,} labelled and {len(split.unlabeled):,} unlabelled training images "
        f"(ratio {record.labeled_ratio}, seed {record.seed}, {_origin(split.origin)}), fingerprint {split.fingerprint}"
    )
    window = (
        f"crop {crop[1]} × {crop[0]} pixels, stride {stride[1]} × {stride[0]} (width × height); "
        "logits averaged where windows overlap"
    )
    if protocol.longest_side:
        window += f"; larger images are first reduced to {protocol.longest_side} pixels along their longer side"
    boundary = (
        f"Cheng et al., CVPR 2021: pixels within {100 * protocol.boundary_ratio:g} % of the image’s diagonal of an "
        "outline; unlabelled pixels are excluded from both"
    )
    mean = "from one confusion matrix over all images; mean over the classes in the truth or the prediction"
    return [
        ("run", record.run_key),
        ("dataset", f"{record.dataset.name}, digest {record.dataset.digest}"),
        ("split", labels),
        ("validation", f"{len(scores.images):,} images, every labelled pixel counted once"),
        ("mean IoU", mean),
        ("intervals", _interval_fact(result)),
        ("boundary IoU", boundary),
        ("window", window),
        ("passes", _passes(protocol)),
        ("both, averaged", "mean of the two networks’ softmax probabilities"),
        ("engine", "32-bit floats" if protocol.engine == EXACT else f"{protocol.engine}, bfloat16"),
        ("checkpoint", f"epoch {scores.epoch}, step {scores.step:,}, sha256 {scores.checkpoint_sha256}"),
        ("weights", f"{result.weights.uri}, sha256 {result.weights.sha256}"),
        ("run started", f"{record.created}; {versions}"),
    ]


def _interval_fact(result: RunResult) -> str:
    settings = result.interval
    drawn = (
        f"95 %: percentiles of {settings.draws:,} bootstrap draws with seed {settings.seed}, resampled over "
        f"{settings.resampled(result.images)}; differences are paired on the same draws. "
    )
    if not settings.sequences:
        return drawn + "Neither names nor near copies show frames of a video, so the images count as independent"
    kinds = quantity(settings.sequences, "sequence")
    return drawn + (
        f"Names or near copies show that {settings.frames:,} of the {result.images:,} images are frames of {kinds}. "
        f"A sequence longer than √{result.images:,} ≈ {math.isqrt(result.images)} frames is cut into blocks of that "
        "length that do not overlap (Carlstein, 1986). The interval does not cover other places"
    )


def _passes(protocol: Protocol) -> str:
    scales = ", ".join(f"{scale:g}" for scale in protocol.scales)
    if protocol.scales == SINGLE and not protocol.flip:
        return "one per image, neither resized nor mirrored"
    mirrored = ", each also mirrored" if protocol.flip else ""
    return f"scales {scales}{mirrored}; probabilities averaged"


def _origin(origin: str) -> str:
    return "the dataset’s own lists" if origin == "lists" else "chosen by seed"


def _headline(result: RunResult) -> str:
    best = result.best
    return (
        f"best of {len(result.checkpoints)} checkpoints: epoch {best.epoch}, {best.variant}, "
        f"mIoU {100 * (best.mIoU or 0):.1f} %"
    )
