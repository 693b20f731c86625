"""The sliding window against a plain implementation of the reference's definition."""

from collections.abc import Sequence
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.inference import sliding
from components.inference.compiled import CompiledNetworks, Waiting
from components.inference.engine import CompiledEngine
from components.inference.probabilities import predicted_classes
from components.inference.segmentation import segment
from components.inference.sliding import (
    Window,
    images_in_flight,
    normalize,
    sliding_bands,
    sliding_logits,
    window_starts,
)

Floats = NDArray[np.float32]
Size = tuple[int, int]


class PositionNetwork:
    """An engine whose logits depend on where in its window a pixel is, so that any misplaced window shows."""

    name = "position"
    exact = True

    def __init__(self, classes: int, phase: float = 0) -> None:
        self.classes, self.phase = classes, phase
        self.calls: list[tuple[int, ...]] = []

    def logits(self, windows: Floats) -> Floats:
        self.calls.append(windows.shape)
        running = windows.cumsum(axis=2).cumsum(axis=3).sum(axis=1, keepdims=True)
        factors = np.arange(1, self.classes + 1, dtype=np.float32)[None, :, None, None]
        return np.sin(running * factors + np.float32(self.phase)).astype(np.float32)


def reference(network: PositionNetwork, image: Floats, crop: Size, stride: Size) -> NDArray[Any]:
    """As slide_inference of the reference: one window after the other, sums and counts pixel by pixel."""
    height, width = image.shape[1:]
    full_height, full_width = max(height, crop[0]), max(width, crop[1])
    padded = np.zeros((3, full_height, full_width), np.float32)
    padded[:, :height, :width] = image
    rows = int(np.ceil((full_height - crop[0]) / stride[0])) + 1
    columns = int(np.ceil((full_width - crop[1]) / stride[1])) + 1
    total: Any = None
    count = np.zeros((full_height, full_width))
    for row in range(rows):
        for column in range(columns):
            bottom = min(row * stride[0] + crop[0], full_height)
            right = min(column * stride[1] + crop[1], full_width)
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            logits = network.logits(padded[None, :, top:bottom, left:right])[0].astype(np.float64)
            if total is None:
                total = np.zeros((len(logits), full_height, full_width))
            total[:, top:bottom, left:right] += logits
            count[top:bottom, left:right] += 1
    assert (count > 0).all()
    return (total / count)[:, :height, :width]


sides = st.tuples(st.integers(1, 40), st.integers(1, 24)).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, pair[1]))
)


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_equals_the_reference(
    vertical: tuple[int, int, int], horizontal: tuple[int, int, int], batch: int, seed: int
) -> None:
    (height, crop_h, stride_h), (width, crop_w, stride_w) = vertical, horizontal
    image = np.random.default_rng(seed).normal(size=(3, height, width)).astype(np.float32)
    crop, stride = (crop_h, crop_w), (stride_h, stride_w)
    networks = [PositionNetwork(2), PositionNetwork(3, phase=1)]
    found = sliding_logits(networks, image, Window(crop, stride, batch))
    for network, logits in zip(networks, found, strict=True):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, reference(network, image, crop, stride), atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.integers(1, 60), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_strips_and_bands_change_nothing(
    vertical: tuple[int, int, int], horizontal: tuple[int, int, int], columns: int, band_bytes: int, seed: int
) -> None:
    (height, crop_h, stride_h), (width, crop_w, stride_w) = vertical, horizontal
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    window = Window((crop_h, crop_w), (stride_h, stride_w))
    networks = [PositionNetwork(3), PositionNetwork(3, phase=1)]
    image = normalize(pixels, (0.5,) * 3, (0.2,) * 3)
    whole = sliding_logits(networks, image, window)
    expected = predicted_classes([logits.copy() for logits in whole])
    with (
        mock.patch.object(sliding, "SUM_BYTES", columns * crop_h * 6 * 4),
        mock.patch.object(sliding, "BAND_BYTES", band_bytes),
    ):
        found = sliding_logits(networks, image, window)
        [ids] = (item.ids for item in segment(networks, pixels, window, mean=(0.5,) * 3, std=(0.2,) * 3))
    for logits, other in zip(whole, found, strict=True):
        np.testing.assert_array_equal(logits, other)
    np.testing.assert_array_equal(ids, expected)


def test_a_wide_image_holds_only_some_columns() -> None:
    def rows(top: int, bottom: int) -> Floats:
        return np.zeros((3, bottom - top, 400), np.float32)

    with mock.patch.object(sliding, "SUM_BYTES", 50 * 8 * 2 * 4):
        found = sliding_bands([PositionNetwork(2)], rows, (12, 400), Window((8, 8), (4, 4)))
        bands = [(band.top, band.left, *band.logits[0].shape[1:]) for band in found]
    assert bands == [(top, left, rows, 50) for left in range(0, 400, 50) for top, rows in ((0, 4), (4, 8))]


@given(sides)
def test_windows_cover_a_side_and_stay_inside(side: tuple[int, int, int]) -> None:
    length, crop, stride = side
    starts = window_starts(length, crop, stride)
    seen = np.zeros(max(length, crop), int)
    for start in starts:
        seen[start : start + crop] += 1
    assert seen.min() >= 1
    assert starts[0] == 0
    assert starts[-1] == max(0, length - crop)
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("crop", "stride"), [(4, 5), (4, 0), (4, -1)])
def test_strides_that_leave_pixels_out_are_refused(crop: int, stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        window_starts(10, crop, stride)


def test_windows_are_batched_and_both_networks_get_the_same() -> None:
    left, right = PositionNetwork(2), PositionNetwork(2)
    sliding_logits([left, right], np.zeros((3, 20, 20), np.float32), Window((8, 8), (6, 6), batch=2))
    assert left.calls == right.calls == [(2, 3, 8, 8), (1, 3, 8, 8)] * 3


class SlowNetworks:
    """Compiled networks that count what has been begun and not yet been waited for."""

    def __init__(self, network: PositionNetwork) -> None:
        self.network, self.under_way = network, list[int]()

    def begin(self, branches: Sequence[str], windows: Floats) -> Waiting:
        assert branches == ["only"]
        self.under_way.append((self.under_way or [0])[-1] + 1)
        logits = self.network.logits(windows)

        def wait() -> list[Floats]:
            self.under_way.append(self.under_way[-1] - 1)
            return [logits]

        return wait


def test_windows_are_begun_before_the_last_ones_are_added_up() -> None:
    image = np.random.default_rng(0).normal(size=(3, 20, 20)).astype(np.float32)
    window = Window((8, 8), (6, 6), batch=2)
    networks = SlowNetworks(PositionNetwork(2))
    [found] = sliding_logits([CompiledEngine(cast(CompiledNetworks, networks), "only")], image, window)
    np.testing.assert_array_equal(found, sliding_logits([PositionNetwork(2)], image, window)[0])
    # The first group tells how much fits; then two are always on their way, over the ends of rows too.
    assert networks.under_way == [1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 1, 0]


@pytest.mark.parametrize("size", [(8, 8), (5, 8), (3, 3)])
def test_an_image_within_the_crop_takes_one_window(size: Size) -> None:
    network = PositionNetwork(2)
    (logits,) = sliding_logits([network], np.ones((3, *size), np.float32), Window((8, 8), (4, 4)))
    assert network.calls == [(1, 3, 8, 8)]
    assert logits.shape == (2, *size)


def test_normalize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
    found = normalize(image, mean, std)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_large_images_are_not_all_in_flight_at_once() -> None:
    assert images_in_flight(16384 * 16384, 19) == 1
    assert images_in_flight(64 * 64, 2) >= 1
