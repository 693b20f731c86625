"""What is logged while MLflow is away waits on disk, in order, past the end of its process, and arrives once."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.addresses import without_login
from components.storage.client import Store
from components.tracking import client as tracking_client
from components.tracking import delivery, spool
from components.tracking.address import EMBEDDED_VARIABLE
from components.tracking.client import open_run
from components.tracking.delivery import deliver_spooled, delivered_through_store
from components.tracking.server import connect
from components.tracking.spool import Header, Spool, run_folder, spool_files, spool_root
from components.tracking.values import RunIdentity

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RUN = "demo-1-8-s0-0123456789ab"
HEADER = Header("http://localhost:5000", "http://localhost:5000", RunIdentity(RUN, "scenes", {}, {}, began=0))
ROOT = Path(__file__).parents[3]

LOG_AND_DIE = """
import os, signal, sys
from components.tracking.client import open_run
tracker = open_run(sys.argv[1], "scenes", {"seed": "3"})
for step in range(1, 2001):
    tracker.log(step, {"loss": 1 / step})
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass
class Line:
    """The way to the server, which a test can cut."""

    cut: bool = True
    calls: int = 0


@pytest.fixture
def line(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Line:  # noqa: ARG001
    line = Line()

    def connect_unless_cut(uri: str) -> Any:
        line.calls += 1
        if line.cut:
            raise ConnectionError("nobody there")
        return connect(uri)

    monkeypatch.setattr(delivery, "connect", connect_unless_cut)
    monkeypatch.setattr(delivery, "RETRY_SECONDS", (0.01,))
    monkeypatch.setattr(spool, "GATHER_SECONDS", 0.01)
    return line


def history(client: Any, key: str) -> list[tuple[int, float]]:
    run = the_run(client)
    return [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, key)]


def the_run(client: Any) -> Any:
    found = client.search_runs([client.get_experiment_by_name("cps/scenes").experiment_id])
    assert len(found) == 1
    return found[0]


def log(first: int, last: int, **opened: Any) -> tracking_client.Tracker:
    tracker = open_run(RUN, "scenes", {"seed": "3"}, **opened)
    for step in range(first, last + 1):
        tracker.log(step, {"loss": step / 4})
    return tracker


