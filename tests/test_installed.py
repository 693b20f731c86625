"""The package as `pip install` leaves it: a clean environment, away from the checkout, without any extra."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
PARTS = ("components", "pipeline", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="class")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of an environment into which the project was installed."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    for part in PARTS:  # a copy: building leaves files beside the sources
        path = REPOSITORY / part
        if path.is_dir():
            shutil.copytree(path, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, source / part)
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    programs = folder / "environment" / "bin"
    subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source], check=True
    )
    return programs


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cps(environment: Path, tmp_path: Path) -> Command:
    """Call the installed command in an empty folder, without the variables of this environment."""
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "cps", *arguments],
            cwd=tmp_path,
            env={**inherited, "HOME": str(tmp_path), "CPS_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


class TestInstalled:
    """A class, so that one worker installs it, and once."""

    def test_nothing_that_it_asks_for_is_missing(self, environment: Path) -> None:
        done = subprocess.run(
            [environment / "python", "-m", "pip", "check"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout

    def test_the_command_works_away_from_the_checkout(self, cps: Command) -> None:
        assert cps("--version").stdout.startswith("cps, version ")
        assert "cps run" in cps("--help").stdout
        assert "demo" in cps("recipes", "list").stdout
        assert "structure: deeplabv3p" in cps("recipes", "show", "cityscapes-deeplabv3p-resnet50").stdout

    def test_a_dataset_is_checked_and_its_page_written(self, cps: Command, tmp_path: Path) -> None:
        for folder, mode in (("images", "RGB"), ("labels", "L")):
            (tmp_path / "photos" / folder).mkdir(parents=True)
            for number in range(4):
                image = Image.effect_noise((64, 48), 40 + number).convert(mode)
                if folder == "labels":
                    image = image.point(lambda value: value > 128)
                image.save(tmp_path / "photos" / folder / f"{number}.png")
        (tmp_path / "photos" / "classes.json").write_text('[{"id": 0, "name": "ground"}, {"id": 1, "name": "sky"}]')
        done = cps("dataset", "check", "photos", "-o", "page.html")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "</html>" in (tmp_path / "page.html").read_text()

    @pytest.mark.parametrize(
        ("command", "missing", "extra"),
        [
            (["run"], "psutil", "services"),
            (["compile", "-o", "cps.yaml"], "kfp", "pipeline"),
            (["up"], "psutil", "services"),
            (["weights", "list"], "psutil", "services"),
        ],
    )
    def test_a_missing_extra_is_one_line_with_the_command(
        self, cps: Command, command: list[str], missing: str, extra: str
    ) -> None:
        done = cps(*command)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        line = f"cps: error: {missing} is not installed: pip install 'cps-pipeline[{extra}] @ file://"
        assert done.stderr.startswith(line)

    def test_pip_takes_what_that_line_names(self, cps: Command, environment: Path) -> None:
        command = cps("run").stderr.split("pip install ")[1].split(" (or")[0].strip("'")
        done = subprocess.run(
            [environment / "python", "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
