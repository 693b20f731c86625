"""Batches are functions of the step: the same whoever makes them, and only the student's images changed strongly."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from components.errors import UserError
from components.networks.device import can_pin
from components.training.batches import data, on_device
from components.training.batches.data import Share, TrainingData, loader_workers
from components.training.batches.on_device import PackedBatch
from components.training.cps import Batch
from tests.components.training.small_training import make_recipe

CLASSES = 4


class Scenes:
    """Images and labels in memory, read as a DatasetReader's are."""

    manifest = SimpleNamespace(digest="0" * 64, files={}, ignore_index=255, classes=[None] * CLASSES)

    def image(self, name: str) -> np.ndarray:
        return np.random.default_rng(int(name)).integers(0, 256, (40, 60, 3), dtype=np.uint8)

    def label(self, name: str) -> np.ndarray:
        return np.random.default_rng(int(name)).integers(0, CLASSES, (40, 60), dtype=np.uint8)


def make_split(labeled: int = 6, unlabeled: int = 10) -> Any:
    return SimpleNamespace(
        labeled=tuple(SimpleNamespace(image=str(number), label=str(number)) for number in range(labeled)),
        unlabeled=tuple(str(100 + number) for number in range(unlabeled)),
    )


def make_data(
    share: Share = Share(),  # noqa: B008
    split: Any = None,
    burn_in: int = 0,
    for_gpu: bool | None = None,
    **settings: Any,
) -> TrainingData:
    reader: Any = Scenes()
    recipe = make_recipe(**settings)
    return TrainingData(reader, split or make_split(), recipe, 5, share, burn_in=burn_in, for_gpu=for_gpu)


def assert_equal_batches(one, two):
    for name in ("labeled", "labels", "first", "second", "mixed", "mask", "void", "pasted", "boxes", "draws"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)


def test_strong_augmentation_changes_the_mixed_images_alone():
    plain, strong = make_data().batch(3), make_data(cps__strong_augmentation=1.0).batch(3)
    assert strong.mixed is not None
    assert (strong.mixed != plain.mixed).any()
    strong_but_mixed = strong.__class__(**{**strong.__dict__, "mixed": plain.mixed})
    assert_equal_batches(strong_but_mixed, plain)
    assert (strong.mixed.transpose(1, 0, 2, 3)[:, strong.void] == 0).all()


def test_intensity_operations_are_another_kind_of_strong_augmentation():
    plain, batch = make_data().batch(3), make_data(cps__strong_augmentation=1.0, cps__strong_operations=3).batch(3)
    jittered = make_data(cps__strong_augmentation=1.0).batch(3)
    assert (batch.mixed != jittered.mixed).mean() > 0.3
    assert_equal_batches(batch.__class__(**{**batch.__dict__, "mixed": plain.mixed}), plain)
    assert (batch.mixed.transpose(1, 0, 2, 3)[:, batch.void] == 0).all()


def test_a_labelled_box_covers_a_fifth_of_an_image_on_average():
    data = make_data(cps__adaptive_cutmix=True, training__batch_size=8, cps__strong_augmentation=1.0)
    batches = [data.batch(step) for step in range(40)]
    boxes, draws = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("boxes", "draws"))
    shares = boxes.mean(axis=(1, 2))
    assert shares.mean() == pytest.approx(0.2, abs=0.03)
    assert shares.std() == pytest.approx(np.sqrt(0.2 * 0.8 / 11), abs=0.03)  # of Beta(2, 8)
    np.testing.assert_allclose(np.histogram(draws, 4, (0, 1))[0] / len(draws), np.full(4, 0.25), atol=0.08)
    assert abs(np.corrcoef(shares, draws)[0, 1]) < 0.15


def test_two_strong_views_of_each_pair_differ_in_boxes_and_colours():
    one = make_data(cps__strong_augmentation=1.0).batch(3)
    two = make_data(cps__strong_augmentation=1.0, cps__strong_views=2).batch(3)
    assert isinstance(one, Batch)
    assert isinstance(two, Batch)
    assert two.mixed is not None
    assert two.mask is not None
    assert len(two.mixed) == len(two.mask) == 2 * len(one.labels)
    for name in ("mixed", "mask", "void"):
        np.testing.assert_array_equal(getattr(two, name)[::2], getattr(one, name), err_msg=name)
    for name in ("labeled", "labels", "first", "second", "positions"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name), err_msg=name)
    assert (two.mask[::2] != two.mask[1::2]).any()
    same = two.mask[::2] == two.mask[1::2]
    assert (two.mixed[::2].transpose(0, 2, 3, 1)[same] != two.mixed[1::2].transpose(0, 2, 3, 1)[same]).mean() > 0.5


