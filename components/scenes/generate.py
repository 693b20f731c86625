"""Generate street scenes: a dataset without a download, in the reference implementation's Cityscapes layout."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from components import progress
from components.disk import Unwritable, writing
from components.errors import UserError
from components.scenes.background import cast_background
from components.scenes.model import CLASSES, Array, Light
from components.scenes.objects import draw_objects
from components.scenes.plan import plan_camera, plan_light, plan_street
from components.threads import in_threads

GENERATOR_VERSION = 1
"""Increment this when the same settings would give different images."""
RATIOS = (2, 4, 8, 16)
_PREFIX = "scenes"


@dataclass(frozen=True, kw_only=True)
class SceneSettings:
    """How many scenes to generate, and their size."""

    train: int = 160
    """Number of training images."""
    val: int = 24
    width: int = 512
    """Image width in pixels."""
    height: int = 256
    seed: int = 0


_LIMITS = {
    "train": (2, 100_000),
    "val": (1, 100_000),
    "width": (64, 4096),
    "height": (32, 4096),
    "seed": (0, 2**31),
}


def is_scenes(source: str) -> bool:
    return source == _PREFIX or source.startswith(f"{_PREFIX}:")


def parse_scenes(source: str) -> SceneSettings:
    """Parse `scenes` or `scenes:train=160,val=24,width=512,height=256,seed=0`, in any order.

    Raises UserError for an unknown or invalid setting.
    """
    values: dict[str, int] = {}
    names = [field.name for field in fields(SceneSettings)]
    for part in source.removeprefix(_PREFIX).removeprefix(":").split(","):
        if not part.strip():
            continue
        name, _, text = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise UserError(f"dataset {source!r}: unknown setting {name!r}; available: {', '.join(names)}")
        low, high = _LIMITS[name]
        if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
            raise UserError(f"dataset {source!r}: {name} must be a whole number from {low} to {high}, not {text!r}")
        values[name] = int(text)
    return SceneSettings(**values)


def generate_scenes(folder: Path, settings: SceneSettings) -> None:
    """Draw the scenes and write them with lists and classes. The same settings always give the same bytes."""
    counts = {"train": settings.train, "val": settings.val}
    for part in counts:
        (folder / "images" / part).mkdir(parents=True)
        (folder / "segmentation" / part).mkdir(parents=True)
    _write_lists(folder, settings)
    _draw_all(folder, settings, counts, _names)


def draw_photographs(folder: Path, settings: SceneSettings, unlabeled: int) -> None:
    """Draw scenes into a new or empty folder, laid out like a user's own photographs: images/, labels/, classes.json.

    Adds `unlabeled` images without a label. Raises UserError if `folder` is not empty or cannot be written.
    """
    counts = {"train": settings.train, "val": settings.val, "unlabeled": unlabeled}
    is_new = not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty: choose a new folder")
    try:
        for part, count in counts.items():
            for kind in ("images", "labels") if count else ():
                if (kind, part) != ("labels", "unlabeled"):
                    (folder / kind / part).mkdir(parents=True)
        _write_classes(folder)
        _draw_all(folder, settings, counts, _photograph_names)
    except BaseException as error:
        found = Unwritable(folder, error, "") if isinstance(error, OSError) else error
        # All in the folder is ours, and half a dataset is useless.
        for path in [folder] if is_new else folder.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        raise found from None


def _draw_all(
    folder: Path, settings: SceneSettings, counts: dict[str, int], names: Callable[[str, int], tuple[str, str]]
) -> None:
    scenes = [(part, index) for part, count in counts.items() for index in range(count)]
    for done, _ in enumerate(in_threads(lambda scene: _draw(folder, settings, *scene, *names(*scene)), scenes), 1):
        if done % 20 == 0 or done == len(scenes):
            progress.advance("prepare-dataset", done, len(scenes), "scenes drawn")


def _photograph_names(part: str, index: int) -> tuple[str, str]:
    name = f"{part}/street_{index:06d}"
    return f"images/{name}.jpg", f"labels/{name}.png" if part != "unlabeled" else ""


def _draw(folder: Path, settings: SceneSettings, part: str, index: int, image_name: str, label_name: str) -> None:
    # Each scene has its own generator, so it does not depend on the scenes drawn before it or in other threads.
    rng = np.random.default_rng((settings.seed, ("train", "val", "unlabeled").index(part), index))
    image, label = draw_street(rng, settings.width, settings.height)
    Image.fromarray(image).save(folder / image_name, quality=93, subsampling=0)
    if label_name:
        Image.fromarray(label).save(folder / label_name, compress_level=6)


def _names(part: str, index: int) -> tuple[str, str]:
    return f"images/{part}/street_{index:06d}.jpg", f"segmentation/{part}/street_{index:06d}_gtFine.png"


def _write_lists(folder: Path, settings: SceneSettings) -> None:
    lists = folder / "config_new"
    subsets = lists / "subset_train"
    subsets.mkdir(parents=True)
    train = _lines("train", settings.train)
    (lists / "train.txt").write_text("".join(train))
    (lists / "val.txt").write_text("".join(_lines("val", settings.val)))
    for parts in RATIOS:
        count = (2 * len(train) + parts) // (2 * parts)  # round halves up
        if count:
            # Scenes are independent of each other, so the first ones are a random sample.
            (subsets / f"train_aug_labeled_1-{parts}.txt").write_text("".join(train[:count]))
            (subsets / f"train_aug_unlabeled_1-{parts}.txt").write_text("".join(train[count:]))
    _write_classes(folder)


def _write_classes(folder: Path) -> None:
    classes = [{"id": number, **entry.model_dump()} for number, entry in enumerate(CLASSES)]
    (folder / "classes.json").write_text(json.dumps({"classes": classes, "ignore_index": 255}, indent=1))


def _lines(part: str, count: int) -> list[str]:
    # As in the reference's lists: names begin with a slash, and a tab separates them.
    return [f"/{image}\t/{label}\n" for image, label in (_names(part, index) for index in range(count))]


def draw_street(rng: np.random.Generator, width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene, determined by the generator's state; return image (H, W, 3) RGB and label (H, W) of class ids."""
    street = plan_street(rng)
    camera = plan_camera(rng, width, height, street)
    light = plan_light(rng)
    color, label = cast_background(rng, camera, street, light)
    draw_objects(rng, camera, street, light, color, label)
    return _photograph(rng, color, light), label


def _photograph(rng: np.random.Generator, color: Array, light: Light) -> NDArray[np.uint8]:
    """Simulate a camera sensor: exposure, a slightly soft lens, and noise that grows with the light."""
    height, width = color.shape[:2]
    exposed = np.clip(color * light.exposure, 0, None)
    exposed = exposed * 1.8 / (exposed + 0.8)  # highlights roll off as on film
    picture = Image.fromarray((np.clip(exposed, 0, 1) * 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 0.6)) * min(width / 256, 1.5)))
    sensor = np.asarray(picture, dtype=np.float32)
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    grain[..., 1:] = 0.6 * grain[..., :1] + 0.7 * grain[..., 1:]
    amount = float(rng.uniform(1.5, 4.5))
    return np.clip(sensor + grain * amount * (0.5 + sensor / 255), 0, 255).astype(np.uint8)
