import pytest

from components.addresses import past_proxies, proxy_of, through_proxy, without_login


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_login_is_left_out() -> None:
    assert without_login("https://me:pass@host:1/a?b=@") == "https://host:1/a?b=@"
    assert without_login("sqlite:///a@b") == "sqlite:///a@b"


def test_a_proxy_is_named_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    assert through_proxy("http://mlflow.example.com") == ""
    monkeypatch.setenv("HTTP_PROXY", "me:pass@proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.internal")
    assert proxy_of("http://mlflow.example.com:5000") == "http://me:pass@proxy.example.com:3128"
    assert through_proxy("http://mlflow.example.com") == " through the proxy http://proxy.example.com:3128"
    for direct in ("https://mlflow.example.com", "http://127.0.0.1:5000", "http://mlflow.internal", "sqlite:///a.db"):
        assert proxy_of(direct) == through_proxy(direct) == "", direct


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
    assert past_proxies(environ).get("no_proxy") == expected
    assert past_proxies(environ).get("NO_PROXY") == expected
