"""The images that are resampled together: frames of a sequence, as names and near copies show it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from components.evaluation.comparison.blocks import find_near_copies, image_blocks

CLIP = tuple(f"val/drive_{number:04d}.jpg" for number in range(0, 120, 3))


def moving_view(count: int, step: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Views of one large random picture, each `step` pixels to the right of the one before."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 100, 3), np.uint8)
    picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    return [picture[:, number * step : number * step + 256] for number in range(count)]


def test_numbered_images_are_independent_unless_they_are_near_copies() -> None:
    blocks = image_blocks(CLIP)
    assert blocks.of_image.tolist() == list(range(40))
    assert (blocks.count, blocks.sequences, blocks.frames) == (40, 0, 0)
    blocks = image_blocks(CLIP, CLIP[1:])
    assert np.bincount(blocks.of_image).tolist() == [6, 6, 6, 6, 6, 10], "√40 is 6; the rest joins the last block"
    assert (blocks.count, blocks.sequences, blocks.frames) == (6, 1, 40)
    assert image_blocks(CLIP, CLIP[1:20]).sequences == 0, "fewer than half"


def test_the_order_of_the_list_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(40)
    expected = image_blocks(CLIP, CLIP[1:]).of_image[order]
    found = image_blocks([CLIP[place] for place in order], CLIP[1:]).of_image
    assert len(set(zip(found.tolist(), expected.tolist(), strict=True))) == 6


def test_datasets_that_name_their_videos_need_no_near_copies() -> None:
    camvid = image_blocks([f"images/val/0016E5_{number:05d}.jpg" for number in range(7959, 8161, 2)])
    assert np.bincount(camvid.of_image).tolist() == [10] * 9 + [11]
    drives = [f"leftImg8bit/val/lindau/lindau_{n:06d}_000019_leftImg8bit.png" for n in range(59)]
    drives += [f"leftImg8bit/val/frankfurt/frankfurt_000001_{n:06d}_leftImg8bit.png" for n in range(0, 5000, 100)]
    cityscapes = image_blocks(drives)
    assert (cityscapes.sequences, cityscapes.frames, cityscapes.count) == (1, 50, 59 + 5)


def test_short_sequences_stay_whole_and_images_without_one_stay_alone() -> None:
    clips = [f"clip{clip}/{frame}.png" for clip in range(8) for frame in range(5)]
    others = ["night.jpg", "day.jpg", "street 7.jpg"]
    blocks = image_blocks([*clips, *others], [name for name in clips if not name.endswith("/0.png")])
    assert np.bincount(blocks.of_image).tolist() == [5] * 8 + [1] * 3
    assert blocks.sequences == 8


def test_equal_names_in_two_parts_are_two_images() -> None:
    assert image_blocks(["images/val/a_1.jpg", "images/test/a_1.jpg"]).count == 2


def test_no_images_and_one() -> None:
    assert image_blocks(["0016E5_00001.png"]).count == 1
    assert image_blocks([]).count == 0


@pytest.mark.parametrize(("step", "expected"), [(2, CLIP[1:12]), (256, ())])
def test_near_copies_are_found_in_the_order_of_the_numbers(step: int, expected: tuple[str, ...]) -> None:
    """Two pixels between frames make near copies; with 256, nothing of a frame is in the next one."""
    views = moving_view(12 if step == 2 else 5, step)
    names = CLIP[: len(views)]
    order = np.random.default_rng(1).permutation(len(views))
    found = find_near_copies([names[place] for place in order], lambda number: views[order[number]])
    assert sorted(found) == list(expected)


def test_images_without_numbers_are_not_read() -> None:
    def fail(number: int) -> NDArray[np.uint8]:
        raise AssertionError(number)

    assert find_near_copies(["night.jpg", "day.jpg", "only_1.jpg"], fail) == ()
