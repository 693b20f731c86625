"""Read a recipe, apply overrides, and report mistakes in one line."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from components.contract import problem_text
from components.errors import UserError, nearest
from components.recipes.model import Recipe

FOLDER = Path(__file__).parent
Overrides = Mapping[str, JsonValue]
"""Changes to a recipe, by dotted name such as optimization.learning_rate. Loading the recipe validates them."""


def is_recipe_file(name: str) -> bool:
    """Return whether a recipe is given by the path of its file."""
    return name.endswith((".yaml", ".yml"))


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str, overrides: Overrides | None = None) -> Recipe:
    """Return a recipe, by name or .yaml path, with overrides such as {"optimization.learning_rate": 0.01}.

    Raises UserError for an unknown name, an unknown setting (suggesting the closest one), or an invalid value.
    """
    path = _path(name)
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"recipe {str(path)!r} cannot be read: {reason}") from None
    if not isinstance(values, dict):
        raise UserError(f"recipe {str(path)!r} must be a mapping of settings")
    values.setdefault("name", path.stem)
    values.setdefault("summary", "")
    for setting, value in (overrides or {}).items():
        _override(values, setting, value)
    return parse_recipe(values, f"recipe {name!r}")


def parse_recipe(values: object, origin: str) -> Recipe:
    """Validate settings, for example from a run's record, as a Recipe; errors begin with `origin`."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {_first_problem(error)}") from None


def _path(name: str) -> Path:
    if is_recipe_file(name):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"recipe file {name!r} does not exist")
        return path
    if name in recipe_names():
        return FOLDER / f"{name}.yaml"
    raise UserError(f"unknown recipe {name!r}{nearest(name, recipe_names())}; available: {', '.join(recipe_names())}")


def setting_names(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings, such as optimization.learning_rate."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names += setting_names(inner, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def _override(values: dict[str, Any], setting: str, value: Any) -> None:
    valid = [name for name in setting_names() if name not in ("name", "summary", "reproduces")]
    if setting not in valid and not setting.startswith("training.epochs_by_ratio."):
        short = {name.rsplit(".", 1)[-1]: name for name in valid}
        hint = nearest(setting, valid) or _full_name(setting, short)
        raise UserError(f"unknown setting {setting!r}{hint} (`cps recipes show` lists them)")
    *groups, last = setting.split(".")
    parent = values
    for group in groups:
        parent = parent.setdefault(group, {})
    parent[last] = value


def _full_name(setting: str, short: Mapping[str, str]) -> str:
    matches = difflib.get_close_matches(setting.rsplit(".", 1)[-1], short, n=1, cutoff=0.5)
    return f"; did you mean {short[matches[0]]!r}?" if matches else ""


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    location = [str(part) for part in problem["loc"]]
    setting = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {setting!r}{nearest(setting, setting_names())}"
    if problem["type"] == "missing":
        return f"setting {setting!r} is missing"
    value = problem.get("input")
    shown = "" if isinstance(value, dict) else f", not {value!r}"
    # Settings that do not fit together have no location; the problem names them.
    return (f"setting {setting!r}: " if setting else "") + f"{problem_text(problem)}{shown}"
