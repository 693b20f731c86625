"""The Python API's model: the same masks as `cps predict`, from files, pictures and arrays; and its errors."""

import io
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from components.api import ImageLike, Model, Prediction, UserError, load_model
from components.prediction.predict import predict_files
from tests.components.networks.small_weights import write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "pair.safetensors")


@pytest.fixture(scope="module")
def model(weights: Path) -> Model:
    return load_model(weights)


def pixels(height: int = 40, width: int = 70, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_a_path_a_picture_and_an_array_give_the_mask_of_the_command(
    model: Model, weights: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos" / "street.png"
    path.parent.mkdir()
    Image.fromarray(pixels()).save(path)
    predict_files(path, weights, tmp_path / "out", confidence=True)
    expected = np.array(Image.open(tmp_path / "out" / "masks" / "street.png"))
    images: list[ImageLike] = [path, str(path), Image.open(path), pixels()]
    for image in images:
        found = model.predict(image, confidence=True)
        assert np.array_equal(found.mask, expected)
        assert found.mask.dtype == np.uint8
        assert found.image.shape == (40, 70, 3)
        assert found.name == (str(path) if isinstance(image, (str, Path)) else "")
    assert found.confidence is not None
    confidence = np.array(Image.open(tmp_path / "out" / "confidence" / "street.png"))
    assert np.abs(np.rint(found.confidence * 255) - confidence).max() <= 1
    found.save_mask(tmp_path / "new" / "mask.png")
    assert (tmp_path / "new" / "mask.png").read_bytes() == (tmp_path / "out" / "masks" / "street.png").read_bytes()
    assert np.array_equal(np.array(found.painted()), np.array(Image.open(tmp_path / "out" / "color" / "street.png")))
    assert found.overlay().size == (70, 40)


@pytest.mark.parametrize("engine", ["onnxruntime", "paddle"])
def test_probabilities_are_of_all_classes_and_agree_with_the_mask(weights: Path, engine: str) -> None:
    model = load_model(weights, engine=engine)
    assert model.engine == engine
    found = model.predict(pixels(), confidence=True, probabilities=True)
    assert found.probabilities is not None
    assert found.confidence is not None
    assert found.probabilities.shape == (2, 40, 70)
    assert np.allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.probabilities.argmax(axis=0), found.mask)
    assert np.allclose(found.probabilities.max(axis=0), found.confidence)
    plain = model.predict(pixels())
    assert (plain.confidence, plain.probabilities) == (None, None)
    assert np.array_equal(plain.mask, found.mask)


def test_the_model_says_what_it_is(model: Model) -> None:
    assert model.class_names == ("road", "sky")
    assert model.classes[1].color == (70, 130, 180)
    assert (model.run_key, model.description.epoch) == ("demo-1-8-s0-0123456789ab", 3)
    assert model.description.crop == (32, 32)


def test_shares_are_of_the_classes_that_are_there(model: Model) -> None:
    mask = np.array([[1, 1], [1, 0]], np.uint8)
    assert Prediction("", 0, pixels(2, 2), mask, model.classes).shares() == {"sky": 0.75, "road": 0.25}
    assert Prediction("", 0, pixels(2, 2), mask * 0, model.classes).shares() == {"road": 1.0}


def test_pictures_are_turned_upright_and_a_mask_fits_its_image(model: Model, tmp_path: Path) -> None:
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(path, exif=exif)
    for image in (path, Image.open(path)):
        found = model.predict(image)
        assert found.mask.shape == found.image.shape[:2] == (70, 40)


def test_a_batch_is_in_order_of_any_sizes_and_is_read_as_it_is_needed(model: Model) -> None:
    taken = list[int]()

    def images():
        for number in range(1000):
            taken.append(number)
            yield pixels(20 + number, 30, number)

    batch = model.predict_batch(images(), probabilities=True)
    for number in range(5):
        found = next(batch)
        assert (found.index, found.image.shape) == (number, (20 + number, 30, 3))
        expected = model.predict(pixels(20 + number, 30, number), probabilities=True)
        assert found.probabilities is not None
        assert expected.probabilities is not None
        assert np.allclose(found.probabilities, expected.probabilities, atol=1e-5)
    cast(Generator[Prediction, None, None], batch).close()
    assert len(taken) < 1000
    assert list(model.predict_batch([])) == []


def test_an_unreadable_image_ends_a_batch_unless_the_caller_hears_of_it(model: Model, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    images: list[ImageLike] = [broken, pixels(), pixels()[..., 0]]
    with pytest.raises(UserError, match=rf"^image {broken}: "):
        list(model.predict_batch(images))
    refused = dict[int, str]()
    found = list(model.predict_batch(images, on_unreadable=lambda index, error: refused.update({index: str(error)})))
    assert [item.index for item in found] == [1]
    assert list(refused) == [0, 2]
    with pytest.raises(UserError, match="takes several images, not the path 'photos'"):
        list(model.predict_batch("photos"))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("missing.jpg", "image missing.jpg: No such file"),
        (np.zeros((4, 4), np.uint8), r"must be \(height, width, 3\) uint8 RGB, not \(4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"not \(4, 4, 3\) float32"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\) uint8"),
        ([[0]], "not list"),
        (Image.new("F", (4, 4)), "image 0: its pixels are floating-point numbers"),
    ],
)
def test_what_is_no_image_is_one_line(model: Model, image: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        model.predict(image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("missing.safetensors", {}, "weights file 'missing.safetensors' does not exist"),
        ("pair", {"crop": (8, 8), "stride": (9, 9)}, "stride 9x9 must be positive and at most crop 8x8"),
        ("pair", {"engine": "tensorrt"}, "unknown engine 'tensorrt'"),
        ("pair", {"sha256": "0" * 64}, "have sha256 .*, not 0000"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(weights: Path, name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(weights if name == "pair" else name, **options)


def test_the_window_is_the_callers_choice(weights: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"crop": (64, 64)}, {"scales": (0.5, 1)}, {"flip": True}]
    models = [load_model(weights, **options) for options in changes]
    first, *others = [np.array(model.predict(pixels(), confidence=True).confidence) for model in models]
    assert not any(np.allclose(first, other) for other in others)


def test_a_notebook_shows_the_overlay_and_short_texts(model: Model) -> None:
    found = model.predict(pixels())
    assert np.array_equal(np.array(Image.open(io.BytesIO(found._repr_png_()))), np.array(found.overlay()))
    assert repr(found) == "<Prediction of 0: 70 x 40 pixels, sky 100.0 %>"
    assert repr(model) == "<Model small-fpn of run demo-1-8-s0-0123456789ab, epoch 3: ('road', 'sky')>"
