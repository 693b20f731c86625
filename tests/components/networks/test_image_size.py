"""Images and labels are reduced to a longest side; smaller ones keep their pixels."""

import numpy as np
import pytest

from components.networks.image_size import reduced, reduced_label, reduced_size


@pytest.mark.parametrize(
    ("size", "longest_side", "expected"),
    [
        ((3000, 4000), 512, (384, 512)),
        ((4000, 3000), 512, (512, 384)),
        ((360, 480), 512, (360, 480)),
        ((512, 512), 512, (512, 512)),
        ((5, 4000), 100, (1, 100)),
        ((3000, 4000), 0, (3000, 4000)),
    ],
)
def test_sizes(size: tuple[int, int], longest_side: int, expected: tuple[int, int]) -> None:
    assert reduced_size(*size, longest_side) == expected
    pixels = np.zeros((*size, 3), np.uint8)
    assert reduced(pixels, longest_side).shape == (*expected, 3)
    assert reduced_label(pixels[..., 0], longest_side).shape == expected


def test_pixels_are_means_and_labels_are_never_mixed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    means = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduced(image, 6), means, atol=0.5)
    label = np.repeat(np.repeat(np.array([[0, 7], [255, 3]], np.uint8), 30, axis=0), 45, axis=1)
    small = reduced_label(label, 30)
    np.testing.assert_array_equal(small, np.repeat(np.repeat([[0, 7], [255, 3]], 10, axis=0), 15, axis=1))


def test_a_smaller_image_is_returned_as_it_is() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    assert reduced(image, 6) is image
    assert reduced(image, 0) is image
