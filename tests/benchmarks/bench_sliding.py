"""The sliding window against paddleseg's slide_inference over eager Paddle: the same weights, windows and class ids.

python -m tests.benchmarks.bench_sliding [--structure deeplabv3p-resnet50] [--rounds 5] [--as-shipped]

An image of 1024 x 512, crop 256, stride 170, 19 classes. Both begin with pixels and end with class ids. The reference
runs in our environment, which is the faster one for it (MKL's fast path on AMD, a thread for each core); with
--as-shipped in the one it would have by itself. bfloat16 is timed where the processor computes in it.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from components.networks import processor

SIZE, CROP, STRIDE, CLASSES = (512, 1024), (256, 256), (170, 170), 19
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GOALS = {"deeplabv3p-resnet50": (3.0, 6.0), "small-fpn": (4.0, 4.0)}
"""In float32, and where bfloat16 is allowed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structure", choices=sorted(GOALS), default="deeplabv3p-resnet50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as-shipped", action="store_true")
    parser.add_argument("--engines", nargs="*", help="default: the one that is taken by itself, and bfloat16's")
    options = parser.parse_args()
    print("the reference's environment:", "its own" if options.as_shipped else processor.prepare())
    compare(options.structure, options.rounds, options.engines)


def compare(structure: str, rounds: int, engines: Sequence[str] | None) -> None:
    import paddle

    from components.inference.engine import choose, is_exact, open_engines
    from components.inference.paddle_engine import Weights
    from components.inference.segmentation import segment
    from components.inference.sessions import has_bf16
    from components.inference.sliding import Window, normalize
    from components.networks.structures import build
    from components.networks.weights import state_arrays
    from tests.benchmarks import reference_evaluation as reference
    from tests.benchmarks.measure import paired

    paddle.seed(0)
    network = build(structure, CLASSES, 1)
    trained_statistics(network)
    listed = reference.Listed(network)
    listed.eval()
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    weights = Weights({"only": structure}, CLASSES, {"only": state_arrays(network)}, structure)
    if not has_bf16():
        print("bfloat16 is not measured: this processor does not compute in it")
    names = engines or [choose(), *([choose(allow_bf16=True)] if has_bf16() else [])]

    def theirs() -> Any:
        planes = normalize(image, MEAN, STD)
        return reference.sliding_classes(listed, planes, CROP[::-1], STRIDE[::-1]).numpy()[0, 0]

    expected = theirs()
    for name in names:
        opened = list(open_engines(name, weights).values())

        def ours(opened: Any = opened) -> Any:
            return segment(opened, image, Window(CROP, STRIDE), mean=MEAN, std=STD)[0].ids

        same = float((ours() == expected).mean())
        print(f"{structure}, {name}: {same:.4%} of pixels have the reference's class")
        assert same >= (0.9999 if is_exact(name) else 0.99), "not the same output"
        goal = GOALS[structure][0 if is_exact(name) else 1]
        paired(f"{structure}, {name}, {SIZE[1]} x {SIZE[0]}", ours, theirs, rounds=rounds, goal=goal)


def trained_statistics(network: Any) -> None:
    """Running statistics that are the network's own, as after training, so that activations neither die nor explode."""
    import paddle

    network.train()
    with paddle.no_grad():
        for _ in range(4):
            network(paddle.randn([2, 3, 128, 128]))
    network.eval()


if __name__ == "__main__":
    main()
