"""Trainings whose processes are killed, hang, or fail: what is begun again, what is not, and that no bit differs."""

import random
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError, WorkFailed
from components.storage import keys
from components.storage.lease import Holder, Lease
from components.training import train
from components.training.supervision.supervisor import supervise
from tests.components.training.stored_run import STEPS, StoredRun, make_run, stored_run  # noqa: F401
from tests.object_stores import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_killed_at_random_steps_no_bit_differs(stored_run: StoredRun, capfd):  # noqa: F811
    processes = 2
    expected = stored_run.undisturbed(processes)
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    # Two steps, so that each kill is a death of its own.
    faults = [(draw.randrange(processes), train, "kill") for train in draw.sample(range(STEPS), 2)]
    with capfd.disabled():
        print(f"\nseed {seed}: (rank, step) killed: {faults}")
    stored_run.train(processes, *faults)
    assert len(stored_run.lines("fault")) == len(faults)
    assert stored_run.digests() == expected.digests
    assert stored_run.curve() == expected.curve
    said = capfd.readouterr().err
    assert said.count("restarting from the newest recovery") == len(faults)
    assert len(stored_run.lines("start")) == processes * (1 + len(faults)), "a dead rank ends the others"


def test_recoveries_by_time_alone_are_gone_on_from(stored_run: StoredRun, capfd):  # noqa: F811
    settings: dict[str, Any] = {
        "training.epochs": 5,
        "training.recovery_steps": 0,
        "training.recovery_seconds": 0.01,
    }
    stored_run.run_key = make_run(**settings)
    stored_run.train(1, (0, 20, "kill"))
    [resumed] = re.findall(r"resuming from step (\d+) of 30", capfd.readouterr().err)
    assert 0 < int(resumed) <= 20


def test_a_hanging_loader_is_found_and_the_training_goes_on(stored_run: StoredRun, monkeypatch, capfd):  # noqa: F811
    expected = stored_run.undisturbed(1)
    # Far more than a step takes on a slow machine that does other things too: only the hang may be found.
    monkeypatch.setenv("CPS_STEP_TIMEOUT", "20")
    stored_run.train(1, (0, 17, "hang"))
    said = capfd.readouterr().err
    assert said.count("no step finished in 20 s (CPS_STEP_TIMEOUT") == 1
    assert "Timeout (0:00:20)!" in said
    assert 'faulty_worker.py", line' in said, "the stack of the thread that hangs"
    # Recoveries are stored in the background: the newest may not have arrived, and the one before it then does.
    assert re.search(r"resuming from step (5|10|15) of", said)
    assert len(stored_run.lines("start")) == 2
    assert stored_run.digests() == expected.digests
    assert stored_run.curve() == expected.curve


def test_what_dies_again_and_again_is_given_up(stored_run: StoredRun, capfd):  # noqa: F811
    with pytest.raises(WorkFailed, match=r"died 4 times, .*RuntimeError: something broke"):
        stored_run.train(1, (0, 3, "kill"), *[(0, 3, "fault")] * 3)
    assert len(stored_run.lines("start")) == 4
    said = capfd.readouterr().err
    assert said.count("a process was killed (SIGKILL: out of memory?)") == 1
    assert "(3 of 3)" in said


def test_a_loss_that_is_not_finite_ends_the_run_at_once(stored_run: StoredRun):  # noqa: F811
    with pytest.raises(WorkFailed) as failed:
        stored_run.train(2, (1, 13, "nan"))
    [names] = [line["names"] for line in stored_run.lines("step") if (line["step"], line["rank"]) == (13, 1)]
    for part in ("the loss is nan at step 14", ", ".join(names), "epoch-0002.safetensors", "learning_rate"):
        assert part in str(failed.value)
    assert len(stored_run.lines("start")) == 2, "not begun again"


def test_a_users_mistake_is_passed_on_at_once(stored_run: StoredRun):  # noqa: F811
    overrides: dict[str, Any] = {"training.batch_size": 3}
    run_key = make_run(**overrides)
    with pytest.raises(UserError, match="batch size 3 cannot be divided among 2 processes"):
        supervise(stored_run.store, run_key, 2, threading.Event())


