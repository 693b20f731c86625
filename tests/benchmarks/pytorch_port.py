"""The training of `photos` in PyTorch: hundreds of short runs on one GPU, and an independent check of the method.

    python -m tests.benchmarks.pytorch_port OUTPUT.csv FRAMES CELL[,CELL…] SEED[,SEED…] [--ratio 1/16] [--workers 15]

needs PyTorch beside this project's own packages. Splits, batches and initial networks are the project's; the networks,
the step, the optimizer and the evaluation are written anew. A cell is a name of CELLS: settings of the recipe. FRAMES
is that of `method_cells`, and CPS_TEST_DATA names the folder that has camvid/.

The figure is the mIoU of the last checkpoint with both networks averaged. A row that OUTPUT has is not measured again.
"""

import argparse
import copy
import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from components.dataset.manifest import Sample
from components.dataset.ranking import ranked_groups
from components.dataset.split import labeled_count
from components.labeled_ratio import parse_ratio
from components.networks.pretrained_weights.installed import installed_file
from components.networks.pretrained_weights.loading import load_backbone
from components.networks.structures import build
from components.recipes import Recipe
from components.recipes.loader import load_recipe
from components.training.batches import data as batches
from components.training.batches.paste import NOT_PASTED
from components.training.batches.randomness import Stream, number
from components.training.losses import root_median_frequency
from components.training.schedule import burn_in_steps, cps_weight, learning_rate
from tests.benchmarks.method_cells import FULL_SIZE, camvid_frames, read, write

VOID = 255
FROZEN = 6
"""Stages of the frozen stem."""
SIZE = {name: value for name, value in FULL_SIZE.items() if name.startswith("evaluation")}
PLAIN = {"cps.burn_in": 0.0, "cps.ramp_up": 0.3, "cps.strong_augmentation": 0.0, "cps.rare_class_paste": 0.0,
         "cps.teacher": "network", "augmentation.scales": [0.5, 1.25]}  # fmt: skip
STRONG, TEACHER, PASTE = {"cps.strong_augmentation": 0.8}, {"cps.teacher": "average"}, {"cps.rare_class_paste": 0.5}
ALL = {**PLAIN, **STRONG, **TEACHER, **PASTE}
"""What the recipe `photos` has, but for the scales."""
NONE = {**PLAIN, "cps.weight": 0.0}
WIDE: dict[str, Any] = {"augmentation.scales": [0.5, 2.0]}
SHARED: dict[str, dict[str, Any]] = {
    "wide": WIDE,
    "zoomed": {"augmentation.scales": [0.75, 2.0]},
    "small": {"augmentation.scales": [0.4, 1.0]},
    "small-crop": {"augmentation.crop": [128, 192], "steps": 768},
    "unfrozen": {"network.freeze_stem": False},
    "slow": {"optimization.learning_rate": 0.0015},
    "fast": {"optimization.learning_rate": 0.006},
    "ema-0.99": {"optimization.ema": 0.99},
    "equal-classes": {"loss.class_weights": "none"},
    **{str(steps): {"steps": steps} for steps in (560, 768, 1536)},
    "wide-768": {**WIDE, "steps": 768},
}
"""Changes that the supervised baseline can have as well."""
OWN: dict[str, dict[str, Any]] = {
    "weight-0.5": {"cps.weight": 0.5},
    "weight-2": {"cps.weight": 2.0},
    "ramp-0": {"cps.ramp_up": 0.0},
    "ramp-0.6": {"cps.ramp_up": 0.6},
    "paste-1": {"cps.rare_class_paste": 1.0},
    "wide+paste-1": {**WIDE, "cps.rare_class_paste": 1.0},
    "operations-3": {"cps.strong_operations": 3},
    "strong-1": {"cps.strong_augmentation": 1.0},
    "one-box": {"cps.cutmix_boxes": 1},
    "no-cutmix": {"cps.cutmix_boxes": 0},
    "no-cutmix-440": {"cps.cutmix_boxes": 0, "steps": 440},
    "pairs": {"cps.cutmix_boxes": 0, "training.batch_size": 2, "optimization.reference_batch": 2, "steps": 880},
    "pairs-slow": {"cps.cutmix_boxes": 0, "training.batch_size": 2, "steps": 880},
}
CELLS: dict[str, dict[str, Any]] = {
    "baseline": NONE,
    "burn-in": {**PLAIN, "cps.burn_in": 0.6, "cps.ramp_up": 0.2},
    "cps": PLAIN,
    "teacher": {**PLAIN, **TEACHER},
    "strong": {**PLAIN, **STRONG},
    "paste": {**PLAIN, **PASTE},
    "teacher+paste": {**PLAIN, **TEACHER, **PASTE},
    "strong+teacher": {**PLAIN, **STRONG, **TEACHER},
    "all": ALL,
    **{f"baseline/{name}": {**NONE, **change} for name, change in SHARED.items()},
    **{f"all/{name}": {**ALL, **change} for name, change in {**SHARED, **OWN}.items()},
}
STEPS = 384


