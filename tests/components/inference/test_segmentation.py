"""Class ids, confidence and confusions from bands, against those from the logits of the whole image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from components.inference import passes, sliding
from components.inference.output import Output, Truth
from components.inference.passes import image_logits
from components.inference.probabilities import mean_probabilities, most_likely
from components.inference.segmentation import segment
from components.inference.sliding import Window
from components.metrics.confusion import confusion_matrix

MEAN, STD, CLASSES = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 4
Floats = NDArray[np.float32]


class Waves:
    """Logits that depend on the colour and on the place in the window."""

    name, exact = "waves", True

    def __init__(self, phase: float) -> None:
        self._phase = phase

    def logits(self, windows: Floats) -> Floats:
        running = windows.cumsum(axis=2).cumsum(axis=3).sum(axis=1, keepdims=True)
        factors = np.arange(1, CLASSES + 1, dtype=np.float32)[None, :, None, None]
        return np.sin(running * factors / 9 + np.float32(self._phase)).astype(np.float32)


@pytest.mark.parametrize(
    "window",
    [
        Window((16, 16), (8, 8)),
        Window((64, 64), (64, 64)),  # larger than the image
        Window((16, 24), (9, 24), flip=True),
        Window((16, 16), (8, 8), scales=(1.0, 0.7), flip=True, longest_side=40),
        Window((16, 16), (8, 8), longest_side=40),
    ],
)
def test_equals_the_logits_of_the_whole_image(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (37, 51, 3)).astype(np.uint8)
    label = random.integers(0, CLASSES, (37, 51)).astype(np.uint8)
    label[:5] = 255
    engines = [Waves(0), Waves(2)]
    logits = [values.copy() for values in image_logits(engines, image, window, mean=MEAN, std=STD)]
    for module in (passes, sliding):  # several bands and strips
        monkeypatch.setattr(module, "BAND_BYTES", 4 * 2 * CLASSES * 51 * 3)
    monkeypatch.setattr(sliding, "SUM_BYTES", 4 * 2 * CLASSES * 20 * 16)
    output = Output(([0], [1], [0, 1]), Truth(label, CLASSES, 255), confidence=True)
    found = segment(engines, image, window, mean=MEAN, std=STD, output=output)
    for group, (ids, confidence, matrix, _) in zip(output.groups, found, strict=True):
        chosen = [logits[number] for number in group]
        probabilities = mean_probabilities(chosen)
        assert ids.dtype == np.uint8
        assert ids.shape == (37, 51)
        expected = most_likely(probabilities if len(chosen) > 1 else chosen[0])
        assert (ids != expected).mean() < 1e-3  # ties
        assert confidence is not None
        np.testing.assert_allclose(confidence, probabilities.max(axis=0), atol=1e-5)
        np.testing.assert_array_equal(matrix, confusion_matrix(label, ids, CLASSES))


def test_by_default_there_is_one_segmentation_of_all_networks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 31, 3)).astype(np.uint8)
    engines, window = [Waves(0), Waves(2)], Window((16, 16), (8, 8))
    [found] = segment(engines, image, window, mean=MEAN, std=STD)
    expected = most_likely(mean_probabilities(image_logits(engines, image, window, mean=MEAN, std=STD)))
    np.testing.assert_array_equal(found.ids, expected)
    assert (found.confidence, found.matrix) == (None, None)
