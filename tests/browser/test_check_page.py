"""Open the page of `cps dataset check` for a dataset with one instance of most problems."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import inspect_dataset
from components.dataset.check.page import render_check
from components.dataset.layouts import read_layout
from components.scenes.generate import SceneSettings, generate_scenes
from tests.browser.test_pages import PICTURES, WIDTHS, look


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "a-name-that-is-long-enough-to-need-a-second-line"
    folder.mkdir()
    generate_scenes(folder, SceneSettings(train=24, val=6, width=192, height=96, seed=0))
    layout = read_layout(folder)
    train = [(folder / sample.image, folder / str(sample.label)) for sample in layout.lists.train]
    train[0][0].write_bytes(train[0][0].read_bytes()[:300])
    Image.new("RGB", (192, 96), "red").save(train[1][1])
    Image.new("L", (64, 32)).save(train[2][1])
    for _, label in train[3:12]:
        ids = np.array(Image.open(label))
        ids[:9, :30] = 77
        Image.fromarray(ids).save(label)
    Image.new("L", (192, 96), 255).save(train[12][1])
    train[13][0].write_bytes((folder / layout.lists.val[0].image).read_bytes())
    scene = Image.open(folder / layout.lists.val[1].image).convert("RGB")
    scene.resize((96, 48)).resize((192, 96)).save(train[14][0])
    path = folder.parent / "check.html"
    report = inspect_dataset(read_layout(folder))
    assert report.as_json()
    path.write_text(render_check(report))
    return path


@pytest.mark.parametrize("device", sorted(WIDTHS))
def test_the_page_is_whole(page: Path, device: str, tmp_path: Path) -> None:
    seen = look(page, WIDTHS[device], tmp_path, picture=PICTURES / f"check-{device}.png")
    assert seen.console == []
    assert seen.found["scrollWidth"] <= WIDTHS[device], seen.found["wide"]
    assert (seen.found["language"], seen.found["headings"]) == ("en", 1)
    assert len(seen.found["images"]) >= 16
    assert all(image["alt"] and image["shown"] for image in seen.found["images"])
    assert seen.found["links"] == []


def test_the_page_needs_no_network(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"""(?:src|srcset|data)=["'](?!data:|#)([^"']+)|url\((?!["']?(?:data:|#))([^)]+)""", text) == []
    assert "<link" not in text
