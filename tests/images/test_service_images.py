"""The services of manifests/ with the commands that stand there: the object store, MLflow behind its login with either
database, and the backup. MLflow and the backup run in the images; the store's and PostgreSQL's own images cannot be had
here, so their programs are this machine's.
"""

import json
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from components.errors import UserError
from components.storage.client import Store
from components.storage.settings import StoreSettings
from pipeline.local.object_store import weed
from tests.images.containers import DATA_IMAGE, IMAGE, USER, container, in_container, logs, store_environment

COMPONENTS = Path(__file__).parents[2] / "manifests" / "components"
LOGIN = {
    "MLFLOW_TRACKING_USERNAME": "admin",
    "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(16),
    "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
}


def test_the_store_of_the_manifests(tmp_path: Path) -> None:
    [running] = _pod("seaweedfs/store.yaml", "StatefulSet")["containers"]
    program, *arguments = running["command"]
    assert program == "weed"
    arguments[arguments.index("-dir=/data")] = f"-dir={tmp_path}"
    settings = StoreSettings(endpoint="http://127.0.0.1:8333", access_key="cps", secret_key=secrets.token_hex(20))
    with _process([weed(), *arguments], tmp_path / "log", store_environment(settings)):
        _wait(lambda: _status(8333, running["readinessProbe"]["httpGet"]["path"]) == 200, tmp_path / "log")
        _wait(lambda: Store(settings).check() or True, tmp_path / "log")
        Store(settings).put_bytes("here", b"it is")
        assert Store(settings).get_bytes("here") == b"it is"
        with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY"):
            Store(replace(settings, secret_key="another")).check()


@dataclass
class Database:
    """Where MLflow of the manifests keeps its tables, as its patch of the Deployment says."""

    component: str
    environment: dict[str, str]
    mounts: dict[str, Path]


def test_mlflow_in_a_file_and_its_backup(store_server: StoreSettings, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, USER, USER)
    database = Database("sqlite", {}, {"/data": data})
    with _mlflow(database, store_server, tmp_path):
        _use_mlflow()
        # While the server runs, as the CronJob does.
        [job] = _pod("mlflow/sqlite/backup.yaml", "CronJob")["containers"]
        keys = _back_up(job["command"], store_server, {"/data": data})
        assert [key.split("/")[0] for key in keys] == ["mlflow.db", "login.db"]
    restore = [*job["command"][:3], "--restore", keys[0], "/data/again.db"]
    assert _backup_container(restore, store_server, {"/data": data}).returncode == 0
    with closing(sqlite3.connect(data / "again.db")) as again:
        assert again.execute("SELECT name FROM experiments WHERE name = 'kept'").fetchall() == [("kept",)]
    once_more = _backup_container(restore, store_server, {"/data": data})
    assert once_more.returncode == 2
    assert "again.db already exists" in once_more.stderr


def test_mlflow_in_postgresql_and_its_backup(
    store_server: StoreSettings, tmp_path: Path, postgres: dict[str, str]
) -> None:
    database = Database("postgres", postgres, {})
    with _mlflow(database, store_server, tmp_path):
        _use_mlflow()
        job = _pod("mlflow/postgres/backup.yaml", "CronJob")
        [dump] = job["initContainers"]
        dumped = tmp_path / "mlflow.dump"
        command = _here([word.replace("/tmp/mlflow.dump", str(dumped)) for word in dump["command"]])
        subprocess.run([_postgres_program("pg_dump"), *command[1:]], env={**os.environ, **postgres}, check=True)
        dumped.chmod(0o644)
    [key] = _back_up(job["containers"][0]["command"], store_server, {"/tmp/mlflow.dump": dumped})
    assert key.startswith("mlflow.dump/")
    fetched = Store(replace(store_server, bucket="mlflow-backups")).get_file(key, tmp_path / "fetched.dump")
    into = ["--host=127.0.0.1", "--username=mlflow", "--dbname=mlflow", "--clean", "--exit-on-error", str(fetched)]
    subprocess.run([_postgres_program("pg_restore"), *into], env={**os.environ, **postgres}, check=True)
    query = ["--host=127.0.0.1", "--username=mlflow", "-Atc", "SELECT name FROM experiments WHERE name = 'kept'"]
    found = subprocess.run(
        [_postgres_program("psql"), *query], env={**os.environ, **postgres}, check=True, capture_output=True
    )
    assert found.stdout == b"kept\n"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Debian's PostgreSQL where the manifest has the official image: same account, database and port."""
    [running] = _pod("mlflow/postgres/database.yaml", "StatefulSet")["containers"]
    environment = {entry["name"]: entry.get("value", "") for entry in running["env"]}
    password, folder = secrets.token_hex(16), tmp_path / "postgres"
    folder.mkdir()
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        shutil.chown(path, "postgres")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)  # pytest's folders are for their owner only, and PostgreSQL refuses to be root
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
    files = ["--pgdata", str(folder / "data"), "--pwfile", str(folder / "password")]
    make = [_postgres_program("initdb"), "--username", environment["POSTGRES_USER"], "--auth=scram-sha-256", *files]
    subprocess.run([*as_user, *make], check=True, capture_output=True)
    serve = [_postgres_program("postgres"), "-D", str(folder / "data"), "-k", "", "-h", "127.0.0.1"]
    login = {"PGPASSWORD": password}
    with _process([*as_user, *serve], tmp_path / "postgres.log", {}):
        probe = running["readinessProbe"]["exec"]["command"]
        ready = [_postgres_program(probe[0]), *probe[1:]]
        _wait(
            lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, tmp_path / "postgres.log"
        )
        make_database = ["--host=127.0.0.1", f"--username={environment['POSTGRES_USER']}", environment["POSTGRES_DB"]]
        subprocess.run([_postgres_program("createdb"), *make_database], env={**os.environ, **login}, check=True)
        yield login


