import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.dataset.layouts import read_layout
from components.dataset.manifest import Manifest
from components.dataset.split import split_labels
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError, WorkFailed
from components.recipes import load_recipe
from components.recipes.loader import parse_recipe
from components.runs.record import load_run
from components.runs.request import RunRequest, parse_overrides
from components.runs.steps import StoredDataset, prepare_dataset, split_labels_step
from components.storage import keys
from components.storage.client import MissingObject, Store

MakeDataset = Callable[..., Path]

BATCH = 2
"""Small enough for the small datasets here."""


@pytest.fixture
def make_dataset(make_dataset: MakeDataset) -> MakeDataset:
    """Images that the demo's crop fits into."""
    return partial(make_dataset, size=(64, 96))


def resolved(**given: Any) -> RunRequest:
    """The request, after everything that can be checked of it before any work."""
    request = RunRequest(**given)
    request.check_sources()
    request.resolve()
    return request


def test_parameters_are_parsed() -> None:
    request = RunRequest(
        labeled_ratio="2/16",
        overrides={"optimization.learning_rate": 0.5},
        seed=7,
        epochs=3,
        batch_size=2,
        dataset_sha256="A" * 64,
    )
    assert (request.ratio, request.labeled_ratio, request.dataset_sha256) == (Fraction(1, 8), "1/8", "a" * 64)
    recipe = request.resolve()
    assert (recipe.optimization.learning_rate, recipe.training.epochs, recipe.training.batch_size) == (0.5, 3, 2)
    assert RunRequest(recipe="demo").resolve() == load_recipe("demo")
    assert RunRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"labeled_ratio": "1,5"},
            "labelled ratio '1,5' is not a fraction above 0 and up to 1: write 1/8, 0.125 or 12.5%",
        ),
        (
            {"dataset": "/none/at/all"},
            "dataset '/none/at/all' does not exist: give a folder, an archive, a URL or `scenes`",
        ),
        ({"dataset": ""}, "dataset '' does not exist: give a folder, an archive, a URL or `scenes`"),
        (
            {"dataset": "ftp://h/a.tar"},
            "dataset ftp://…: only http://, https:// and s3:// are supported, or a path",
        ),
        (
            {"dataset": "https://host"},
            "dataset 'https://host' is not the URL of a file: write https://host/path/archive.tar",
        ),
        (
            {"dataset": "scenes:trian=3"},
            "dataset 'scenes:trian=3': unknown setting 'trian'; available: train, val, width, height, seed",
        ),
        (
            {"dataset": "scenes:train=x"},
            "dataset 'scenes:train=x': train must be a whole number from 2 to 100000, not 'x'",
        ),
        (
            {"dataset_sha256": "abc"},
            "sha256 'abc' is not 64 hexadecimal digits: copy all of it, or leave it empty",
        ),
        ({"seed": -1}, "seed -1 is not a whole number from 0 to 2147483647"),
        ({"epochs": -1}, "epochs is -1: give a whole number above 0, or 0 for the recipe's value"),
    ],
)  # fmt: skip
def test_each_wrong_parameter_is_named_in_one_line(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as error:
        resolved(**wrong)
    assert str(error.value) == text


def test_overrides_that_are_no_json_or_unknown_are_named() -> None:
    with pytest.raises(UserError, match=r"^overrides '\{x' are not JSON "):
        parse_overrides("{x")
    with pytest.raises(UserError) as error:
        parse_overrides("[1]")
    assert str(error.value) == (
        "overrides '[1]' are not a JSON object; write, for example, {\"optimization.learning_rate\": 0.01}"
    )
    assert parse_overrides("") == {}
    with pytest.raises(UserError, match=r"did you mean 'optimization\.learning_rate'"):
        resolved(overrides={"optimization.learning_rat": 1})


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.rar"
    path.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"is not an archive: give one of \.tar, \.tar\.gz, \.tgz, \.tar\.zst, \.zip, or a folder"
    ):
        resolved(dataset=str(path))


def test_a_path_of_another_machine_is_not_looked_for() -> None:
    request = RunRequest(dataset="/data/elsewhere")
    request.check_sources(is_local=False)
    with pytest.raises(UserError, match="'/data/elsewhere' does not exist"):
        request.check_sources()


def prepared(
    source: Path, ratio: str = "1/4", overrides: dict[str, Any] | None = None, batch_size: int = BATCH
) -> StoredDataset:
    given = {"dataset": str(source), "labeled_ratio": ratio, "recipe": "demo", "batch_size": batch_size}
    return prepare_dataset(RunRequest(**given, overrides=overrides or {}))


def split_step(digest: str, ratio: str = "1/4", seed: int = 0, *, job: str = "", **others: Any) -> str:
    request = RunRequest(labeled_ratio=ratio, seed=seed, **{"recipe": "demo", "batch_size": BATCH, **others})
    return split_labels_step(digest, request, job)


