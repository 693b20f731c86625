"""A store that is slow, not away: memory stays bounded, order and slots hold, and being told to stop loses nothing."""

import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from components.recipes.loader import parse_recipe
from components.runs.record import load_run
from components.storage import keys
from components.storage.client import ObjectRef, Store
from components.training import loop, process
from components.training.recovery import (
    Recovery,
    newest_recovery,
    pack_recovery,
    parse_recovery,
    recovery_key,
    unplaced_key,
)
from components.training.supervision import uploads
from components.training.supervision.pending import deliver_pending, pending_path
from components.training.supervision.uploads import NotStored, Uploads
from components.training.supervision.watchdog import Termination
from tests.components.training.stored_run import StoredRun, stored_run  # noqa: F401
from tests.object_stores import Line, line_to, small_disk

RUN = "demo-1-8-s0-0123456789ab"
KB = 1000


@pytest.fixture
def line(store) -> Iterator[Line]:
    with line_to(store.settings, [], upstream=True, rate=500 * KB) as line:
        yield line


@pytest.fixture
def slow(store, line) -> Store:
    """The same bucket as `store`, by the line."""
    return Store(replace(store.settings, endpoint=line.address))


def packed(step: int, size: int = 0, checkpoints: tuple[str, ...] = ()) -> bytes:
    notes = {"checkpoints": [{"key": key} for key in checkpoints], "sums": {}, "processes": 1}
    return pack_recovery(Recovery(step, {"a": np.full(size // 4, step, np.float32)}, notes), RUN)


def step_of(store: Store) -> int | None:
    found = newest_recovery(store, RUN)
    return None if found is None else found.step


class Saver:
    """Adds recoveries and checkpoints as the loop does, and notes what was stored."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.uploads, self.folder = Uploads(store, folder), folder
        self.slot, self.stored = 0, list[str]()

    def recovery(self, step: int, size: int, checkpoints: tuple[str, ...] = ()) -> "weakref.ref[np.ndarray]":
        state = np.full(size // 4, step, np.float32)

        def make() -> bytes:
            notes = {"checkpoints": [{"key": key} for key in checkpoints], "sums": {}, "processes": 1}
            return pack_recovery(Recovery(step, {"a": state}, notes), RUN)

        def done(reference: ObjectRef) -> None:
            self.stored.append(f"{reference.key}@{step}")
            self.slot = 1 - self.slot

        self.uploads.add(unplaced_key(RUN), make, done, replaceable=True, place=lambda: recovery_key(RUN, self.slot))
        return weakref.ref(state)

    def checkpoint(self, epoch: int, size: int) -> str:
        key = keys.checkpoint(RUN, epoch)
        self.uploads.add(key, lambda: bytes(size), lambda reference: self.stored.append(reference.key))
        return key

    def kept(self) -> set[str]:
        return {path.name for path in self.folder.glob("*")}


@pytest.fixture
def saver(slow, tmp_path) -> Saver:
    return Saver(slow, tmp_path / "kept")


def test_many_recoveries_take_the_memory_of_two_and_the_newest_is_stored(saver, store):
    states, most = [], 0
    for step in range(1, 31):
        states.append(saver.recovery(step, 200 * KB))
        most = max(most, sum(state() is not None for state in states))
        time.sleep(0.02)
    assert most <= 3, "one under way, one that waits, and one more while a thread packs"
    saver.uploads.finish(60)
    assert step_of(store) == 30
    assert len(saver.stored) < 15
    slots = [entry.partition("@")[0] for entry in saver.stored]
    assert all(before != after for before, after in pairwise(slots)), "replaced ones take no slot"
    assert saver.kept() == set()


def test_a_recovery_is_stored_after_every_checkpoint_that_it_lists(saver, store):
    first = saver.checkpoint(1, 150 * KB)
    saver.recovery(10, KB, (first,))
    second = saver.checkpoint(2, KB)
    assert saver.kept() == set(), "one may wait in memory"
    third = saver.checkpoint(3, KB)
    assert saver.kept() == {pending_path(saver.folder, third).name}, "the next waits on disk"
    saver.recovery(20, KB, (first, second, third))
    saver.uploads.finish(60)
    assert saver.stored == [first, second, third, f"{recovery_key(RUN, 0)}@20"]
    assert step_of(store) == 20
    assert saver.kept() == set()


def test_of_records_of_the_same_key_the_newest_is_stored(saver, store):
    saver.checkpoint(1, 100 * KB)
    for number in range(5):
        saver.uploads.add("record.json", lambda number=number: b"%d" % number, replaceable=True)
    saver.uploads.finish(60)
    assert store.get_bytes("record.json") == b"4"


def test_told_to_stop_all_goes_to_disk_first_and_is_delivered_later(saver, store, line, monkeypatch):
    monkeypatch.setattr(uploads, "PREEMPTION_PATIENCE", 0.5)
    line.rate = 20 * KB
    saver.recovery(10, 200 * KB)
    keys_ = tuple(saver.checkpoint(epoch, 20 * KB) for epoch in (1, 2))
    saver.recovery(20, 20 * KB, keys_)
    stop = Termination()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(NotStored, match=rf"and 2 more are saved in {saver.folder}: rerun the same command"):
        saver.uploads.finish(60, stop)
    names = {pending_path(saver.folder, key).name for key in (*keys_, unplaced_key(RUN))}
    assert saver.kept() == names
    waiting = parse_recovery(pending_path(saver.folder, unplaced_key(RUN)).read_bytes(), RUN, "the file")
    assert waiting.step == 20, "the newer of both"
    deliver_pending(store, saver.folder, RUN)
    assert step_of(store) == 20
    assert saver.kept() == set()


def test_an_older_recovery_that_arrives_leaves_the_newer_one_on_disk(saver, store, monkeypatch):
    monkeypatch.setattr(uploads, "PREEMPTION_PATIENCE", 2.0)
    saver.recovery(10, 100 * KB)
    saver.recovery(20, 4000 * KB)
    stop = Termination()
    stop.set()
    with pytest.raises(NotStored):
        saver.uploads.finish(60, stop)
    assert saver.stored == [f"{recovery_key(RUN, 0)}@10"]
    assert step_of(store) == 10, "the slot of the newest complete one was not written to"
    deliver_pending(store, saver.folder, RUN)
    assert step_of(store) == 20
    assert store.stat(recovery_key(RUN, 0)) is not None, "delivered to the other slot"


def test_what_the_store_takes_in_time_is_removed_from_disk(saver, store, line):
    line.rate = 100 * KB
    key = saver.checkpoint(1, 60 * KB)
    saver.recovery(10, 40 * KB, (key,))
    stop = Termination()
    stop.set()
    saver.uploads.finish(0, stop)
    assert step_of(store) == 10
    assert saver.kept() == set()


def test_where_the_disk_is_full_too_the_loss_is_said(slow, store, line, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "PREEMPTION_PATIENCE", 0.3)
    line.rate = 10 * KB
    stop = Termination()
    stop.set()
    with small_disk(tmp_path / "full", "64k") as folder:
        saver = Saver(slow, folder)
        saver.recovery(10, 300 * KB)
        with pytest.raises(NotStored) as failed:
            saver.uploads.finish(60, stop)
        assert saver.kept() == set()
    assert f"{unplaced_key(RUN)} did not fit on this machine's disk" in str(failed.value)
    assert "is lost" in str(failed.value)
    assert "wait in" not in str(failed.value)
    assert step_of(store) is None


@pytest.fixture
def folder(tmp_path) -> Path:
    """With a recovery of step 80 that waits for its delivery."""
    folder = tmp_path / "kept"
    folder.mkdir()
    pending_path(folder, unplaced_key(RUN)).write_bytes(packed(80))
    return folder


@pytest.mark.parametrize(
    ("stored", "delivered"),
    [((60, 70), (80, 70)), ((70, 60), (70, 80)), ((90, 70), (90, 70)), ((70, 80), (70, 80)), ((0, 70), (80, 70))],
)
def test_a_delivered_recovery_replaces_neither_the_newest_nor_a_newer_one(store, folder, stored, delivered):
    for slot, step in enumerate(stored):
        data = packed(step)
        store.put_bytes(recovery_key(RUN, slot), data if step else data[:20])
    deliver_pending(store, folder, RUN)
    for slot, step in enumerate(delivered):
        assert parse_recovery(store.get_bytes(recovery_key(RUN, slot)), RUN, "the object").step == step
    assert list(folder.iterdir()) == []


def test_checkpoints_are_delivered_before_the_recovery_by_a_slow_line_and_after_a_kill(slow, store, folder, capfd):
    first, second = (keys.checkpoint(RUN, epoch) for epoch in (1, 2))
    pending_path(folder, unplaced_key(RUN)).write_bytes(packed(80, 100 * KB, (first, second)))
    for key in (first, second):
        pending_path(folder, key).write_bytes(bytes(100 * KB))
    (folder / "half.part").write_bytes(b"of a process that was killed as it wrote")
    store.put_bytes(first, bytes(100 * KB))  # and one as it delivered, after this
    deliver_pending(slow, folder, RUN)
    assert step_of(store) == 80
    said = capfd.readouterr().err
    assert 0 < said.index(first) < said.index(second) < said.index("recovery.0")
    assert list(folder.iterdir()) == []


def test_a_damaged_recovery_on_disk_is_left_aside(store, folder, capfd):
    path = pending_path(folder, unplaced_key(RUN))
    path.write_bytes(path.read_bytes()[:30])
    deliver_pending(store, folder, RUN)
    assert step_of(store) is None
    assert f"ignoring a damaged recovery: {path}" in capfd.readouterr().err


@pytest.mark.slow
def test_a_training_never_writes_over_its_newest_complete_recovery(stored_run: StoredRun, line, slow):  # noqa: F811
    line.rate = 5_000 * KB
    record, split = load_run(stored_run.store, stored_run.run_key)
    recipe = parse_recipe(record.settings, stored_run.run_key)
    with process.tracker_of(record) as tracker:
        training = process.prepare_training(slow, record, split, recipe, tracker)
    seen, done = list[int](), threading.Event()

    def look() -> None:
        while not done.is_set():
            found = newest_recovery(stored_run.store, stored_run.run_key)
            seen.append(found.step if found else 0)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for step in range(1, 41):
            loop._save_recovery(training, step)
            time.sleep(0.1)
        training.uploads.finish(120)
    finally:
        done.set()
        looking.join()
    assert seen == sorted(seen)
    newest = newest_recovery(stored_run.store, stored_run.run_key)
    assert newest is not None
    assert newest.step == 40
    # A training that goes on from it writes to the other.
    loop.restore(training, newest)
    assert training.recovery_slot == 1 - newest.slot
