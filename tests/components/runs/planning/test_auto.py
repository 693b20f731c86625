"""`auto` chooses the recipe and the labelled ratio from the dataset alone, and leaves alone what the user gives."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import JsonValue

from components.errors import UserError
from components.recipes import load_recipe
from components.runs.planning.plan import PlannedRun, plan_run
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset
from components.storage.client import Store

pytestmark = pytest.mark.usefixtures("store_environment")


def photographs(
    folder: Path,
    *,
    train: int = 8,
    unlabeled: int = 0,
    size: tuple[int, int] = (80, 60),
    turned: bool = False,
    suffix: str = ".jpg",
    grain: int = 1,
) -> Path:
    """Write images of `size` (width, height), with 2 for val; `turned` ones are stored on their side.

    They are noise, of squares with a side of `grain` pixels: coarse noise is written and read faster.
    """
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1
    for part, count in (("train", train), ("val", 2), ("unlabeled", unlabeled)):
        for number in range(count):
            for kind in ("images", "labels")[: 1 if part == "unlabeled" else 2]:
                (folder / kind / part).mkdir(parents=True, exist_ok=True)
            noise = rng.integers(0, 256, (size[1] // grain, size[0] // grain, 3), np.uint8)
            noise = noise.repeat(grain, axis=0).repeat(grain, axis=1)
            image = Image.fromarray(noise.transpose(1, 0, 2) if turned else noise)
            image.save(folder / "images" / part / f"{number:02d}{suffix}", exif=exif)
            if part != "unlabeled":
                label = np.arange(size[0], dtype=np.uint8)[None].repeat(size[1], axis=0) % 3
                Image.fromarray(label).save(folder / "labels" / part / f"{number:02d}.png")
    (folder / "classes.json").write_text(json.dumps(["road", "sky", "car"]))
    return folder


def planned(store: Store, source: str | Path, **given: Any) -> PlannedRun:
    request = RunRequest(dataset=str(source), **given)
    return plan_run(store, prepare_dataset(request).digest, request)


def test_own_photographs_use_all_labels_and_pretrained_weights(store: Store, tmp_path: Path) -> None:
    run = planned(store, photographs(tmp_path / "photos", train=40, unlabeled=160, size=(480, 360), grain=20))
    assert run.key.startswith("photos-photos-1-1-s0-")
    assert (len(run.split.labeled), len(run.split.unlabeled)) == (40, 160)
    network, training = run.recipe.network, run.recipe.training
    assert network.pretrained == "imagenet"
    assert network.pretrained_sha256
    assert run.recipe.cps.weight == load_recipe("photos").cps.weight > 0
    assert (training.batch_size, training.epochs) == (4, 10)  # 40 steps an epoch, and 400 in all
    assert (run.recipe.augmentation.crop, run.recipe.evaluation.crop) == ((192, 256), (360, 480))
    assert run.choice == "photos, for images of about 480x360 (width x height): crops of 256x192, 10 epochs of 40 steps"
    record = run.record()
    assert (record.recipe, record.settings) == ("photos", run.recipe.model_dump(mode="json"))


def test_large_photographs_are_reduced_and_stored_turned_ones_count_upright(store: Store, tmp_path: Path) -> None:
    run = planned(store, photographs(tmp_path / "phone", train=4, size=(1500, 2000), turned=True, grain=50))
    assert run.recipe.network.longest_side == 512
    assert run.recipe.evaluation.crop == (512, 384)
    assert run.recipe.augmentation.crop == (256, 192)
    assert "1500x2000" in run.choice


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_sizes_are_found_in_every_format(store: Store, tmp_path: Path, suffix: str) -> None:
    """Some formats do not tell all from the beginning of a file, which is all that is read of the others."""
    run = planned(store, photographs(tmp_path / "photos", train=2, size=(320, 240), turned=True, suffix=suffix))
    assert run.recipe.evaluation.crop == (240, 320)


def test_small_images_keep_most_of_their_size(store: Store, tmp_path: Path) -> None:
    run = planned(store, photographs(tmp_path / "tiles", size=(96, 64)))
    assert run.recipe.augmentation.crop == (64, 96)
    assert run.recipe.evaluation.crop == (64, 96)


def test_without_unlabelled_images_there_is_no_cross_loss(store: Store, tmp_path: Path) -> None:
    run = planned(store, photographs(tmp_path / "photos"))
    assert run.recipe.cps.weight == 0
    assert run.choice.endswith("; no cross loss, because there are no unlabelled images")
    half = planned(store, tmp_path / "photos", labeled_ratio="50%")
    assert (half.split.labeled_ratio, len(half.split.unlabeled), half.recipe.cps.weight) == ("1/2", 4, 1.0)


def test_what_the_user_gives_is_kept(store: Store, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    given: dict[str, Any] = {"augmentation.crop": [32, 64], "network.pretrained": "none", "network.freeze_stem": False}
    run = planned(store, folder, overrides=given, epochs=3, batch_size=2, labeled_ratio="1/4")
    assert run.recipe.augmentation.crop == (32, 64)
    assert run.choice.startswith(
        "photos, for images of about 80x60 (width x height): crops of 64x32, 3 epochs of 3 steps"
    )
    assert run.recipe.network.pretrained == ""
    assert (run.recipe.training.epochs, run.recipe.training.batch_size, len(run.split.labeled)) == (3, 2, 2)


def test_a_named_recipe_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    small: dict[str, JsonValue] = {"augmentation.crop": [64, 64]}
    given = {"recipe": "demo", "labeled_ratio": "1/4", "batch_size": 2, "overrides": small}
    run = planned(store, photographs(tmp_path / "photos"), **given)
    assert run.recipe == load_recipe("demo", {"training.batch_size": 2, **small})
    assert run.choice == ""


def test_generated_scenes_are_the_demo_under_any_name(store: Store) -> None:
    source = "scenes:train=16,val=2,width=128,height=64"
    run = planned(store, source, overrides={"training.batch_size": 2})
    assert run.key == planned(store, source, recipe="demo", labeled_ratio="1/8", batch_size=2).key
    assert run.choice == "demo, for generated scenes"
    again = planned(store, f"stored:{run.manifest.digest}", batch_size=2)
    assert again.key == run.key


def test_overrides_are_checked_with_the_likely_recipe() -> None:
    """Of generated scenes: photos freezes a stem and has pretrained weights, which this network lacks."""
    given = {"network.structure": "small-fpn"}
    assert RunRequest(dataset="scenes", overrides=given).resolve().network.structure == "small-fpn"
    with pytest.raises(UserError, match="imagenet is available for efficientnet-lite0-fpn, not for small-fpn"):
        RunRequest(dataset="photos", overrides=given).resolve()


def test_the_choice_is_the_same_everywhere(store: Store, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    first = planned(store, folder)
    shutil.copytree(folder, tmp_path / "elsewhere" / "photos")
    assert planned(store, tmp_path / "elsewhere" / "photos").key == first.key
