"""`recipe=auto` and `labeled_ratio=auto`: settings that suit a dataset, chosen from what is stored of it.

The choice depends on the dataset, the request and this module alone, not on the machine: the same command defines the
same run everywhere. Settings that the user gives take precedence.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from components.dataset.manifest import Manifest
from components.dataset.split import labeled_count
from components.dataset.stored.image_sizes import stored_size
from components.networks.image_size import reduced_size
from components.recipes import Recipe, load_recipe
from components.recipes.model import AUTO
from components.runs.request import DEMO, PHOTOS, RunRequest
from components.scenes.model import CLASSES
from components.units import quantity

if TYPE_CHECKING:
    from components.storage.client import Store

_SCENES_RATIO, _ALL = "1/8", "1/1"
_SAMPLE = 24
"""Number of images whose size is read."""
_STEPS = 400
"""About the number of training steps that CamVid at 1/8 has."""
_MULTIPLE = 32
"""The networks reduce an image by this factor."""
_CROP_SHARE = 0.53
"""Side of a training crop as a share of the image's: CamVid's 256 x 192 in 480 x 360."""
_LEAST_CROP = 128


@dataclass(frozen=True)
class Choice:
    """A request without `auto`, and the reason for what was chosen; empty if nothing was."""

    request: RunRequest
    reason: str = ""


def choose_settings(store: "Store", manifest: Manifest, request: RunRequest) -> Choice:
    """Replace `auto` in a request by a recipe with overrides, and by a labelled ratio. Writes nothing."""
    is_scenes = manifest.classes == CLASSES
    if request.labeled_ratio == AUTO:
        request = request.model_copy(update={"labeled_ratio": _SCENES_RATIO if is_scenes else _ALL})
    if request.recipe != AUTO:
        return Choice(request)
    if is_scenes:
        return Choice(request.model_copy(update={"recipe": DEMO}), f"{DEMO}, for generated scenes")
    labeled, unlabeled = _counts(manifest, request)
    return Choice(*_for_photographs(request, labeled, unlabeled, _sizes(store, manifest)))


def _for_photographs(
    request: RunRequest, labeled: int, unlabeled: int, sizes: Sequence[tuple[int, int]]
) -> tuple[RunRequest, str]:
    recipe = load_recipe(PHOTOS, request.all_overrides)
    seen = [reduced_size(*size, recipe.network.longest_side) for size in sizes]
    crop: list[JsonValue] = [_crop_side(statistics.median(size[axis] for size in seen)) for axis in (0, 1)]
    whole: list[JsonValue] = [max(size[axis] for size in seen) for axis in (0, 1)]
    longer = max(labeled, unlabeled)
    batch = request.batch_size or min(recipe.training.batch_size, longer)
    settings: dict[str, JsonValue] = {
        "augmentation.crop": crop,
        "evaluation.crop": whole,
        "evaluation.stride": whole,
        "training.epochs": max(1, round(_STEPS / max(1, longer // batch))),
        "training.batch_size": batch,
        **({} if unlabeled > 1 else {"cps.weight": 0}),
    }
    chosen = request.model_copy(update={"recipe": PHOTOS, "overrides": {**settings, **request.overrides}})
    found = _described(load_recipe(PHOTOS, chosen.all_overrides), longer, sizes)
    return chosen, found if unlabeled > 1 else f"{found}; no cross loss, because there are no unlabelled images"


def _described(recipe: Recipe, longer: int, sizes: Sequence[tuple[int, int]]) -> str:
    """Return the settings of the run, with those of the user; `longer` is the length of the longer list of images."""
    (height, width), training = recipe.augmentation.crop, recipe.training
    steps = max(1, longer // training.batch_size)
    return (
        f"{PHOTOS}, for images of about {_text(sizes)} (width x height): crops of {width}x{height}, "
        f"{quantity(training.epochs, 'epoch')} of {quantity(steps, 'step')}"
    )


def _counts(manifest: Manifest, request: RunRequest) -> tuple[int, int]:
    """Return how many training images keep their label at the request's ratio, and how many do not."""
    own = manifest.ratio_lists.get(request.labeled_ratio)
    if own is not None:
        return len(own.labeled), len({*own.unlabeled, *manifest.unlabeled})
    labeled = labeled_count(len(manifest.train), request.ratio)
    return labeled, len(manifest.train) - labeled + len(manifest.unlabeled)


def _sizes(store: "Store", manifest: Manifest) -> list[tuple[int, int]]:
    """Return height and width of some training and val images, evenly spaced."""
    names = [*(sample.image for sample in (*manifest.train, *manifest.val)), *manifest.unlabeled]
    return [stored_size(store, manifest, name) for name in names[:: max(1, len(names) // _SAMPLE)]]


def _crop_side(side: float) -> int:
    """Return the side of a crop: about half of a large image's side, most of a small one's."""
    least = min(_LEAST_CROP, -(-int(side) // _MULTIPLE) * _MULTIPLE)
    return max(least, round(_CROP_SHARE * side / _MULTIPLE) * _MULTIPLE, _MULTIPLE)


def _text(sizes: Sequence[tuple[int, int]]) -> str:
    return "x".join(f"{statistics.median(size[axis] for size in sizes):.0f}" for axis in (1, 0))
