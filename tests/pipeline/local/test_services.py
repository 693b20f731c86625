"""The embedded services with real servers: started once, found again, restarted after kill -9, stopped whole."""

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.disk import Unwritable
from components.errors import UserError, WorkFailed
from components.storage.client import Store
from components.storage.settings import settings_from_environment
from pipeline.local import object_store, processes
from pipeline.local.ports import free_internal_ports
from pipeline.local.services import Endpoints, services_down, services_status, services_up, wait_tracking
from pipeline.local.state import Home, ServiceState, State
from tests.disks import small_disk

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose services are killed afterwards, in less time than they take to end by themselves."""
    folder = tmp_path / "a home"
    yield folder
    state = Home(folder).read()
    services = [service for service in (state.mlflow, state.object_store) if service]
    processes.stop([service.process for service in services if service.process], grace=0)


def test_the_store_takes_a_put_and_is_found_again(home: Path) -> None:
    first = services_up(home, tracking=False)
    _store(first).put_bytes("a", b"hello")
    [service] = services_status(home)
    assert (service.name, service.address, service.healthy) == ("object store", first.s3, True)
    assert (first.mlflow, "MLFLOW_TRACKING_URI" in first.environment) == ("", False)

    assert services_up(home, tracking=False) == first
    assert services_status(home) == [service]


def test_secrets_are_for_the_owner_only(home: Path) -> None:
    endpoints = services_up(home, tracking=False)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "credentials.json").stat().st_mode) == 0o600
    assert (home / ".gitignore").read_text() == "*\n"
    secret = endpoints.environment["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) == 40
    assert secret not in repr(endpoints)
    command = psutil.Process(_pid(home)).cmdline()
    assert not any(secret in argument for argument in command)


def test_nothing_listens_beyond_loopback(home: Path) -> None:
    services_up(home, tracking=False)
    listening = [c.laddr.ip for c in psutil.Process(_pid(home)).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_a_killed_store_comes_back_with_its_data(home: Path) -> None:
    before = services_up(home, s3_port=_own_port(), tracking=False)
    for number in range(20):
        _store(before).put_bytes(f"checkpoint/{number}", os.urandom(100_000))
    killed = _pid(home)
    os.kill(killed, signal.SIGKILL)
    while processes.is_running(_record(home)):
        time.sleep(0.01)
    [service] = services_status(home)
    assert (service.address, service.pid, service.healthy) == ("", None, False)

    assert services_up(home, tracking=False) == before
    assert _pid(home) != killed
    assert sum(len(_store(before).get_bytes(f"checkpoint/{number}")) for number in range(20)) == 2_000_000


def test_two_commands_at_once_start_one_store_that_outlives_them(home: Path) -> None:
    program = f"""
