"""The `cps` command as a shell sees it: exit codes, one line on standard error, and how soon it answers."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import click
import pytest
import yaml

from components.errors import UserError
from pipeline.cli.commands.results import parse_expiry
from pipeline.cli.main import _run, cli
from pipeline.local.ports import free_internal_ports
from pipeline.parameters import parse_settings
from pipeline.version import VERSION
from tests.pipeline.in_process import FOREIGN, cps

ROOT = Path(__file__).parents[3]


def process(*arguments: str, folder: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_help_and_version() -> None:
    shown = process("--help")
    assert shown.returncode == 0
    for name in ("run", "dataset", "compare", "weights", "predict", "recipes", "compile", "up", "down", "status"):
        assert f"\n  {name} " in shown.stdout
    assert cps("--version").stdout == f"cps, version {VERSION}\n"


def every_command(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        found.append(((*prefix, name), command))
        if isinstance(command, click.Group):
            found += every_command(command, (*prefix, name))
    return found


@pytest.mark.parametrize(
    ("path", "command"), every_command(cli), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_has_an_example_that_begins_with_its_name(path: tuple[str, ...], command: click.Command) -> None:
    assert "Example" in (command.help or "")
    assert f"cps {' '.join(path)}" in (command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_nothing_heavy_is_imported_for_the_help() -> None:
    code = "import sys, pipeline.cli.main; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    ).stdout.split()
    assert "pipeline.cli.commands.run" in loaded
    assert not {"paddle", "kfp", "mlflow", "minio", "rich", "pydantic", "numpy", "yaml", "urllib3"} & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--ratio", "3/2"], "'3/2'"),
        (["run", "--ratio", "an eighth"], "'an eighth'"),
        (["run", "--recipe", "demu"], "did you mean 'demo'?"),
        (["run", "--set", "optimization.learning_rat=1"], "did you mean 'optimization.learning_rate'?"),
        (["run", "--set", "training.epochs"], "must be NAME=VALUE"),
        (["run", "--set", "training.batch_size=none"], "training.batch_size"),
        (["run", "--dataset", "nowhere"], "'nowhere' does not exist"),
        (["run", "--predict", "vall"], "'vall'"),
        (["run", "--sha256", "abc"], "'abc'"),
        (["run", "--seed", "-1"], "--seed"),
        (["run", "--eval-shards", "0"], "--eval-shards"),
        (["matrix", "--quiet", "--dataset", "nowhere"], "'nowhere' does not exist"),
        (["rnu"], "Did you mean 'run'?"),
        (["recipes", "show", "demu"], "did you mean 'demo'?"),
        (["compile", "-o", "cps.json"], "must end in .yaml"),
        (["compile", "--secret-fields", "one"], "must be two names"),
        (["predict", "nothing.jpg", "--weights", "w", "-o", "out"], "nothing.jpg"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_named_ends_with_2_and_starts_nothing(arguments: list[str], named: str, tmp_path: Path) -> None:
    ended = cps(*arguments, folder=tmp_path)
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_our_own_errors_are_one_line(tmp_path: Path) -> None:
    ended = process("run", "--ratio", "3/2", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("cps: error: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_store_that_does_not_answer_is_said_within_seconds(tmp_path: Path) -> None:
    began = time.monotonic()
    address = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    ended = cps("run", folder=tmp_path, **address)
    assert ended.returncode == 2
    assert "http://127.0.0.1:9 does not answer" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert time.monotonic() - began < 20


def test_status_without_services_is_1(tmp_path: Path) -> None:
    ended = cps("status", folder=tmp_path)
    assert ended.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pipeline.cli recipes show demo | true"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert ended.stderr == b""


def test_recipes_are_listed_and_shown_as_the_yaml_that_run_takes(tmp_path: Path) -> None:
    listed = cps("recipes", "list")
    assert "demo " in listed.stdout
    shown = cps("recipes", "show", "demo", "--set", "training.epochs=3")
    (tmp_path / "mine.yaml").write_text(shown.stdout)
    assert yaml.safe_load(shown.stdout)["training"]["epochs"] == 3
    assert cps("recipes", "show", str(tmp_path / "mine.yaml")).stdout == shown.stdout


def test_compile_writes_the_file_it_names(tmp_path: Path) -> None:
    ended = cps("compile", "-o", "folder/cps.yaml", "--secret-fields", "accesskey,secretkey", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "folder/cps.yaml\n")
    text = (tmp_path / "folder" / "cps.yaml").read_text()
    assert text.startswith("# PIPELINE DEFINITION")
    assert "secretKey: accesskey" in text
    assert os.listdir(tmp_path / "folder") == ["cps.yaml"]


def test_settings_are_read_as_yaml() -> None:
    settings = ["a.b=3", "c=[1, 2]", "d=0.5", "e=on=off", "f="]
    assert parse_settings(settings) == {"a.b": 3, "c": [1, 2], "d": 0.5, "e": "on=off", "f": None}
    for wrong in ("a", "=3", "a=[1"):
        with pytest.raises(UserError):
            parse_settings([wrong])


def test_durations() -> None:
    assert parse_expiry("90s") == timedelta(seconds=90)
    assert parse_expiry("7d") == timedelta(days=7)
    for wrong in ("", "8d", "0h", "2w", "-1h", "1.5h"):
        with pytest.raises(UserError, match="must be a time"):
            parse_expiry(wrong)


def test_every_part_of_a_dataset_is_given_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.parameters import _absolute_sources

    monkeypatch.chdir(tmp_path)
    for name in ("a.zip", "b c.tar"):
        (tmp_path / name).write_bytes(b"")
    assert _absolute_sources("a.zip") == f"{tmp_path}/a.zip"
    assert _absolute_sources("b c.tar") == f"{tmp_path}/b c.tar"
    assert _absolute_sources("a.zip 'b c.tar' s3://b/k.zip") == f"{tmp_path}/a.zip '{tmp_path}/b c.tar' s3://b/k.zip"
    assert _absolute_sources("scenes:train=8") == "scenes:train=8"


def test_services_of_this_machine_are_reached_past_a_proxy(
    refusing_tracker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [port] = free_internal_ports(1)
    for name, value in {"HTTP_PROXY": f"http://127.0.0.1:{port}", "NO_PROXY": "intranet", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", refusing_tracker)
    assert _run(["compare"]) == 2
    said = capsys.readouterr().err
    assert "403" in said
    assert "proxy" not in said
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--lr", "3"], "`cps run` has no option --lr: use --set optimization.learning_rate=3"),
        (["run", "--lr=3"], "`cps run` has no option --lr: use --set optimization.learning_rate=3"),
        (
            ["run", "--weight-decay"],
            "`cps run` has no option --weight-decay: use --set optimization.weight_decay=VALUE",
        ),
        (["run", "--epoch", "3"], "`cps run` has no option --epoch; did you mean --epochs?"),
        (["run", "--batch", "3"], "`cps run` has no option --batch: use --batch-size 3"),
        (["runs", "list", "--jsn"], "`cps runs list` has no option --jsn; did you mean --json?"),
        (["run", "--nonsense"], "`cps run` has no option --nonsense: `cps run --help` lists the options"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unknown_option_names_the_nearest(arguments: list[str], said: str) -> None:
    ended = cps(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"cps: error: {said}\n"
