"""The pictures in the documentation show what the code has."""

from pipeline.parameters import STEPS
from tests.docs.packages_picture import picture
from tests.project_files import REPOSITORY

IMAGES = REPOSITORY / "docs" / "images"


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    assert (IMAGES / "packages.svg").read_text() == picture(), "run `make reference`"


def test_the_picture_of_the_pipeline_has_every_step() -> None:
    text = (IMAGES / "dag.svg").read_text()
    assert [step for step in STEPS if f">{step}" not in text] == []