def test_what_a_server_that_is_away_misses_is_named_and_said_once(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = log(1, 1000)
    while line.calls < 5:  # it tries again and again meanwhile, and says so once
        pass
    assert not tracker.close(timeout=0)
    [path] = spool_files(run_folder(RUN))
    said = capsys.readouterr().err.splitlines()
    assert len([text for text in said if "does not answer" in text]) == 1
    assert f"the rest is kept in {path}, and the next `cps` command on this machine delivers it" in said[-1]
    assert path.stat().st_mode & 0o077 == 0
    assert len(path.read_text().splitlines()) == 1001


def test_the_resumed_run_delivers_it_first(line: Line, client: Any) -> None:
    assert not log(1, 30).close(timeout=0)
    line.cut = False
    tracker = log(21, 40)  # from its newest recovery, some steps are made again
    assert tracker.finish("FINISHED")
    assert history(client, "loss") == [(step, step / 4) for step in range(1, 41)]
    assert the_run(client).info.status == "FINISHED"
    assert list(spool_root().iterdir()) == []


def test_another_command_delivers_it_with_its_status_and_its_times(
    line: Line, client: Any, tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    page.write_text("<h1>45 %</h1>")
    tracker = log(1, 3)
    tracker.log_checkpoint(1, 3, "s3://cps/a", {"mIoU": 0.5}, "aa")
    tracker.log_artifact(page)
    page.unlink()  # as the temporary folder of a step is
    tracker.set_tags({"best_epoch": "1"})
    assert not tracker.close(timeout=0)
    [path] = spool_files(run_folder(RUN))
    logged = json.loads(path.read_text().splitlines()[1])["points"][0][3]
    assert not open_run(RUN, "scenes", {}).finish("FAILED", timeout=0)  # the exit handler, in another process
    deliver_spooled(tracking_uri)
    assert f"its spooled entries are kept in {spool_root()}" in capsys.readouterr().err

    line.cut = False
    deliver_spooled(tracking_uri)
    assert f"[tracking] delivered the spooled entries of {RUN} to MLflow" in capsys.readouterr().err
    run = the_run(client)
    assert run.info.status == "FAILED"
    assert run.data.params == {"seed": "3"}
    assert run.data.tags["best_epoch"] == "1"
    assert client.get_metric_history(run.info.run_id, "loss")[0].timestamp == logged
    assert run.info.start_time <= logged <= run.info.end_time
    assert history(client, "mIoU") == [(1, 0.5)]
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert list(spool_root().iterdir()) == []
    deliver_spooled(tracking_uri)
    assert capsys.readouterr().err == ""


def test_what_is_delivered_late_does_not_open_a_finished_run_again(line: Line, client: Any, tracking_uri: str) -> None:
    assert not log(1, 3).close(timeout=0)
    left = [path.rename(spool_root() / path.name) for path in spool_files(run_folder(RUN))]
    line.cut = False
    assert log(4, 5).finish("FINISHED")  # on another machine
    run_folder(RUN).mkdir(exist_ok=True)
    for path in left:
        path.rename(run_folder(RUN) / path.name)
    deliver_spooled(tracking_uri)
    assert the_run(client).info.status == "FINISHED"
    assert sorted(history(client, "loss")) == [(step, step / 4) for step in range(1, 6)]


def test_a_killed_process_loses_nothing(line: Line, client: Any) -> None:
    line.cut = False
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    killed = subprocess.run([sys.executable, "-c", LOG_AND_DIE, RUN], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    [path] = spool_files(run_folder(RUN))
    address = os.environ["MLFLOW_TRACKING_URI"]
    path.write_text(path.read_text().replace("http://127.0.0.1:9", address) + '{"kind": "metrics", "poi')
    deliver_spooled(address)
    assert history(client, "loss") == [(step, 1 / step) for step in range(1, 2001)]
    assert not path.exists()


def test_what_is_for_another_server_stays_and_is_named(
    line: Line, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not log(1, 3).close(timeout=0)
    [path] = spool_files(run_folder(RUN))
    here = os.environ["MLFLOW_TRACKING_URI"]
    path.write_text(path.read_text().replace(here, "http://elsewhere"))
    line.cut = False
    assert log(4, 5).close()
    assert history(client, "loss") == [(4, 1.0), (5, 1.25)]
    assert spool_files(run_folder(RUN)) == [path]
    capsys.readouterr()
    deliver_spooled(here)
    assert (
        capsys.readouterr().err == f"[tracking] spooled entries in {spool_root()} are for MLflow at http://elsewhere\n"
    )


def test_the_embedded_server_is_the_same_at_another_port(
    line: Line, client: Any, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", EMBEDDED_VARIABLE: "http://127.0.0.1:5000 /a home"}
    with monkeypatch.context() as patch:
        for name, value in before.items():
            patch.setenv(name, value)
        assert not log(1, 3).close(timeout=0)
    line.cut = False
    deliver_spooled(tracking_uri, {EMBEDDED_VARIABLE: f"{tracking_uri} /another home"})
    deliver_spooled(tracking_uri, before)  # of another address, so not of this server
    assert len(spool_files(run_folder(RUN))) == 1
    assert capsys.readouterr().err.count("are for MLflow at http://127.0.0.1:5000") == 2
    deliver_spooled(tracking_uri, {EMBEDDED_VARIABLE: f"{tracking_uri} /a home"})
    assert history(client, "loss") == [(step, step / 4) for step in range(1, 4)]
    assert list(spool_root().iterdir()) == []


def test_a_server_that_lets_nobody_in_is_not_waited_for(
    line: Line, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(_uri: str) -> Any:
        raise MlflowException("wrong password", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(delivery, "connect", refuse)
    tracker = log(1, 3)
    assert not tracker.close(timeout=600)
    said = capsys.readouterr().err
    assert "denies access: wrong password; its entries are kept on disk" in said
    assert len(spool_files(run_folder(RUN))) == 1
    assert line.calls == 0


def test_a_disk_that_takes_nothing_leaves_bounded_memory(
    line: Line, client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spool, "MOST_IN_MEMORY", 20)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, where the cache should be")
    monkeypatch.setenv("CPS_CACHE", str(blocked))
    assert not log(1, 30).close(timeout=0)
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("did not receive everything: 30 entries are lost, since the disk is full")
    )
    tracker = log(1, 10)
    line.cut = False
    assert tracker.close()
    assert len(history(client, "loss")) == 10


def test_a_disk_that_fills_keeps_the_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path))
    monkeypatch.setattr(spool, "GATHER_SECONDS", 0)
    written = spool._write_whole
    waiting = Spool.create(RUN, HEADER)
    waiting.append({"n": 1})
    monkeypatch.setattr(spool, "_write_whole", lambda *_: False)
    waiting.append({"n": 2})
    monkeypatch.setattr(spool, "_write_whole", written)
    waiting.append({"n": 3})  # after the second, which is in memory
    found = []
    for _ in range(2):
        found += waiting.read()
        waiting.delivered()
    assert [entry["n"] for entry in found] == [1, 2, 3]
    waiting.append({"n": 4})
    lines = waiting.path.read_bytes().splitlines()
    assert lines[1:] == [b'{"n": 4}']  # back on disk, which does not grow with what was sent
    waiting.close()
    waiting.release(keep=True)


def test_two_processes_do_not_deliver_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path))
    own = Spool.create(RUN, HEADER)
    assert Spool.take(own.path) is None
    own.append({"n": 1})
    own.close()
    own.release(keep=True)
    taken = Spool.take(own.path)
    assert taken is not None
    assert taken.read() == [{"n": 1}]
    assert Spool.take(own.path) is None
    taken.release(keep=False)
    assert Spool.take(own.path) is None


def test_a_file_without_its_first_line_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path))
    path = run_folder(RUN) / "1-1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"addr')
    assert Spool.take(path) is None
    assert not path.exists()


