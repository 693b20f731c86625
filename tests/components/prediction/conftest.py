"""Weights of an untrained pair of small networks."""

from pathlib import Path

import pytest

from tests.components.networks.small_weights import write_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "pair.safetensors")
