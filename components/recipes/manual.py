"""Generate the reference of all settings: python -m components.recipes.manual > docs/reference/settings.md"""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel, Field

from components.recipes.loader import load_recipe, recipe_names
from components.recipes.model import Recipe

_HEAD = """# Settings

Every setting of a recipe, with its default. [Recipes](../recipes.md) explains how to choose and change them: override
one with `--set GROUP.NAME=VALUE`, such as `--set cps.weight=0`, or write a recipe of your own. Values are YAML, so a
list is `--set 'augmentation.crop=[192,256]'`. `make reference` generates this page from the model that validates
recipes; a test checks that it is up to date.
"""
_RECIPES = """## Settings of the built-in recipes

An empty cell is the default.
"""


class _Schema(BaseModel):
    """What the JSON schema of a setting says about its values."""

    type: str = ""
    enum: list[Any] = []
    minimum: float | None = None
    above: float | None = Field(None, alias="exclusiveMinimum")
    maximum: float | None = None
    below: float | None = Field(None, alias="exclusiveMaximum")
    items: "_Schema | None" = None
    parts: list["_Schema"] = Field([], alias="prefixItems")
    values: "_Schema | None" = Field(None, alias="additionalProperties")


def manual() -> str:
    """Return every setting with its default, values and meaning, and those of the built-in recipes, as Markdown."""
    return "\n".join([_HEAD, *_groups(), _RECIPES, *_recipes()])


def groups() -> dict[str, type[BaseModel]]:
    """Return the model of each group of settings, by its name."""
    models = {name: field.annotation for name, field in Recipe.model_fields.items()}
    return {name: model for name, model in models.items() if isinstance(model, type) and issubclass(model, BaseModel)}


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a model, by the field's name.

    Pydantic can read it too, but would do so in every process that imports the model, which takes longer than all else.
    """
    [definition] = ast.parse(dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: " ".join(str(text.value.value).split())
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _groups() -> Iterator[str]:
    for group, model in groups().items():
        schema, texts = model.model_json_schema(), meanings(model)
        yield f"## {group}\n\n{_line(model.__doc__ or '')}\n"
        yield "| Setting | Default | Values | Meaning |\n| --- | --- | --- | --- |"
        for name, setting in schema["properties"].items():
            default = "*required*" if name in schema.get("required", ()) else _code(setting["default"])
            values = _values(_Schema.model_validate(setting))
            yield f"| `{group}.{name}` | {default} | {values} | {_line(texts[name])} |"
        yield ""


def _recipes() -> Iterator[str]:
    recipes = [load_recipe(name).model_dump(mode="json") for name in recipe_names()]
    defaults = {
        f"{group}.{name}": setting.default
        for group, model in groups().items()
        for name, setting in model.model_fields.items()
    }
    yield f"| Setting | {' | '.join(f'`{name}`' for name in recipe_names())} |"
    yield f"| --- |{' --- |' * len(recipes)}"
    for setting, default in defaults.items():
        group, name = setting.split(".")
        values = [recipe[group][name] for recipe in recipes]
        cells = ["" if value == _plain(default) else _code(value) for value in values]
        if any(cells):
            yield f"| `{setting}` | {' | '.join(cells)} |"
    yield ""


def _values(setting: _Schema) -> str:
    """Return which values a setting accepts."""
    if setting.enum:
        return ", ".join(_code(value) for value in setting.enum)
    if setting.parts:
        return f"{len(setting.parts)} of: {_number(setting.parts[0])}"
    if setting.items:
        return f"list of: {_number(setting.items)}"
    if setting.values:
        return f"mapping to: {_number(setting.values)}"
    return {"boolean": "`true`, `false`", "string": "text"}.get(setting.type) or _number(setting)


def _number(schema: _Schema) -> str:
    kind = "whole number" if schema.type == "integer" else "number"
    low, above, high, below = schema.minimum, schema.above, schema.maximum, schema.below
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    if kind == "whole number" and above is not None:
        low, above = above + 1, None
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", low), ("more than", above), ("at most", high), ("less than", below))
        if bound is not None
    ]
    return " ".join([kind, " and ".join(bounds)]).strip()


def _plain(value: Any) -> Any:
    """Return a default as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _code(value: Any) -> str:
    match value:
        case "":
            return "empty"
        case bool():
            return f"`{str(value).lower()}`"
        case list():
            return f"`[{', '.join(map(str, value))}]`"
        case dict():
            return "`{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}`"
    return f"`{value}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(manual(), end="")
