"""`cps submit`, `cps schedule` and `cps runs` on a server, as a shell sees them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.storage import keys
from components.storage.client import Store
from components.storage.lease import DURATION
from pipeline.cli.commands import submit
from pipeline.cli.main import _run
from pipeline.cluster import status
from pipeline.cluster.schedules import cron_with_seconds, interval_seconds
from tests.pipeline.kfp_records import INVALID, Refused
from tests.pipeline.kfp_server import BASE, KfpServer

Captured = pytest.CaptureFixture[str]
SECRETS = {
    "AWS_ACCESS_KEY_ID": "planted-access-key",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
    "AWS_ENDPOINT_URL": "http://planted-store.example.com",
    "MLFLOW_TRACKING_URI": "http://planted-user:planted-password@mlflow.example.com",
    "CPS_DOWNLOAD_TOKEN": "planted-download-token",
    "KFP_EXISTING_TOKEN": "planted-token",
}


@pytest.fixture(autouse=True)
def quick(kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.address)
    monkeypatch.setattr(status, "POLL_SECONDS", 0.0)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause before a run is submitted again, which a test does not wait for."""
    taken = list[float]()
    monkeypatch.setattr(submit, "sleep", taken.append)
    return taken


def cps(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    code = _run(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def parameters(kfp_server: KfpServer) -> dict[str, Any]:
    (body,) = kfp_server.made("runs")
    return dict(body["runtime_config"]["parameters"])


class TestSubmit:
    def test_the_id_is_on_standard_output_and_the_rest_on_the_other(
        self, capsys: Captured, kfp_server: KfpServer
    ) -> None:
        code, out, err = cps(capsys, "submit")
        assert code == 0
        assert out.strip() in kfp_server.records.runs
        assert f"[run] scenes seed 0: {kfp_server.address}/#/runs/details/{out.strip()}" in err

    def test_options_become_parameters(self, capsys: Captured, kfp_server: KfpServer) -> None:
        words = "--dataset s3://data/photos.tar --ratio 1/4 --recipe photos --seed 3 --epochs 2 --gpus 4"
        words += " --set cps.weight=0.5 --cpu 16 --memory 64Gi --shm 32Gi --node-selector pool=gpu"
        words += (
            " --toleration nvidia.com/gpu --toleration spot=true:NoSchedule --image registry/cps:1 --store-secret mine"
        )
        assert cps(capsys, "submit", *words.split())[0] == 0
        given = parameters(kfp_server)
        assert json.loads(given["overrides"]) == {"cps.weight": 0.5}
        expected = {
            "dataset": "s3://data/photos.tar",
            "labeled_ratio": "1/4",
            "recipe": "photos",
            "seed": 3,
            "epochs": 2,
            "gpus": 4,
            "eval_shards": 2,
            "eval_gpus": 1,
            "cpu": "16",
            "memory": "64Gi",
            "shm": "32Gi",
            "node_selector": {"pool": "gpu"},
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists"},
                {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
            ],
            "image": "registry/cps:1",
            "store_secret": "mine",
            "settings_config_map": "cps-settings",
        }
        assert {name: given[name] for name in expected} == expected

    @pytest.mark.parametrize(
        ("words", "gpus"),
        [("", 0), ("--gpus 4", 1), ("--gpus 4 --eval-gpus 0", 0), ("--eval-gpus 1", 1)],
    )
    def test_evaluation_uses_gpus_if_training_does(
        self, capsys: Captured, kfp_server: KfpServer, words: str, gpus: int
    ) -> None:
        assert cps(capsys, "submit", *words.split())[0] == 0
        assert parameters(kfp_server)["eval_gpus"] == gpus

    def test_every_parameter_of_the_pipeline_is_sent(self, capsys: Captured, kfp_server: KfpServer) -> None:
        cps(capsys, "submit")
        (version,) = kfp_server.records.versions.values()
        known = version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
        assert set(parameters(kfp_server)) == set(known)

    def test_nothing_of_this_environment_is_sent_or_shown(
        self, capsys: Captured, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        kfp_server.token = SECRETS["KFP_EXISTING_TOKEN"]
        _, out, err = cps(capsys, "submit", "--watch", "--json")
        assert json.loads(out)["state"] == "SUCCEEDED"
        assert "planted" not in out + err
        assert "planted" not in str(kfp_server.requests)
        assert any(b"uploadfile" in body for _, _, body in kfp_server.requests if isinstance(body, bytes))
        planted = {name.title() for sent in kfp_server.headers for name, value in sent.items() if "planted" in value}
        assert planted == {"Authorization"}

    def test_watching_says_each_change_once_and_json_comes_last(self, capsys: Captured) -> None:
        code, out, err = cps(capsys, "submit", "--watch", "--json", "--name", "mine")
        assert code == 0
        said = [line for line in err.splitlines() if line.startswith("[train]")]
        assert said == ["[train] waiting", "[train] running", "[train] done in 1.0 s"]
        assert "[evaluate] done, 2 of 2 tasks done in 1.0 s" in err
        assert err.splitlines()[-1] == "[run] done"
        assert (json.loads(out)["state"], json.loads(out)["name"]) == ("SUCCEEDED", "mine")

    def test_a_run_that_fails_is_one_line_and_1(self, capsys: Captured, kfp_server: KfpServer) -> None:
        kfp_server.records.failing = "evaluate"
        code, out, err = cps(capsys, "submit", "--watch", "--json")
        assert code == 1
        assert json.loads(out)["state"] == "FAILED"
        assert err.splitlines()[-1].startswith("cps: error: run scenes seed 0 failed in step 'evaluate'; see its log")

    @pytest.mark.parametrize("through_ui", [False, True])
    @pytest.mark.parametrize(
        ("version", "said"),
        [
            ("2.17.0", ""),
            ("v2.18.0-rc.1", ""),
            ("3.0.1", ""),
            (
                "2.16.1",
                "the KFP server is release 2.16.1, but this pipeline needs 2.17 or newer: before 2.15, its driver",
            ),
            ("2.5.0", "the KFP server is release 2.5.0, but this pipeline needs 2.17 or newer"),
            ("unknown", "the KFP server does not report its release (unknown); 2.17 or newer is needed"),
            ("", "the KFP server does not report its release (none); 2.17 or newer is needed"),
        ],
    )
    def test_an_older_server_is_one_line(
        self, capsys: Captured, kfp_server: KfpServer, version: str, said: str, through_ui: bool
    ) -> None:
        kfp_server.version, kfp_server.through_ui = version, through_ui
        code, _, err = cps(capsys, "submit")
        warnings = [line for line in err.splitlines() if "warning" in line]
        assert code == 0
        assert len(warnings) == bool(said)
        assert all(line.startswith(f"[pipeline] warning: {said}") for line in warnings)

    def test_what_an_older_server_or_driver_says_is_explained(
        self, capsys: Captured, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = 'failed to unmarshal Kubernetes config, error: unknown field "optional" in KubernetesExecutorConfig'
        explained = "it is older than this pipeline, which needs release 2.17 or newer"
        kfp_server.records.failing, kfp_server.records.error = "prepare-dataset", refusal
        code, _, err = cps(capsys, "submit", "--watch")
        assert code == 1
        assert f"{refusal}; the KFP server rejected the pipeline because {explained}" in err.splitlines()[-1]

        def refuse(*_: Any) -> None:
            raise Refused(INVALID, refusal)

        monkeypatch.setattr(kfp_server.records, "create_run", refuse)
        code, _, err = cps(capsys, "submit")
        assert code == 2
        assert err.splitlines()[-1].endswith(f"rejected the request (400): {refusal}; {explained}")

    def test_a_failed_run_is_submitted_again_until_it_succeeds(
        self, capsys: Captured, kfp_server: KfpServer, pauses: list[float]
    ) -> None:
        kfp_server.records.failing_next = ["train", "evaluate"]
        code, out, err = cps(capsys, "submit", "--watch", "--retries", "3", "--json", "--seed", "5")
        assert code == 0
        first, second, last = kfp_server.records.runs
        shown = json.loads(out)
        assert (shown["run_id"], shown["failed_run_ids"], shown["state"]) == (last, [first, second], "SUCCEEDED")
        # The same parameters make the same run key, under which the steps find what they stored.
        assert [body["runtime_config"]["parameters"]["seed"] for body in kfp_server.made("runs")] == [5, 5, 5]
        assert pauses == [DURATION, DURATION]
        retried = [line for line in err.splitlines() if "again" in line]
        assert retried == [
            f"[run] submitting it again in 60 s (retry {number} of 3); finished work is kept" for number in (1, 2)
        ]
        assert "failed in step 'train'; see its log" in err

    def test_retries_end(self, capsys: Captured, kfp_server: KfpServer, pauses: list[float]) -> None:
        kfp_server.records.failing = "train"
        code, _, err = cps(capsys, "submit", "--watch", "--retries", "2")
        assert (code, len(kfp_server.records.runs), len(pauses)) == (1, 3, 2)
        assert err.splitlines()[-1].startswith("cps: error: run scenes seed 0 failed in step 'train'")

    def test_a_wrong_dataset_and_a_termination_are_not_retried(
        self, capsys: Captured, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kfp_server.records.failing_next = ["prepare-dataset"]
        assert cps(capsys, "submit", "--watch", "--retries", "2")[0] == 1
        assert len(kfp_server.records.runs) == 1
        follow = status.follow

        def terminated(server: Any, run_id: str, draw: Any) -> Any:
            kfp_server.records.terminate(run_id)
            return follow(server, run_id, draw)

        monkeypatch.setattr(status, "follow", terminated)
        code, _, err = cps(capsys, "submit", "--watch", "--retries", "2")
        assert (code, len(kfp_server.records.runs)) == (1, 2)
        assert "was terminated" in err.splitlines()[-1]

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--retries", "1"], "--retries needs --watch"),
            (["--ratio", "3/2"], "'3/2'"),
            (["--recipe", "demu"], "did you mean 'demo'?"),
            (["--recipe", "mine.yaml"], "is a file on this machine"),
            (["--dataset", "photos/"], "dataset 'photos/' is a path on this machine"),
            (["--dataset", "ftp://x/y.tar"], "only http://, https:// and s3:// are supported"),
            (["--set", "network.pretrained=weights.npz"], "network.pretrained 'weights.npz' is a path on this machine"),
            (["--predict", "photos"], "predict_images is 'photos': give val, test, unlabeled, an s3:// prefix"),
            (["--memory", "lots"], "memory is 'lots'"),
            (["--cpu", "0"], "cpu is '0'"),
            (["--accelerator", "gpu"], "accelerator is 'gpu'"),
            (["--gpus", "4", "--processes", "2"], "gpus is 4 and processes is 2"),
            (["--toleration", "a:Sometimes"], "--toleration 'a:Sometimes'"),
            (["--node-selector", "spot"], "--node-selector 'spot'"),
            (["--secret-fields", "one"], "must be two names"),
            (["--ca-cert", "nowhere.pem"], "--ca-cert 'nowhere.pem' is not a file"),
            (["--set", "training.epochs"], "must be NAME=VALUE"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_mistake_is_2_and_nothing_is_sent(
        self, arguments: list[str], named: str, capsys: Captured, kfp_server: KfpServer
    ) -> None:
        code, out, err = cps(capsys, "submit", *arguments)
        assert (code, out) == (2, "")
        assert named in err
        assert len(err.splitlines()) == 1
        assert kfp_server.requests == []

    def test_a_server_that_is_not_there_is_2_and_one_line(
        self, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
        code, out, err = cps(capsys, "submit")
        assert (code, out) == (2, "")
        assert err.startswith("cps: error: the KFP server http://127.0.0.1:9 does not respond")
        assert len(err.splitlines()) == 1

    def test_a_namespace_goes_with_everything(self, capsys: Captured, kfp_server: KfpServer) -> None:
        assert cps(capsys, "submit", "-n", "team-a")[0] == 0
        assert kfp_server.made("pipelines")[0]["namespace"] == "team-a"
        assert kfp_server.made("experiments")[0]["namespace"] == "team-a"
        assert cps(capsys, "submit", "-n", "team-a")[0] == 0
        assert len(kfp_server.records.versions) == 1


class TestRuns:
    def test_runs_are_listed_shown_watched_and_terminated(self, capsys: Captured, kfp_server: KfpServer) -> None:
        first = cps(capsys, "submit", "--name", "first")[1].strip()
        second = cps(capsys, "submit", "--name", "second")[1].strip()
        _, out, _ = cps(capsys, "runs", "list", "--cluster")
        assert [line.split()[0] for line in out.splitlines()[1:]] == [second, first]
        assert [run["name"] for run in json.loads(cps(capsys, "runs", "list", "--cluster", "--json")[1])] == [
            "second",
            "first",
        ]
        assert cps(capsys, "runs", "watch", first[:8])[0] == 0
        _, out, _ = cps(capsys, "runs", "show", "first", "--cluster")
        assert "train            done in 1.0 s" in out.splitlines()
        assert out.splitlines()[-1] == f"{kfp_server.address}/#/runs/details/{first}"
        shown = json.loads(cps(capsys, "runs", "show", "first", "--cluster", "--json")[1])
        assert (shown["state"], shown["steps"]["predict"]["state"]) == ("SUCCEEDED", "SUCCEEDED")
        code, out, _ = cps(capsys, "runs", "terminate", "second", "--yes")
        assert (code, out) == (0, f"terminating second ({second})\n")
        code, _, err = cps(capsys, "runs", "watch", "second")
        assert code == 1
        assert err.splitlines()[-1].startswith("cps: error: run second was terminated")
        assert cps(capsys, "runs", "terminate", "second", "--yes")[0] == 2

    def test_the_mlflow_run_of_a_terminated_run_is_closed(
        self, capsys: Captured, kfp_server: KfpServer, store: Store, request: pytest.FixtureRequest
    ) -> None:
        """No exit handler runs: KFP stops a run by a deadline in the past, after which Argo makes no pods."""
        run_id = cps(capsys, "submit")[1].strip()
        _, _, err = cps(capsys, "runs", "terminate", run_id, "--yes")
        assert (
            "MLflow still shows the run as running: set AWS_ENDPOINT_URL and MLFLOW_TRACKING_URI here to close it"
            in err
        )
        request.getfixturevalue("store_environment")
        request.getfixturevalue("monkeypatch").setenv(
            "MLFLOW_TRACKING_URI", request.getfixturevalue("refusing_tracker")
        )
        run_id = cps(capsys, "submit")[1].strip()
        kfp_server.records.get_run(run_id)
        assert "has no record of it" in cps(capsys, "runs", "terminate", run_id, "--yes")[2]
        run_id = cps(capsys, "submit")[1].strip()
        store.put_json(keys.job(run_id), {"job_id": run_id, "run_key": "demo-1-8-s0-0123456789ab", "dataset": "scenes"})
        _, _, err = cps(capsys, "runs", "terminate", run_id, "--yes")
        assert kfp_server.records.runs[run_id].shown["state"] == "FAILED", "it was waited for"
        assert "MLflow at http://127.0.0.1" in err, "it was asked to close the run"
        assert "has no record of it" not in err

    def test_a_run_that_is_not_there_is_2(self, capsys: Captured) -> None:
        for command in (["watch", "x"], ["show", "x", "--cluster"], ["terminate", "x", "--yes"]):
            code, out, err = cps(capsys, "runs", *command)
            assert (code, out) == (2, "")
            assert "'x' is not a run among the newest on" in err


class TestSchedule:
    def test_one_is_made_paused_resumed_and_deleted(self, capsys: Captured, kfp_server: KfpServer) -> None:
        words = ["schedule", "add", "--cron", "0 3 * * *", "--name", "nightly", "--ratio", "1/16"]
        code, out, _ = cps(capsys, *words)
        assert code == 0
        (made,) = kfp_server.records.recurring.values()
        assert made["recurring_run_id"] == out.strip()
        assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
        assert (made["mode"], made["max_concurrency"], made["no_catchup"]) == ("ENABLE", "1", True)
        assert made["runtime_config"]["parameters"]["labeled_ratio"] == "1/16"
        assert cps(capsys, "schedule", "pause", "nightly")[1] == "nightly is paused\n"
        (listed,) = json.loads(cps(capsys, "schedule", "list", "--json")[1])
        assert (listed["enabled"], listed["cron"]) == (False, "0 0 3 * * *")
        assert cps(capsys, "schedule", "resume", out.strip()[:8])[1] == "nightly is on\n"
        assert "on      0 0 3 * * *" in cps(capsys, "schedule", "list")[1]
        assert cps(capsys, "schedule", "delete", "nightly", "--yes")[0] == 0
        assert kfp_server.records.recurring == {}
        assert cps(capsys, "schedule", "delete", "nightly", "--yes")[0] == 2

    def test_an_interval(self, capsys: Captured, kfp_server: KfpServer) -> None:
        code, out, _ = cps(capsys, "schedule", "add", "--every", "12h", "--json")
        assert code == 0
        assert json.loads(out)["interval_seconds"] == 43200
        (made,) = kfp_server.records.recurring.values()
        assert made["trigger"] == {"periodic_schedule": {"interval_second": 43200}}
        assert "every 43200 s" in cps(capsys, "schedule", "list")[1]

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ([], "give either --cron or --every"),
            (["--cron", "0 3 * * *", "--every", "1d"], "give either --cron or --every"),
            (["--cron", "nightly"], "must have five fields"),
            (["--every", "0h"], "must be a duration such as"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_when_must_be_said_once(
        self, arguments: list[str], named: str, capsys: Captured, kfp_server: KfpServer
    ) -> None:
        code, _, err = cps(capsys, "schedule", "add", *arguments)
        assert code == 2
        assert named in err
        assert kfp_server.requests == []


def test_cron_gets_its_seconds() -> None:
    assert cron_with_seconds("*/15 8-17 * * MON-FRI") == "0 */15 8-17 * * MON-FRI"
    assert cron_with_seconds("30 0 3 * * ?") == "30 0 3 * * ?"
    for wrong in ("", "@daily", "1 2 3 4", "1 2 3 4 5 6 7", "0 3 * * *;x"):
        with pytest.raises(UserError, match="--cron"):
            cron_with_seconds(wrong)


def test_intervals() -> None:
    assert [interval_seconds(text) for text in ("30m", "12h", "1d", "2w")] == [1800, 43200, 86400, 1209600]
    for wrong in ("", "30", "30s", "1.5h", "-1d"):
        with pytest.raises(UserError, match="--every"):
            interval_seconds(wrong)


def test_the_server_saw_only_the_api(capsys: Captured, kfp_server: KfpServer, tmp_path: Path) -> None:
    cps(capsys, "submit")
    assert all(path.startswith(BASE) for _, path, _ in kfp_server.requests)
    assert list(tmp_path.iterdir()) == []