def test_two_processes_told_to_stop_save_and_go_on_bit_equal(stored_run: StoredRun):  # noqa: F811
    expected = stored_run.undisturbed(2)
    with pytest.raises(SystemExit) as stopped:
        stored_run.train(2, (1, 13, "terminate"))
    assert stopped.value.code == 143
    [told] = stored_run.lines("fault")
    assert max(line["step"] for line in stored_run.lines("step")) == 13
    stored_run.train(2)
    assert min(line["step"] for line in stored_run.after("step", told["time"])) == 14
    assert stored_run.digests() == expected.digests
    assert stored_run.curve() == expected.curve


def test_what_fails_as_it_is_told_to_stop_is_said(stored_run: StoredRun, capfd):  # noqa: F811
    with pytest.raises(SystemExit) as stopped:
        stored_run.train(1, (0, 13, "collapse"))
    assert stopped.value.code == 143
    text = "failed while stopping (RuntimeError: something broke): the steps since the newest recovery are lost"
    assert text in capfd.readouterr().err


def test_another_number_of_processes_sees_the_same_images(stored_run: StoredRun):  # noqa: F811
    expected = images(stored_run.undisturbed(1).steps)
    for processes, last in ((1, 13), (2, 20), (1, STEPS - 1)):
        if last < STEPS - 1:
            with pytest.raises(SystemExit):
                stored_run.train(processes, (0, last, "terminate"))
        else:
            stored_run.train(processes)
        assert {line["rank"] for line in stored_run.lines("step") if line["step"] == last} == set(range(processes))
    assert images(stored_run.lines("step")) == expected
    assert [epoch for epoch, _ in stored_run.digests()] == [2, 4, 6]


def images(lines: list[dict[str, Any]]) -> dict[int, list[str]]:
    """By step, the labelled images and both unlabelled streams of all processes, in the order of the batch's slots."""
    found: dict[int, dict[int, list[str]]] = {}
    shares = {line["step"]: len(line["names"]) for line in lines}
    for line in lines:
        # A step that was made again counts as it was made last, which may be by another number of processes.
        if len(line["names"]) == shares[line["step"]]:
            found.setdefault(line["step"], {})[line["rank"]] = line["names"]
    return {
        train: [
            name
            for part in range(3)
            for _, names in sorted(ranks.items())
            for name in names[part * len(names) // 3 : (part + 1) * len(names) // 3]
        ]
        for train, ranks in found.items()
    }


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A real file system without a free byte."""
    with small_disk(tmp_path / "full", "64k") as folder:
        with suppress(OSError), (folder / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield folder


def test_a_training_goes_on_when_the_disk_for_its_messages_is_full(stored_run: StoredRun, full_disk, monkeypatch):  # noqa: F811
    events = full_disk / "events.jsonl"
    monkeypatch.setenv("CPS_EVENTS", str(events))
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    stored_run.train(1)
    assert len(stored_run.digests()) == 3
    assert events.read_text() == ""


def test_what_dies_on_a_full_disk_says_so_in_one_line_and_goes_on_later(stored_run: StoredRun, full_disk, monkeypatch):  # noqa: F811
    with pytest.raises(SystemExit):
        stored_run.train(1, (0, 13, "terminate"))
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(full_disk))
        with pytest.raises(UserError) as failed:
            stored_run.train(2)
    assert str(failed.value) == (
        f"{full_disk} cannot be written: No space left on device (0 B free); make room, or set TMPDIR to a folder on a "
        "larger disk. Then rerun the same command to resume from the newest recovery"
    )
    stored_run.train(1)
    assert [line["step"] for line in stored_run.lines("step")] == list(range(STEPS))


def test_who_loses_the_lease_is_ended(stored_run: StoredRun, monkeypatch):  # noqa: F811
    monkeypatch.setattr(train, "Lease", partial(Lease, seconds=3))

    def take_over() -> None:
        while not stored_run.lines("fault"):
            time.sleep(0.1)
        other = Lease(stored_run.store, keys.run(stored_run.run_key, "lease.json"), Holder(run="elsewhere"))
        stored_run.store.put_bytes(other.key, other._record())

    thief = threading.Thread(target=take_over)
    thief.start()
    with pytest.raises(WorkFailed, match="another process took over the run"):
        stored_run.train(2, (0, 13, "hang"))
    thief.join()
    left = {line["pid"] for line in stored_run.lines("step")}
    for _ in range(100):  # they are killed by the system as their launcher goes, which takes a moment
        left = {pid for pid in left if running(pid)}
        if not left:
            break
        time.sleep(0.1)
    assert not left
    assert stored_run.store.get_json(keys.run(stored_run.run_key, "lease.json"))["holder"]["run"] == "elsewhere"


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
