"""The reference of the pipeline's parameters is complete, and says what the pipeline says."""

import inspect

from pipeline import dag, manual
from tests.project_files import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "parameters.md"


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text() == manual.manual() + "\n", "run `make reference`"


def test_every_parameter_is_listed_once() -> None:
    listed = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(inspect.signature(dag.cross_pseudo_supervision.pipeline_func).parameters)
