"""The exit handler tells of every job once, whatever else it has to do, and fails for nothing of it."""

from pathlib import Path

import pytest

from components.errors import UserError
from components.progress import EVENTS_VARIABLE, failure
from components.runs.finish import RunEnding, finish_job, message
from components.storage import keys
from components.storage.client import Store
from pipeline.local.ports import LOOPBACK, free_internal_ports
from tests.components.runs.webhook_server import SECRET, Webhook
from tests.run_objects import make_best, make_record, make_result

RUN = "demo-1-8-s0-0123456789ab"
BEST = {"mIoU": 0.4531, "mIoU_low": 0.43, "mIoU_high": 0.47, "epoch": 6, "variant": "ensemble"}


@pytest.fixture
def job(store: Store, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:  # noqa: ARG001
    for name in ("MLFLOW_TRACKING_URI", "CPS_PUBLIC_S3_URL", EVENTS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    store.put_json(keys.job("job"), {"job_id": "job", "run_key": RUN, "dataset": "scenes"})
    store.put_json(keys.run(RUN, "run.json"), make_record(RUN).model_dump(mode="json"))
    result = make_result(RUN, best=make_best(**BEST))
    store.put_json(keys.run(RUN, "result.json"), result.model_dump(mode="json"))
    return store


@pytest.mark.usefixtures("job")
def test_a_success_says_what_came_of_it_once(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_PUBLIC_S3_URL", "https://store.example.com")
    for _ in range(2):  # an exit handler that is tried again
        finish_job("job", "SUCCEEDED")
    [told] = webhook.taken
    assert told.pop("text").splitlines() == [
        f"CPS run {RUN} finished: 45.3 % mIoU (95 % interval 43.0 to 47.0 %)",
        "scenes, 1/8 of the labels, recipe demo, seed 0",
        "Report: https://store.example.com/cps/report",
        "Weights: https://store.example.com/cps/weights",
    ]
    assert told == {
        "event": "cps.run.ended",
        "status": "FINISHED",
        "job_id": "job",
        "run_key": RUN,
        "dataset": "scenes",
        "recipe": "demo",
        "labeled_ratio": "1/8",
        "ratio": "1/8",
        "seed": 0,
        **{f"best_{name}": value for name, value in BEST.items()},
        "report": "https://store.example.com/cps/report",
        "weights": "https://store.example.com/cps/weights",
    }


@pytest.mark.usefixtures("job")
def test_a_failure_says_what_failed_and_no_figures_of_before(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, str(tmp_path / "events"))  # where the steps of a local run say it
    failure("train", "the loss is nan at step 3", 1)
    failure("predict", "what followed from it", 1)
    finish_job("job", "FAILED", "Component exit-handler-1 failed")
    [told] = webhook.taken
    assert (told["status"], told["failure"]) == ("FAILED", "[train] the loss is nan at step 3")
    assert told["text"].startswith(f"CPS run {RUN} failed: [train] the loss is nan at step 3\n")
    assert "best_mIoU" not in told
    monkeypatch.delenv(EVENTS_VARIABLE)
    finish_job("another", "FAILED", "Component exit-handler-1 failed")  # on a cluster, and before it knew its run
    assert webhook.taken[1]["text"] == "CPS job another failed: Component exit-handler-1 failed"
    assert "run_key" not in webhook.taken[1]


@pytest.mark.usefixtures("job")
def test_a_stop_is_no_failure(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_STOPPING", "1")
    finish_job("job", "FAILED")
    assert webhook.taken[0]["status"] == "KILLED"
    assert webhook.taken[0]["text"].startswith(f"CPS run {RUN} was stopped\n")
    assert "failure" not in webhook.taken[0]


@pytest.mark.usefixtures("job")
def test_a_store_that_is_away_is_told_too(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_internal_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{LOOPBACK}:{port}")
    with pytest.raises(UserError):
        finish_job("job", "FAILED", "the object store does not answer")
    assert [told["failure"] for told in webhook.taken] == ["the object store does not answer"]


@pytest.mark.usefixtures("job")
def test_a_webhook_that_fails_is_one_line_and_told_again_by_the_next_attempt(
    webhook: Webhook, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook.answers = [404]
    assert finish_job("job", "SUCCEEDED")["status"] == "FINISHED"
    said = capsys.readouterr().err
    assert said == "[finish] the webhook in CPS_WEBHOOK_URL was not notified: HTTP 404\n"
    assert SECRET not in said
    finish_job("job", "SUCCEEDED")
    assert len(webhook.taken) == 2


def test_without_an_address_nothing_is_said(
    job: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CPS_WEBHOOK_URL", raising=False)
    assert finish_job("job", "SUCCEEDED")["status"] == "FINISHED"
    assert capsys.readouterr().err == ""
    assert job.stat(keys.job_notified("job")) is None


def test_what_slack_would_read_as_markup_is_escaped() -> None:
    told = RunEnding(status="FAILED", job_id="1", failure="<!channel> a & b > c")
    assert message(told) == "CPS job 1 failed: &lt;!channel&gt; a &amp; b &gt; c"


@pytest.mark.parametrize(("ratio", "labels"), [("1/4", "1/4 of the labels"), ("1/1", "all labels")])
def test_the_share_of_the_labels_reads_as_words(ratio: str, labels: str) -> None:
    run = {"run_key": RUN, "dataset": "photos", "recipe": "demo", "labeled_ratio": ratio, "seed": 0}
    assert message(RunEnding(status="KILLED", **run)).splitlines()[1] == f"photos, {labels}, recipe demo, seed 0"
