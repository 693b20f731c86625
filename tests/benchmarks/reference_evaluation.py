"""How the reference evaluates: paddleseg's own functions over eager Paddle, patched only as far as they need to run.

As a program it is one val.py of the reference: a process that scores one network of one checkpoint.

python -m tests.benchmarks.reference_evaluation CHECKPOINT BRANCH LIST WIDTH HEIGHT STRIDE_X STRIDE_Y

LIST has a line `image<TAB>label` for each image. Prints the mIoU.
"""

import collections.abc  # paddleseg.core.infer uses it without importing it
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from paddleseg.core.infer import slide_inference
from paddleseg.utils import metrics

assert collections.abc

Size = tuple[int, int]


class Listed(nn.Layer):
    """A network as paddleseg's functions want one: it gives a list of logits."""

    def __init__(self, network: nn.Layer) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        return [self.network(images)]


def sliding_classes(network: Listed, planes: NDArray[np.float32], crop: Size, stride: Size) -> paddle.Tensor:
    """(3, H, W) normalised to class ids (1, 1, H, W); `crop` and `stride` are width, height, as paddleseg has them."""
    with paddle.no_grad():
        logits = slide_inference(network, paddle.to_tensor(planes[None]), crop, stride)
        return paddle.argmax(logits, axis=1, keepdim=True, dtype="int32")


def calculate_area(prediction: paddle.Tensor, label: paddle.Tensor, classes: int) -> tuple[Any, Any, Any]:
    """paddleseg's; Paddle 3 joins no tensors without a dimension, so these get one."""
    concat = paddle.concat
    paddle.concat = lambda parts: concat([part.reshape([1]) for part in parts])
    try:
        return metrics.calculate_area(prediction, label, classes)
    finally:
        paddle.concat = concat


def main() -> None:
    import cv2

    from components.networks.weights import read_networks

    checkpoint, branch, listed = sys.argv[1:4]
    width, height, across, down = map(int, sys.argv[4:])
    networks = read_networks(Path(checkpoint))
    network = Listed(networks.layers[branch])
    network.eval()
    mean, std = (np.float32(json.loads(networks.meta[key])) for key in ("mean", "std"))
    classes = int(networks.meta["num_classes"])
    totals: list[Any] = [0, 0, 0]
    for line in Path(listed).read_text().splitlines():
        image, label = line.split("\t")
        pixels = cv2.cvtColor(np.asarray(cv2.imread(image)), cv2.COLOR_BGR2RGB).astype(np.float32) / 255
        planes = ((pixels - mean) / std).transpose(2, 0, 1)
        prediction = sliding_classes(network, planes, (width, height), (across, down))
        truth = paddle.to_tensor(np.asarray(cv2.imread(label, cv2.IMREAD_UNCHANGED), np.int64)[None, None])
        areas = calculate_area(prediction.astype("int64"), truth, classes)
        totals = [total + area for total, area in zip(totals, areas, strict=True)]
    print(float(metrics.mean_iou(*totals)[1]))


if __name__ == "__main__":
    main()
