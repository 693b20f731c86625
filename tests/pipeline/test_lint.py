"""The traps of KFP's compiler and of its local runs: found where they are set, and nowhere else."""

# mypy: disable-error-code="untyped-decorator"
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl, local

from pipeline.compile import compile_pipeline
from pipeline.lint import sibling_inputs_of_loops, undeclared_inputs


@dsl.component(base_image="python", install_kfp_package=False)
def numbers() -> list:
    return ["1", "2"]


@dsl.component(base_image="python", install_kfp_package=False)
def word() -> str:
    return "right"


@dsl.component(base_image="python", install_kfp_package=False)
def note(item: str, given: str, folder: str) -> None:
    from pathlib import Path

    Path(folder, item).write_text(given)


@dsl.pipeline(name="wrong")
def wrong(folder: str) -> None:
    given = word()
    with dsl.ParallelFor(numbers().output) as item:
        note(item=item, given=given.output, folder=folder)


@dsl.pipeline(name="loop")
def loop(items: list, given: str, folder: str) -> None:
    with dsl.ParallelFor(items) as item:
        note(item=item, given=given, folder=folder)


@dsl.pipeline(name="right")
def right(folder: str) -> None:
    loop(items=numbers().output, given=word().output, folder=folder)


@dsl.pipeline(name="nested")
def nested(folder: str) -> None:
    with dsl.ParallelFor(["a", "b"]) as _:
        inner = word()
        with dsl.ParallelFor(["1", "2"]) as item:
            note(item=item, given=inner.output, folder=folder)


@dsl.pipeline(name="resources")
def resources(items: list, given: str, folder: str, cpu: str, image: str) -> None:
    with dsl.ParallelFor(items) as item:
        note(item=item, given=given, folder=folder).set_container_image(image).set_cpu_limit(cpu)


def compiled(pipeline: Callable[..., Any], folder: Path) -> dict[str, Any]:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


def test_finds_a_loop_whose_body_takes_the_output_of_a_task_beside_it(tmp_path: Path) -> None:
    found = sibling_inputs_of_loops(compiled(wrong, tmp_path))
    assert len(found) == 1
    assert "'word.Output'" in found[0]
    assert "'for-loop-1'" in found[0]


def test_finds_it_in_a_loop_inside_a_loop(tmp_path: Path) -> None:
    found = sibling_inputs_of_loops(compiled(nested, tmp_path))
    assert len(found) == 1
    assert "'word.Output'" in found[0]


def test_passes_a_loop_in_a_pipeline_of_its_own(tmp_path: Path) -> None:
    assert sibling_inputs_of_loops(compiled(right, tmp_path)) == []


def test_passes_our_pipeline(tmp_path: Path) -> None:
    path = compile_pipeline(tmp_path / "cps.yaml")
    assert sibling_inputs_of_loops(next(yaml.safe_load_all(path.read_text()))) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*base image.*:RuntimeWarning")
@pytest.mark.parametrize(("pipeline", "expected"), [(wrong, "1"), (right, "right")])
def test_the_trap_is_what_the_lint_says(tmp_path: Path, pipeline: Callable[..., Any], expected: str) -> None:
    """When KFP mends this, the lint can go."""
    local.init(
        local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path), workspace_root=str(tmp_path / "workspace")
    )
    pipeline(folder=str(tmp_path))
    assert (tmp_path / "1").read_text() == expected


def test_resources_that_do_not_reach_the_body_of_a_loop_are_found(tmp_path: Path) -> None:
    expected = "task 'note' in 'comp-for-loop-1' takes 'pipelinechannel--cpu', which 'comp-for-loop-1' does not have"
    assert undeclared_inputs(compiled(resources, tmp_path)) == [expected]


@pytest.mark.parametrize("pipeline", [loop, right, wrong, nested])
def test_inputs_that_a_loop_passes_on_are_not_reported(tmp_path: Path, pipeline: Callable[..., Any]) -> None:
    assert undeclared_inputs(compiled(pipeline, tmp_path)) == []
