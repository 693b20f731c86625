"""The masks that evaluation keeps of a few images."""

import numpy as np
import pytest

from components.errors import WorkFailed
from components.evaluation.snapshots import WIDTH, Snapshots, chosen, unpack

NAMES = [f"images/val/street {number}.jpg" for number in range(24)]


def test_the_images_are_spaced_evenly_and_none_is_chosen_twice() -> None:
    assert chosen(24) == [4, 12, 20]
    assert chosen(2) == [0, 1]
    assert chosen(1) == [0]


def test_masks_of_the_chosen_images_come_back_by_variant() -> None:
    snapshots, ids = Snapshots(NAMES), np.arange(16 * 1000).reshape(16, 1000).astype(np.uint8) % 7
    for number in range(24):
        snapshots.keep(number, "left", ids)
        snapshots.keep(number, "ensemble", ids[:, :100])
    data = snapshots.pack()
    assert set(unpack(data, "left", "x")) == {NAMES[4], NAMES[12], NAMES[20]}
    assert unpack(data, "left", "x")[NAMES[4]].shape == (5, WIDTH)
    np.testing.assert_array_equal(unpack(data, "ensemble", "x")[NAMES[12]], ids[:, :100])
    assert unpack(data, "right", "x") == {}


def test_a_damaged_file_says_what_to_do() -> None:
    with pytest.raises(WorkFailed, match=r"s3://x is not a file of masks .*: remove it and evaluate again"):
        unpack(b"no", "left", "s3://x")
