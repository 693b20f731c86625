"""Masks, overlays and differences, read back from their encoded bytes."""

import base64
import io

import numpy as np
from PIL import Image

from components.contract import Class
from components.pages.pictures import (
    VOID,
    WRONG,
    borders,
    data_uri,
    difference,
    ids_thumbnail,
    jpeg,
    mask_png,
    overlay,
    paint,
    painted,
    thumbnail,
)

CLASSES = (
    Class(name="road", color=(128, 64, 128)),
    Class(name="sky", color=(70, 130, 180)),
    Class(name="car", color=(0, 0, 142)),
)
IDS = np.array([[0, 1, 2], [2, 2, 255]], np.uint8)


def test_a_mask_holds_the_ids_and_shows_the_colours() -> None:
    picture = Image.open(io.BytesIO(mask_png(IDS, CLASSES)))
    np.testing.assert_array_equal(np.asarray(picture), IDS)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), paint(IDS, CLASSES))


def test_over_256_classes_take_16_bits() -> None:
    ids = np.array([[0, 299]], np.uint16)
    picture = Image.open(io.BytesIO(mask_png(ids, [Class(name=str(n), color=(n % 256, 0, 0)) for n in range(300)])))
    np.testing.assert_array_equal(np.asarray(picture), ids)


def test_paint() -> None:
    painted = paint(IDS, CLASSES)
    assert tuple(painted[0, 1]) == (70, 130, 180)
    assert tuple(painted[1, 2]) == VOID


def test_a_background_is_transparent_in_an_overlay() -> None:
    classes = [Class(name="Background", color=(80, 80, 80)), Class(name="car", color=(0, 0, 200))]
    photograph = np.full((2, 2, 3), 100, np.uint8)
    mixed = np.asarray(overlay(photograph, np.array([[0, 0], [1, 1]], np.uint8), classes))
    assert mixed[0].tolist() == [[255, 255, 255]] * 2  # the line between them
    assert mixed[1].tolist() == [[50, 50, 150]] * 2
    assert np.array_equal(np.asarray(overlay(photograph, np.zeros((2, 2), np.uint8), classes)), photograph)


def test_an_overlay_mixes_and_marks_borders() -> None:
    ids = np.array([[0, 0, 1]], np.uint8)
    mixed = np.asarray(overlay(np.full((1, 3, 3), 100, np.uint8), ids, CLASSES, strength=0.5))
    assert mixed[0].tolist() == [[114, 82, 114], [255, 255, 255], [85, 115, 140]]


def test_a_tall_picture_is_made_in_bands_that_do_not_show() -> None:
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (600, 5, 3), np.uint8)
    ids, truth = rng.integers(0, 3, (2, 600, 5)).astype(np.uint8)
    edges = borders(ids)
    assert edges[255].any()  # the last row of the first band, whose lower neighbours are in the second
    colors = np.array([item.color for item in CLASSES])
    np.testing.assert_array_equal(paint(ids, CLASSES), colors[ids])
    np.testing.assert_array_equal(painted(ids, CLASSES), colors[ids])
    mixed = (photograph * np.float32(0.5) + colors[ids] * np.float32(0.5)).round()
    np.testing.assert_array_equal(overlay(photograph, ids, CLASSES), np.where(edges[..., None], 255, mixed))
    wrong = (difference(photograph, truth, ids, 255) == WRONG).all(axis=2)
    np.testing.assert_array_equal(wrong, truth != ids)


def test_a_difference_shows_what_is_wrong_and_what_has_no_truth() -> None:
    truth = np.array([[0, 1, 255]], np.uint8)
    shown = difference(np.full((1, 3, 3), 50, np.uint8), truth, np.array([[0, 0, 0]], np.uint8), 255)
    assert len(set(shown[0, 0].tolist())) == 1
    assert tuple(shown[0, 1]) == WRONG
    assert tuple(shown[0, 2]) == VOID


def test_thumbnails_keep_shape_and_ids() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    ids = np.random.default_rng(0).choice([3, 9], (50, 100)).astype(np.uint8)
    assert thumbnail(image, 40).shape == (20, 40, 3)
    assert thumbnail(image, 400) is image
    small = ids_thumbnail(ids, 40)
    assert small.shape == (20, 40)
    assert set(np.unique(small)) == {3, 9}


def test_a_data_uri_holds_the_bytes() -> None:
    data = jpeg(np.zeros((4, 4, 3), np.uint8))
    kind, _, text = data_uri(data).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(text) == data
    assert data_uri(mask_png(IDS, CLASSES)).startswith("data:image/png;base64,")