def test_what_another_version_wrote_is_named_and_kept(
    line: Line, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line.cut = False
    left = run_folder(RUN) / "1-1.jsonl"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text(json.dumps({"address": tracking_uri, "run": {"run_key": RUN, "unheard_of": 1}}) + "\n")
    deliver_spooled(tracking_uri)
    assert capsys.readouterr().err.startswith(f"[tracking] {left} is from another version; it is kept")
    assert left.exists()


def test_no_password_of_an_address_is_written_down() -> None:
    assert without_login("https://me:secret@mlflow.example.com:5000/x") == "https://mlflow.example.com:5000/x"
    assert without_login("sqlite:////tmp/a@b.db") == "sqlite:////tmp/a@b.db"


def test_a_step_in_a_pod_brings_what_another_pod_left(
    line: Line, client: Any, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for pod, cut in enumerate((True, True, False)):
        line.cut = cut
        monkeypatch.setenv("CPS_CACHE", str(tmp_path / f"pod-{pod}"))
        with delivered_through_store(store, RUN):
            tracker = log(10 * pod + 1, 10 * pod + 10)
            assert tracker.close(timeout=0 if cut else 60) != cut
        waiting = [item.key for item in store.list(f"runs/{RUN}/mlflow/")]
        assert len(waiting) == (pod + 1 if cut else 0)
    assert history(client, "loss") == [(step, step / 4) for step in range(1, 31)]


def test_on_a_machine_the_disk_keeps_it(line: Line, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert line.cut
    with delivered_through_store(store, RUN):
        assert not log(1, 3).close(timeout=0)
    assert list(store.list("")) == []
    assert len(spool_files(run_folder(RUN))) == 1


@pytest.mark.slow
def test_a_real_server_that_comes_late_and_goes_away_misses_nothing(
    tracking_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As training meets it: begun before the server, with everything that a run logs."""
    from components.tracking.full import FullClient

    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.address)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    page = tmp_path / "report.html"
    page.write_text("<h1>45 %</h1>")
    tracker = log(1, 600, tags={"recipe": "demo"})
    tracker.log_checkpoint(1, 600, "s3://cps/a", {"mIoU": 0.4}, "aa")
    tracker.log_artifact(page)
    tracking_server.start()
    assert tracker.wait(120)
    assert tracker.url.startswith(f"{tracking_server.address}/#/experiments/")
    tracking_server.stop()
    for step in range(601, 1201):
        tracker.log(step, {"loss": step / 4})
    assert not tracker.finish("FINISHED", timeout=1)
    tracking_server.start()
    tracking_server.wait()
    deliver_spooled(tracking_server.address)
    client = FullClient(tracking_server.address)
    run = the_run(client)
    assert run.info.status == "FINISHED"
    assert history(client, "loss") == [(step, step / 4) for step in range(1, 1201)]
    assert history(client, "mIoU") == [(1, 0.4)]
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert list(spool_root().iterdir()) == []
