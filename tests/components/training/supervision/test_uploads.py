"""Uploads keep their order, and outlive a store that goes away; what cannot be stored is named and delivered later."""

import itertools
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from components.errors import UserError, WorkFailed
from components.storage.client import Store
from components.storage.transfer import BytesSource
from components.training.supervision.pending import deliver_pending
from components.training.supervision.uploads import Uploads
from tests.object_stores import Server, small_disk


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A store that goes away, which is found out without the patience that a transfer has.

    Its port is its own: one of the embedded store's would be taken by another test as soon as the store is away.
    """
    monkeypatch.setattr("components.storage.client.ATTEMPTS", 1)
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.close()


def store_of(server) -> Store:
    server.wait()
    return Store(server.settings)


def test_order_is_kept_and_done_is_told(store, tmp_path):
    told = []
    uploads = Uploads(store, tmp_path)
    for number in range(5):
        uploads.add(f"a/{number}", partial(bytes, [number] * 10), lambda ref: told.append((ref.key, ref.size)))
    uploads.finish()
    assert told == [(f"a/{number}", 10) for number in range(5)]
    assert store.get_bytes("a/3") == b"\x03" * 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_store_that_goes_away_and_comes_back_misses_nothing(server, tmp_path, capsys):
    store = store_of(server)
    kept = tmp_path / "kept"
    uploads = Uploads(store, kept)
    server.kill()
    uploads.add("runs/x/checkpoints/epoch-0001", lambda: b"first")
    deadline = time.monotonic() + 60
    while not (kept.is_dir() and list(kept.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [path.read_bytes() for path in kept.iterdir()] == [b"first"]
    uploads.add("runs/x/checkpoints/epoch-0002", lambda: b"second")
    uploads.add("runs/x/recovery.0", lambda: b"old state", replaceable=True)
    uploads.add("runs/x/recovery.0", lambda: b"state", replaceable=True)
    assert sorted(path.read_bytes() for path in kept.iterdir()) == [b"first", b"second"]
    server.start()
    uploads.finish(120)
    assert store.get_bytes("runs/x/checkpoints/epoch-0001") == b"first"
    assert store.get_bytes("runs/x/checkpoints/epoch-0002") == b"second"
    assert store.get_bytes("runs/x/recovery.0") == b"state"
    assert list(kept.iterdir()) == []
    said = capsys.readouterr().err
    assert "training continues, and saves to" in said
    assert "the object store is back" in said


@pytest.mark.slow
def test_what_could_not_be_stored_is_named_and_delivered_by_the_next_training(server, tmp_path):
    store = store_of(server)
    kept = tmp_path / "kept"
    server.kill()
    uploads = Uploads(store, kept)
    uploads.add("runs/x/recovery.0", lambda: b"state")
    uploads.add("runs/x/checkpoints/epoch-0001", lambda: b"first")
    with pytest.raises(WorkFailed, match=r"runs/x/recovery.0 and 1 more are saved in .*kept: rerun the same command"):
        uploads.finish(0.5)
    server.start()
    server.wait()
    deliver_pending(store, kept, "x")
    assert store.get_bytes("runs/x/recovery.0") == b"state"
    assert store.get_bytes("runs/x/checkpoints/epoch-0001") == b"first"
    assert list(kept.iterdir()) == []


def test_a_kept_file_stays_for_the_next_training_if_its_upload_ends_late(store, tmp_path, monkeypatch):
    put_source, attempts = store.put_source, itertools.count()
    under_way, hang = threading.Event(), threading.Event()

    def put(key, _source, size):
        if next(attempts) == 0:
            raise WorkFailed("the store is away")
        under_way.set()
        hang.wait(60)
        return put_source(key, BytesSource(b"state"), size)  # as if its body had been sent before `finish` gave up

    monkeypatch.setattr(store, "put_source", put)
    before = threading.enumerate()
    uploads = Uploads(store, tmp_path)
    (thread,) = set(threading.enumerate()) - set(before)
    uploads.add("runs/x/recovery.0", lambda: b"state")
    assert under_way.wait(60)
    with pytest.raises(WorkFailed, match=r"runs/x/recovery.0 is saved in "):
        uploads.finish(0)
    hang.set()
    thread.join(60)
    assert store.get_bytes("runs/x/recovery.0") == b"state"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"state"]


@pytest.mark.slow
def test_what_finds_no_room_either_is_named_and_the_rest_is_kept(server, tmp_path, capsys):
    store = store_of(server)
    server.kill()
    with small_disk(tmp_path / "kept", "32k") as kept:
        uploads = Uploads(store, kept)
        uploads.add("runs/x/checkpoints/epoch-0001", lambda: bytes(100_000))
        while "stays in memory" not in capsys.readouterr().err:
            time.sleep(0.1)
        uploads.add("runs/x/checkpoints/epoch-0002", lambda: b"second")
        with pytest.raises(WorkFailed) as failed:
            uploads.finish(0.5)
        assert "runs/x/checkpoints/epoch-0002 is saved in" in str(failed.value)
        assert "runs/x/checkpoints/epoch-0001 did not fit on this machine's disk" in str(failed.value)
        assert [path.read_bytes() for path in kept.iterdir()] == [b"second"]


def test_refused_credentials_are_said_at_the_next_upload(store, tmp_path):
    uploads = Uploads(Store(replace(store.settings, secret_key="wrong")), tmp_path)
    failed = threading.Event()
    uploads.add("a", lambda: b"a")
    deadline = time.monotonic() + 20
    while not failed.is_set() and time.monotonic() < deadline:
        try:
            uploads.add("b", lambda: b"b")
        except UserError:
            failed.set()
        time.sleep(0.1)
    assert failed.is_set()
    with pytest.raises(UserError, match="check AWS_ACCESS_KEY_ID"):
        uploads.finish()


def test_nothing_kept_is_nothing_to_deliver(store, tmp_path):
    deliver_pending(store, tmp_path / "none", "x")
    assert store.list("") == []