@pytest.mark.parametrize("views", [1, 2])
def test_each_view_shows_the_second_image_in_its_own_boxes(views, monkeypatch):
    monkeypatch.setattr("components.training.batches.data.augment_strongly", lambda image, *_: image)
    batch: Any = make_data(cps__strong_augmentation=1.0, cps__strong_views=views).batch(2)
    for place in range(len(batch.labels) * views):
        image, mask = place // views, batch.mask[place]
        for source, inside in ((batch.second, mask), (batch.first, ~mask)):
            shown = inside & ~batch.void[place]
            np.testing.assert_array_equal(batch.mixed[place][:, shown], source[image][:, shown])


VIEWS: dict[str, Any] = {
    "cps__strong_augmentation": 0.7,
    "cps__strong_views": 2,
    "cps__rare_class_paste": 0.6,
    "cps__strong_operations": 3,
    "cps__adaptive_cutmix": True,
    "training__batch_size": 4,
}


def test_a_batch_depends_on_its_step_alone():
    settings = VIEWS
    one, two = make_data(**settings), make_data(**settings)
    later = [one.batch(step) for step in range(5)][4]
    assert_equal_batches(later, two.batch(4))


def test_processes_share_the_batch_that_one_would_have():
    settings = VIEWS
    whole = make_data(**settings).batch(2)
    parts = [make_data(Share(rank, 2), **settings).batch(2) for rank in range(2)]
    for name in ("labeled", "labels", "mixed", "mask", "positions", "pasted", "boxes", "draws"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.parametrize("settings", [{"augmentation__distort": 0.0}, {"augmentation__distort": 1.0}], ids=str)
@pytest.mark.parametrize("weight", [0, 1])
def test_a_batch_that_the_device_normalises_and_mixes_is_the_same(settings, weight, request):
    settings = {**settings, "cps__weight": weight, "training__batch_size": 8}
    expected = make_data(**settings).batch(3)
    request.getfixturevalue("gpu_paths")
    packed = make_data(**settings).batch(3)
    assert isinstance(packed, PackedBatch)
    assert packed.names == expected.names
    tolerance = 1e-5 if settings["augmentation__distort"] else 0
    wanted, found = expected.on_device(), packed.on_device()
    for name in ("labeled", "first", "second", "mixed"):
        if weight or name == "labeled":
            given, made = getattr(wanted, name).numpy(), getattr(found, name).numpy()
            np.testing.assert_allclose(made, given, rtol=0, atol=tolerance, err_msg=name)
            assert (given == 0).any(), "padding"
    for name in ("labels", "mask", "void") if weight else ("labels",):
        assert getattr(wanted, name).dtype == getattr(found, name).dtype
        np.testing.assert_array_equal(getattr(wanted, name).numpy(), getattr(found, name).numpy(), err_msg=name)


@pytest.mark.parametrize("weight", [0, 1])
def test_a_batch_in_page_locked_memory_is_the_same(weight, monkeypatch):
    """Ordinary tensors stand in for that memory, which only a GPU's driver gives."""
    pinned = []

    def pin(array):
        pinned.append(array)
        return paddle.to_tensor(array)

    monkeypatch.setattr(on_device, "pinned", pin)
    monkeypatch.setattr(data, "can_pin", lambda: True)
    training = make_data(cps__weight=weight, augmentation__distort=1.0, for_gpu=True)
    [held] = training.batches(3, 4)
    plain = training.batch(3)
    assert len(pinned) == (14 if weight else 5), "all but the mask, which the audit reads on the host"
    assert held.mask is None or isinstance(held.mask, np.ndarray)
    wanted, found = plain.on_device(), held.on_device()
    for name in ("labeled", "labels", "first", "second", "mixed", "mask", "void"):
        one, other = getattr(wanted, name), getattr(found, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=name)


def test_on_a_cpu_nothing_is_page_locked():
    assert not can_pin()
    [batch] = make_data(for_gpu=True).batches(3, 4)
    assert isinstance(batch.labels, np.ndarray)


@pytest.mark.usefixtures("gpu_paths")
def test_strong_augmentation_is_done_before_a_batch_goes_to_the_device():
    assert isinstance(make_data(cps__strong_augmentation=0.5).batch(0), Batch)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_micro_batches_over_all_processes_are_those_of_one(processes, accumulate):
    settings = {"training__batch_size": 8, "training__accumulate": accumulate}
    whole = make_data(**settings).batch(1).on_device().micro_batches(accumulate)
    shares = [
        make_data(Share(rank, processes), **settings).batch(1).on_device().micro_batches(accumulate)
        for rank in range(processes)
    ]
    for number, expected in enumerate(whole):
        together = np.concatenate([share[number].mixed.numpy() for share in shares])
        np.testing.assert_array_equal(together, expected.mixed.numpy())


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_no_image_is_mixed_with_itself_on_any_number_of_processes(processes):
    data = [make_data(Share(rank, processes), training__batch_size=4) for rank in range(processes)]
    for step in range(12):
        for part in (one.batch(step) for one in data):
            size = len(part.labels)
            firsts, seconds = part.names[size : 2 * size], part.names[2 * size :]
            assert all(first != second for first, second in zip(firsts, seconds, strict=True))


def test_the_baseline_sees_the_same_labelled_batches():
    full, baseline = make_data(), make_data(cps__weight=0)
    for step in (0, 1, 7):
        np.testing.assert_array_equal(baseline.batch(step).labeled, full.batch(step).labeled)
        np.testing.assert_array_equal(baseline.batch(step).labels, full.batch(step).labels)
        assert baseline.batch(step).mixed is None


def test_the_burn_in_reads_the_same_labelled_images_and_no_others():
    full, late = make_data(), make_data(burn_in=3)
    for step in range(3):
        np.testing.assert_array_equal(late.batch(step).labeled, full.batch(step).labeled)
        assert late.batch(step).mixed is None
    assert_equal_batches(late.batch(3), full.batch(3))


@pytest.mark.parametrize("settings", [{"training__batch_size": 4}, VIEWS], ids=str)
def test_micro_batches_are_the_batch_in_order(settings):
    batch = make_data(**settings).batch(1)
    parts = batch.on_device().micro_batches(2)
    assert [len(part.labeled) for part in parts] == [2, 2]
    for name in ("labeled", "labels", "first", "second", "mixed", "mask", "void", "positions"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    for name in ("pasted", "boxes", "draws") if settings is VIEWS else ():
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    baseline = make_data(cps__weight=0, training__batch_size=4).batch(1)
    assert [part.mixed for part in baseline.on_device().micro_batches(4)] == [None] * 4


@pytest.mark.parametrize(
    ("share", "settings", "message"),
    [
        (Share(0, 3), {"training__batch_size": 4}, "batch size 4 cannot be divided among 3 processes"),
        (
            Share(0, 2),
            {"training__batch_size": 4, "training__accumulate": 4},
            "training.accumulate=4 does not divide the 2 images of each of 2 processes",
        ),
        (
            Share(),
            {"augmentation__crop": [61, 91]},
            r"the crop of 61 x 91 pixels is larger than every image \(for example 109: 40 x 60\), even at the largest "
            "scale, 1.5",
        ),
    ],
)
def test_what_cannot_be_made_into_batches_is_refused(share, settings, message):
    with pytest.raises(UserError, match=message):
        make_data(share, **settings)


def test_a_crop_that_images_fill_on_one_side_is_padded():
    batch = make_data(augmentation__crop=[64, 48]).batch(0)
    assert batch.labeled.shape[2:] == (64, 48)
    assert (batch.labels == 255).any()
    assert (make_data(augmentation__crop=[60, 90]).batch(0).labels == 255).any()


@pytest.mark.parametrize(("labeled", "unlabeled", "message"), [(0, 4, "no labelled images"), (4, 1, "there is 1")])
def test_too_few_images_are_refused(labeled, unlabeled, message):
    with pytest.raises(UserError, match=message):
        make_data(split=make_split(labeled, unlabeled))


def test_loader_threads_take_the_cores_that_a_gpu_leaves_idle(monkeypatch, request):
    monkeypatch.setattr("components.training.batches.data.usable_cores", lambda: 32)
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "4")
    asked = make_recipe(training__loader_workers=5).training
    assert (loader_workers(make_recipe().training), loader_workers(asked)) == (2, 5)
    request.getfixturevalue("gpu_paths")
    assert (loader_workers(make_recipe().training), loader_workers(asked)) == (8, 5)
