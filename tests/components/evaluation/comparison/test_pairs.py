"""Images are decoded once and come back the same, in any number of threads."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from components.errors import WorkFailed
from components.evaluation.comparison.pairs import ValidationPairs


class Drawer:
    """Images of different sizes, drawn from their names; counts how often each is asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def image(self, name: str) -> NDArray[np.uint8]:
        self.asked[name] += 1
        number = int(name)
        return np.random.default_rng(number).integers(0, 256, (4 + number, 7, 3)).astype(np.uint8)

    def label(self, name: str) -> NDArray[np.uint8]:
        number = int(name)
        return np.random.default_rng(number).integers(0, 256, (4 + abs(number), 7)).astype(np.uint8)


def test_decoded_once_and_the_same_every_time(tmp_path: Path) -> None:
    drawer = Drawer()
    with ValidationPairs(drawer, [(str(n), str(n)) for n in range(20)], tmp_path) as images:
        assert len(images) == 20
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                pairs = list(pool.map(images.pair, range(20)))
            for number, (image, label) in enumerate(pairs):
                plain = Drawer()
                np.testing.assert_array_equal(image, plain.image(str(number)))
                np.testing.assert_array_equal(label, plain.label(str(number)))
        assert list(tmp_path.iterdir()) == []
    assert set(drawer.asked.values()) == {1}


def test_a_label_of_another_size_is_named(tmp_path: Path) -> None:
    with (
        ValidationPairs(Drawer(), [("1", "2")], tmp_path) as images,
        pytest.raises(WorkFailed, match="label 2 is 7x6 pixels, but its image 1 is 7x5"),
    ):
        images.pair(0)
