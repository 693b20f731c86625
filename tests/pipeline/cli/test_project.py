"""cps.yaml: what it sets, what overrides it, and how mistakes in it are reported."""

import os
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipeline.cli import project
from pipeline.cli.options import DATASET, LENGTH, PREDICTION, RATIO, RECIPE, SEED, with_options
from tests.pipeline.in_process import cps


def invoke(folder: Path, *arguments: str, saves: bool = False) -> dict[str, Any]:
    """The parameters of a command with the options of `cps run`, in a folder that may have a cps.yaml."""
    taken: dict[str, Any] = {}

    @click.group()
    @click.pass_context
    def group(context: click.Context) -> None:
        project.apply(context, folder)

    @group.command()
    @click.option("--resume", default="", is_eager=True)
    @with_options(DATASET, RATIO, RECIPE, SEED, LENGTH, PREDICTION)
    @click.pass_context
    def run(context: click.Context, /, **options: Any) -> None:
        taken.update(options)
        if saves:
            project.save(context, folder, {"MLFLOW_TRACKING_URI": "http://me:secret@host:5000"})

    group.main(["run", *arguments], standalone_mode=False)
    return taken


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_ENDPOINT_URL", "MLFLOW_TRACKING_URI", "CPS_BUCKET", "KF_PIPELINES_ENDPOINT"):
        monkeypatch.setenv(name, "")  # also restores them afterwards
    (tmp_path / "cps.yaml").write_text(
        "dataset: [a b.zip, masks.zip]\n"
        "ratio: 1/4\n"
        "recipe: photos\n"
        "seed: 3\n"
        "set: {training.epochs: 5, optimization.learning_rate: 0.01}\n"
        "endpoints: {store: http://store:9000, mlflow: http://mlflow:5000}\n"
    )
    return tmp_path


def test_the_file_sets_what_the_command_line_and_the_environment_do_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine:5000")
    taken = invoke(folder, "--seed", "4", "--set", "training.epochs=6")
    assert (taken["dataset"], taken["labeled_ratio"], taken["recipe"]) == ("'a b.zip' masks.zip", "1/4", "photos")
    assert taken["seed"] == 4
    assert taken["overrides"] == ("training.epochs=5", "optimization.learning_rate=0.01", "training.epochs=6")
    assert os.environ["AWS_ENDPOINT_URL"] == "http://store:9000"
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://mine:5000"


def test_a_run_that_is_resumed_has_its_settings_from_its_record(folder: Path) -> None:
    assert invoke(folder, "--set", "a=1", "--resume", "run")["overrides"] == ("a=1",)


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    taken = invoke(tmp_path)
    assert (taken["dataset"], taken["overrides"], taken["seed"]) == ("scenes", (), 0)


def test_what_is_saved_is_read_again_and_has_no_password(folder: Path) -> None:
    first = invoke(folder, "--epochs", "7", "--set", "cps.weight=0", saves=True)
    text = (folder / "cps.yaml").read_text()
    assert "secret" not in text
    assert yaml.safe_load(text)["endpoints"] == {"mlflow": "http://host:5000"}
    again = invoke(folder)
    assert {**again, "overrides": set(again["overrides"])} == {**first, "overrides": set(first["overrides"])}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datset: photos\n", "cps.yaml: unknown key 'datset'; did you mean 'dataset'?; known are dataset, sha256,"),
        ("endpoints: {s3: a}\n", "cps.yaml: endpoints: unknown key 's3'; known are store, bucket, mlflow, kfp"),
        ("endpoints: a\n", "cps.yaml: endpoints must map store, bucket, mlflow, kfp to values"),
        ("- photos\n", "cps.yaml must map dataset, "),
        ("seed: one\n", "cps.yaml: seed must be a whole number of at least 0, not 'one'"),
        ("recipe: {a: 1}\n", "cps.yaml: recipe must be a string, not {'a': 1}"),
        ("set: [a]\n", "cps.yaml: set must map settings to values"),
        ("dataset: [a\n", "cps.yaml is not YAML: "),
        ("set: {optimization.learning_rat: 1}\n", "did you mean 'optimization.learning_rate'?"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "cps.yaml").write_text(text)
    ended = cps("run", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cps.yaml"]


def test_a_compiled_pipeline_and_a_project_do_not_overwrite_each_other(tmp_path: Path) -> None:
    (tmp_path / "cps.yaml").write_text("# PIPELINE DEFINITION\n# Name: x\n")
    ended = cps("run", "--save", "--ratio", "1/4", folder=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "cps.yaml is a compiled pipeline: rename it" in ended.stderr
    (tmp_path / "cps.yaml").write_text("ratio: 1/4\n")
    ended = cps("compile", "-o", "cps.yaml", folder=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert (tmp_path / "cps.yaml").read_text() == "ratio: 1/4\n"
