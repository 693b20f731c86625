"""Which kernels a training asks for on a GPU, as far as that shows without one."""

import os

import paddle
import pytest

from components.networks import device
from components.networks.device import DETERMINISTIC, EXHAUSTIVE, TF32, prepare_kernels, set_tf32


@pytest.fixture(autouse=True)
def _without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (EXHAUSTIVE, DETERMINISTIC, TF32):
        monkeypatch.setenv(name, "")  # so that it is removed afterwards, even if a test sets it
        monkeypatch.delenv(name)


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in (EXHAUSTIVE, DETERMINISTIC, TF32) if name in os.environ}


def test_cudnn_searches_for_the_fastest_kernels() -> None:
    prepare_kernels(tf32=True)
    assert settings() == {EXHAUSTIVE: "1"}


@pytest.mark.parametrize("asked", ["1", "True"])
def test_deterministic_kernels_exclude_the_search(asked: str) -> None:
    """Paddle raises if both are set."""
    os.environ[DETERMINISTIC] = asked
    prepare_kernels(tf32=True)
    assert settings() == {DETERMINISTIC: asked}


def test_the_users_own_settings_stay() -> None:
    os.environ.update({EXHAUSTIVE: "0", DETERMINISTIC: "0"})
    prepare_kernels(tf32=False)
    assert settings() == {EXHAUSTIVE: "0", DETERMINISTIC: "0", TF32: "0"}


@pytest.mark.skipif(paddle.device.get_device() != "cpu", reason="there is a GPU")
def test_on_a_cpu_tf32_is_accepted_and_one_line_says_so_if_it_was_set() -> None:
    assert set_tf32(True) == ""
    assert set_tf32(False) == "training.tf32=false has no effect on the CPU, which has no TF32"


@pytest.mark.parametrize("allowed", [True, False])
def test_on_a_gpu_matrix_products_and_convolutions_get_the_same_switch(
    allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches = {}
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    for name in ("set_cublas_switch", "set_cudnn_switch"):
        monkeypatch.setattr(
            paddle.base.core, name, lambda value, name=name: switches.update({name: value}), raising=False
        )
    assert set_tf32(allowed) == ""
    assert switches == {"set_cublas_switch": allowed, "set_cudnn_switch": allowed}
    os.environ[TF32] = "0"
    assert ("turns TF32 off" in set_tf32(allowed)) == allowed
