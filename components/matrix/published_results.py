"""Published results to compare a curve with, only for the dataset and network that they were measured on."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.recipes.model import Recipe

CITYSCAPES_CLASSES = 19


@dataclass(frozen=True)
class Published:
    name: str
    source: str
    by_ratio: Mapping[str, float]
    """mIoU in [0, 1]."""


_CITYSCAPES_RESNET50 = (
    Published(
        "supervised, published",
        "UniMatch's README: DeepLabV3+ ResNet50, 801 x 801 crops",
        {"1/16": 0.633, "1/8": 0.702, "1/4": 0.731, "1/2": 0.766},
    ),
    Published("CPS, its authors", "the authors' PyTorch code: DeepLabV3+ ResNet50", {"1/2": 0.7877}),
    Published("CPS, PaddleSeg", "PaddleSeg's contrib/CrossPseudoSupervision: DeepLabV3+ ResNet50", {"1/2": 0.7839}),
)


def published(recipe: Recipe, dataset: str, classes: int) -> tuple[Published, ...]:
    """Return the published results for this recipe's network on this dataset, or () if none are comparable."""
    comparable = (
        recipe.network.structure == "deeplabv3p-resnet50"
        and "cityscapes" in dataset.lower()
        and classes == CITYSCAPES_CLASSES
    )
    return _CITYSCAPES_RESNET50 if comparable else ()
