"""The newest recovery that is whole and complete is the one that a training goes on from."""

import time

import numpy as np
import paddle
import pytest

from components.storage import keys
from components.training.recovery import (
    Recovery,
    RecoveryTimer,
    arrays_of_rank,
    newest_recovery,
    pack_recovery,
    rank_prefix,
    recovery_key,
    remove_recovery,
)
from tests.components.training.small_training import make_recipe

RUN = "demo-1-8-s0-0123456789ab"


def put(store, step: int, slot: int, checkpoints=()) -> None:
    notes = {"checkpoints": [{"key": key} for key in checkpoints], "sums": {}, "processes": 1}
    data = pack_recovery(Recovery(step, {"a": np.full(3, step, np.float32)}, notes), RUN)
    store.put_bytes(recovery_key(RUN, slot), data)


def newest(store) -> int | None:
    found = newest_recovery(store, RUN)
    return None if found is None else found.step


def test_the_newest_of_both_wins(store):
    assert newest(store) is None
    put(store, 50, 0)
    assert newest(store) == 50
    put(store, 100, 1)
    found = newest_recovery(store, RUN)
    assert found is not None
    assert (found.step, found.slot, found.arrays["a"].tolist()) == (100, 1, [100.0] * 3)
    remove_recovery(store, RUN)
    assert newest(store) is None


def test_a_damaged_one_and_one_of_another_run_are_left_aside(store, capsys):
    put(store, 50, 0)
    put(store, 100, 1)
    whole = store.get_bytes(recovery_key(RUN, 1))
    store.put_bytes(recovery_key(RUN, 1), whole[: len(whole) // 2])
    assert newest(store) == 50
    store.put_bytes(recovery_key(RUN, 1), whole.replace(RUN.encode(), b"demo-1-8-s9-0123456789ab"))
    assert newest(store) == 50
    assert capsys.readouterr().err.count("ignoring a damaged recovery") == 2


def test_one_that_counts_on_a_checkpoint_that_never_arrived_is_left_aside(store, capsys):
    first, second = (keys.checkpoint(RUN, epoch) for epoch in (1, 2))
    store.put_bytes(first, b"weights")
    put(store, 50, 0, [first])
    put(store, 100, 1, [first, second])
    assert newest(store) == 50
    assert f"ignoring the recovery of step 100: {second} was never stored" in capsys.readouterr().err
    store.put_bytes(second, b"weights")
    assert newest(store) == 100


@pytest.mark.parametrize(("rank", "processes", "mean"), [(0, 2, 1.0), (1, 2, 3.0), (0, 1, 2.0), (2, 3, 2.0)])
def test_processes_get_their_own_statistics_or_the_mean(rank, processes, mean):
    arrays = {"left.network.weight": np.ones(2, np.float32), "left.network.bn._mean": np.full(2, 1, np.float32)}
    for owner, value in ((0, 1), (1, 3)):
        arrays[f"{rank_prefix(owner)}left.network.bn._mean"] = np.full(2, value, np.float32)
    found = arrays_of_rank(Recovery(5, arrays, {"processes": 2}), rank, processes)
    assert found.keys() == {"left.network.weight", "left.network.bn._mean"}
    assert found["left.network.bn._mean"].tolist() == [mean] * 2


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 60), ("gpu:0", 600)])
def test_a_recovery_is_due_after_a_minute_on_a_cpu_and_after_ten_on_a_gpu(device, seconds, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(paddle.device, "get_device", lambda: device)
    timer = RecoveryTimer(make_recipe().training)
    now += seconds - 0.1
    assert not timer.due(50)
    now += 0.1
    assert timer.due(51)
    timer.restart()
    assert not timer.due(52)
    now += seconds
    assert timer.due(53)


def test_a_recovery_is_due_after_the_seconds_and_the_steps_that_are_set(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = RecoveryTimer(make_recipe(training__recovery_seconds=5.0, training__recovery_steps=4).training)
    assert [step for step in range(1, 9) if timer.due(step)] == [4, 8]
    now += 5
    assert timer.due(9)