from pathlib import Path
from pipeline.local.services import services_up
print(services_up(Path({str(home)!r}), tracking=False).s3)
"""
    commands = [
        subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    addresses = [command.communicate(timeout=60)[0].strip() for command in commands]
    assert [command.returncode for command in commands] == [0, 0]
    assert addresses[0] == addresses[1]
    assert len(_stores(home)) == 1
    [service] = services_status(home)
    assert (service.address, service.healthy) == (addresses[0], True)


def test_down_leaves_nothing_running_and_keeps_everything_else(home: Path) -> None:
    before = services_up(home, s3_port=_own_port(), tracking=False)
    _store(before).put_bytes("a", b"hello")
    services_down(home)
    assert _stores(home) == []
    assert [(service.pid, service.healthy) for service in services_status(home)] == [(None, False)]
    services_down(home)

    assert services_up(home, tracking=False) == before
    assert _store(before).get_bytes("a") == b"hello"


def test_down_where_nothing_ever_ran(home: Path) -> None:
    services_down(home)
    assert services_status(home) == []
    assert not home.exists()


def test_another_process_with_the_recorded_pid_is_left_alone(home: Path) -> None:
    Home(home).create()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            stale = processes.ProcessRecord(pid=stranger.pid, started=time.time() - 3600, command=("weed",))
            port = _own_port()
            Home(home).write(State(object_store=ServiceState(port=port, process=stale)))
            assert [service.pid for service in services_status(home)] == [None]
            services_down(home)
            assert stranger.poll() is None

            Home(home).write(State(object_store=ServiceState(port=port, process=stale)))
            assert services_up(home, tracking=False).s3 == f"http://127.0.0.1:{port}"
            assert _pid(home) != stranger.pid
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_port_that_was_asked_for_and_is_taken(home: Path) -> None:
    with _listener() as taken, pytest.raises(UserError, match=rf"port {taken.getsockname()[1]} is in use.*--s3-port"):
        services_up(home, s3_port=taken.getsockname()[1], tracking=False)
    assert _stores(home) == []


def test_a_port_that_was_asked_for_is_given_and_kept(home: Path) -> None:
    port = _own_port()
    assert services_up(home, s3_port=port, tracking=False).s3 == f"http://127.0.0.1:{port}"
    assert services_up(home, tracking=False).s3 == f"http://127.0.0.1:{port}"
    with pytest.raises(UserError, match=rf"already runs on port {port}.*cps down"):
        services_up(home, s3_port=port + 1, tracking=False)


def test_a_remembered_port_that_was_taken_meanwhile(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = _own_port()
    before = services_up(home, s3_port=port, tracking=False)
    _store(before).put_bytes("a", b"hello")
    processes.stop([_record(home)], grace=0)
    with _listener(port):
        after = services_up(home, tracking=False)
    assert after.s3 != before.s3
    assert (
        f"port {port} is in use by another program: object store moves to {after.s3.rpartition(':')[2]}"
        in capsys.readouterr().err
    )
    assert _store(after).get_bytes("a") == b"hello"


def test_tracking_follows_a_store_that_moved(home: Path) -> None:
    before = services_up(home, _own_port(), _own_port())
    first = _tracking(home)
    processes.stop([_record(home)], grace=0)
    with _listener(int(before.s3.rpartition(":")[2])):
        after = services_up(home)
    second = _tracking(home)
    assert after.s3 != before.s3
    assert after.mlflow == before.mlflow
    assert not processes.is_running(first)
    assert psutil.Process(second.pid).environ()["MLFLOW_S3_ENDPOINT_URL"] == after.s3


def test_an_internal_port_that_another_took_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = object_store.internal_ports
    with _listener() as taken:
        answers = iter([choose() | {"volume.port": taken.getsockname()[1]}, choose()])
        monkeypatch.setattr(object_store, "internal_ports", lambda _: next(answers))
        _store(services_up(home, tracking=False)).put_bytes("a", b"hello")
    assert next(answers, None) is None


def test_a_store_that_cannot_start_says_why(home: Path) -> None:
    Home(home).create()
    (home / "object-store" / "filerldb2").touch()  # where it wants a folder
    with pytest.raises(WorkFailed) as caught:
        services_up(home, tracking=False)
    assert "object store exited during startup: " in str(caught.value)
    assert "filerldb2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CPS_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set CPS_HOME"):
        services_up(tmp_path / "file", tracking=False)


def test_damaged_state_is_named(home: Path) -> None:
    Home(home).create()
    (home / "credentials.json").write_text("{}")
    with pytest.raises(UserError, match=r"credentials\.json is damaged"):
        services_up(home, tracking=False)
    (home / "services.json").write_text("{")
    with pytest.raises(UserError, match=r"services\.json is damaged"):
        services_status(home)
    (home / "services.json").unlink()


def test_waiting_for_a_tracking_server_that_was_never_started(home: Path) -> None:
    with pytest.raises(UserError, match="cps up"):
        wait_tracking(home)


@pytest.mark.slow
def test_tracking_keeps_artifacts_in_the_store_and_leaves_no_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = services_up(home, _own_port(), _own_port())
    assert [service.healthy for service in services_status(home)] == [True, False]  # MLflow is not waited for
    assert wait_tracking(home) == endpoints.mlflow
    assert [service.healthy for service in services_status(home)] == [True, True]
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    program = """
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run(client.create_experiment("cps/test"))
client.log_metric(run.info.run_id, "mIoU", 0.5, step=1)
client.log_text(run.info.run_id, "<html>", "report.html")
print(client.get_run(run.info.run_id).data.metrics["mIoU"])
"""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": endpoints.mlflow}  # no keys: the server has them
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "0.5"
    artifacts = _store(endpoints, "mlflow").list("")
    assert any(ref.key.endswith("/artifacts/report.html") for ref in artifacts)

    os.kill(_tracking(home).pid, signal.SIGKILL)  # its children live on and keep the port
    again = services_up(home)
    assert again == endpoints
    services_down(home)
    assert [p for p in psutil.process_iter() if _in_home(p, home)] == []


def test_a_store_without_room_says_so(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.local.services.STORE_BYTES", 0)
    with small_disk(tmp_path / "disk", "64k") as disk:
        monkeypatch.setenv("CPS_HOME", str(disk / "home"))
        with pytest.raises(UserError) as error:
            services_up(disk / "home", tracking=False)
        assert _stores(disk / "home") == []
    assert re.fullmatch(
        rf"{disk}/home.* cannot be written: No space left on device \(.* free\); "
        "make room, or set CPS_HOME to a folder on a larger disk",
        str(error.value),
    )
    assert not home.exists()


def test_a_server_that_cannot_be_recorded_is_stopped(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_home: Home, _state: State) -> None:
        raise Unwritable(home, OSError(errno.ENOSPC, "No space left on device"), "CPS_HOME")

    monkeypatch.setattr(Home, "write", fail)
    with pytest.raises(Unwritable):
        services_up(home, tracking=False)
    assert _stores(home) == []


def test_servers_are_stopped_also_where_that_cannot_be_recorded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    services_up(home, tracking=False)

    def fail(_home: Home, _state: State) -> None:
        raise Unwritable(home, OSError(errno.ENOSPC, "No space left on device"), "CPS_HOME")

    monkeypatch.setattr(Home, "write", fail)
    services_down(home)
    assert _stores(home) == []
    assert [service.healthy for service in services_status(home)] == [False]


def _own_port() -> int:
    """One that is still free when the server has ended; the usual ones are what other tests' servers take next."""
    [port] = free_internal_ports(1)
    return port


def _store(endpoints: Endpoints, bucket: str = "cps") -> Store:
    store = Store(settings_from_environment(endpoints.environment | {"CPS_BUCKET": bucket}))
    store.check()
    return store


def _record(home: Path) -> processes.ProcessRecord:
    service = Home(home).read().object_store
    assert service is not None
    assert service.process is not None
    return service.process


def _tracking(home: Path) -> processes.ProcessRecord:
    service = Home(home).read().mlflow
    assert service is not None
    assert service.process is not None
    return service.process


def _pid(home: Path) -> int:
    return _record(home).pid


def _stores(home: Path) -> list[psutil.Process]:
    option = f"-dir={home.resolve() / 'object-store'}"
    return [process for process in psutil.process_iter(["cmdline"]) if option in (process.info["cmdline"] or [])]


def _in_home(process: psutil.Process, home: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(home.resolve())
    except psutil.Error:
        return False


def _listener(port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener
