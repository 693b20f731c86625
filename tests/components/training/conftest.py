"""Fixtures of the training tests."""

import pytest

from components.training.losses import Criterion
from tests.components.training.small_training import make_recipe


@pytest.fixture
def criterion() -> Criterion:
    return Criterion(make_recipe().loss, 255, min_kept=1)
