"""From checkpoints in a real store to scores, the best weights, the report and predictions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.contract import Class
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError, WorkFailed
from components.evaluation.baseline import baseline_keys
from components.evaluation.comparison.difference import run_difference
from components.evaluation.publish import metrics, select_step
from components.evaluation.scores import unpack
from components.evaluation.select import select
from components.evaluation.sweep import evaluate_shard, open_sweep, stored_scores
from components.inference.checkpoint import open_checkpoint
from components.labeled_ratio import parse_ratio
from components.matrix.cells import CPS, SUPERVISED, Cell, cell_request, planned_key
from components.metrics.boundary import boundary_counts
from components.networks.weights import read_networks
from components.prediction.predict import predict_files, predict_run
from components.runs.checkpoints import read_index
from components.runs.key import run_key
from components.runs.planning.plan import plan_run
from components.runs.record import new_record
from components.runs.request import RunRequest
from components.runs.result import VARIANTS
from components.storage import keys
from tests.components.evaluation.conftest import OVERRIDES, SCENES

Run = Any  # the fixture's TrainedRun


def scores_of(run: Run, epoch: int) -> Any:
    return unpack(run.store.get_bytes(keys.scores(run.key, epoch)), "scores")


def test_a_shard_scores_its_checkpoints_once(trained_run: Run) -> None:
    run = trained_run
    assert evaluate_shard(run.key, "0/2", run.store, run.cache) == {"scored": [2, 6], "reused": []}
    assert evaluate_shard(run.key, "1/2", run.store, run.cache) == {"scored": [4], "reused": []}
    written = run.store.stat(keys.scores(run.key, 4)).modified
    assert evaluate_shard(run.key, "0/1", run.store, run.cache) == {"scored": [], "reused": [2, 4, 6]}
    assert run.store.stat(keys.scores(run.key, 4)).modified == written
    assert not list((run.cache / "scratch").iterdir())


def test_frames_of_a_video_are_resampled_in_blocks(trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained_run
    assert evaluate_shard(run.key, "0/1", run.store, run.cache)["scored"] == [2, 4, 6]
    assert scores_of(run, 2).near_copies == ()
    for epoch in (2, 4, 6):
        run.store.remove(keys.scores(run.key, epoch))
    monkeypatch.setattr(
        "components.evaluation.comparison.blocks.MAX_DISTANCE", 256
    )  # every scene looks like the one before
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    assert scores_of(run, 2).near_copies == scores_of(run, 6).near_copies == scores_of(run, 2).images[1:]
    result = select(run.key, run.store, run.cache)
    assert (result.interval.blocks, result.interval.sequences, result.interval.frames) == (2, 1, 5)
    report = run.store.get_bytes(keys.run(run.key, "report.html")).decode()
    shares = [scores_of(run, epoch).agreement for epoch in (2, 4, 6)]
    assert all(0 < share < 1 for share in shares)
    assert [row.agreement for row in result.checkpoints] == shares
    assert "Agreement on validation images, without labels" in report
    assert "resampled over 2 blocks of consecutive frames; differences are paired" in report
    assert "5 of the 5 images are frames of 1 sequence" in report


def test_scores_in_bfloat16_are_not_taken_for_exact_ones(trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained_run
    assert evaluate_shard(run.key, "1/3", run.store, run.cache)["scored"] == [4]
    record = run.store.get_json(keys.run(run.key, "run.json"))
    record["settings"]["evaluation"]["bf16"] = True
    run.store.put_json(keys.run(run.key, "run.json"), record)
    asked: list[bool] = []

    def rounding(*, allow_bf16: bool) -> str:
        asked.append(allow_bf16)
        return "openvino-bf16"

    monkeypatch.setattr("components.evaluation.sweep.choose", rounding)
    protocol = open_sweep(run.store, run.key, run.cache)[0].protocol
    assert (protocol.engine, asked) == ("openvino-bf16", [True])
    [_, entry, _] = read_index(run.store, run.key)
    assert stored_scores(run.store, run.key, entry, protocol) is None
    assert stored_scores(run.store, run.key, entry, replace(protocol, engine="exact")) is not None


def test_scores_equal_a_plain_evaluation(trained_run: Run, tmp_path: Path) -> None:
    """Every window on its own, counts divided, scikit-learn's matrix: image by image and variant by variant."""
    import paddle
    from sklearn.metrics import confusion_matrix

    run = trained_run
    evaluate_shard(run.key, "0/3", run.store, run.cache)
    scores = scores_of(run, 2)
    layers = read_networks(run.store.get_file(keys.checkpoint(run.key, 2), tmp_path / "c.safetensors")).layers
    reader = DatasetReader(run.store, run.manifest.digest, run.cache)
    settings = run.recipe.augmentation
    assert scores.images == tuple(sample.image for sample in run.split.val)
    totals = {variant: np.zeros((len(run.manifest.classes),) * 2, np.int64) for variant in VARIANTS}
    bands = {variant: np.zeros((len(run.manifest.classes), 3), np.int64) for variant in VARIANTS}
    for number, sample in enumerate(run.split.val):
        image, label = reader.image(sample.image), reader.label(sample.label)
        planes = ((image / 255 - settings.mean) / settings.std).transpose(2, 0, 1).astype(np.float32)
        logits = {}
        for branch, layer in layers.items():
            total, count = np.zeros((len(run.manifest.classes), 48, 72)), np.zeros((48, 72))
            for left in (0, 24):
                with paddle.no_grad():
                    window = layer(paddle.to_tensor(planes[None, :, :, left : left + 48])).numpy()[0]
                total[:, :, left : left + 48] += window
                count[:, left : left + 48] += 1
            logits[branch] = total / count
        soft = [np.exp(values) / np.exp(values).sum(axis=0) for values in logits.values()]
        predictions = {"left": logits["left"], "right": logits["right"], "ensemble": (soft[0] + soft[1]) / 2}
        for variant in VARIANTS:
            counted = label != run.manifest.ignore_index
            expected = confusion_matrix(
                label[counted],
                predictions[variant].argmax(axis=0)[counted],
                labels=range(len(run.manifest.classes)),
            )
            # Arithmetic in another order may flip a pixel whose two best classes are as good as equal.
            counts = scores.counts[variant].by_image
            assert np.abs(counts.hit[number] - expected.diagonal()).sum() <= 4
            assert np.abs(counts.predicted[number] - expected.sum(axis=0)).sum() <= 4
            np.testing.assert_array_equal(counts.truth[number], expected.sum(axis=1))
            totals[variant] += expected
            ids = predictions[variant].argmax(axis=0).astype(np.uint8)
            bands[variant] += boundary_counts(label, ids, len(expected))
    for variant in VARIANTS:
        images = len(scores.images)
        assert np.abs(scores.total(variant) - totals[variant]).sum() <= 4 * images
        assert scores.total(variant).sum() == totals[variant].sum()
        assert np.abs(scores.counts[variant].bands - bands[variant]).sum() <= 40 * images
        np.testing.assert_array_equal(scores.counts[variant].bands[:, 1], bands[variant][:, 1])


