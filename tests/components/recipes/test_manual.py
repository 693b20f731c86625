"""The reference of all settings is complete, and says what the model says."""

import pytest

from components.recipes import recipe_names
from components.recipes.loader import setting_names
from components.recipes.manual import groups, manual, meanings
from components.recipes.model import STRUCTURES
from tests.project_files import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    assert (REPOSITORY / "docs" / "reference" / "settings.md").read_text() == manual(), "run `make reference`"


@pytest.mark.parametrize("group", sorted(groups()))
def test_every_setting_has_a_meaning(group: str) -> None:
    model = groups()[group]
    assert set(meanings(model)) == set(model.model_fields), "write a docstring below each field"
    assert model.__doc__


def test_every_setting_and_recipe_is_listed() -> None:
    text = manual()
    assert {name for name in setting_names() if "." in name} <= {line[3:].split("`")[0] for line in text.splitlines()}
    assert all(f"`{name}`" in text for name in (*recipe_names(), *STRUCTURES))
