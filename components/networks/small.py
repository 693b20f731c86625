"""Our own networks, small enough to train on a CPU in minutes."""

import paddle
from paddle import nn

from components.networks.layers import ConvBNReLU, FPNDecoder


class SmallFPN(nn.Layer):
    """Three stages of plain convolutions and an FPN decoder: 0.3 million parameters, trained from scratch."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stages = nn.LayerList(
            [
                nn.Sequential(ConvBNReLU(3, 16, stride=2), ConvBNReLU(16, 32, stride=2)),
                nn.Sequential(ConvBNReLU(32, 64, stride=2), ConvBNReLU(64, 64)),
                nn.Sequential(ConvBNReLU(64, 96, stride=2), ConvBNReLU(96, 96)),
            ]
        )
        self.decoder = FPNDecoder([32, 64, 96], 48, num_classes)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        features = []
        tensor = images
        for stage in self.stages:
            tensor = stage(tensor)
            features.append(tensor)
        return self.decoder(features, tuple(images.shape[2:]))


class MobileNetV2FPN(nn.Layer):
    """MobileNetV2 without its classifier, and an FPN decoder over strides 4 to 32: 1.9 million parameters.

    The backbone's parameters have the names of `paddle.vision.models.mobilenet_v2`, so its ImageNet weights fit.
    `stem` and `after_stem` are its two halves: two networks with a shared frozen stem run it only once.
    """

    BACKBONE = "features"
    STEM_STAGES = 7

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = paddle.vision.models.mobilenet_v2(pretrained=False).features[:18]
        self.decoder = FPNDecoder([24, 32, 96, 320], 64, num_classes)

    def stem(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Map (N, 3, H, W) images to feature maps at stride 4 (24 channels) and stride 8 (32 channels)."""
        fine = self._run(images, 0, 4)
        return [fine, self._run(fine, 4, self.STEM_STAGES)]

    def after_stem(self, features: list[paddle.Tensor], size: tuple[int, int]) -> paddle.Tensor:
        middle = self._run(features[-1], self.STEM_STAGES, 14)
        return self.decoder([*features, middle, self._run(middle, 14, 18)], size)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.after_stem(self.stem(images), tuple(images.shape[2:]))

    def stem_layers(self) -> list[nn.Layer]:
        return list(self.features)[: self.STEM_STAGES]

    def _run(self, tensor: paddle.Tensor, first: int, last: int) -> paddle.Tensor:
        for stage in list(self.features)[first:last]:
            tensor = stage(tensor)
        return tensor
