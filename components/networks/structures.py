"""Build networks by name. Each maps (N, 3, H, W) normalised RGB to (N, classes, H, W) logits."""

from collections.abc import Callable

import paddle
from paddle import nn

from components.errors import UserError, nearest
from components.networks.deeplab import DeepLab
from components.networks.paddleseg_models import build_paddleseg
from components.networks.small import EfficientNetLite0FPN, MobileNetV2FPN, SmallFPN
from components.recipes.model import FOREIGN, PADDLESEG_MODELS, STRUCTURES

BUILDERS: dict[str, Callable[[int], nn.Layer]] = {
    "small-fpn": SmallFPN,
    "mobilenetv2-fpn": MobileNetV2FPN,
    "efficientnet-lite0-fpn": EfficientNetLite0FPN,
    "deeplabv3p-resnet50": lambda num_classes: DeepLab(50, num_classes),
    "deeplabv3p-resnet101": lambda num_classes: DeepLab(101, num_classes),
}


def build(structure: str, num_classes: int, seed: int | None = None) -> nn.Layer:
    """Return a newly initialised network; with a seed, its weights are reproducible.

    Raises UserError for an unknown name.
    """
    if seed is not None:
        paddle.seed(seed)
    if structure.startswith(FOREIGN):
        return build_paddleseg(structure.removeprefix(FOREIGN), num_classes)
    if structure not in BUILDERS:
        raise UserError(
            f"unknown network structure {structure!r}{nearest(structure, STRUCTURES)}; available: "
            f"{', '.join(STRUCTURES)}, and paddleseg's models as {FOREIGN}NAME: {', '.join(PADDLESEG_MODELS)}"
        )
    return BUILDERS[structure](num_classes)
