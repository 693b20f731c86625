"""What the check's table says of measurements, and when it says that they failed."""

import pytest

from components.training.gpu_check.table import (
    DeviceFacts,
    Row,
    SharedFacts,
    SweepFacts,
    TrainingFacts,
    device_row,
    shared_rows,
    sweep_row,
    table_lines,
    training_rows,
    transfers_row,
    verdict,
)

TRAINED = TrainingFacts(
    first_loss=20.001,
    losses=(20.0, 19.0),
    seconds=(0.5, 0.6, 1.5),
    waiting=0.02,
    memory=40 << 30,
    back={"components/training/cps.py:270: tolist": 24},
    up=61_000_000,
)


def rows(precision: str = "float32", reference: float | None = 20.0, *, limited: bool = True, **changes: object):
    facts = TRAINED.model_copy(update=changes)
    return {row.check: row for row in training_rows(precision, facts, reference, 80 << 30, limited=limited)}


def test_a_training_as_it_should_be() -> None:
    found = rows()
    assert [row.state for row in found.values()] == ["ok"] * 4
    assert found["float32: a step"].measured == "600 ms (500 ms to 1.5 s)"
    assert found["float32: memory"].measured == "40.0 GiB"
    assert found["float32: memory"].limit == "80.0 GiB"
    assert found["float32: first loss"].measured == "differs by 5.0e-05 from the CPU"
    assert verdict(found.values()) == ""


@pytest.mark.parametrize(
    ("precision", "loss", "state"),
    [
        ("float32", 20.03, "FAILED"),
        ("TF32", 20.03, "ok"),
        ("TF32", 20.3, "FAILED"),
        ("bfloat16", 20.3, "ok"),
        ("bfloat16", 22.0, "FAILED"),
        ("float32", float("nan"), "FAILED"),
    ],
)
def test_a_first_loss_may_differ_as_far_as_its_precision_explains(precision: str, loss: float, state: str) -> None:
    assert rows(precision, first_loss=loss)[f"{precision}: first loss"].state == state


def test_what_failed_is_named_with_what_was_measured() -> None:
    found = rows(losses=(20.0, float("nan")), waiting=0.4, first_loss=25.0)
    assert verdict(found.values()) == (
        "float32: a step: 600 ms (500 ms to 1.5 s), the loss of step 2 is not finite; "
        "float32: waiting for images: 40.0 % of a step, more cores, or a dataset that fits into /dev/shm, load images "
        "faster; float32: first loss: differs by 2.5e-01 from the CPU, 25; on the CPU 20"
    )


def test_waiting_is_no_failure_at_the_small_size() -> None:
    assert rows(waiting=0.4, limited=False)["float32: waiting for images"].state == "ok"


def test_an_unknown_reference_is_skipped_with_the_reason() -> None:
    row = rows(reference=None)["float32: first loss"]
    assert (row.state, row.reason) == ("skipped", "the CPU's is not known: see above")


def test_transfers_above_a_kilobyte_are_named_by_line() -> None:
    assert transfers_row(TRAINED).measured == "24 B back, 61.0 MB up"
    row = transfers_row(TRAINED.model_copy(update={"back": {"a.py:1: numpy": 4096, "b.py:2: item": 4}}))
    assert (row.state, row.reason) == ("FAILED", "b.py:2: item (4 B), a.py:1: numpy (4096 B)")


def test_two_processes_that_differ_from_one_fail() -> None:
    loss, statistics, updates = shared_rows(SharedFacts(loss=1e-7, statistics=0.2, updates=1e-5))
    assert (loss.state, loss.measured) == ("ok", "differs by 1.0e-07 from one")
    assert (statistics.state, statistics.check) == ("FAILED", "two processes: running statistics")
    assert updates.state == "FAILED"


def test_a_sweep_that_sees_other_classes_fails() -> None:
    good = SweepFacts(equal=0.99995, worst=0.9999, counts=3, pixels=1000, device_seconds=0.1, cpu_seconds=2)
    assert sweep_row(good).measured == (
        "99.995 % of pixels equal; 3 of 1000 counted elsewhere; 100 ms an image, 2.0 s on the CPU"
    )
    bad = sweep_row(good.model_copy(update={"equal": 0.99, "worst": 0.9}))
    assert (bad.state, bad.reason) == ("FAILED", "the worst image agrees on 90.00 %")


def test_long_lines_continue_under_their_column() -> None:
    facts = DeviceFacts(model="H100", versions="x " * 60, cards=2, cores=16, memory=80 << 30)
    first, *others = table_lines(device_row(facts))
    assert first.startswith("device                        ok                   2 x H100, 80.0 GiB, 16 cores; x x")
    assert others
    assert all(line.startswith(" " * 51 + "x") for line in others)
    assert table_lines(Row("a", "")) == ["a                             ok"]