@contextmanager
def _mlflow(database: Database, store: StoreSettings, folder: Path) -> Iterator[None]:
    """The Deployment's two containers, one after the other, with the settings that it gives them."""
    pod = _pod("mlflow/server/server.yaml", "Deployment")
    patch = _pod(f"mlflow/{database.component}/server.yaml", "Deployment")
    [server] = pod["containers"]
    values = {
        entry["name"]: entry["value"] for entry in server["env"] + patch["containers"][0]["env"] if "value" in entry
    }
    environment = {
        **{name: _here([value])[0] for name, value in values.items()},
        **store_environment(store),
        "MLFLOW_S3_ENDPOINT_URL": store.endpoint,
        "MLFLOW_AUTH_ADMIN_USERNAME": LOGIN["MLFLOW_TRACKING_USERNAME"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": LOGIN["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": LOGIN["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        **database.environment,
    }
    login = folder / "basic_auth.ini"
    login.write_text(_here([(COMPONENTS / "mlflow" / database.component / "basic_auth.ini").read_text()])[0])
    made = in_container(IMAGE, *pod["initContainers"][0]["command"], store=store)  # the second test finds the bucket
    assert made.returncode == 0, made.stderr
    mounts = {**database.mounts, "/etc/mlflow/basic_auth.ini": login}
    with container(IMAGE, server["command"], mounts, environment) as name:
        path = server["startupProbe"]["httpGet"]["path"]
        try:
            _wait(lambda: _status(5000, path) == 200, None)
        except AssertionError:
            pytest.fail(logs(name)[-3000:])
        # The kubelet asks by the pod's address.
        assert _status(5000, path, headers={"Host": "10.244.0.7:5000"}) == 200
        yield


def _use_mlflow() -> None:
    """What the steps do with it, and what it must refuse."""
    login = b64encode(f"{LOGIN['MLFLOW_TRACKING_USERNAME']}:{LOGIN['MLFLOW_TRACKING_PASSWORD']}".encode()).decode()
    wrong = b64encode(b"admin:password1234").decode()
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    host = {"Host": "cps-mlflow:5000"}
    assert _status(5000, search, headers=host) == 401
    assert _status(5000, search, headers={**host, "Authorization": f"Basic {wrong}"}) == 401
    assert _status(5000, search, headers={**host, "Authorization": f"Basic {login}"}) == 200
    assert _status(5000, search, headers={"Host": "evil.example", "Authorization": f"Basic {login}"}) == 403
    program = """if True:
        import json, mlflow
        mlflow.set_experiment("kept")
        with mlflow.start_run() as run:
            mlflow.log_metric("mIoU", 0.5, step=1)
            mlflow.log_text("<html>", "report.html")
        print(json.dumps([run.info.run_id, mlflow.artifacts.load_text(run.info.artifact_uri + "/report.html")]))
    """
    environment = {**os.environ, **LOGIN, "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    python = str(Path(weed()).with_name("python"))
    done = subprocess.run([python, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[1] == "<html>"


def _back_up(command: list[str], store: StoreSettings, mounts: dict[str, Path]) -> list[str]:
    done = _backup_container(command, store, mounts)
    assert done.returncode == 0, done.stderr
    return re.findall(r"s3://mlflow-backups/(\S+),", done.stdout)


def _backup_container(
    command: list[str], store: StoreSettings, mounts: dict[str, Path]
) -> "subprocess.CompletedProcess[str]":
    script = {"/backup": COMPONENTS / "mlflow" / "server"}
    return in_container(DATA_IMAGE, *command, mounts={**script, **mounts}, store=store)


def _pod(file: str, kind: str) -> dict[str, Any]:
    """The pod's part of an object in a file of manifests/components."""
    for item in yaml.safe_load_all((COMPONENTS / file).read_text()):
        if item["kind"] == kind:
            spec = item["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else item["spec"]
            return dict(spec["template"]["spec"])
    raise AssertionError(f"{file} has no {kind}")


def _here(words: list[str]) -> list[str]:
    """The services' names as addresses of this network, which has no DNS."""
    return [word.replace("cps-mlflow-database", "127.0.0.1") for word in words]


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=file, stderr=file) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(ready: Callable[[], bool], log: Path | None) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except (UserError, urllib3.exceptions.HTTPError):
            pass
        time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace")[-3000:] if log else "it did not start")


def _status(port: int, path: str, headers: dict[str, str] | None = None) -> int:
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        return int(pool.request("GET", f"http://127.0.0.1:{port}{path}", headers=headers or {}).status)


def _postgres_program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        pytest.fail("PostgreSQL is not installed (apt-get install --no-install-recommends postgresql)")
    return str(found[-1])
