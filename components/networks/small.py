"""Our own networks, small enough to train on a CPU in minutes."""

import paddle
from paddle import nn

from components.networks.depthwise import DepthwiseConv2D
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

    def encode(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Map (N, 3, H, W) images to the feature maps at strides 4, 8 and 16."""
        features = []
        tensor = images
        for stage in self.stages:
            tensor = stage(tensor)
            features.append(tensor)
        return features

    def decode(self, features: list[paddle.Tensor], size: tuple[int, int]) -> paddle.Tensor:
        return self.decoder(features, size)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.decode(self.encode(images), tuple(images.shape[2:]))


class _PretrainedFPN(nn.Layer):
    """A backbone in stages, `features`, and an FPN decoder over its feature maps at strides 4, 8, 16 and 32.

    `stem` and `after_stem` are its two halves: two networks with a shared frozen stem run it only once.
    """

    BACKBONE = "features"
    ENDS: tuple[int, int, int, int]
    """Number of stages up to each of the four feature maps; the stem ends with the second."""

    def stem(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Map (N, 3, H, W) images to the feature maps at strides 4 and 8."""
        fine = self._run(images, 0, self.ENDS[0])
        return [fine, self._run(fine, *self.ENDS[:2])]

    def after_stem(self, features: list[paddle.Tensor]) -> list[paddle.Tensor]:
        """Add the feature maps at strides 16 and 32 to those of the stem."""
        middle = self._run(features[-1], *self.ENDS[1:3])
        return [*features, middle, self._run(middle, *self.ENDS[2:])]

    def encode(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Map (N, 3, H, W) images to the feature maps at strides 4, 8, 16 and 32."""
        return self.after_stem(self.stem(images))

    def decode(self, features: list[paddle.Tensor], size: tuple[int, int]) -> paddle.Tensor:
        return self.decoder(features, size)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.decode(self.encode(images), tuple(images.shape[2:]))

    def stem_layers(self) -> list[nn.Layer]:
        return list(self.features)[: self.ENDS[1]]

    def _run(self, tensor: paddle.Tensor, first: int, last: int) -> paddle.Tensor:
        for stage in list(self.features)[first:last]:
            tensor = stage(tensor)
        return tensor


class MobileNetV2FPN(_PretrainedFPN):
    """MobileNetV2 without its classifier, and an FPN decoder: 1.9 million parameters.

    The backbone's parameters have the names of `paddle.vision.models.mobilenet_v2`, so its ImageNet weights fit.
    """

    ENDS = (4, 7, 14, 18)

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = paddle.vision.models.mobilenet_v2(pretrained=False).features[:18]
        self.decoder = FPNDecoder([24, 32, 96, 320], 64, num_classes)


class _MBConv(nn.Layer):
    """EfficientNet-lite's block: expand the channels, convolve each alone, and project to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers: list[nn.Layer] = [] if expansion == 1 else _convolution(inputs, width, 1)
        layers += [DepthwiseConv2D(width, kernel, stride), *_normalised(width)]
        layers += _convolution(width, outputs, 1)[:-1]
        self.layers = nn.Sequential(*layers)
        self.adds_input = inputs == outputs and stride == 1

    def forward(self, tensor: paddle.Tensor) -> paddle.Tensor:
        output = self.layers(tensor)
        return output + tensor if self.adds_input else output


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Layer]:
    """Return a convolution with TensorFlow's padding, for which the published weights were trained, BN and ReLU6."""
    padding = 0 if kernel == 1 else "SAME"
    return [nn.Conv2D(inputs, outputs, kernel, stride, padding=padding, bias_attr=False), *_normalised(outputs)]


def _normalised(channels: int) -> list[nn.Layer]:
    return [nn.BatchNorm2D(channels, epsilon=1e-3), nn.ReLU6()]


class EfficientNetLite0FPN(_PretrainedFPN):
    """EfficientNet-lite0 without its classifier, and an FPN decoder: 3.1 million parameters.

    EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6, as in TensorFlow's lite models.
    The parameters have their order, so their ImageNet weights fit.
    """

    ENDS = (4, 6, 12, 17)
    # Expansion, channels, number of blocks, stride of the first one, and kernel of each stage.
    _STAGES = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Layer] = [nn.Sequential(*_convolution(3, 32, 3, 2))]
        channels = 32
        for expansion, outputs, count, stride, kernel in self._STAGES:
            for number in range(count):
                blocks.append(_MBConv(channels, outputs, kernel, 1 if number else stride, expansion))
                channels = outputs
        self.features = nn.LayerList(blocks)
        self.decoder = FPNDecoder([24, 40, 112, 320], 64, num_classes)
