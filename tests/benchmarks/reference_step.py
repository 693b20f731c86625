"""The reference's own training, PaddleSeg's contrib/CrossPseudoSupervision, made to run on this Paddle, step by step.

Its config, models, losses, optimizers, collation and `train()` are the checkout's. What is patched, and nothing else:
the import of `paddle.fluid` (gone since Paddle 2.6); in its OHEM a sum of float and int64, and `.numpy()[0]` of a 0-D
tensor; in paddleseg's CrossEntropyLoss the mean of an int tensor. Both lists have one length, at which it runs through.
Backbones start untrained and images are random and in memory: time, memory and bytes are looked at, nothing else.
"""

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

CONTRIB = "contrib/CrossPseudoSupervision"
CONFIG = "configs/deeplabv3p/deeplabv3p_resnet50_0.5cityscapes_800x800_240e.yml"


def train_reference(checkout: Path, crop: int, batch: int, after_step: Callable[[Any], None], steps: int) -> None:
    """Run the reference's `train()`; `after_step(model, optimizers)` is called at the end of each step."""
    folder = checkout / CONTRIB
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    _make_importable()
    importlib.import_module("datasets")  # first, as its train.py does: its packages import each other in a circle
    ohem = importlib.import_module("models.losses.probohem_cross_entropy_loss")
    cvlibs = importlib.import_module("cvlibs")
    loop: Any = importlib.import_module("core.train")

    _make_runnable(ohem)
    config = cvlibs.Config(str(folder / CONFIG), batch_size=batch, labeled_ratio=2, nepochs=10**6)
    for side in ("backbone_l", "backbone_r"):
        config.dic["model"][side]["pretrained"] = None
    for loss in config.dic["loss"]["types"][1:]:
        loss["min_kept"] = round(50_000 * batch * crop**2 / 800**2)
    for loss in config.dic["loss"]["types"]:
        loss["ignore_index"] = 255
    builder = cvlibs.CPSBuilder(config)
    # Cached properties: what is set is what they give.
    data = {"train_dataset": _images(crop, batch * steps, labels=True), "unsupervised_train_dataset": None}
    data["unsupervised_train_dataset"] = _images(crop, batch * steps, labels=False)
    for name, value in data.items():
        setattr(type(builder), name, value)
    optimizers = builder.optimizer_l, builder.optimizer_r

    class Profiler:
        @staticmethod
        def add_profiler_step(_options: object) -> None:
            after_step((builder.model, optimizers))

    loop.train_profiler = Profiler
    loop.train(
        builder.model,
        data["train_dataset"],
        data["unsupervised_train_dataset"],
        builder.batch_transforms,
        optimizer_l=optimizers[0],
        optimizer_r=optimizers[1],
        save_dir=os.environ["REFERENCE_OUTPUT"],
        nepochs=10**6,
        batch_size=batch,
        losses=builder.loss,
    )


def save_reference(state: Any, folder: Path) -> None:
    """What its `train()` writes for a checkpoint, as it writes it."""
    model, (left, right) = state
    paddle.save(model.state_dict(), str(folder / "model.pdparams"))
    paddle.save(left.state_dict(), str(folder / "model_l.pdopt"))
    paddle.save(right.state_dict(), str(folder / "model_r.pdopt"))


def _make_importable() -> None:
    from paddle.io.dataloader import collate

    for name in ("paddle.fluid", "paddle.fluid.dataloader"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["paddle.fluid.dataloader.collate"] = collate


def _make_runnable(ohem: Any) -> None:
    from paddleseg.models.losses import cross_entropy_loss

    patched = _patched(
        ohem,
        {
            "prob = prob + (1 - valid_mask)": "prob = prob + (1 - valid_mask).astype(prob.dtype)",
            "int(threshold_index.numpy()[0])": "int(threshold_index)",
        },
    )
    ohem.ProbOhemCrossEntropy2D.forward = patched["ProbOhemCrossEntropy2D"].forward
    patched = _patched(cross_entropy_loss, {"paddle.ones_like(label)": "paddle.ones_like(label, dtype='float32')"})
    cross_entropy_loss.CrossEntropyLoss._post_process_loss = patched["CrossEntropyLoss"]._post_process_loss


def _patched(module: Any, changes: dict[str, str]) -> dict[str, Any]:
    """What the module's source defines with these changes, which must all apply."""
    source = Path(module.__file__).read_text().replace("@manager.LOSSES.add_component\n", "")
    for before, after in changes.items():
        assert before in source, f"{module.__file__} is another version: it lacks {before!r}"
        source = source.replace(before, after)
    defined: dict[str, Any] = {"__name__": f"patched_{module.__name__}"}
    exec(compile(source, module.__file__, "exec"), defined)
    return defined


def _images(crop: int, count: int, *, labels: bool) -> paddle.io.Dataset:
    rng = np.random.default_rng(0)

    class Images(paddle.io.Dataset):
        IGNORE_INDEX, NUM_CLASSES, IMG_CHANNELS = 255, 19, 3

        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> dict[str, Any]:
            item: dict[str, Any] = {"img": rng.standard_normal((3, crop, crop)).astype(np.float32)}
            if labels:
                item["label"] = rng.integers(0, 19, (crop, crop))
            return item

    return Images()
