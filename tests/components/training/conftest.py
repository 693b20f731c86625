"""Fixtures of the training tests."""

import paddle
import pytest

from components.training.losses import Criterion
from tests.components.training.small_training import make_recipe


@pytest.fixture
def criterion() -> Criterion:
    return Criterion(make_recipe().loss, 255, min_kept=1)


@pytest.fixture
def gpu_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the code take its paths for GPUs, which run on the CPU here."""
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
