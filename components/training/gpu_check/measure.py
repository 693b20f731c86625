"""The measurements of the check, each for a process of its own."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import paddle
from numpy.typing import NDArray
from paddle import nn
from pydantic import JsonValue

from components.errors import UserError
from components.inference.cards import use_card
from components.inference.checkpoint import open_checkpoint
from components.inference.output import Output, Truth
from components.inference.paddle_engine import DeviceEngine, PaddleEngine
from components.inference.segmentation import segment
from components.inference.sliding import Window
from components.networks.layers import OwnDropout
from components.networks.processor import available_memory, usable_cores
from components.networks.weights import checkpoint_meta, pack, state_arrays
from components.recipes import Recipe
from components.runs.environment import installed_versions
from components.training import cps
from components.training.batch_norm import batch_norms, set_batch_norm
from components.training.batches.data import TrainingData
from components.training.batches.on_device import PackedBatch
from components.training.gpu_check.sizes import Size
from components.training.gpu_check.streets import StreetReader
from components.training.gpu_check.table import DeviceFacts, SharedFacts, SweepFacts, TrainingFacts
from components.training.gpu_check.transfers import Transfers
from components.training.group import Group
from components.training.loop import Pace, out_of_memory
from components.training.losses import Criterion, min_kept_pixels
from components.training.pair import LEARNED, Pair
from components.training.precision import check_precision
from components.training.supervision.resources import gpu_count

COMPARED = 2
"""Images in the step that is compared with the CPU: few, so that few cores finish it in time."""
SHARED_BATCH = 4
SAMPLE = 1000
"""Values of each parameter that are compared."""
VARIANTS = ([0], [1], [0, 1])
CHECKPOINTS = (1, 2)
"""The seeds of the two checkpoints' weights."""


@dataclass
class _Training:
    """What a training step needs. Dropout is off, so that devices and numbers of processes can be compared."""

    recipe: Recipe
    data: TrainingData
    pair: Pair
    criterion: Criterion
    group: Group

    @classmethod
    def of(cls, recipe: Recipe, pictures: Path, *, for_gpu: bool | None = None) -> "_Training":
        group, reader = Group(), StreetReader(pictures)
        data = TrainingData(reader, reader.split(), recipe, 0, group.share, for_gpu=for_gpu)
        pair = Pair(recipe, len(reader.manifest.classes), 0, threads=False)
        set_batch_norm(pair.networks.values(), recipe.training, alone=group.alone)
        pair.start()
        for network in pair.networks.values():
            for layer in network.sublayers():
                if isinstance(layer, nn.Dropout | OwnDropout):
                    layer.eval()
        images = recipe.training.batch_size // group.processes
        kept = min_kept_pixels(recipe.loss, recipe.augmentation.crop, images)
        criterion = Criterion(recipe.loss, reader.manifest.ignore_index, kept, total=group.mean)
        return cls(recipe, data, pair, criterion, group)

    def step(self, number: int, batch: cps.Batch | PackedBatch) -> float:
        """Train on the batch and return the loss of this process."""
        try:
            return cps.step(
                self.pair,
                batch,
                self.criterion,
                weight=self.recipe.cps.weight,
                learning_rate=self.recipe.optimization.learning_rate,
                number=number,
                synchronize=None if self.group.alone else self.group.average_gradients,
            ).total
        except MemoryError as error:
            raise out_of_memory(self.recipe, self.group.processes) from error


def device_facts(device: str) -> DeviceFacts:
    """Describe the device and its software. Raises UserError if `device` is gpu and Paddle finds no GPU."""
    versions = installed_versions()
    named = f"Paddle {versions.get('paddlepaddle-gpu') or versions.get('paddlepaddle', paddle.__version__)}"
    if device == "cpu":
        memory = available_memory() or 0
        return DeviceFacts(model="CPU", versions=named, cards=1, cores=usable_cores(), memory=memory)
    cards = gpu_count()
    if not cards:
        raise UserError("Paddle finds no GPU on this machine: see whether `nvidia-smi` lists one")
    found = paddle.device.cuda.get_device_properties(0)
    capability = f"compute capability {found.major}.{found.minor}"
    return DeviceFacts(
        model=found.name,
        versions=f"{named}, CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}, {capability}",
        cards=cards,
        cores=usable_cores(),
        memory=found.total_memory,
    )


