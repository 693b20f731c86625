"""The notebooks: clean in git, and executed, cell by cell, as Jupyter would.

Their cells are plain Python, so that no kernel, and none of its many packages, is needed to run them.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.test_python_page import cps, environment, folder, read_as_written  # noqa: F401
from tests.project_files import REPOSITORY, project_files

NOTEBOOKS = project_files("docs/notebooks/*.ipynb")
EXECUTE = """
import ast, json, sys
from pathlib import Path

names = {"__name__": "__main__"}
for number, cell in enumerate(json.loads(Path(sys.argv[1]).read_text())["cells"]):
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    if hasattr(value, "_repr_png_"):
        Path(f"shown-{number}.png").write_bytes(value._repr_png_())
    elif value is not None:
        print(repr(value))
"""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_git_has_no_outputs_and_cells_are_plain_python(path: Path) -> None:
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "clear all outputs before the commit"
            ast.parse("".join(cell["source"]))  # neither %magic nor !command


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_the_example_scenes_to_a_mask_and_the_python_page_with_that_run(folder: Path) -> None:  # noqa: F811
    notebook = REPOSITORY / "docs" / "notebooks" / "street-scenes.ipynb"
    try:
        done = subprocess.run(
            [sys.executable, "-c", EXECUTE, notebook],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[train] " in done.stderr, "progress is printed as by `cps run`"
        assert len(list(folder.glob("shown-*.png"))) == 2
        mask = np.array(Image.open(folder / "mask.png"))
        truth = np.array(Image.open(folder / "photos" / "labels" / "val" / "street_000000.png"))
        assert (mask == truth)[truth != 255].mean() > 0.5
        read_as_written(folder)
    finally:
        cps(folder, "down")
