"""What a training step moves between the host and a GPU, counted on the CPU along the paths for GPUs."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from components.training import loop
from components.training.batches.data import Share
from components.training.gpu_check.table import MOST_BYTES_BACK
from components.training.gpu_check.transfers import Transfers
from components.training.group import Group
from components.training.loop import Training
from components.training.losses import Criterion
from components.training.pseudo_label_audit import Audit
from components.training.schedule import Plan
from components.training.supervision.watchdog import Termination
from tests.components.training.batches.test_data import CLASSES, Scenes, make_data, make_split
from tests.components.training.small_training import METHOD_OPTIONS, make_pair


def make_training(**settings: Any) -> Training:
    data = make_data(
        **{
            "loss__kind": "ohem",
            "loss__ohem_threshold": 0.2,
            "training__batch_size": 4,
            "augmentation__distort": 1.0,
            **settings,
        }
    )
    labels = {name: name for name in make_split().unlabeled}
    classes = [SimpleNamespace(name=str(number)) for number in range(CLASSES)]
    manifest: Any = SimpleNamespace(classes=classes, ignore_index=255, train_labels=lambda: labels)
    reader: Any = Scenes()
    unused: Any = None
    record: Any = SimpleNamespace(seed=5)
    return Training(
        record,
        data.recipe,
        Plan(1, 4, (1,)),
        make_pair(data.recipe),
        data,
        Criterion(data.recipe.loss, 255, min_kept=3000),
        unused,
        unused,
        Group(),
        unused,
        audit=Audit(reader, manifest, make_split(), data.recipe, 5, Share()),
    )


def run(training: Training, step: int) -> None:
    loop._step(training, step, training.data.batch(step), Termination())


@pytest.mark.usefixtures("gpu_paths")
@pytest.mark.parametrize("settings", [{}, {"training__accumulate": 2}, {"cps__weight": 0}], ids=str)
def test_a_step_brings_back_a_kilobyte_and_takes_up_bytes(settings):
    training = make_training(**settings)
    if training.recipe.cps.weight == 0:
        training.audit = None
    run(training, 0)  # fills caches
    with Transfers() as transfers:
        run(training, 1)
    assert 0 < sum(transfers.back.values()) <= MOST_BYTES_BACK, f"a step brings back too much: {transfers.back}"
    pixels = 4 * np.prod(training.recipe.augmentation.crop)
    # Three images, labels, mask, padding, and the audit's truth; else one image and its label.
    a_pixel = 4 if training.audit is None else 9 + 3 + 1
    assert 0.9 * a_pixel * pixels < sum(transfers.up.values()) < a_pixel * pixels + 4000, transfers.up


@pytest.mark.usefixtures("gpu_paths")
def test_the_options_of_the_method_bring_back_no_more():
    training = make_training(**METHOD_OPTIONS)
    run(training, 0)
    with Transfers() as transfers:
        run(training, 1)
    assert 0 < sum(transfers.back.values()) <= MOST_BYTES_BACK, f"a step brings back too much: {transfers.back}"


def test_an_offender_is_named_by_file_and_line():
    """The paths for CPUs, which use numpy wherever it is faster."""
    training = make_training()
    run(training, 0)
    before = paddle.Tensor.numpy
    with Transfers() as transfers:
        run(training, 1)
    assert paddle.Tensor.numpy is before
    assert sum(transfers.back.values()) > MOST_BYTES_BACK
    assert re.search(r"components/training/pseudo_label_audit.py:\d+: numpy': \d{4,}", str(transfers.back))
    assert any("components/training/losses.py" in place for place in transfers.back), "OHEM"


def test_both_paths_train_the_same(request):
    curves = []
    for path in ("cpu", "gpu"):
        if path == "gpu":
            request.getfixturevalue("gpu_paths")
        training = make_training(augmentation__distort=0.0)
        for step in range(3):
            run(training, step)
        assert training.audit is not None
        counts = training.audit.state(training.group).counts
        curves.append((training.sums, counts))
    assert curves[0] == curves[1]
