import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pipeline.local import ports
from pipeline.local.ports import Reservation, free_internal_ports, is_free, reserve, reserve_from, reserve_internal_port
from pipeline.local.processes import ProcessRecord, is_running, start, stop


def test_a_server_is_known_again_and_stopped(tmp_path: Path) -> None:
    record = _start(tmp_path, "print('ready', flush=True); import time; time.sleep(60)")
    assert is_running(record)
    assert os.getsid(record.pid) == record.pid
    assert _until_said(tmp_path, "ready")
    stop([record])
    assert not is_running(record)


def test_a_pid_that_another_process_got(tmp_path: Path) -> None:
    record = _start(tmp_path, "import time; time.sleep(60)")
    stale = ProcessRecord(pid=record.pid, started=record.started - 3600, command=("weed",))
    assert not is_running(stale)
    stop([stale])
    assert is_running(record)
    stop([record])


def test_a_clock_that_was_set_does_not_make_a_server_a_stranger(tmp_path: Path) -> None:
    record = _start(tmp_path, "print('ready', flush=True); import time; time.sleep(60)")
    _until_said(tmp_path, "ready")  # for a moment after it was started, a process has no command
    assert is_running(record.model_copy(update={"started": record.started - 3600}))
    stop([record])


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    record = _start(
        tmp_path,
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
    )
    _until_said(tmp_path, "deaf")
    begun = time.monotonic()
    stop([record], grace=0.3)
    assert not is_running(record)
    assert 0.3 < time.monotonic() - begun < 5


def test_children_that_a_killed_server_left_behind_are_stopped_too(tmp_path: Path) -> None:
    record = _start(
        tmp_path,
        "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()",
    )
    child = int(_until_said(tmp_path, "\n"))
    os.kill(record.pid, signal.SIGKILL)
    while is_running(record):
        time.sleep(0.01)
    os.kill(child, 0)
    stop([record])
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


def test_a_port_is_reserved_from_before_the_server_listens_until_it_is_gone(tmp_path: Path) -> None:
    with reserve_from(23_000) as first:
        assert is_free(first.port)
        assert reserve(first.port) is None
        record = _start(tmp_path, "import time; time.sleep(60)", first)
    assert reserve(first.port) is None
    with reserve_from(first.port) as second:
        assert second.port > first.port
    stop([record])
    again = reserve(first.port)
    assert again is not None
    with again:
        assert again.port == first.port


def test_nothing_is_inherited_but_the_reservation(tmp_path: Path) -> None:
    with (tmp_path / "open here").open("w"), reserve_from(23_000) as reservation:
        listing = "import os; print(sorted(os.listdir('/proc/self/fd')), flush=True)"
        record = _start(tmp_path, listing, reservation)
        said = _until_said(tmp_path, "]")
        stop([record])
    # 0, 1, 2, the reservation, and the folder that is being listed
    assert len(said.split(",")) == 5


def test_a_child_that_ended_is_not_running(tmp_path: Path) -> None:
    record = _start(tmp_path, "pass")
    deadline = time.monotonic() + 10
    while is_running(record) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(record)


def _start(folder: Path, program: str, reservation: Reservation | None = None) -> ProcessRecord:
    handle = reservation.handle if reservation else os.open(os.devnull, os.O_RDONLY)
    try:
        return start(
            [sys.executable, "-c", program], folder=folder, log=folder / "log", environment=os.environ, inherit=handle
        )
    finally:
        if reservation is None:
            os.close(handle)


def _until_said(folder: Path, text: str) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if text in (said := (folder / "log").read_text()):
            return said
        time.sleep(0.01)
    raise AssertionError(f"it did not say {text!r}")


def test_an_internal_port_is_not_one_that_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may take seconds to listen on it."""
    with reserve_internal_port() as reserved:
        [other] = free_internal_ports(1)
        monkeypatch.setattr(ports, "_candidates", lambda: [reserved.port, other])
        assert is_free(reserved.port)
        assert free_internal_ports(1) == [other]
        with reserve_internal_port() as second:
            assert second.port == other
