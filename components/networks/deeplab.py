"""DeepLabV3+ with a ResNet backbone, as in the CPS paper's Cityscapes experiments."""

import paddle
from paddle import nn
from paddle.nn import functional as F

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
EXPANSION = 4


class DeepLab(nn.Layer):
    """paddleseg's DeepLabV3+ at output stride 16, with the head initialised as in the reference implementation."""

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

    def encode(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        """Map (N, 3, H, W) images to the two feature maps that the head uses, at strides 4 and 16."""
        features = self.network.backbone(images)
        return [features[index] for index in self.network.head.backbone_indices]

    def decode(self, features: list[paddle.Tensor], size: tuple[int, int]) -> paddle.Tensor:
        by_index = dict(zip(self.network.head.backbone_indices, features, strict=True))
        return F.interpolate(self.network.head(by_index)[0], size, mode="bilinear", align_corners=True)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return self.network(images)[0]


def _initialise(head: nn.Layer) -> None:
    kaiming = nn.initializer.KaimingNormal(nonlinearity="relu")
    for layer in head.sublayers():
        if isinstance(layer, nn.Conv2D):
            kaiming(layer.weight)
        elif isinstance(layer, nn.BatchNorm2D | nn.SyncBatchNorm):
            layer._epsilon, layer._momentum = 1e-5, 0.9  # noqa: SLF001 - set at construction only, by paddleseg


def _norm(channels: int) -> nn.BatchNorm2D:
    # Paddle's momentum is the share of the running value that is kept: 0.9 corresponds to PyTorch's 0.1.
    return nn.BatchNorm2D(channels, momentum=0.9, epsilon=1e-5)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2D:
    padding = dilation * (kernel // 2)
    return nn.Conv2D(inputs, outputs, kernel, stride, padding, dilation=dilation, bias_attr=False)


class Bottleneck(nn.Layer):
    """ResNet's residual block of 1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.bn1 = _conv(inputs, width, 1), _norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride, dilation), _norm(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), _norm(outputs)
        self.relu = nn.ReLU()
        reshapes = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), _norm(outputs)) if reshapes else None

    def forward(self, tensor: paddle.Tensor) -> paddle.Tensor:
        residual = tensor if self.downsample is None else self.downsample(tensor)
        tensor = self.relu(self.bn1(self.conv1(tensor)))
        tensor = self.relu(self.bn2(self.conv2(tensor)))
        return self.relu(self.bn3(self.conv3(tensor)) + residual)


class ResNet(nn.Layer):
    """ResNet backbone: (N, 3, H, W) images to four feature maps at strides 4, 8, 16 and 16."""

    feat_channels = (256, 512, 1024, 2048)

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            _conv(3, 64, 3, 2),
            _norm(64),
            nn.ReLU(),
            _conv(64, 64, 3),
            _norm(64),
            nn.ReLU(),
            _conv(64, 128, 3),
        )
        self.bn1, self.relu = _norm(128), nn.ReLU()
        self.maxpool = nn.MaxPool2D(kernel_size=3, stride=2, padding=1)
        blocks = BLOCKS[depth]
        self.layer1 = _stage(128, 64, blocks[0], 1, [1] * blocks[0])
        self.layer2 = _stage(256, 128, blocks[1], 2, [1] * blocks[1])
        self.layer3 = _stage(512, 256, blocks[2], 2, [1] * blocks[2])
        self.layer4 = _stage(1024, 512, blocks[3], 1, [2, 4, 8])

    def forward(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            tensor = stage(tensor)
            features.append(tensor)
        return features


def _stage(inputs: int, width: int, blocks: int, stride: int, dilations: list[int]) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride, dilations[0])
    rest = [Bottleneck(width * EXPANSION, width, 1, dilation) for dilation in dilations[1:blocks]]
    return nn.Sequential(first, *rest)
