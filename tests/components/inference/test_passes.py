"""Several scales and a mirrored copy, against passes made one by one."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from components.inference import passes
from components.inference.passes import TooLarge, image_logits
from components.inference.probabilities import softmax
from components.inference.sliding import Window, normalize, sliding_logits

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
Floats = NDArray[np.float32]


class Slopes:
    """Three classes whose logits are the colours and a slope from left to right, so that mirroring matters."""

    name, exact = "slopes", True

    def logits(self, windows: Floats) -> Floats:
        logits: Floats = windows * 3
        logits[:, 0] += np.linspace(-2, 2, windows.shape[3], dtype=np.float32)
        return logits


def photograph() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)


def logits(scales: tuple[float, ...] = (1.0,), *, flip: bool = False) -> Floats:
    window = Window((16, 16), (8, 8), scales=scales, flip=flip)
    return image_logits([Slopes()], photograph(), window, mean=MEAN, std=STD)[0]


def test_by_default_it_is_the_sliding_window_alone() -> None:
    planes = normalize(photograph(), MEAN, STD)
    np.testing.assert_array_equal(logits(), sliding_logits([Slopes()], planes, Window((16, 16), (8, 8)))[0])


def test_the_mean_of_all_passes() -> None:
    planes = normalize(photograph(), MEAN, STD).transpose(1, 2, 0)
    passes = []
    for size in ((31, 20), (16, 10), (46, 30)):  # width, height at scales 1, 0.5 and 1.5
        scaled = cv2.resize(planes, size, interpolation=cv2.INTER_LINEAR)
        for mirrored in (False, True):
            version = np.ascontiguousarray((scaled[:, ::-1] if mirrored else scaled).transpose(2, 0, 1))
            found = sliding_logits([Slopes()], version, Window((16, 16), (8, 8)))[0].transpose(1, 2, 0)
            back = cv2.resize(found[:, ::-1] if mirrored else found, (31, 20), interpolation=cv2.INTER_LINEAR)
            passes.append(softmax(back.transpose(2, 0, 1)))
    found = softmax(logits(scales=(1.0, 0.5, 1.5), flip=True))
    np.testing.assert_allclose(found, np.mean(passes, axis=0), atol=1e-6)


def test_flipping_makes_the_result_the_same_for_the_mirrored_image() -> None:
    window = Window((20, 31), (20, 31), flip=True)
    mirrored = image_logits([Slopes()], photograph()[:, ::-1], window, mean=MEAN, std=STD)[0]
    whole = image_logits([Slopes()], photograph(), window, mean=MEAN, std=STD)[0]
    np.testing.assert_allclose(mirrored[:, :, ::-1], whole, atol=1e-5)


@pytest.mark.parametrize("scales", [(0.01,), (2.0,)])
def test_every_scale_comes_back_to_the_image(scales: tuple[float, ...]) -> None:
    found = logits(scales=scales)
    assert found.shape == (3, 20, 31)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=0), 1, atol=1e-5)


def large_photograph() -> NDArray[np.uint8]:
    smooth = np.random.default_rng(1).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(smooth, (160, 120), interpolation=cv2.INTER_CUBIC))


def test_a_large_image_is_seen_reduced_and_scored_at_its_own_size() -> None:
    image, window = large_photograph(), Window((16, 16), (8, 8), longest_side=40)
    small = cv2.resize(image, (40, 30), interpolation=cv2.INTER_AREA)
    expected = sliding_logits([Slopes()], normalize(small, MEAN, STD), window)[0]
    found = image_logits([Slopes()], image, window, mean=MEAN, std=STD)[0]
    assert found.shape == (3, 120, 160)
    back = cv2.resize(expected.transpose(1, 2, 0), (160, 120), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    np.testing.assert_allclose(found, back, atol=1e-5)


def test_bands_of_a_resized_pass_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window((16, 16), (8, 8), longest_side=40)
    whole = image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)[0]
    monkeypatch.setattr(passes, "BAND_BYTES", 4 * 160 * 3 * 7)  # several bands, and a shorter last one
    found = image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)[0]
    np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "needed"),
    [
        (Window((16, 16), (8, 8), flip=True), 4 * 3 * 160 * 120),
        (Window((16, 16), (8, 8), scales=(1.0, 0.5, 2.0)), 4 * 3 * 160 * 120 * 5),  # and the largest pass's logits
        (Window((16, 16), (8, 8), longest_side=80, scales=(1.0, 2.0)), 4 * 3 * 160 * 120 * 1.25),
    ],
)
def test_passes_that_do_not_fit_in_memory_are_refused(
    window: Window, needed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "available_memory", lambda: needed)
    image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)
    monkeypatch.setattr(passes, "available_memory", lambda: needed - 1)
    with pytest.raises(TooLarge, match=r"need \d\S* [KM]iB of memory for an image of 160 x 120 pixels, and"):
        image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)


def test_one_pass_needs_no_memory_for_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window((16, 16), (8, 8))
    [expected] = image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)
    monkeypatch.setattr(passes, "available_memory", lambda: 0)
    [found] = image_logits([Slopes()], large_photograph(), window, mean=MEAN, std=STD)
    np.testing.assert_array_equal(found, expected)
