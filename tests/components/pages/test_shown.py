"""Pictures in pages: their size, and masks that page.js can read back."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from components.contract import Class
from components.pages.render import css_color
from components.pages.shown import Limits, Painter, photograph

LIMITS = Limits(width=64, photograph=4000, mask=2000)


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def painter(count: int) -> Painter:
    return Painter(
        [Class(name="Background", color=(0, 0, 0))] + [Class(name=f"c{n}", color=(n, 9, 9)) for n in range(1, count)]
    )


@pytest.mark.parametrize("count", [3, 255, 300])
def test_a_mask_can_be_read_back_by_colour_and_opacity(count: int) -> None:
    found, ids = painter(count), np.array([[0, 1, count - 1], [999, 1, 0]], np.uint16)
    pixels = np.asarray(opened(found.mask(ids, LIMITS)).convert("RGBA"))
    colors = [item["color"] for item in found.classes]
    assert len(set(colors)) == count
    assert css_color(tuple(pixels[0, 1, :3])) == colors[1]
    assert css_color(tuple(pixels[0, 2, :3])) == colors[count - 1]
    assert pixels[..., 3].tolist() == [[1, 255, 255], [0, 255, 1]], "background and void are transparent, and differ"
    assert [item["clear"] for item in found.classes[:2]] == [True, False]


def test_pictures_stay_within_their_limits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 512, 3)).astype(np.uint8)
    for wanted in (Limits(400, 30_000, 9_000), Limits(400, 3_000, 1_500)):
        shown = photograph(noise, wanted)
        assert shown.startswith("data:image/webp")
        assert len(base64.b64decode(shown.partition(",")[2])) <= wanted.photograph
        assert opened(shown).width <= 400
        mask = painter(9).mask(noise[..., 0] % 9, wanted)
        assert len(base64.b64decode(mask.partition(",")[2])) <= wanted.mask or opened(mask).width <= 96
    assert opened(photograph(noise[:32, :32], LIMITS)).size == (32, 32), "small pictures are not enlarged"
