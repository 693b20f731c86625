"""The whole pipeline from the shell, with real services: generated scenes in; weights, report and gallery out."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from components.storage.client import Store
from components.storage.settings import settings_from_environment

ROOT = Path(__file__).parents[2]
SCENES = "scenes:train=16,val=4,width=128,height=64,seed=0"
RUN = ("run", "--dataset", SCENES, "--ratio", "1/4", "--eval-shards", "2", "--predict-limit", "2", "--json")
SETTINGS = (
    *(
        word
        for name in ("augmentation.crop", "evaluation.crop", "evaluation.stride")
        for word in ("--set", f"{name}=[64, 64]")
    ),
    *("--epochs", "20", "--set", "training.checkpoints=2"),
)


# What a person may have in the environment, and nobody may find again.
PLANTED = {
    "CPS_DOWNLOAD_TOKEN": "planted-download-token",
    "CPS_DOWNLOAD_PASSWORD": "planted-download-password",
    "MLFLOW_TRACKING_USERNAME": "planted-mlflow-user",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "CPS_WEBHOOK_URL": "http://127.0.0.1:9/planted-webhook",
    "KFP_EXISTING_TOKEN": "planted-kfp-token",
    "KF_PIPELINES_ENDPOINT": "http://127.0.0.1:9/planted-endpoint",
}


@dataclass
class Shell:
    """A directory to work in, with services of its own."""

    folder: Path
    said: list[str] = field(default_factory=list)
    """Standard output and error of every command that ran to its end."""

    @property
    def environment(self) -> dict[str, str]:
        foreign = ("AWS_", "MLFLOW_", "CPS_", "KFP_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        own = {"CPS_HOME": str(self.folder / "home"), "CPS_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        return {**clean, **own, **PLANTED}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=280)
        self.said += [out, err]
        return process.returncode, out, err

    def json(self, *arguments: str) -> Any:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp("end-to-end"))
    yield shell
    assert shell.run("down")[0] == 0


@pytest.fixture(scope="module")
def interrupted(shell: Shell) -> str:
    """The key of a run that Ctrl-C stopped as it trained."""
    process = shell.start(*RUN, *SETTINGS)
    said: list[str] = []
    in_training = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                said.append(line)
                if line.startswith("[train]") and "loss" in line:
                    in_training.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert in_training.wait(120), "".join(said)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    reader.join()
    assert process.stdout is not None
    process.stdout.close()
    assert said[-1] == "cps: stopped; run the same command again to resume\n"
    [row] = shell.json("compare", "--json")
    assert (row["status"], row["best_mIoU"]) == ("KILLED", None)
    return str(row["run_key"])


@pytest.fixture(scope="module")
def first(shell: Shell, interrupted: str) -> Any:
    """The result of that run, which resumes."""
    words = ("--dataset", SCENES, "--eval-shards", "2", "--predict-limit", "2", "--json")
    code, out, err = shell.run("run", "--resume", interrupted, *words)
    assert code == 0, err
    assert "resuming from step" in err
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.timeout(400)
class TestEndToEnd:
    def test_an_interrupted_run_goes_on_and_gives_weights_figures_and_pages(
        self, first: Any, interrupted: str, shell: Shell
    ) -> None:
        assert first["run_key"].startswith("scenes-demo-1-4-s0-")
        assert first["run_key"] == interrupted
        assert first["images"] == 4
        assert [row["epoch"] for row in first["checkpoints"]][1:] == [20]
        scored = [row[variant] for row in first["checkpoints"] for variant in ("left", "right", "ensemble")]
        assert first["best"]["mIoU"] == max(scored)
        assert first["constant_prediction_mIoU"] > 0
        for page in ("report", "gallery"):
            text = Path(first["files"][page]).read_text()
            assert text.lstrip().lower().startswith("<!doctype html>")
        assert Path(first["files"]["report"]).parent == shell.folder / "home" / "runs" / first["run_key"]

    def test_the_weights_can_be_pulled_and_are_what_the_result_says(self, first: Any, shell: Shell) -> None:
        [listed] = shell.json("weights", "list", "--json")
        assert (listed["run_key"], listed["sha256"]) == (first["run_key"], first["weights"]["sha256"])
        code, out, err = shell.run("weights", "pull", "demo-1-4", "-o", "best.safetensors")
        assert code == 0, err
        data = (shell.folder / "best.safetensors").read_bytes()
        assert hashlib.sha256(data).hexdigest() == first["weights"]["sha256"]
        assert first["weights"]["sha256"] in out
        with safe_open(shell.folder / "best.safetensors", "numpy") as weights:
            assert weights.metadata()["run_key"] == first["run_key"]
        assert shell.run("weights", "pull", "nothing")[0] == 2

    def test_gc_leaves_what_is_in_use_as_it_is(self, first: Any, shell: Shell) -> None:  # noqa: ARG002
        store = Store(settings_from_environment(exported(shell)))
        before = {ref.key: (ref.size, ref.modified) for ref in store.list("")}
        assert len(before) > 15
        assert shell.run("gc", "--grace", "0s", "--yes")[0] == 0
        assert {ref.key: (ref.size, ref.modified) for ref in store.list("")} == before

    def test_a_link_needs_no_keys(self, first: Any, shell: Shell) -> None:
        import urllib.request

        _, link, _ = shell.run("weights", "link", first["run_key"], "--expires", "5m")
        with urllib.request.urlopen(link.strip(), timeout=10) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == first["weights"]["sha256"]

    def test_mlflow_has_the_run_once_with_its_status_and_figures(self, first: Any, shell: Shell) -> None:
        [row] = shell.json("compare", "--json")
        assert row["run_key"] == first["run_key"]
        assert row["status"] == "FINISHED"
        assert row["best_mIoU"] == pytest.approx(first["best"]["mIoU"])
        assert (row["recipe"], row["labeled_ratio"], row["seed"], row["dataset"]) == ("demo", "1/4", "0", "scenes")
        assert (row["epoch"], row["variant"]) == (str(first["best"]["epoch"]), first["best"]["variant"])
        assert row["weights"] == first["weights"]["uri"]

    def test_the_same_again_is_found_in_the_store_without_mlflow(self, first: Any, shell: Shell) -> None:
        assert shell.run("down")[0] == 0
        code, out, err = shell.run(*RUN, *SETTINGS)
        assert code == 0, err
        again = json.loads(out)
        for name in ("run_key", "best", "checkpoints", "weights", "predictions", "files", "experiment"):
            assert again[name] == first[name]
        assert f"[run] already complete: {first['run_key']}" in err
        assert "[run] MLflow is not running: `cps up` starts it" in err
        assert "[train]" not in err

    def test_steps_that_are_done_are_recognised(self, first: Any, shell: Shell) -> None:
        code, out, err = shell.run(*RUN, *SETTINGS, "--set", "training.loader_workers=1")
        assert code == 0, err
        again = json.loads(out)
        for name in ("run_key", "best", "checkpoints", "weights", "predictions"):
            assert again[name] == first[name]
        for found in ("prepared before", "already trained", "already scored", "already selected", "already predicted"):
            assert found in err
        [row] = shell.json("compare", "--json")
        assert row["status"] == "FINISHED"

    def test_a_failure_of_a_step_is_one_line_at_the_end(self, first: Any, shell: Shell) -> None:  # noqa: ARG002
        empty = shell.folder / "empty"
        empty.mkdir()
        code, out, err = shell.run("run", "--dataset", "empty", "--json")
        assert code == 2
        assert out == ""
        last = err.splitlines()[-1]
        assert last.startswith("cps: error: [prepare-dataset] ")
        assert str(empty) in last

    def test_a_matrix_finds_the_finished_run_and_trains_its_twin(self, first: Any, shell: Shell) -> None:
        words = ("matrix", "--dataset", SCENES, "--ratios", "1/4", "--seeds", "0", "--baseline", "--eval-shards", "1")
        study = shell.json(*words, *SETTINGS, "--json")
        keys = [run["run_key"] for run in study["runs"]]
        assert keys[1] == first["run_key"]
        assert keys[0] != keys[1]
        assert study["runs"][1]["mIoU"] == first["checkpoints"][-1]["ensemble"]
        (gain,) = study["gains"]
        assert gain["gain"] == study["runs"][1]["mIoU"] - study["runs"][0]["mIoU"]
        assert (shell.folder / "matrix" / "matrix.html").stat().st_size > 10_000

    def test_no_secret_is_in_what_was_said_logged_or_stored(self, first: Any, shell: Shell) -> None:
        said = "".join(shell.said)
        assert first["run_key"] in said
        services = exported(shell)
        wanted = [services["AWS_SECRET_ACCESS_KEY"], services["AWS_ACCESS_KEY_ID"], *PLANTED.values()]
        logs = list((shell.folder / "home" / "logs").iterdir())
        assert any(first["run_key"] in log.read_text(errors="replace") for log in logs)
        pages = [path for path in (shell.folder / "home" / "runs").rglob("*") if path.is_file()]
        assert len(pages) >= 2
        store = Store(settings_from_environment(services))
        keys = [ref.key for ref in store.list("")]
        assert f"runs/{first['run_key']}/run.json" in keys
        places: dict[str, bytes] = {"what was said": said.encode()}
        places |= {str(path): path.read_bytes() for path in (*logs, *pages)}
        places |= {key: store.get_bytes(key) for key in keys}
        found = [(place, secret) for place, data in places.items() for secret in wanted if secret.encode() in data]
        # The keys of a presigned link name who signed it.
        assert [place for place, secret in found if (place, secret) != ("what was said", wanted[1])] == []


def exported(shell: Shell) -> dict[str, str]:
    """The services' addresses and keys, which `cps up --export` says on purpose."""
    _, out, _ = shell.run("up", "--export")
    del shell.said[-2:]
    pairs = [line.removeprefix("export ").split("=", 1) for line in out.splitlines() if line.startswith("export ")]
    return {name: shlex.split(value)[0] for name, value in pairs}
