"""GPUs that are not there are missed before the training, not after it on the CPU."""

import pytest

from components.errors import UserError
from components.training.supervision.resources import check_gpus


def test_a_paddle_for_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="gpus is 2, but this image's Paddle supports only the CPU"):
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
