"""Inference that stays on the device, run on the CPU device and compared with the sliding window on the host."""

import numpy as np
import paddle
import pytest
from numpy.typing import NDArray

from components.inference import device
from components.inference.output import Output, Truth
from components.inference.paddle_engine import DeviceEngine, PaddleEngine, Weights
from components.inference.segmentation import segment
from components.inference.sliding import Window
from tests.components.inference.colored_scenes import CLASSES, SIZE, scenes

MEAN, STD = (0.5,) * 3, (0.25,) * 3
ROOM = 1 << 30


def photograph(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scenes that the networks have learned, side by side, and their labels; some pixels have none."""
    windows, labels = scenes(9, 7)
    rows = [np.concatenate(list(part), axis=-1) for part in np.split(windows, 3)]
    planes = np.concatenate(rows, axis=1)[:, :height, :width].transpose(1, 2, 0)
    label = np.concatenate([np.concatenate(list(part), axis=-1) for part in np.split(labels, 3)])[:height, :width]
    image = np.clip(255 * (planes * STD + MEAN), 0, 255).round().astype(np.uint8)
    label = label.astype(np.uint8)
    label[: height // 8] = 255
    return image, label


WINDOWS = {
    "odd sizes": Window((SIZE, SIZE), (SIZE // 2 + 1, SIZE - 3), batch=3),
    "one window at a time": Window((SIZE, SIZE), (SIZE, SIZE), batch=1),
    "an image smaller than the crop": Window((4 * SIZE, 4 * SIZE), (SIZE, SIZE)),
    "mirrored": Window((SIZE, SIZE), (SIZE // 2, SIZE // 2), flip=True),
    "scales": Window((SIZE, SIZE), (SIZE // 2, SIZE // 2), scales=(0.75, 1.0, 1.5), flip=True),
    "reduced": Window((SIZE, SIZE), (SIZE // 2, SIZE // 2), longest_side=2 * SIZE - 5),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_equals_the_sliding_window_on_the_host(name: str, trained: Weights) -> None:
    window, layers = WINDOWS[name], trained.layers()
    image, label = photograph(2 * SIZE + 7, 3 * SIZE - 11)
    output = Output(([0], [1], [0, 1]), Truth(label, CLASSES, 255), confidence=True)
    host = [PaddleEngine(layer) for layer in layers.values()]
    here = [DeviceEngine(layer, CLASSES, ROOM) for layer in layers.values()]
    expected = segment(host, image, window, mean=MEAN, std=STD, output=output)
    found = segment(here, image, window, mean=MEAN, std=STD, output=output)
    for (ids, confidence, matrix, _), (others, other_confidence, other_matrix, _) in zip(found, expected, strict=True):
        assert (ids.dtype, ids.shape) == (others.dtype, others.shape)
        differs = ids != others
        assert differs.mean() <= 1e-4
        assert confidence is not None
        assert other_confidence is not None
        assert matrix is not None
        assert other_matrix is not None
        assert np.abs(confidence - other_confidence).max() <= 1e-4
        # A pixel with another class, a tie, changes two counts.
        assert np.abs(matrix - other_matrix).sum() <= 2 * differs.sum()
        assert matrix.sum() == (label != 255).sum()


def test_only_class_ids_and_counts_come_back(trained: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    image, label = photograph(2 * SIZE, 2 * SIZE)
    networks = [DeviceEngine(layer, CLASSES, ROOM) for layer in trained.layers().values()]
    up, down = list[int](), list[int]()
    to_tensor, numpy = paddle.to_tensor, paddle.Tensor.numpy

    def sent(values: NDArray[np.generic]) -> paddle.Tensor:
        up.append(values.nbytes)
        return to_tensor(values)

    def fetched(tensor: paddle.Tensor) -> NDArray[np.generic]:
        values: NDArray[np.generic] = numpy(tensor)
        down.append(values.nbytes)
        return values

    monkeypatch.setattr(paddle, "to_tensor", sent)
    monkeypatch.setattr(paddle.Tensor, "numpy", fetched)
    output = Output(([0], [1], [0, 1]), Truth(label, CLASSES, 255))
    segment(networks, image, Window((SIZE, SIZE), (SIZE // 2, SIZE // 2)), mean=MEAN, std=STD, output=output)
    pixels = label.size
    divisor, normalisation = 4 * pixels, 2 * 3 * 4
    assert sum(up) == image.nbytes + label.nbytes + divisor + normalisation
    assert sum(down) <= 3 * (pixels + 8 * 256 * CLASSES)


def test_what_does_not_fit_on_the_device_is_summed_on_the_host(trained: Weights) -> None:
    layers = trained.layers()
    needed = 4 * 4 * 2 * CLASSES * 40 * 60
    for room, fits in ((needed, True), (needed - 1, False)):
        engines = [DeviceEngine(layer, CLASSES, room) for layer in layers.values()]
        assert bool(device.networks_for(engines, (40, 60), Window((32, 32), (32, 32)))) is fits
    assert not device.networks_for([PaddleEngine(layer) for layer in layers.values()], (4, 6), Window((2, 2), (2, 2)))


def test_a_label_outside_the_classes_is_found(trained: Weights) -> None:
    image, label = photograph(SIZE, SIZE)
    label[3, 4] = CLASSES
    networks = [DeviceEngine(layer, CLASSES, ROOM) for layer in trained.layers().values()]
    window = Window((SIZE, SIZE), (SIZE, SIZE))
    with pytest.raises(ValueError, match=f"label id {CLASSES} is outside the {CLASSES} classes"):
        segment(networks, image, window, mean=MEAN, std=STD, output=Output(truth=Truth(label, CLASSES, 255)))
