"""The tutorial, run as it is written: its blocks of shell in one shell, its program beside them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.api import load_model
from components.inference.conversion import convert
from tests.components.inference.test_conversion import pair

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SHELL = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.M | re.S)
PROGRAMS = dict(re.findall(r"^```python (\S+)\n(.*?)^```$", TEXT, re.M | re.S))


def test_the_program_is_as_short_as_it_says_and_needs_what_it_says() -> None:
    program = PROGRAMS["segment.py"]
    assert f"a {sum(map(bool, program.split(chr(10))))}-line program" in TEXT
    nodes = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in nodes}
    assert names == {"json", "sys", "numpy", "onnxruntime", "PIL"}
    assert "pip install onnxruntime numpy pillow" in TEXT


def test_the_program_reduces_a_large_image_as_the_networks_were_trained(tmp_path: Path) -> None:
    weights = pair(tmp_path, "mobilenetv2-fpn", longest_side=100)
    convert(weights, "onnx", tmp_path / "best.onnx")
    (tmp_path / "segment.py").write_text(PROGRAMS["segment.py"])
    coarse = np.random.default_rng(0).integers(0, 256, (9, 15, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((250, 150), Image.Resampling.BICUBIC)
    image.save(tmp_path / "photo.png")
    command = [sys.executable, "segment.py", "photo.png", "mask.png"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    mask = np.array(Image.open(tmp_path / "mask.png"))
    ours = load_model(weights).predict(np.array(image)).mask
    assert mask.shape == ours.shape == (150, 250)
    assert len(np.unique(ours)) == 2
    assert (mask == ours).mean() > 0.999


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell whose `cps` is this one's, which finds no services and no module of ours for other programs."""
    programs = tmp_path / "programs"
    programs.mkdir()
    cps = programs / "cps"
    cps.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline.cli "$@"\n')
    cps.chmod(0o755)
    foreign = ("AWS_", "MLFLOW_", "CPS_", "KFP_", "PYTHONPATH")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**clean, "PATH": path, "CPS_CACHE": str(tmp_path / "cache")}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_it_works_as_written(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "tutorial"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    script = "set -e\ntrap 'cps down' EXIT\n" + "\n".join(SHELL)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=380
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "check.html").stat().st_size > 10_000
    [report] = (folder / ".cps" / "runs").glob("photos-demo-1-1-s0-*/report.html")
    assert report.stat().st_size > 10_000
    mask = np.array(Image.open(folder / "mask.png"))
    ours = np.array(Image.open(folder / "predicted" / "masks" / "street_000000.png"))
    assert mask.shape == ours.shape == (256, 512)
    assert (mask == ours).mean() > 0.99  # Pillow rounds the reduced image to whole numbers
    assert len(np.unique(mask)) > 2  # it has learned something
    truth = np.array(Image.open(folder / "photos" / "labels" / "val" / "street_000000.png"))
    assert (mask == truth)[truth != 255].mean() > 0.5
