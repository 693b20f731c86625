"""The gallery's legend, order and size."""

import numpy as np

from components.contract import Class
from components.pages.shown import Painter
from components.prediction.gallery import MOST, draw_card, limits_for, render_gallery

CLASSES = [Class(name=name, color=(90 * number, 40, 9)) for number, name in enumerate(("sky", "road <b>", "car"))]
IMAGE = np.full((24, 48, 3), 90, np.uint8)


def page(*masks: tuple[str, int, int | None]) -> str:
    """Return a gallery of images, (name, predicted class, true class)."""
    drawn = [
        draw_card(
            name,
            IMAGE,
            np.full((24, 48), predicted, np.uint8),
            None if true is None else np.full((24, 48), true, np.uint8),
            Painter(CLASSES),
            255,
            limits_for(len(masks)),
        )
        for name, predicted, true in masks
    ]
    return render_gallery("Streets", drawn, len(drawn), CLASSES, [], [("run", "x")])


def test_the_legend_has_the_classes_of_the_truth_as_well() -> None:
    html = page(("a.jpg", 0, 1))
    assert 'data-class="0"' in html
    assert 'data-class="1"' in html, "which nothing was predicted as"
    assert 'data-class="2"' not in html
    assert "road &lt;b&gt;" in html
    assert 'data-classes="0 1"' in html


def test_the_worst_come_first_and_images_without_labels_last() -> None:
    html = page(("right.jpg", 0, 0), ("void.jpg", 0, 255), ("wrong.jpg", 0, 1))
    assert (
        html.index('data-name="wrong.jpg"') < html.index('data-name="right.jpg"') < html.index('data-name="void.jpg"')
    )
    assert "3 images segmented, from 0.0\u202f% to 100.0\u202f% mIoU" in html


def test_one_image_has_no_range() -> None:
    assert "1 image segmented, 100.0\u202f% mIoU" in page(("right.jpg", 0, 0))


def test_without_truth_there_is_neither_an_order_by_mistakes_nor_an_error_map() -> None:
    html = page(("a.jpg", 0, None))
    assert "1 image segmented</h1>" in html
    assert 'value="worst"' not in html
    assert 'data-view-all="errors"' not in html


def test_a_full_gallery_stays_below_two_and_a_half_megabytes() -> None:
    for images in (MOST // 2, MOST):
        limits = limits_for(images)
        assert images * (limits.photograph + 2 * limits.mask) * 4 / 3 < 2_200_000
