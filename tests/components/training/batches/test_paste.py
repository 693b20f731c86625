"""Classes of labelled images are pasted with their labels, rare ones most often."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from components.errors import UserError
from components.training.batches.augmentation import augment
from components.training.batches.data import CROP_ATTEMPTS, TrainingData
from components.training.batches.paste import NOT_PASTED, RareClasses
from components.training.batches.randomness import Stream, generator
from components.training.cps import Batch, PseudoLabels, known_labels
from tests.components.training.batches.test_data import CLASSES, Scenes, make_data

PIXELS = np.array([[500, 100, 0, 0], [300, 95, 5, 0], [0, 0, 0, 0]])


def test_classes_are_drawn_in_inverse_proportion_to_their_pixels():
    rare = RareClasses(PIXELS)
    shares = np.array([800, 195, 5]) / 1000
    expected = [*(1 / shares / (1 / shares).sum()), 0]
    np.testing.assert_allclose(rare.chances, expected)
    draws = [rare.draw(np.random.default_rng(seed)) for seed in range(3000)]
    found = np.bincount([wanted for wanted, _ in draws], minlength=4) / len(draws)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert {index for wanted, index in draws if wanted == 2} == {1}
    assert {index for wanted, index in draws if wanted == 1} == {0, 1}


def test_a_class_of_a_few_pixels_is_not_drawn_all_the_time():
    chances = RareClasses(np.array([[10**6, 1, 10**5]])).chances
    assert chances[1] / chances[2] == pytest.approx((10**5 / (11 * 10**5)) / 0.001, rel=0.01)


@pytest.mark.parametrize(("classes", "count"), [([0], 1), ([0, 1], 1), ([0, 1, 2], 2), ([0, 1, 2, 3], 2)])
def test_half_of_the_classes_of_a_label_are_pasted_whole(classes, count):
    rng = np.random.default_rng(1)
    label = rng.choice([*classes, 255], (20, 30)).astype(np.uint8)
    rare = RareClasses(np.array([[400, 300, 200, 100]]))
    for _ in range(20):
        mask = rare.draw_mask(label, rng)
        chosen = set(np.unique(label[mask]))
        assert len(chosen) == count
        assert chosen <= set(classes)
        np.testing.assert_array_equal(mask, np.isin(label, list(chosen)))


def test_rare_classes_of_a_label_are_chosen_most_often():
    rare, label = RareClasses(np.array([[900, 90, 10]])), np.array([[0, 1, 2]], np.uint8)
    masks = [rare.draw_mask(label, np.random.default_rng(seed)) for seed in range(400)]
    assert np.mean(masks, axis=0)[0].tolist() == sorted(np.mean(masks, axis=0)[0].tolist())
    assert np.mean(masks, axis=0)[0, 2] > 0.95


def test_void_labels_give_nothing_to_paste():
    assert not RareClasses(PIXELS).draw_mask(np.full((3, 4), 255, np.uint8), np.random.default_rng(0)).any()
    with pytest.raises(UserError, match=r"cps\.rare_class_paste needs labelled pixels, but all labels are void"):
        RareClasses(np.zeros((3, 4), np.int64))


def made(data: TrainingData, step: int) -> Any:
    batch = data.batch(step)
    assert isinstance(batch, Batch)
    return batch


def test_pasted_pixels_and_labels_are_those_of_a_labelled_image_and_the_rest_stays():
    plain, pasting = made(make_data(), 3), make_data(cps__rare_class_paste=1.0)
    batch, scenes = made(pasting, 3), Scenes()
    for name in ("labeled", "labels", "first", "second", "mask", "void"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(plain, name), err_msg=name)
    for slot, position in enumerate(batch.positions):
        pasted = batch.pasted[slot]
        mask = pasted != NOT_PASTED
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(batch.mixed[slot][:, ~mask], plain.mixed[slot][:, ~mask])
        attempts = [(5, Stream.PASTED_IMAGE, position, 0, attempt) for attempt in range(CROP_ATTEMPTS)]
        sources = [
            augment(scenes.image(name), scenes.label(name), pasting.recipe.augmentation, 255, generator(*attempt))
            for name in map(str, range(6))
            for attempt in attempts
        ]
        fitting = [image for image, label in sources if (label[mask] == pasted[mask]).all()]
        assert len(fitting) == 1
        np.testing.assert_array_equal(batch.mixed[slot][:, mask], fitting[0][:, mask])


def test_a_share_of_the_images_is_pasted_onto():
    data = make_data(cps__rare_class_paste=0.4, training__batch_size=8)
    pasted = np.concatenate([made(data, step).pasted for step in range(10)])
    assert 0.2 < (pasted != NOT_PASTED).any(axis=(1, 2)).mean() < 0.6


def test_pasted_pixels_stay_where_the_mixed_image_had_padding():
    settings: dict[str, Any] = {
        "cps__strong_augmentation": 1.0,
        "augmentation__scales": [0.5, 1.0],
        "training__batch_size": 8,
    }
    batch = made(make_data(cps__rare_class_paste=1.0, **settings), 0)
    both = batch.void & (batch.pasted != NOT_PASTED)
    assert both.any()
    assert (batch.mixed.transpose(0, 2, 3, 1)[both] != 0).any(axis=-1).mean() > 0.9
    padding = batch.void & (batch.pasted == NOT_PASTED)
    assert (batch.mixed.transpose(0, 2, 3, 1)[padding] == 0).all()


def test_a_crop_with_the_wanted_class_is_looked_for():
    """One corner of one image has the rare class, which most crops miss."""

    class Corner(Scenes):
        def label(self, name: str) -> np.ndarray:
            label = np.zeros((40, 60), np.uint8)
            label[:, 30:] = 1
            label[:6, :6] = 2 if name == "3" else 0
            return label

    data = make_data(cps__rare_class_paste=1.0, augmentation__crop=[16, 16], augmentation__scales=[1.0, 1.0])
    reader: Any = Corner()
    searching = TrainingData(reader, data.split, data.recipe, 5, data.share)
    pasted = np.concatenate([made(searching, step).pasted for step in range(60)])
    # A crop of 16 x 16 pixels has it with a probability of 36 / (25 * 45), one of ten with 27 %.
    assert (pasted == 2).any(axis=(1, 2)).mean() > 0.12


def test_the_baseline_and_the_burn_in_paste_nothing():
    assert make_data(cps__rare_class_paste=1.0, cps__weight=0).batch(0).labels.size
    late = make_data(burn_in=1, cps__rare_class_paste=1.0)
    assert made(late, 0).pasted is None


def test_pixels_are_counted_label_by_label():
    data = make_data()
    expected = [np.bincount(Scenes().label(str(number)).ravel(), minlength=CLASSES) for number in range(6)]
    np.testing.assert_array_equal(data.pixels_by_label(), expected)


def test_pasted_labels_replace_pseudo_labels():
    pseudo = np.arange(24).reshape(2, 3, 4) % 5
    pasted = np.full((2, 3, 4), NOT_PASTED)
    pasted[0, 0], pasted[1, 2] = 3, 255
    batch: Any = SimpleNamespace(pasted=paddle.to_tensor(pasted))
    found = known_labels({"left": PseudoLabels(paddle.to_tensor(pseudo), None)}, batch)["left"].numpy()
    np.testing.assert_array_equal(found, np.where(pasted == NOT_PASTED, pseudo, pasted))