@dataclass(frozen=True)
class Row:
    frames: str
    ratio: str
    cell: str
    seed: int
    steps: int
    mIoU: float
    half_way: float
    """mIoU after half of the steps."""
    classes: str
    """IoU of each class."""
    seconds: float


class Images:
    """Decoded images and labels of a folder with lists, in place of the project's stored dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        classes = tuple(json.loads((folder / "classes.json").read_text())["classes"])
        self.manifest = SimpleNamespace(ignore_index=VOID, classes=classes)
        self.lists = {part: _samples(folder / f"{part}.txt") for part in ("train", "val")}
        self._read: dict[str, Any] = {}

    def image(self, name: str) -> Any:
        return self._once(name, lambda path: cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB))

    def label(self, name: str) -> Any:
        return self._once(name, lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED))

    def split(self, ratio: str, seed: int) -> Any:
        ranked = [sample for group in ranked_groups(self.lists["train"], seed) for sample in group.samples]
        count = labeled_count(len(ranked), parse_ratio(ratio))
        return SimpleNamespace(labeled=ranked[:count], unlabeled=[sample.image for sample in ranked[count:]])

    def _once(self, name: str, read: Any) -> Any:
        if name not in self._read:
            self._read[name] = read(str(self.folder / name))
        return self._read[name]


def _samples(path: Path) -> list[Sample]:
    lines = (line.split() for line in path.read_text().splitlines())
    return [Sample(image=image, label=label) for image, label in lines]


class Convolution(nn.Conv2d):
    """Without a bias, and with TensorFlow's padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False, groups=groups)

    def forward(self, tensor: Any) -> Any:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        pads = []
        for length in (tensor.shape[3], tensor.shape[2]):
            needed = max(0, (-(-length // stride) - 1) * stride + kernel - length)
            pads += [needed // 2, needed - needed // 2]
        return super().forward(F.pad(tensor, pads) if any(pads) else tensor)


def convolved(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [Convolution(inputs, outputs, kernel, stride, groups), nn.BatchNorm2d(outputs, eps=1e-3), nn.ReLU6()]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers = [] if expansion == 1 else convolved(inputs, width, 1)
        layers += convolved(width, width, kernel, stride, groups=width)
        self.layers = nn.Sequential(*layers, *convolved(width, outputs, 1)[:-1])
        self.adds_input = inputs == outputs and stride == 1

    def forward(self, tensor: Any) -> Any:
        return self.layers(tensor) + tensor if self.adds_input else self.layers(tensor)


class Decoder(nn.Module):
    def __init__(self, channels: list[int], width: int, classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(count, width, 1) for count in channels])
        smooth = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.smooth = nn.Sequential(smooth, nn.BatchNorm2d(width), nn.ReLU())
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: list[Any], size: Any) -> Any:
        merged = self.laterals[-1](features[-1])
        for lateral, feature in zip(list(self.laterals)[-2::-1], features[-2::-1], strict=True):
            merged = _upsampled(merged, feature.shape[2:]) + lateral(feature)
        return _upsampled(self.classify(self.smooth(merged)), size)


def _upsampled(tensor: Any, size: Any) -> Any:
    return F.interpolate(tensor, size=tuple(size), mode="bilinear", align_corners=False)


class Network(nn.Module):
    """EfficientNet-lite0 with an FPN decoder. Parameters have the names of `EfficientNetLite0FPN`."""

    # Expansion, channels, number of blocks, stride of the first one, and kernel of each stage.
    STAGES = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip

    def __init__(self, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(*convolved(3, 32, 3, 2))]
        channels = 32
        for expansion, outputs, count, stride, kernel in self.STAGES:
            for position in range(count):
                blocks.append(Block(channels, outputs, kernel, 1 if position else stride, expansion))
                channels = outputs
        self.features = nn.ModuleList(blocks)
        self.decoder = Decoder([24, 40, 112, 320], 64, classes)

    def stem(self, images: Any) -> list[Any]:
        fine = self._run(images, 0, 4)
        return [fine, self._run(fine, 4, FROZEN)]

    def after_stem(self, features: list[Any], size: Any) -> Any:
        middle = self._run(features[-1], FROZEN, 12)
        return self.decoder([*features, middle, self._run(middle, 12, 17)], size)

    def forward(self, images: Any) -> Any:
        return self.after_stem(self.stem(images), images.shape[2:])

    def _run(self, tensor: Any, first: int, last: int) -> Any:
        for block in list(self.features)[first:last]:
            tensor = block(tensor)
        return tensor


def initial_network(recipe: Recipe, classes: int, seed: int, stream: Stream) -> Network:
    """Return the network that a run of the project starts with."""
    made = build(recipe.network.structure, classes, number(seed, stream))
    load_backbone(made, installed_file(recipe.network.structure))
    renamed = {"_mean": "running_mean", "_variance": "running_var"}
    state = {}
    for name, tensor in made.state_dict().items():
        prefix, _, last = name.rpartition(".")
        state[f"{prefix}.{renamed.get(last, last)}"] = torch.from_numpy(tensor.numpy().copy())
    network = Network(classes)
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


class Run:
    """One training of two networks, with the settings of a cell."""

    def __init__(self, images: Images, settings: dict[str, Any], ratio: str, seed: int, device: str) -> None:
        known = dict(settings)
        self.steps: int = known.pop("steps", STEPS)
        self.recipe = load_recipe("photos", {**SIZE, **known})
        cps, optimization = self.recipe.cps, self.recipe.optimization
        assert cps.teacher in ("network", "average")
        assert (cps.confidence, cps.feature_dropout, cps.strong_views, cps.adaptive_cutmix) == (0, 0, 1, False)
        assert (self.recipe.loss.kind, optimization.optimizer, optimization.clip_norm) == ("cross_entropy", "adamw", 0)
        self.images, self.device = images, device
        self.classes = len(images.manifest.classes)
        with patch.object(batches, "SharedImages", lambda reader, _longest_side: reader):
            self.data = batches.TrainingData(
                images,  # type: ignore[arg-type]
                images.split(ratio, seed),
                self.recipe,
                seed,
                batches.Share(),
                burn_in=burn_in_steps(self.recipe, self.steps),
                for_gpu=False,
            )
        self.networks = [
            initial_network(self.recipe, self.classes, seed, stream).to(device)
            for stream in (Stream.LEFT_NETWORK, Stream.RIGHT_NETWORK)
        ]
        for network in self.networks:
            for block in list(network.features)[: self.frozen]:
                block.requires_grad_(requires_grad=False)
        self.averages = [copy.deepcopy(network).requires_grad_(requires_grad=False) for network in self.networks]
        self.optimizers = [self._optimizer(network) for network in self.networks]

    @property
    def frozen(self) -> int:
        return FROZEN if self.recipe.network.freeze_stem else 0

    @cached_property
    def class_weights(self) -> Any:
        if self.recipe.loss.class_weights == "none":
            return torch.ones(self.classes, device=self.device)
        return torch.from_numpy(root_median_frequency(self.data.class_pixels())).to(self.device)

    def train(self) -> Iterator[tuple[int, float, float]]:
        """Train, and yield each step's number and losses, summed over both networks: supervised and cross."""
        for network in (*self.networks, *self.averages):
            network.train()
            for block in list(network.features)[: self.frozen]:
                block.eval()
        for step in range(self.steps):
            batch = self.data.batch(step)
            yield step, *self._step(step, batch)

    def _step(self, step: int, batch: Any) -> tuple[float, float]:
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(getattr(batch, name))).to(self.device)
            for name in ("labeled", "labels", "first", "second", "mixed", "mask", "void", "pasted")
            if getattr(batch, name) is not None
        }
        size = tensors["labeled"].shape[2:]
        stems: dict[str, Any] = {}
        if self.frozen:
            with torch.no_grad():
                named = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 4}
                stems = {name: self.networks[0].stem(images) for name, images in named.items()}

        def forward(network: Network, name: str) -> Any:
            return network.after_stem(stems[name] if self.frozen else network.stem(tensors[name]), size)

        targets = [self._pseudo_labels(place, tensors, forward) for place in (0, 1)] if "mixed" in tensors else []
        weight, supervised, cross = cps_weight(self.recipe, step, self.steps), 0.0, 0.0
        for place, network in enumerate(self.networks):
            loss = 0.0
            if targets:
                loss = _mean_loss(forward(network, "mixed"), targets[1 - place])
                cross, loss = cross + float(loss.detach()), weight * loss
            own = _mean_loss(forward(network, "labeled"), tensors["labels"], self.class_weights)
            supervised += float(own.detach())
            (own + loss).backward()
            for group in self.optimizers[place].param_groups:
                group["lr"] = learning_rate(self.recipe, step, self.steps)
            self.optimizers[place].step()
            self.optimizers[place].zero_grad()
        self._average(min(self.recipe.optimization.ema, (1 + step) / (10 + step)))
        return supervised, cross

    def _pseudo_labels(self, place: int, tensors: dict[str, Any], forward: Any) -> Any:
        with torch.no_grad():
            network = (self.averages if self.recipe.cps.teacher == "average" else self.networks)[place]
            _set_momentum(network, 0.0)
            labels = forward(network, "first").argmax(1)
            if tensors["mask"].any():
                labels = torch.where(tensors["mask"], forward(network, "second").argmax(1), labels)
            _set_momentum(network, 0.1)
            labels = torch.where(tensors["void"], VOID, labels)
            if "pasted" not in tensors:
                return labels
            pasted = tensors["pasted"].long()
            return torch.where(pasted != NOT_PASTED, pasted, labels)

    def _average(self, decay: float) -> None:
        with torch.no_grad():
            for average, network in zip(self.averages, self.networks, strict=True):
                trained = [parameter.requires_grad for parameter in network.parameters()]
                kept = [old for old, is_trained in zip(average.parameters(), trained, strict=True) if is_trained]
                new = [parameter for parameter in network.parameters() if parameter.requires_grad]
                torch._foreach_mul_(kept, decay)
                torch._foreach_add_(kept, new, alpha=1 - decay)

    def scores(self) -> list[float]:
        """Return the IoU of each class with both networks averaged, nan for a class that no image shows."""
        with torch.no_grad():
            matrix = torch.zeros(self.classes**2, dtype=torch.int64, device=self.device)
            settings = self.recipe.augmentation
            mean, std = (
                torch.tensor(values, device=self.device).view(3, 1, 1) * 255 for values in (settings.mean, settings.std)
            )
            averages = [copy.deepcopy(average).eval() for average in self.averages]
            for average, network in zip(averages, self.networks, strict=True):
                for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
                    kept.copy_(buffer)
            for sample in self.images.lists["val"]:
                assert sample.label is not None
                planes = torch.from_numpy(self.images.image(sample.image)).to(self.device).permute(2, 0, 1).float()
                probabilities = [F.softmax(average(((planes - mean) / std)[None]), 1)[0] for average in averages]
                found = torch.stack(probabilities).mean(0).argmax(0)
                truth = torch.from_numpy(self.images.label(sample.label)).to(self.device).long()
                valid = truth != VOID
                matrix += torch.bincount(truth[valid] * self.classes + found[valid], minlength=len(matrix))
            counts = matrix.view(self.classes, self.classes).double()
            hits = counts.diag()
            ious: list[float] = (hits / (counts.sum(0) + counts.sum(1) - hits)).tolist()
            return ious

    def _optimizer(self, network: Network) -> Any:
        settings = self.recipe.optimization
        trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        # Biases and batch normalisation, whose parameters are vectors, do not decay.
        decayed = [parameter for _, parameter in trained if parameter.ndim > 1]
        others = [parameter for _, parameter in trained if parameter.ndim == 1]
        groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _set_momentum(network: Network, momentum: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def _mean_loss(logits: Any, labels: Any, class_weights: Any = None) -> Any:
    return F.cross_entropy(logits, labels.long(), weight=class_weights, ignore_index=VOID)


def measure(folder: Path, frames: str, ratio: str, cell: str, seed: int) -> Row:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    began = time.monotonic()
    run = Run(Images(folder), CELLS[cell], ratio, seed, "cuda" if torch.cuda.is_available() else "cpu")
    half_way = 0.0
    for step, *_ in run.train():
        if step + 1 == run.steps // 2:
            half_way = float(np.nanmean(run.scores()))
    ious = run.scores()
    return Row(
        frames=frames,
        ratio=ratio,
        cell=cell,
        seed=seed,
        steps=run.steps,
        mIoU=round(float(np.nanmean(ious)), 4),
        half_way=round(half_way, 4),
        classes=" ".join(f"{iou:.4f}" for iou in ious),
        seconds=round(time.monotonic() - began, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("frames", choices=("tuning", "apart"))
    parser.add_argument("cells", type=lambda text: text.split(","))
    parser.add_argument("seeds", type=lambda text: [int(seed) for seed in text.split(",")])
    parser.add_argument("--ratio", default="1/32")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    rows = list(read(given.output))
    done = {(row["frames"], row["ratio"], row["cell"], row["seed"]) for row in rows}
    wanted = [
        (given.frames, given.ratio, cell, seed)
        for seed in given.seeds
        for cell in given.cells
        if (given.frames, given.ratio, cell, str(seed)) not in done
    ]
    folder = camvid_frames(given.frames)
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(measure, folder, *case) for case in wanted]):
            rows.append({name: str(value) for name, value in asdict(future.result()).items()})
            print(rows[-1], flush=True)
            write(given.output, rows)


if __name__ == "__main__":
    main()
