import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import check_files, hash_files
from components.dataset.layouts import read_layout
from components.errors import UserError
from components.scenes import generate
from components.scenes.generate import SceneSettings, draw_photographs, draw_street, generate_scenes, parse_scenes
from components.scenes.model import BUILDING, CAR, CLASSES, ROAD, SKY, Camera
from components.scenes.sprites import Sprite

NAMES = [entry.name for entry in CLASSES]


def test_settings_are_read_in_any_order() -> None:
    assert parse_scenes("scenes") == SceneSettings(train=160, val=24, width=512, height=256, seed=0)
    assert parse_scenes("scenes: seed=3, train=9") == SceneSettings(train=9, seed=3)


@pytest.mark.parametrize("source", ["scenes:train", "scenes:width=10", "scenes:val=-1", "scenes:seed=1.5"])
def test_wrong_settings_are_refused(source: str) -> None:
    with pytest.raises(UserError, match=f"^dataset '{source}': .* must be a whole number from "):
        parse_scenes(source)


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    settings = SceneSettings(train=4, val=2, width=96, height=48)
    hashes = []
    for name in ("a", "b"):
        generate_scenes(tmp_path / name, settings)
        layout = read_layout(tmp_path / name)
        check_files(layout)
        hashes.append(hash_files(layout))
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].values())) == len(hashes[0]) == 12


def test_a_scene_depends_on_its_number_only(tmp_path: Path) -> None:
    for name, count in (("few", 2), ("many", 5)):
        generate_scenes(tmp_path / name, SceneSettings(train=count, val=1, width=64, height=32))
    image = "images/train/street_000001.jpg"
    assert (tmp_path / "few" / image).read_bytes() == (tmp_path / "many" / image).read_bytes()


def test_photographs_lie_as_ones_own_do(tmp_path: Path) -> None:
    settings = SceneSettings(train=3, val=2, width=64, height=32)
    draw_photographs(tmp_path / "own", settings, unlabeled=4)
    layout = read_layout(tmp_path / "own")
    check_files(layout)
    lists = layout.lists
    assert (layout.kind, len(lists.train), len(lists.val), len(lists.unlabeled)) == ("folders", 3, 2, 4)
    assert [entry.name for entry in lists.classes] == NAMES
    assert len(set(hash_files(layout).values())) == 3 + 3 + 2 + 2 + 4
    generate_scenes(tmp_path / "run", settings)
    image = "images/train/street_000001.jpg"
    assert (tmp_path / "own" / image).read_bytes() == (tmp_path / "run" / image).read_bytes()


@pytest.mark.parametrize(
    ("name", "said"), [("there", "is not empty: choose a new folder"), ("file/below", "cannot be written: Not a ")]
)
def test_photographs_replace_nothing(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=said):
        draw_photographs(tmp_path / name, SceneSettings(train=2, val=1), unlabeled=0)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["notes.txt"]


def test_an_empty_folder_stays_if_drawing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(generate, "_draw", full)
    with pytest.raises(UserError, match="No space left"):
        draw_photographs(tmp_path, SceneSettings(train=2, val=1), unlabeled=0)
    assert list(tmp_path.iterdir()) == []


def test_lists_lie_inside_each_other(tmp_path: Path) -> None:
    generate_scenes(tmp_path, SceneSettings(train=24, val=1, width=64, height=32))
    own = read_layout(tmp_path).lists.ratio_lists
    assert {ratio: (len(part.labeled), len(part.unlabeled)) for ratio, part in own.items()} == {
        "1/2": (12, 12), "1/4": (6, 18), "1/8": (3, 21), "1/16": (2, 22),
    }  # fmt: skip
    for small, large in (("1/16", "1/8"), ("1/8", "1/4"), ("1/4", "1/2")):
        assert set(own[small].labeled) < set(own[large].labeled)


def test_every_class_is_there_and_none_rules() -> None:
    counts = np.zeros(len(CLASSES))
    for index in range(30):
        image, label = draw_street(np.random.default_rng((0, 0, index)), 128, 64)
        assert (image.shape, label.shape) == ((64, 128, 3), (64, 128))
        assert image.dtype == label.dtype == np.uint8
        counts += np.bincount(label.ravel(), minlength=len(CLASSES))
    share = dict(zip(NAMES, counts / counts.sum(), strict=True))
    assert min(share.values()) > 0.004, share
    assert max(share.values()) < 0.4, share


def test_colour_alone_does_not_tell_the_classes() -> None:
    """Guessing classes from pixel colours, learned on some scenes, often fails on others."""
    votes, right, total = np.zeros((16**3, len(CLASSES))), 0, 0
    for index in range(24):
        image, label = draw_street(np.random.default_rng((1, 0, index)), 128, 64)
        coarse = (image // 16).astype(int) @ np.array([256, 16, 1])
        if index < 16:
            np.add.at(votes, (coarse.ravel(), label.ravel()), 1)
        else:
            right += int((votes.argmax(axis=1)[coarse] == label).sum())
            total += label.size
    assert 0.2 < right / total < 0.7


def test_large_scenes_show_the_same_street() -> None:
    small = draw_street(np.random.default_rng((0, 0, 5)), 256, 128)[1]
    large = draw_street(np.random.default_rng((0, 0, 5)), 1024, 512)[1]
    same = (large[2::4, 2::4] == small).mean()
    assert large.shape == (512, 1024)
    assert same > 0.9


def test_the_ground_is_below_the_sky() -> None:
    for index in range(8):
        label = draw_street(np.random.default_rng((2, 0, index)), 128, 64)[1]
        rows = {kind: np.nonzero(label == kind)[0] for kind in (SKY, ROAD, BUILDING)}
        assert rows[SKY].size == 0 or rows[SKY].max() < rows[ROAD].max()
        assert np.median(rows[ROAD]) > np.median(rows[BUILDING])


def test_a_label_is_the_pixels_that_are_covered_by_half() -> None:
    from components.scenes.plan import plan_light

    camera = Camera(width=32, height=16, focal=10, center=16, horizon=8, x=0, y=0)
    color, label = np.zeros((16, 32, 3), np.float32), np.zeros((16, 32), np.uint8)
    sprite = Sprite(camera, (8, 4, 24, 12))
    sprite.box((-0.75, 0.7), (-0.4, 0.4), 1.0, (1.0, 1.0, 1.0))
    light = plan_light(np.random.default_rng(0))
    sprite.paste(color, label, CAR, light, 1.0, np.ones(3, np.float32), 0.0)
    # From column 16 - 7.5 to 16 + 7, of rows 8 - 4 to 8 + 4.
    columns = np.flatnonzero((label == CAR).any(axis=0))
    rows = np.flatnonzero((label == CAR).any(axis=1))
    assert columns.min() in (8, 9)
    assert columns.max() in (22, 23)
    assert rows.min() == 4
    assert rows.max() in (11, 12)
    assert (color.max(axis=2)[label == CAR] > 0.45).all()


def test_pictures_are_readable_by_anything(tmp_path: Path) -> None:
    generate_scenes(tmp_path, SceneSettings(train=2, val=1, width=64, height=32))
    with Image.open(tmp_path / "images/val/street_000000.jpg") as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (64, 32), "RGB")
    with Image.open(tmp_path / "segmentation/val/street_000000_gtFine.png") as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (64, 32), "L")