@pytest.mark.usefixtures("store_environment")
def test_from_folder_to_run(make_dataset: MakeDataset, store: Store) -> None:
    dataset = prepared(make_dataset())
    assert (dataset.name, dataset.layout, dataset.class_names) == ("tiny", "lists", ("road", "sky", "car"))
    assert (dataset.train, dataset.val, dataset.test, dataset.unlabeled) == (8, 2, 0, 0)
    key = split_step(dataset.digest, "2/8", 5, job="job-1")
    record, split = load_run(store, key)
    assert key.startswith("tiny-demo-1-4-s5-")
    assert len(key) == len("tiny-demo-1-4-s5-") + 12
    assert (record.run_key, record.recipe, record.labeled_ratio, record.seed) == (key, "demo", "1/4", 5)
    assert (record.dataset.digest, record.dataset.name) == (dataset.digest, "tiny")
    assert record.settings == load_recipe("demo", {"training.batch_size": BATCH}).model_dump(mode="json")
    assert record.split == split.fingerprint
    assert (len(split.labeled), len(split.unlabeled), len(split.val)) == (2, 6, 2)
    assert store.get_json(keys.job("job-1")) == {"job_id": "job-1", "run_key": key, "dataset": "tiny"}


@pytest.mark.usefixtures("store_environment")
def test_the_same_submission_finds_the_same_run(make_dataset: MakeDataset, store: Store) -> None:
    digest = prepared(make_dataset()).digest
    key = split_step(digest, "1/4", 0, job="a")
    first = store.get_bytes(keys.run(key, "run.json"))
    epochs = load_recipe("demo").training.epochs
    assert split_step(digest, "2/8", 0, job="b", epochs=epochs) == key
    assert store.get_bytes(keys.run(key, "run.json")) == first
    others = {
        split_step(digest, "1/2", 0),
        split_step(digest, "1/4", 1),
        split_step(digest, "1/4", 0, epochs=epochs + 1),
        split_step(digest, "1/4", 0, overrides={"cps.weight": 0.5}),
    }
    assert len(others | {key}) == 5


@pytest.mark.usefixtures("store_environment")
def test_a_run_of_version_0_1_is_found_under_its_key(make_dataset: MakeDataset, store: Store) -> None:
    digest = prepared(make_dataset()).digest
    key = split_step(digest)
    record, split = load_run(store, key)
    old = key.removeprefix("tiny-")
    store.put_json(keys.run(old, "run.json"), record.model_copy(update={"run_key": old}).model_dump(mode="json"))
    store.put_json(keys.run(old, "split.json"), split.model_dump(mode="json"))
    assert split_step(digest) == old
    store.remove(keys.run(old, "run.json"))
    assert split_step(digest) == key


@pytest.mark.usefixtures("store_environment")
def test_what_leaves_nothing_to_train_on_is_refused_while_preparing(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=3)
    with pytest.raises(UserError, match=r"^ratio 1/8 selects none of the 3 labelled images in dataset tiny"):
        prepared(folder, "1/8")
    with pytest.raises(UserError) as error:
        prepared(folder, "1/1")
    assert str(error.value) == (
        "ratio 1/1 leaves no unlabelled images in dataset tiny: "
        "use a smaller ratio, or set cps.weight=0 to train on labelled images only"
    )
    assert prepared(folder, "1/1", {"cps.weight": 0}).train == 3
    with pytest.raises(
        UserError, match=r"^ratio 2/3 leaves one unlabelled image, but training needs two, in dataset tiny: "
    ):
        prepared(folder, "2/3")