def test_other_settings_and_other_weights_are_scored_again(trained_run: Run) -> None:
    run = trained_run
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    record = run.store.get_json(keys.run(run.key, "run.json"))
    record["settings"]["evaluation"]["stride"] = [48, 48]
    run.store.put_json(keys.run(run.key, "run.json"), record)
    assert evaluate_shard(run.key, "0/1", run.store, run.cache)["scored"] == [2, 4, 6]
    entries = run.store.get_json(keys.checkpoint_index(run.key))["checkpoints"]
    entries[1] = run.put_checkpoint(4, step=99)
    run.put_index(entries)
    assert evaluate_shard(run.key, "0/1", run.store, run.cache) == {"scored": [4], "reused": [2, 6]}


def test_scales_and_flip_are_part_of_how_it_was_scored(trained_run: Run) -> None:
    run = trained_run
    evaluate_shard(run.key, "0/3", run.store, run.cache)
    plain = scores_of(run, 2)
    record = run.store.get_json(keys.run(run.key, "run.json"))
    record["settings"]["evaluation"].update(scales=[0.5, 1.0], flip=True)
    run.store.put_json(keys.run(run.key, "run.json"), record)
    assert evaluate_shard(run.key, "0/1", run.store, run.cache)["scored"] == [2, 4, 6]
    scores = scores_of(run, 2)
    assert (scores.protocol.scales, scores.protocol.flip) == ((0.5, 1.0), True)
    assert scores.total("ensemble").sum() == plain.total("ensemble").sum()
    assert (scores.total("ensemble") != plain.total("ensemble")).any()
    result = select(run.key, run.store, run.cache)
    assert result.protocol.scales == (0.5, 1.0)
    report = run.store.get_bytes(keys.run(run.key, "report.html")).decode()
    assert "scales 0.5, 1, each also mirrored; probabilities averaged" in report
    made = predict_run(run.store, run.key, "val", 1, "", run.cache)
    gallery = run.store.get_bytes(keys.prediction(run.key, made.batch, "gallery.html")).decode()
    assert "0.5, 1, and mirrored" in gallery


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split": "0" * 64}, "was trained on split 000000000000"),
        (
            {"classes": (Class(name="a", color=(0, 0, 0)), Class(name="b", color=(1, 1, 1)))},
            "has 2 classes, but the dataset has 11",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(trained_run: Run, changes: dict[str, Any], says: str) -> None:
    run = trained_run
    run.put_index([run.put_checkpoint(8, **changes)])
    with pytest.raises(WorkFailed, match=rf"epoch-0008\.safetensors {says}"):
        evaluate_shard(run.key, "0/1", run.store, run.cache)
    assert run.store.stat(keys.scores(run.key, 8)) is None


def test_a_checkpoint_that_was_changed_is_refused(trained_run: Run) -> None:
    run = trained_run
    entry = run.put_checkpoint(8)
    run.put_checkpoint(8, step=1)
    run.put_index([entry])
    with pytest.raises(WorkFailed, match=entry["sha256"]):
        evaluate_shard(run.key, "0/1", run.store, run.cache)


def test_a_malformed_shard(trained_run: Run) -> None:
    with pytest.raises(UserError, match="0 <= i < n"):
        evaluate_shard(trained_run.key, "3/3", trained_run.store, trained_run.cache)


def test_select_needs_all_scores(trained_run: Run) -> None:
    run = trained_run
    evaluate_shard(run.key, "0/2", run.store, run.cache)
    with pytest.raises(WorkFailed, match=r"1 of 3 checkpoints .* \(epochs 4\): evaluate them first"):
        select(run.key, run.store, run.cache)


@pytest.mark.usefixtures("store_environment")
def test_select_then_predict(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained_run
    monkeypatch.setenv("CPS_CACHE", str(run.cache))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    result = select_step(run.key, str(tmp_path / "report"), str(tmp_path / "summary"))

    best = result.best
    figures = {(epoch, variant): scores_of(run, epoch).mean_iou(variant) for epoch in (2, 4, 6) for variant in VARIANTS}
    assert best.mIoU == max(figures.values())
    assert figures[best.epoch, best.variant] == best.mIoU
    assert [row.epoch for row in result.checkpoints] == [2, 4, 6]
    assert result.images == 5
    assert metrics(result)["mIoU"] == pytest.approx(100 * best.mIoU, abs=0.01)
    assert np.sum(result.confusion_matrix.matrix) == scores_of(run, best.epoch).total("left").sum()
    assert (tmp_path / "report").read_bytes() == run.store.get_bytes(keys.run(run.key, "report.html"))
    assert best.per_class[0].name in (tmp_path / "summary").read_text()
    page = (tmp_path / "report").read_text()
    assert "Progress you can see" in page
    assert page.count("jpg at epoch") == 2 * 3 * 3, (
        "three checkpoints of three images, each with a photograph and a mask"
    )

    # The stored weights are the winner's, alone.
    weights = tmp_path / "best.safetensors"
    run.store.get_uri(result.weights.uri, weights, result.weights.sha256)
    pair = best.variant == "ensemble"
    opened = open_checkpoint(weights)
    assert list(opened.engines) == (["left", "right"] if pair else ["only"])
    whole = open_checkpoint(run.store.get_file(keys.checkpoint(run.key, best.epoch), tmp_path / "whole.safetensors"))
    window = np.random.default_rng(0).normal(size=(1, 3, 48, 48)).astype(np.float32)
    branch = "left" if pair else best.variant
    np.testing.assert_array_equal(
        opened.engines["left" if pair else "only"].logits(window), whole.engines[branch].logits(window)
    )

    # A second time nothing is made again.
    written = run.store.stat(keys.run(run.key, "result.json")).modified
    again = select(run.key, run.store, run.cache)
    assert again.best == best
    assert run.store.stat(keys.run(run.key, "result.json")).modified == written

    made = predict_run(run.store, run.key, "val", 3, str(tmp_path / "gallery"), run.cache)
    assert (made.images, made.refused) == (3, ())
    stored = [item.key for item in run.store.list(keys.prediction(run.key, made.batch, ""))]
    assert sum("/masks/" in key for key in stored) == 3
    assert sum("/overlays/" in key for key in stored) == 3
    assert "Truth" in (tmp_path / "gallery").read_text()
    before = run.store.stat(keys.prediction(run.key, made.batch, "gallery.html")).modified
    assert predict_run(run.store, run.key, "val", 3, "", run.cache) == made
    assert run.store.stat(keys.prediction(run.key, made.batch, "gallery.html")).modified == before
    # The command gives the same masks, bit for bit, from the same files and weights.
    with DatasetReader(run.store, run.manifest.digest, run.cache) as reader:
        names = [sample.image for sample in run.split.val]
        for name in names:
            (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "files" / name).write_bytes(reader.read(name))
    assert predict_files(tmp_path / "files", weights, tmp_path / "out") == []
    masks = [key for key in stored if "/masks/" in key]
    for key in masks:
        name = key.partition("/masks/")[2]
        assert (tmp_path / "out" / "masks" / name).read_bytes() == run.store.get_bytes(key)
    # A step that was killed goes on: what it had stored is kept.
    run.store.remove(keys.prediction(run.key, made.batch, "predictions.json"))
    run.store.remove(masks[0])
    assert predict_run(run.store, run.key, "val", 3, str(tmp_path / "gallery"), run.cache) == made
    assert "2 of 3 images were already predicted" in capsys.readouterr().err
    assert run.store.stat(masks[0]) is not None
    assert "Truth" in (tmp_path / "gallery").read_text()

    unlabeled = predict_run(run.store, run.key, "unlabeled", 2, str(tmp_path / "gallery"), run.cache)
    assert unlabeled.batch != made.batch
    assert "Truth" not in (tmp_path / "gallery").read_text()
    with pytest.raises(UserError, match="no images in its list 'test'"):
        predict_run(run.store, run.key, "test", 3, "", run.cache)


def test_the_test_list_is_scored_once_and_with_the_winner_only(trained_run: Run) -> None:
    run = trained_run
    split = run.store.get_json(keys.run(run.key, "split.json"))
    split["test"] = split["labeled"]
    run.store.put_json(keys.run(run.key, "split.json"), split)
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    assert run.store.stat(keys.test_scores(run.key)) is None
    result = select(run.key, run.store, run.cache)

    test = unpack(run.store.get_bytes(keys.test_scores(run.key)), "test")
    variant = result.best.variant
    assert test is not None
    assert (test.epoch, list(test.counts)) == (result.best.epoch, [variant])
    assert test.images == tuple(sample["image"] for sample in split["test"])
    assert result.test.mIoU == test.mean_iou(variant)
    assert result.test.images == len(split["test"])
    assert b"test list, scored once" in run.store.get_bytes(keys.run(run.key, "report.html"))

    # With the report lost it is written anew, from the scores that are there.
    written = run.store.stat(keys.test_scores(run.key)).modified
    run.store.remove(keys.run(run.key, "report.html"))
    assert select(run.key, run.store, run.cache).test == result.test
    assert run.store.stat(keys.test_scores(run.key)).modified == written
    # Another winner, here of the same epoch, is not taken for this one.
    entries = run.store.get_json(keys.checkpoint_index(run.key))["checkpoints"]
    changed = [run.put_checkpoint(entry["epoch"], step=7) for entry in entries]
    run.put_index(changed)
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    select(run.key, run.store, run.cache)
    again = unpack(run.store.get_bytes(keys.test_scores(run.key)), "test")
    assert again is not None
    assert again.checkpoint_sha256 in {entry["sha256"] for entry in changed}


def test_a_result_of_an_earlier_version_is_made_again(trained_run: Run) -> None:
    run = trained_run
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    result = select(run.key, run.store, run.cache)
    run.store.put_json(keys.run(run.key, "result.json"), result.model_dump(mode="json", exclude={"lead", "test"}))
    assert select(run.key, run.store, run.cache) == result


def test_weights_that_were_lost_are_stored_again(trained_run: Run) -> None:
    run = trained_run
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    first = select(run.key, run.store, run.cache)
    key = keys.best_weights(run.key, pair=first.best.variant == "ensemble")
    run.store.remove(key)
    second = select(run.key, run.store, run.cache)
    assert second.weights == first.weights
    assert run.store.stat(key).sha256 == first.weights.sha256


def baseline_of(run: Run, epochs: tuple[int, ...] = (3, 6)) -> Run:
    """The same run with CPS weight 0, and checkpoints of `epochs`."""
    recipe = run.recipe.model_copy(update={"cps": run.recipe.cps.model_copy(update={"weight": 0.0})})
    ratio = parse_ratio("1/2")
    key = run_key(recipe, run.manifest.name, run.manifest.digest, run.split.fingerprint, ratio, 0)
    record = new_record(recipe, {}, run.manifest, run.split, key)
    run.store.put_json(keys.run(key, "run.json"), record.model_dump(mode="json"))
    run.store.put_json(keys.run(key, "split.json"), run.split.model_dump(mode="json"))
    baseline = replace(run, key=key, recipe=recipe)
    baseline.put_index([baseline.put_checkpoint(epoch) for epoch in epochs])
    return baseline


def test_a_report_has_the_gain_over_its_baseline_once_there_is_one(
    trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_run
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # nobody answers, and nobody is asked
    evaluate_shard(run.key, "0/1", run.store, run.cache)
    assert select(run.key, run.store, run.cache).baseline is None
    baseline = baseline_of(run)
    evaluate_shard(baseline.key, "0/1", run.store, run.cache)
    other = select(baseline.key, run.store, run.cache)
    assert other.baseline is None
    run.store.put_json(keys.run(baseline.key, "published.json"), {"page": "#/experiments/1/runs/abc"})
    result = select(run.key, run.store, run.cache)
    gain = result.baseline
    assert gain is not None
    assert gain.run_key == baseline.key
    found = run_difference(run.store, run.key, baseline.key)
    assert (gain.difference, gain.difference_low, gain.difference_high) == (found.difference, found.low, found.high)
    page = run.store.get_bytes(keys.run(run.key, "report.html")).decode()
    assert f"cps compare {run.key} {baseline.key}" in page
    assert 'href="http://127.0.0.1:1/#/experiments/1/runs/abc"' in page
    assert ">supervised baseline</span>" in page
    written = run.store.stat(keys.run(run.key, "report.html")).modified
    assert select(run.key, run.store, run.cache) == result
    assert run.store.stat(keys.run(run.key, "report.html")).modified == written


def test_a_baseline_that_was_trained_for_longer_is_none(trained_run: Run) -> None:
    run, baseline = trained_run, baseline_of(trained_run, (3, 7))
    for key in (baseline.key, run.key):
        evaluate_shard(key, "0/1", run.store, run.cache)
        assert select(key, run.store, run.cache).baseline is None


def test_the_baselines_key_is_the_one_that_a_matrix_gives_it(trained_run: Run) -> None:
    run = trained_run
    overrides = {**OVERRIDES, "training.batch_size": 4, "augmentation.crop": [32, 64]}
    request = RunRequest(dataset=SCENES, recipe="demo", labeled_ratio="1/2", overrides=overrides)
    digest = run.manifest.digest
    own = plan_run(run.store, digest, cell_request(Cell("1/2", 0, CPS), request)).record()
    assert baseline_keys(own)[0] == planned_key(run.store, Cell("1/2", 0, SUPERVISED), request, digest)
