"""Addresses for people."""

import pytest

from components.storage.settings import object_link
from components.tracking.address import tracking_link

PAGE = "#/experiments/1/runs/2"


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CPS_PUBLIC_S3_URL", "CPS_PUBLIC_MLFLOW_URL"):
        monkeypatch.delenv(name, raising=False)


def test_without_an_address_objects_have_no_link_and_mlflow_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert object_link("s3://cps/runs/a") == ""
    assert tracking_link("http://mlflow:5000/", PAGE) == f"http://mlflow:5000/{PAGE}"
    assert tracking_link("http://mlflow:5000", "") == ""
    assert tracking_link("", PAGE) == tracking_link("file:///tmp/runs", PAGE) == ""
    monkeypatch.setenv("CPS_PUBLIC_S3_URL", "s3.example.com")
    assert object_link("s3://cps/runs/a") == ""


def test_links_lead_to_the_addresses_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_PUBLIC_S3_URL", "https://s3.example.com/")
    monkeypatch.setenv("CPS_PUBLIC_MLFLOW_URL", "https://mlflow.example.com/sub/")
    assert object_link("s3://cps/runs/a b/report.html") == "https://s3.example.com/cps/runs/a%20b/report.html"
    assert object_link("https://elsewhere/x") == ""
    assert tracking_link("http://mlflow:5000", PAGE) == f"https://mlflow.example.com/sub/{PAGE}"