def first_loss(size: Size, pictures: Path, precision: str = "float32") -> float:
    """Return the loss of the first step on a small batch."""
    recipe = size.recipe(training__batch_size=COMPARED, training__precision=precision)
    training = _Training.of(recipe, pictures)
    with paddle.no_grad():
        batch = training.data.batch(0).on_device()
        labels = cps.known_labels(cps.pair_pseudo_labels(training.pair, batch, training.criterion), batch)
        forwards = training.pair.forwards(batch, LEARNED)
        others = {"left": "right", "right": "left"}
        losses = [
            cps.branch_losses(
                forward, training.criterion, batch.labels, labels[others[name]], recipe.cps.weight
            ).total.item()
            for name, forward in forwards.items()
        ]
    return float(sum(losses))


def training_facts(size: Size, pictures: Path, precision: str) -> TrainingFacts:
    """Train some steps of the recipe in this precision. Raises UserError if the device's memory is too small."""
    recipe = size.recipe(training__precision=precision)
    check_precision(recipe.training.precision)
    small = first_loss(size, pictures, precision)
    training, pace = _Training.of(recipe, pictures), Pace()
    seconds, losses, waits = list[float](), list[float](), list[float]()
    transfers, began = Transfers(), time.monotonic()
    for number, batch in enumerate(pace.batches(training.data.batches(0, size.steps + 1))):
        # The last step is not timed: counting slows it down.
        counting: AbstractContextManager[object] = transfers if number == size.steps else nullcontext()
        with counting:
            losses.append(training.step(number, batch))
        ended = time.monotonic()
        _, waited = pace.report()
        if size.warm_up <= number < size.steps:
            seconds.append(ended - began)
            waits.append(waited * seconds[-1])
        began = ended
    return TrainingFacts(
        first_loss=small,
        losses=tuple(losses),
        seconds=tuple(seconds),
        waiting=sum(waits) / sum(seconds),
        memory=_memory(),
        back=transfers.back,
        up=sum(transfers.up.values()),
    )


def shared_step(size: Size, pictures: Path) -> dict[str, NDArray[np.float64]]:
    """Train one step on a batch that all processes share. Return the loss, running statistics and parts of the updates.

    It computes in double precision: in single, rounding alone changes the gradients of untrained networks by percents.
    OHEM would select pixels within each process, so the loss is the plain cross entropy.
    """
    paddle.set_default_dtype("float64")
    crop: JsonValue = [*size.shared_crop]
    recipe = size.recipe(augmentation__crop=crop, training__batch_size=SHARED_BATCH, loss__kind="cross_entropy")
    training = _Training.of(recipe, pictures, for_gpu=False)
    before = _samples(training.pair)
    batch = training.data.batch(0)
    images = {name: getattr(batch, name).astype(np.float64) for name in ("labeled", "first", "second", "mixed")}
    loss = training.step(0, replace(batch, **images))
    found = {"loss": np.array(training.group.means([loss]))}
    found |= {f"update.{name}": array - before[name] for name, array in _samples(training.pair).items()}
    for side, network in training.pair.networks.items():
        for number, layer in enumerate(batch_norms(network)):
            # The mean of a layer can be near 0 everywhere, and is measured by its spread.
            mean, variance = layer._mean.numpy(), layer._variance.numpy()  # noqa: SLF001
            found[f"statistics.{side}.{number}"] = np.stack([mean / np.sqrt(variance.max()), variance / variance.max()])
    return found


def _samples(pair: Pair) -> dict[str, NDArray[np.float64]]:
    """Return the first values of every trained parameter."""
    return {
        f"{side}.{name}": parameter.flatten()[:SAMPLE].numpy()
        for side, branch in pair.branches.items()
        for name, parameter in branch.trained.items()
    }


def shared_facts(found: dict[str, NDArray[np.float64]], expected: dict[str, NDArray[np.float64]]) -> SharedFacts:
    """Compare what `shared_step` returned in several processes and in one."""
    differences = {name: np.abs(found[name] - array).max() for name, array in expected.items()}
    changes = {name: array for name, array in expected.items() if name.startswith("update.")}
    apart = sum(float(np.square(found[name] - array).sum()) for name, array in changes.items())
    whole = sum(float(np.square(array).sum()) for array in changes.values())
    return SharedFacts(
        loss=float(differences["loss"] / np.abs(expected["loss"]).max()),
        statistics=float(max(value for name, value in differences.items() if name.startswith("statistics."))),
        updates=float(np.sqrt(apart / whole)),
    )


