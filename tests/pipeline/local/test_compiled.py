"""Local runs compile the pipeline once per version of the code."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local import child
from tests.pipeline.conftest import compiled_once


def test_the_pipeline_is_compiled_once_for_the_same_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPS_CACHE", str(tmp_path / "cache"))
    compiled = list[Path]()

    def compile_pipeline(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        compiled.append(path)
        return compiled_once(path)

    monkeypatch.setattr("pipeline.compile.compile_pipeline", compile_pipeline)
    first = child.compiled_pipeline(tmp_path)
    assert first.is_relative_to(tmp_path / "cache")
    assert child.compiled_pipeline(tmp_path) == first
    assert compiled == [first]
    changed = tmp_path / "pipeline"
    changed.mkdir()
    (changed / "dag.py").write_text("changed")
    monkeypatch.setattr(child, "_ROOT", tmp_path)
    assert child.compiled_pipeline(tmp_path) != first
    assert len(compiled) == 2
    monkeypatch.setenv("CPS_CACHE", "/proc/none")
    assert child.compiled_pipeline(tmp_path) == tmp_path / "pipeline.yaml"


def test_a_local_run_imports_no_client_of_a_server() -> None:
    code = """
import sys
from pipeline.local.child import leave_out_kfps_client
leave_out_kfps_client()
from kfp import compiler, components, local
sys.exit("kubernetes" in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
