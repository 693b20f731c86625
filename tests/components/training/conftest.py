"""Fixtures of the training tests."""

import pytest
from small_training import make_recipe

from components.training.losses import Criterion


@pytest.fixture
def criterion() -> Criterion:
    return Criterion(make_recipe().loss, 255, min_kept=1)
