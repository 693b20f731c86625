import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from components.dataset.check.perceptual import BITS, MAX_DISTANCE, nearest, perceptual_hash
from components.scenes.generate import SceneSettings, generate_scenes


def distance(first: Image.Image, second: Image.Image) -> int:
    return int(nearest(perceptual_hash(first)[None], perceptual_hash(second)[None])[1][0])


def recompressed(picture: Image.Image, quality: int = 50) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder = tmp_path_factory.mktemp("scenes")
    generate_scenes(folder, SceneSettings(train=8, val=1, width=256, height=128, seed=0))
    return [Image.open(path).convert("RGB") for path in sorted(folder.glob("images/train/*"))]


def test_copies_are_alike_and_other_pictures_are_not(scenes: list[Image.Image]) -> None:
    for picture in scenes[:8]:
        width, height = picture.size
        for copy in (
            recompressed(picture),
            picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS),
            picture.resize((width * 3, height * 3), Image.Resampling.BICUBIC),
            ImageEnhance.Brightness(picture).enhance(1.15),
            picture.convert("L"),
            picture.quantize(64),
        ):
            assert distance(picture, copy) <= MAX_DISTANCE
    others = [distance(a, b) for number, a in enumerate(scenes[:8]) for b in scenes[:number]]
    assert min(others) > MAX_DISTANCE


def test_pictures_without_contrast_have_one_hash() -> None:
    flat = [Image.new("RGB", size, color) for size, color in (((9, 7), "black"), ((300, 200), "white"))]
    assert distance(*flat) == 0
    assert distance(flat[0], Image.effect_noise((64, 64), 80)) > MAX_DISTANCE


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_the_nearest_is_that_of_all_bits_compared(many: int, among: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.random((many + among, BITS)) < 0.5
    words = np.packbits(bits, axis=1).view(np.uint64)
    index, distances = nearest(words[:many], words[many:])
    expected = (bits[:many, None] != bits[None, many:]).sum(axis=2)
    assert distances.tolist() == expected.min(axis=1).tolist()
    assert index.tolist() == expected.argmin(axis=1).tolist()


def test_tens_of_thousands_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    among = rng.integers(0, 2**63, (20_000, 4), dtype=np.uint64)
    chosen = rng.permutation(len(among))[:300]
    near = among[chosen].copy()
    near[:, 2] ^= np.uint64(0b10110)
    index, distances = nearest(near, among)
    assert index.tolist() == chosen.tolist()
    assert set(distances.tolist()) == {3}
    monkeypatch.setattr("components.dataset.check.perceptual._PAIRS_AT_ONCE", 7)
    assert nearest(near[:5], among)[0].tolist() == chosen[:5].tolist()
