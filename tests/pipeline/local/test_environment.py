import socket
import time
from pathlib import Path

import pytest

from components.disk import state_home
from components.errors import UserError
from components.runs.request import RunRequest
from components.runs.steps import prepare_dataset
from components.storage.client import Store
from components.tracking.address import check_tracking_address
from pipeline.local.environment import SERVICE_VARIABLES, resolve_environment, store_of, tracking_environment
from pipeline.local.services import services_status
from pipeline.local.state import PROFILE

SCENES = RunRequest(dataset="scenes")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVICE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_home_is_beside_the_user_or_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPS_HOME", raising=False)
    assert state_home() == tmp_path / ".cps"
    monkeypatch.setenv("CPS_HOME", "elsewhere")
    assert state_home() == tmp_path / "elsewhere"


def test_the_users_own_services_are_used_and_nothing_is_started(
    tmp_path: Path, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    environment = resolve_environment(tmp_path / "home")
    assert environment == {**store_environment, "MLFLOW_TRACKING_URI": "http://tracking:5000"}
    assert tracking_environment()["MLFLOW_TRACKING_URI"] == "http://tracking:5000"
    assert not (tmp_path / "home").exists()


def test_an_unreachable_store_is_one_line_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
        begun = time.monotonic()
        with pytest.raises(UserError, match=f"{endpoint} does not answer"):
            resolve_environment(tmp_path / "home")
    assert time.monotonic() - begun < 8
    assert services_status(tmp_path / "home") == []


@pytest.mark.parametrize(
    "address", ["localhost:5000", "mlflow.example.com", "http://", "http://host:port", "https:/host", "mlruns"]
)
def test_an_mlflow_address_without_a_scheme_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    expected = f"MLFLOW_TRACKING_URI={address!r} is not an address: write it as http://host:port"
    for start in (
        lambda: resolve_environment(tmp_path / "home"),
        tracking_environment,
        lambda: prepare_dataset(SCENES),
    ):
        with pytest.raises(UserError) as caught:
            start()
        assert str(caught.value) == expected
    assert not (tmp_path / "home").exists()


def test_what_mlflow_takes_as_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "https://me:pass@host", "http://[::1]:5000/base", "sqlite:////a.db", "file:///a", "databricks"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        check_tracking_address()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "me:secret@host:5000")
    with pytest.raises(UserError) as caught:
        check_tracking_address()
    assert "secret" not in str(caught.value)


def test_a_store_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    with pytest.raises(UserError, match="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"):
        resolve_environment(tmp_path / "home")


def test_credentials_that_only_this_process_knows_open_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    profile = tmp_path / "credentials"
    profile.write_text(PROFILE.format(store.settings.access_key, store.settings.secret_key))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.settings.endpoint)
    monkeypatch.setenv("CPS_BUCKET", store.settings.bucket)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    environment = resolve_environment(tmp_path / "home")
    assert "AWS_ACCESS_KEY_ID" not in environment
    found = store_of(environment)
    assert found.settings.access_key == store.settings.access_key
    found.check(writes=True)
