"""docs/python-api.md: its code runs as written. What needs a run is called by test_notebook.py, which has one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.components.networks.small_weights import write_weights
from tests.project_files import REPOSITORY

TEXT = (REPOSITORY / "docs" / "python-api.md").read_text()
BLOCKS = re.findall(r"^```python (segment|run)\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the page starts from, without the dataset: weights, and a photograph."""
    write_weights(tmp_path / "best.safetensors")
    Image.effect_noise((128, 64), 60).convert("RGB").save(tmp_path / "street.jpg")
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    foreign = ("AWS_", "MLFLOW_", "CPS_", "KFP_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**clean, "PYTHONPATH": str(REPOSITORY), "CPS_CACHE": str(folder / "cache")}


def cps(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline.cli", *arguments], cwd=folder, env=environment(folder), check=True)


def execute(folder: Path, program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", program],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_block_is_one_that_runs() -> None:
    assert len(BLOCKS) == TEXT.count("```python") == TEXT.count("```") / 2 > 6


def test_images_are_segmented_as_written(folder: Path) -> None:
    photographs = folder / "photos" / "images" / "val"
    photographs.mkdir(parents=True)
    for number in range(3):
        shutil.copy(folder / "street.jpg", photographs / f"{number}.jpg")
    (photographs / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    done = execute(folder, "".join(code for kind, code in BLOCKS if kind == "segment"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("<Model small-fpn of run demo-1-8-s0-0123456789ab")
    assert "(2, 256, 512)" in lines
    assert any(line.startswith("image photos/images/val/broken.jpg: ") for line in lines)
    assert lines[-1] == "image missing.jpg: No such file or directory"
    assert np.array(Image.open(folder / "mask.png")).max() <= 1
    assert sorted(path.name for path in (folder / "masks").iterdir()) == ["0.png", "1.png", "2.png"]
    assert (folder / "overlay.png").exists()
    assert not (folder / ".cps").exists(), "no service is started for a weights file"


def read_as_written(folder: Path) -> None:
    """The whole page where its run, which takes minutes, is finished, as that of test_notebook.py is."""
    done = execute(folder, "".join(code for _, code in BLOCKS))
    assert done.returncode == 0, done.stdout + done.stderr
    [report] = [line for line in done.stdout.splitlines() if line.endswith("report.html")]
    assert Path(report).stat().st_size > 10_000
    assert "road" in done.stdout
    assert "[train] " not in done.stderr, "the page's run is the notebook's"
    assert re.search(r"^train: \d+ of \d+, ", done.stdout, re.M) is None, "finished work is not repeated"
