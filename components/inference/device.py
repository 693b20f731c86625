"""Sliding-window inference that stays on the device: photographs go up as uint8; class ids and counts come back.

It computes what `passes` and `probabilities` compute, in the same order. Paddle also runs it on the CPU, where the
tests compare both.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.inference.engine import Engine
from components.inference.output import Output, Segmentation, Truth
from components.inference.paddle_engine import DeviceEngine
from components.inference.passes import scaled_size
from components.inference.sliding import Size, Window, window_counts_along, window_starts
from components.metrics.confusion import matrix_of_pairs
from components.networks.image_size import reduced, reduced_size

if TYPE_CHECKING:
    from paddle import Tensor

_COPIES = 4
"""Arrays as large as an image's logits that exist at once: sums, a resized pass, probabilities, and their total."""
_running = threading.Lock()
"""One image at a time: several at once would need more memory without being faster."""


def networks_for(engines: Sequence[Engine], size: Size, window: Window) -> list[DeviceEngine]:
    """Return the engines if they run on a device that has room for the logits of an image of `size`, else []."""
    networks = [engine for engine in engines if isinstance(engine, DeviceEngine)]
    if len(networks) < len(engines):
        return []
    seen = reduced_size(*size, window.longest_side)
    sizes = [size, *(scaled_size(seen, scale) for scale in window.scales)]
    pixels = max(height * width for height, width in sizes)
    needed = 4 * pixels * _COPIES * sum(network.num_classes for network in networks)
    return networks if all(needed <= network.room for network in networks) else []


def segment(
    networks: Sequence[DeviceEngine],
    image: NDArray[np.uint8],
    window: Window,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    output: Output,
) -> list[Segmentation]:
    """Return what `segmentation.segment` returns, computed on the device."""
    import paddle

    with _running, paddle.no_grad():
        planes = _normalized(paddle.to_tensor(reduced(image, window.longest_side)), mean, std)
        logits = _image_logits(networks, planes, window, (image.shape[0], image.shape[1]))
        truth = None if output.truth is None else paddle.to_tensor(output.truth.label).astype("int64")
        return [
            _segmentation([logits[number] for number in group], output, truth)
            for group in output.groups or [range(len(networks))]
        ]


def _normalized(pixels: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """Return (3, H, W) float32 from (H, W, 3) uint8, by the arithmetic of `sliding.normalize`."""
    import paddle

    scale = (1 / (255 * np.asarray(std, np.float64))).astype(np.float32)
    shift = (np.asarray(mean, np.float64) / np.asarray(std, np.float64)).astype(np.float32)
    planes = pixels.transpose([2, 0, 1]).astype("float32")
    return planes * paddle.to_tensor(scale[:, None, None]) - paddle.to_tensor(shift[:, None, None])


def _image_logits(networks: Sequence[DeviceEngine], planes: "Tensor", window: Window, size: Size) -> "list[Tensor]":
    """Return each network's logits, (C, *size), from one pass or averaged over several."""
    import paddle
    from paddle.nn import functional

    if window.single:
        return [_resized(logits, size) for logits in _sliding_logits(networks, planes, window)]
    totals: list[Tensor] = []
    passes = 0
    for version, mirrored in _versions(planes, window):
        passes += 1
        for number, found in enumerate(_sliding_logits(networks, version, window)):
            probabilities = functional.softmax(_resized(found.flip(2) if mirrored else found, size), axis=0)
            if number == len(totals):
                totals.append(probabilities)
            else:
                totals[number] += probabilities
    tiny = float(np.finfo(np.float32).tiny)
    return [paddle.log(paddle.clip(total / passes, min=tiny)) for total in totals]


def _versions(planes: "Tensor", window: Window) -> "Iterator[tuple[Tensor, bool]]":
    """Yield each version of the image, and whether it is mirrored."""
    for scale in window.scales:
        scaled = _resized(planes, scaled_size((planes.shape[1], planes.shape[2]), scale))
        yield scaled, False
        if window.flip:
            yield scaled.flip(2), True


def _sliding_logits(networks: Sequence[DeviceEngine], planes: "Tensor", window: Window) -> "list[Tensor]":
    """Return each network's logits, (C, H, W), of one pass over (3, H, W)."""
    import paddle
    from paddle.nn import functional

    size = planes.shape[1], planes.shape[2]
    (height, width), (crop_height, crop_width) = size, window.crop
    missing = max(0, crop_height - height), max(0, crop_width - width)
    padded = functional.pad(planes[None], [0, missing[1], 0, missing[0]])[0]
    tops, lefts = (window_starts(*axis) for axis in zip(size, window.crop, window.stride, strict=True))
    places = [(top, left) for top in tops for left in lefts]
    sums = [paddle.zeros([network.num_classes, *padded.shape[1:]]) for network in networks]
    for start in range(0, len(places), window.batch):
        group = places[start : start + window.batch]
        windows = paddle.stack([padded[:, y : y + crop_height, x : x + crop_width] for y, x in group])
        for total, network in zip(sums, networks, strict=True):
            for (y, x), logits in zip(group, network.layer(windows), strict=True):
                total[:, y : y + crop_height, x : x + crop_width] += logits
    counts = np.outer(*(window_counts_along(*axis) for axis in zip(size, window.crop, window.stride, strict=True)))
    divisor = paddle.to_tensor(counts.astype(np.float32))
    return [total[:, :height, :width] / divisor for total in sums]


def _resized(planes: "Tensor", size: Size) -> "Tensor":
    """Return (C, *size), by linear interpolation between pixel centres."""
    from paddle.nn import functional

    if tuple(planes.shape[1:]) == size:
        return planes
    return functional.interpolate(planes[None], list(size), mode="bilinear", align_corners=False)[0]


def _segmentation(logits: "list[Tensor]", output: Output, truth: "Tensor | None") -> Segmentation:
    """Reduce the logits of some networks to what comes back from the device."""
    import paddle
    from paddle.nn import functional

    values, several = logits[0], len(logits) > 1
    if several or output.confidence or output.probabilities:
        probabilities = functional.softmax(logits[0], axis=0)
        for other in logits[1:]:
            probabilities += functional.softmax(other, axis=0)
        probabilities /= len(logits)
        values = probabilities if several else values
    best = values.argmax(axis=0)
    classes = values.shape[0]
    matrix = None
    if truth is not None and output.truth is not None:
        pairs = paddle.bincount((truth * classes + best).flatten(), minlength=classes * classes)
        matrix = _matrix(pairs, output.truth)
    small = best.astype("uint8").numpy() if classes <= 256 else best.astype("int32").numpy().astype(np.uint16)
    return Segmentation(
        small,
        probabilities.max(axis=0).numpy() if output.confidence else None,
        matrix,
        probabilities.numpy() if output.probabilities else None,
    )


def _matrix(pairs: "Tensor", truth: Truth) -> NDArray[np.int64]:
    return matrix_of_pairs(pairs.numpy(), truth.num_classes, truth.ignore_index)