def write_checkpoints(size: Size, folder: Path, pictures: Path) -> list[Path]:
    """Write two checkpoints with random weights, whose running statistics are those of some images."""
    recipe, reader, paths = size.recipe(training__batch_size=COMPARED), StreetReader(pictures), []
    images = TrainingData(reader, reader.split(), recipe, 0, Group().share).batch(0).on_device().labeled
    for seed in CHECKPOINTS:
        pair = Pair(recipe, len(reader.manifest.classes), seed, threads=False)
        for network in pair.networks.values():
            network.train()
            for layer in batch_norms(network):
                layer._momentum = 0.0  # noqa: SLF001 - the share of the running value to keep
            with paddle.no_grad():
                network(images)
        meta = checkpoint_meta(
            structure=recipe.network.structure,
            classes=reader.manifest.classes,
            mean=recipe.augmentation.mean,
            std=recipe.augmentation.std,
            crop=recipe.evaluation.crop,
            stride=recipe.evaluation.stride,
            run_key="check",
            split="",
            dataset="",
            epoch=seed,
            step=1,
        )
        networks = {name: state_arrays(network) for name, network in pair.networks.items()}
        paths.append(folder / f"checkpoint-{seed}.safetensors")
        paths[-1].write_bytes(pack(networks, meta))
    return paths


def swept(size: Size, folder: Path, pictures: Path, *, on_device: bool) -> tuple[float, dict[str, NDArray[np.generic]]]:
    """Score the checkpoints in `folder`; return the seconds for each image, and class ids and confusion matrices."""
    reader, recipe = StreetReader(pictures), size.recipe()
    window = Window(recipe.evaluation.crop, recipe.evaluation.stride, recipe.evaluation.batch)
    classes, found = len(reader.manifest.classes), dict[str, NDArray[np.generic]]()
    spent = 0.0
    for seed in CHECKPOINTS:
        checkpoint = open_checkpoint(
            folder / f"checkpoint-{seed}.safetensors", engine="paddle" if on_device else "auto"
        )
        engines = [checkpoint.engines[name] for name in ("left", "right")]
        if on_device and use_card() is None:  # the same code on the CPU
            engines = [
                DeviceEngine(engine.layer, classes, 1 << 33) for engine in engines if isinstance(engine, PaddleEngine)
            ]
        for number in range(size.scored):
            truth = Truth(reader.label(f"{number}-label"), classes, reader.manifest.ignore_index)
            image, began = reader.image(f"{number}"), time.monotonic()
            made = segment(
                engines,
                image,
                window,
                mean=recipe.augmentation.mean,
                std=recipe.augmentation.std,
                output=Output(VARIANTS, truth),
            )
            spent += time.monotonic() - began
            for variant, segmentation in enumerate(made):
                assert segmentation.matrix is not None, "the truth was given"
                name = f"{seed}.{number}.{variant}"
                found |= {f"{name}.ids": segmentation.ids, f"{name}.matrix": segmentation.matrix}
    return spent / (size.scored * len(CHECKPOINTS)), found


def sweep_facts(
    found: dict[str, NDArray[np.generic]], expected: dict[str, NDArray[np.generic]], seconds: tuple[float, float]
) -> SweepFacts:
    """Compare what `swept` returned on the device and on the CPU. `seconds` are those of both for each image."""
    shares = [float((found[name] == ids).mean()) for name, ids in expected.items() if name.endswith("ids")]
    matrices = [(found[name], matrix) for name, matrix in expected.items() if name.endswith("matrix")]
    counts = sum(int(np.abs(one.astype(np.int64) - other.astype(np.int64)).sum()) for one, other in matrices)
    return SweepFacts(
        equal=float(np.mean(shares)),
        worst=min(shares),
        counts=counts // 2,
        pixels=sum(int(matrix.astype(np.int64).sum()) for _, matrix in matrices),
        device_seconds=seconds[0],
        cpu_seconds=seconds[1],
    )


def take_gpu_paths() -> None:
    """Make training on the CPU take the code paths for GPUs."""
    answer: Callable[[], str] = lambda: "gpu:0"  # noqa: E731
    paddle.device.get_device = answer


def _memory() -> int:
    if not str(paddle.device.get_device()).startswith("gpu") or not paddle.device.is_compiled_with_cuda():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used: int = paddle.device.cuda.max_memory_reserved()
    return used
