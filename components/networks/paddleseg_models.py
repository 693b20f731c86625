"""Networks of paddleseg by their registered names: `paddleseg:PPLiteSeg`, `paddleseg:BiSeNetV2`, …"""

from collections.abc import Callable
from typing import Any

import paddle
from paddle import nn

from components.errors import UserError, nearest
from components.recipes.model import PADDLESEG_MODELS

# The backbone of each network that needs one, and any arguments in addition to the class count.
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "ANN": ("ResNet50_vd", {}),
    "BiseNetV1": ("ResNet18_vd", {}),
    "CCNet": ("ResNet50_vd", {}),
    "DANet": ("ResNet50_vd", {"backbone_indices": (2, 3)}),
    "DMNet": ("ResNet50_vd", {}),
    "DNLNet": ("ResNet50_vd", {}),
    "DeepLabV3": ("ResNet50_vd", {}),
    "DeepLabV3P": ("ResNet50_vd", {"aspp_out_channels": 256}),
    "ENCNet": ("ResNet50_vd", {}),
    "FCN": ("HRNet_W18_Small_V1", {}),
    "FastFCN": ("ResNet50_vd", {}),
    "GCNet": ("ResNet50_vd", {}),
    "GINet": ("ResNet50_vd", {}),
    "GSCNN": ("ResNet50_vd", {}),
    "GloRe": ("ResNet50_vd", {}),
    "ISANet": ("ResNet50_vd", {}),
    "LRASPP": ("MobileNetV3_large_x1_0", {}),
    "MobileSeg": ("MobileNetV3_small_x1_0", {}),
    "OCRNet": ("HRNet_W18", {"backbone_indices": (0,)}),
    "PFPNNet": ("ResNet50_vd", {"backbone_indices": (0, 1, 2, 3), "channels": 256}),
    "PPLiteSeg": ("STDC1", {}),
    "PSPNet": ("ResNet50_vd", {}),
    "STDCSeg": ("STDC1", {}),
    "SegFormer": ("MixVisionTransformer_B0", {"embedding_dim": 256}),
    "TopFormer": ("TopTransformer_Base", {}),
    "UPerNet": ("ResNet50_vd", {"backbone_indices": (0, 1, 2, 3)}),
}
TRIAL = (2, 3, 64, 64)
"""Shape (N, 3, H, W) of the test batch for networks outside PADDLESEG_MODELS."""


class Foreign(nn.Layer):
    """A paddleseg network. It returns a list, with auxiliary logits during training; we use only the main logits."""

    BACKBONE = "network.backbone"

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.network(images)[0]


def build_paddleseg(name: str, num_classes: int) -> nn.Layer:
    """Build a paddleseg network.

    Networks outside PADDLESEG_MODELS are tested first, as a pair: parameters with fixed names, as in MobileNetV2
    backbones, can exist only once per process.

    Raises:
        UserError: paddleseg has no such network, or it cannot be trained here as a pair.
    """
    import paddleseg.models  # noqa: F401 - fills the list of models
    from paddleseg.cvlibs.manager import MODELS

    networks: dict[str, Callable[..., nn.Layer]] = MODELS.components_dict
    if name not in networks:
        raise UserError(
            f"paddleseg has no network {name!r}{nearest(name, networks)}; tested: {', '.join(PADDLESEG_MODELS)}"
        )
    network = _build(networks[name], name, num_classes)
    if name not in PADDLESEG_MODELS:
        _test_network(_build(networks[name], name, num_classes), name, num_classes)
    return network


def _build(make: Callable[..., nn.Layer], name: str, num_classes: int) -> nn.Layer:
    from paddleseg.models import backbones

    backbone, settings = BACKBONES.get(name, ("", {}))
    try:
        if backbone:
            settings = {**settings, "backbone": getattr(backbones, backbone)()}
        return Foreign(make(num_classes=num_classes, **settings))
    except Exception as error:  # a third-party constructor may raise anything
        raise UserError(f"paddleseg's {name} cannot be built from a class count alone: {_line(error)}") from None


def _test_network(network: nn.Layer, name: str, num_classes: int) -> None:
    try:
        logits = network(paddle.zeros(TRIAL))
    except Exception as error:  # a third-party network may raise anything
        raise UserError(f"paddleseg's {name} does not run with this Paddle: {_line(error)}") from None
    if list(logits.shape) != [TRIAL[0], num_classes, *TRIAL[2:]]:
        raise UserError(
            f"paddleseg's {name} returns shape {list(logits.shape)} for {list(TRIAL)}, not logits of that size"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[-300:]
