"""paddleseg's own networks, by the name of their class: `paddleseg:PPLiteSeg`, `paddleseg:BiSeNetV2`, …"""

import inspect
from collections.abc import Callable

import paddle
from paddle import nn

from components.errors import UserError
from components.recipes.loader import nearest

# A network that takes a backbone gets this one; the others bring their own.
BACKBONES = {
    "PPLiteSeg": "STDC1",
    "MobileSeg": "MobileNetV3_small_x1_0",
    "FCN": "HRNet_W18_Small_V1",
    "OCRNet": "HRNet_W18",
    "SegFormer": "MixVisionTransformer_B0",
}


class Foreign(nn.Layer):
    """paddleseg networks give a list, with auxiliary logits while training: only the main ones are used."""

    BACKBONE = "network.backbone"

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.network(images)[0]


def build_paddleseg(name: str, num_classes: int) -> nn.Layer:
    """Raises UserError for a name that paddleseg has no network for, or one that needs more than a class count."""
    from paddleseg import models
    from paddleseg.models import backbones

    networks: dict[str, Callable[..., nn.Layer]] = {
        label: item for label, item in vars(models).items() if inspect.isclass(item) and issubclass(item, nn.Layer)
    }
    if name not in networks:
        raise UserError(f"paddleseg has no network {name!r}{nearest(name, networks)}")
    settings = {"backbone": getattr(backbones, BACKBONES[name])()} if name in BACKBONES else {}
    try:
        return Foreign(networks[name](num_classes=num_classes, **settings))
    except TypeError as error:
        raise UserError(f"paddleseg's {name} cannot be built from a class count alone: {error}") from None