@pytest.mark.usefixtures("store_environment")
def test_class_ids_out_of_range_are_refused(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    Image.fromarray(np.full((64, 96), 3, np.uint8)).save(folder / "labels/train/00.png")
    with pytest.raises(
        UserError, match=r"labels/train/00\.png has ids outside the 3 classes: 3; valid ids are 0 to 2"
    ) as error:
        prepared(folder)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("store_environment")
def test_a_batch_that_is_larger_than_the_dataset_is_refused(make_dataset: MakeDataset) -> None:
    folder = make_dataset(train=5)
    with pytest.raises(UserError) as error:
        prepared(folder, "2/5", {"training.batch_size": 4}, batch_size=0)
    assert str(error.value) == (
        "training.batch_size is 4, but dataset tiny has only 2 labelled and 3 unlabelled images at ratio 2/5: "
        "set it to 3 or less"
    )
    assert prepared(folder, "2/5", batch_size=3).train == 5


@pytest.mark.usefixtures("store_environment")
def test_a_crop_that_is_larger_than_every_image_is_refused_before_training(make_dataset: MakeDataset) -> None:
    folder = make_dataset()
    with pytest.raises(UserError) as error:
        prepared(folder, overrides={"augmentation.crop": [128, 160]})
    assert str(error.value) == (
        "augmentation.crop is 160 x 128 pixels, but the largest training image of dataset tiny is 96 x 64 (width x "
        "height), and is enlarged at most 1.5 times: choose a smaller crop, such as --set "
        "'augmentation.crop=[64, 96]' (height, width)"
    )
    assert prepared(folder, overrides={"augmentation.crop": [64, 96]}).train == 8
    assert prepared(folder, overrides={"augmentation.crop": [96, 300]}).train == 8  # padded on one side alone


@pytest.mark.usefixtures("store_environment")
def test_a_dataset_or_run_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(WorkFailed, match=f"no dataset at {store.uri(keys.dataset_manifest('0' * 64))}"):
        split_step("0" * 64, "1/4", 0, batch_size=0)
    with pytest.raises(MissingObject, match=r"runs/none/run\.json"):
        load_run(store, "none")


@pytest.mark.usefixtures("store_environment")
def test_a_split_of_another_run_is_refused(make_dataset: MakeDataset, store: Store) -> None:
    digest = prepared(make_dataset()).digest
    first = split_step(digest, "1/4", 0)
    second = split_step(digest, "1/4", 1)
    store.put_json(keys.run(first, "split.json"), store.get_json(keys.run(second, "split.json")))
    with pytest.raises(WorkFailed, match=f"is not the split of run {first} "):
        load_run(store, first)
    store.put_json(keys.run(first, "split.json"), {"ratio": "1/4"})
    with pytest.raises(WorkFailed, match="was not written by this version"):
        load_run(store, first)


@pytest.mark.usefixtures("store_environment")
def test_a_stratified_split_knows_the_labels_classes(
    make_dataset: MakeDataset,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    folder = make_dataset(train=16)
    plain = split_labels(_manifest(folder), "1/4", 0)
    rare = next(s.label for s in _manifest(folder).train if s.image == plain.unlabeled[-1])
    for path in (folder / "labels/train").iterdir():
        ids = np.array(Image.open(path)) % 2
        ids[0, 0] = 2 if path == folder / str(rare) else 0
        Image.fromarray(ids).save(path)
    stratify = {"split.stratify": True}
    digest = prepared(folder, overrides=stratify).digest
    capsys.readouterr()
    _, split = load_run(store, split_step(digest, "1/4", 0, batch_size=0))
    assert [s.image for s in split.labeled] == [s.image for s in plain.labeled]
    assert (
        "warning: at ratio 1/4 no labelled image shows car; set split.stratify=true to rank by"
        in capsys.readouterr().err
    )
    key = split_step(digest, "1/4", 0, overrides=stratify, batch_size=0)
    record, split = load_run(store, key)
    assert (parse_recipe(record.settings, key).split.stratify, len(split.labeled)) == (True, 4)
    assert rare in {s.label for s in split.labeled}
    assert "warning" not in capsys.readouterr().err
    # A dataset that an earlier version stored: the labels are read now, and give the same split.
    written = store.get_json(keys.dataset_label_classes(digest))
    store.remove(keys.dataset_label_classes(digest))
    assert split_step(digest, "1/4", 0, overrides=stratify, batch_size=0) == key
    training = {s.label for s in split.labeled} | {str(name).replace("images", "labels") for name in split.unlabeled}
    assert store.get_json(keys.dataset_label_classes(digest)) == {n: written[n] for n in written if n in training}
    store.put_json(keys.dataset_label_classes(digest), {})
    with pytest.raises(WorkFailed, match=r"label-classes\.json lacks training labels"):
        split_step(digest, "1/4", 0, overrides=stratify, batch_size=0)


def _manifest(folder: Path) -> Manifest:
    return Manifest(**dict(read_layout(folder).lists), digest="", name="", layout="", files={}, shards=())


def test_the_first_steps_need_no_more_than_the_data_image_has() -> None:
    program = "import json, sys, components.runs.steps; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout))
    assert not loaded & {"cv2", "jinja2", "markupsafe", "paddle", "safetensors"}


@pytest.mark.camvid
@pytest.mark.usefixtures("store_environment")
def test_camvid_comes_back_as_it_is_and_an_eighth_has_46_labels(camvid: Path, store: Store, tmp_path: Path) -> None:
    dataset = prepared(camvid, "1/8")
    _, split = load_run(store, split_step(dataset.digest, "1/8", 0, batch_size=0))
    assert (len(split.labeled), len(split.unlabeled), len(split.val)) == (46, 321, 101)
    with DatasetReader(store, dataset.digest, tmp_path / "cache") as reader:
        manifest = reader.manifest
        assert (len(manifest.train), len(manifest.val), len(manifest.classes)) == (367, 101, 11)
        for sample in (*manifest.train[::40], *manifest.val[::20]):
            assert sample.label is not None
            with Image.open(camvid / sample.image) as picture:
                np.testing.assert_array_equal(reader.image(sample.image), np.array(picture.convert("RGB")))
            with Image.open(camvid / sample.label) as picture:
                np.testing.assert_array_equal(reader.label(sample.label), np.array(picture))
