"""DeepLabV3+ on our ResNets: the structure of the method's Cityscapes experiments."""

import paddle
from paddle import nn

from components.networks.resnet import ResNet


class DeepLab(nn.Layer):
    """paddleseg's DeepLabV3+ over an output stride of 16, with the head initialised as the reference has it."""

    BACKBONE = "network.backbone"

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        from paddleseg.models.deeplab import DeepLabV3P

        self.network = DeepLabV3P(
            num_classes=num_classes,
            backbone=ResNet(depth),
            backbone_indices=(0, 3),
            aspp_ratios=(1, 6, 12, 18),
            aspp_out_channels=256,
            align_corners=True,
        )
        _initialise(self.network.head)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.network(images)[0]


def _initialise(head: nn.Layer) -> None:
    kaiming = nn.initializer.KaimingNormal(nonlinearity="relu")
    for layer in head.sublayers():
        if isinstance(layer, nn.Conv2D):
            kaiming(layer.weight)
        elif isinstance(layer, nn.BatchNorm2D | nn.SyncBatchNorm):
            layer._epsilon, layer._momentum = 1e-5, 0.9
