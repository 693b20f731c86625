"""The sizes of the check: the Cityscapes recipe as it is for a GPU, and a small one for a minute on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from components.recipes import Recipe, load_recipe

RECIPE = "cityscapes-deeplabv3p-resnet50"


@dataclass(frozen=True)
class Size:
    """How much each part of the check computes. Sizes in pixels are (height, width)."""

    seconds: float
    """Limit of the whole check."""
    image: tuple[int, int]
    scored_image: tuple[int, int]
    scored: int
    """Number of images that both checkpoints are scored on."""
    steps: int
    warm_up: int
    """Untimed first steps, in which cuDNN tries its algorithms."""
    shared_crop: tuple[int, int]
    """Crop of the training on two devices."""
    changes: Mapping[str, JsonValue] = field(default_factory=dict)
    images: int = 4
    """Number of different images that training reads."""

    def recipe(self, **changes: JsonValue) -> Recipe:
        """Return the recipe with changes such as training__batch_size=2. Weights are random: nothing is downloaded."""
        named = {name.replace("__", "."): value for name, value in changes.items()}
        return load_recipe(RECIPE, {"network.pretrained": "none", **self.changes, **named})


SIZES = {
    "gpu": Size(
        seconds=480,
        image=(1024, 2048),
        scored_image=(512, 1024),
        scored=8,
        steps=20,
        warm_up=3,
        shared_crop=(256, 256),
    ),
    "cpu": Size(
        seconds=1800,
        image=(128, 256),
        scored_image=(96, 150),
        scored=2,
        steps=3,
        warm_up=1,
        shared_crop=(64, 64),
        changes={
            "augmentation.crop": [64, 64],
            "evaluation.crop": [64, 64],
            "evaluation.stride": [48, 48],
            "training.batch_size": 2,
        },
    ),
}
"""By device."""
