"""GPUs that are not there are missed before the training, not after it on the CPU."""

import re

import pytest

from components.errors import UserError
from components.networks.layers import OwnDropout
from components.training.loop import out_of_memory
from components.training.supervision.resources import check_gpus
from tests.components.training.small_training import make_pair, make_recipe
from tests.components.training.test_transfers import make_training, run


def test_a_paddle_for_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="gpus is 2, but the installed Paddle supports only the CPU"):
        check_gpus(2)


@pytest.mark.parametrize("found", [0, 1])
def test_fewer_gpus_than_asked_for_are_refused(found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle

    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: found)
    with pytest.raises(UserError, match=f"but this machine has {found}"):
        check_gpus(2)


def test_enough_of_them_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle

    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 4)
    assert check_gpus(2) is None


def test_a_driver_that_is_too_old_is_explained_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle

    def fail() -> int:
        raise OSError("(External) CUDA error(35), CUDA driver version is insufficient\n  [Hint: 'cudaErrorInsuff…']")

    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", fail)
    with pytest.raises(
        UserError, match=r"^gpus is 1, but CUDA does not start .*insufficient \[Hint.*install the driver"
    ):
        check_gpus(1)


def test_a_build_for_gpus_on_a_machine_without_one_trains_as_the_build_for_cpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import paddle

    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr("components.training.pair.build", lambda *_: paddle.nn.Sequential(paddle.nn.Dropout(0.5)))
    pair = make_pair(make_recipe())
    assert type(pair.networks["left"][0]) is OwnDropout, "which makes each network's dropout independent of threads"
    monkeypatch.setattr(paddle.device, "get_device", lambda: "gpu:0")
    assert type(make_pair(make_recipe()).networks["left"][0]) is paddle.nn.Dropout


@pytest.mark.parametrize(
    ("settings", "processes", "expected"),
    [
        ({"training__batch_size": 8}, 1, "8 images of 32 x 48 .* training.accumulate=2 or a smaller"),
        (
            {"training__batch_size": 8, "training__accumulate": 2},
            1,
            "4 images .* training.accumulate=4 or a smaller",
        ),
        (
            {"training__batch_size": 8, "training__accumulate": 4},
            1,
            "2 images .* GPUs; a smaller augmentation.crop",
        ),
        (
            {"training__batch_size": 8, "training__accumulate": 2},
            2,
            "2 images .* training.accumulate=4 or a smaller",
        ),
        ({"training__batch_size": 6}, 2, "3 images .* training.accumulate=3 or a smaller"),
    ],
)
def test_running_out_of_memory_names_what_needs_less(settings, processes, expected) -> None:
    error = out_of_memory(make_recipe(**settings), processes)
    assert re.match("out of memory on cpu with " + expected, str(error))
    assert "The same command resumes this run where more memory is free" in str(error)


def test_what_paddle_raises_without_memory_ends_a_step_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle

    # 4 PB: more than the address space, so that no machine promises it and then runs out of memory.
    monkeypatch.setattr("components.training.cps.step", lambda *_, **__: paddle.zeros([10**15]))
    with pytest.raises(UserError, match=r"^out of memory on cpu with 4 images of 32 x 48 pixels"):
        run(make_training(), 0)
