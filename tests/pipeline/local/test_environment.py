import socket
import time
from pathlib import Path

import pytest

from components.disk import state_home
from components.errors import UserError
from pipeline.local.environment import SERVICE_VARIABLES, resolve_environment, tracking_environment
from pipeline.local.services import _past_proxies, services_status


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


def test_a_store_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    with pytest.raises(UserError, match="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"):
        resolve_environment(tmp_path / "home")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NO_PROXY": "intranet"}, None),
        ({"HTTP_PROXY": "http://proxy"}, "127.0.0.1,localhost"),
        ({"http_proxy": "http://proxy", "no_proxy": "intranet,localhost"}, "intranet,localhost,127.0.0.1"),
    ],
)
def test_proxies_are_not_asked_for_this_machine(environ: dict[str, str], expected: str | None) -> None:
    assert _past_proxies(environ).get("no_proxy") == expected
    assert _past_proxies(environ).get("NO_PROXY") == expected
