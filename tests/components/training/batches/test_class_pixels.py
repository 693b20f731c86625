"""Class weights come from the labels alone, because decoding the photographs would take twenty times as long."""

from typing import Any

import numpy as np
import pytest

from components.dataset.stored.shared_images import SharedImages
from components.training.batches.data import pixels_by_id
from tests.components.training.batches.test_data import CLASSES, Scenes, make_data


def test_no_photograph_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    monkeypatch.setattr(Scenes, "image", None)
    reader: Any = data.reader
    data.decoded = SharedImages(reader, 0)
    labels = [Scenes().label(str(number)).ravel() for number in range(6)]
    np.testing.assert_array_equal(data.class_pixels(), np.bincount(np.concatenate(labels), minlength=CLASSES))


def test_ids_are_counted_as_bincount_counts_them() -> None:
    label = np.random.default_rng(0).integers(0, 256, (31, 57), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_by_id(label), np.bincount(label.ravel(), minlength=256))
