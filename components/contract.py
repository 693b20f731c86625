"""The base of the data that steps exchange: frozen models, and digests of their content."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from components.errors import WorkFailed


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Model = TypeVar("_Model", bound=BaseModel)


def read(model: type[_Model], value: Any, origin: str) -> _Model:
    """Return parsed JSON as a model. Raises WorkFailed, which names `origin` and the first invalid field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        message = f"{where or 'the content'} {problem_text(problem)}"
        raise WorkFailed(f"{origin} was not written by this version of the project ({message})") from None


_PROBLEMS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "literal_error": "must be one of {expected}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must have at least {min_length} values, not {actual_length}",
    "too_long": "must have at most {max_length} values, not {actual_length}",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
}


def problem_text(problem: ErrorDetails) -> str:
    """Return what is wrong with a value in our own words, such as `must be a whole number`."""
    form = _PROBLEMS.get(problem["type"])
    if form is not None:
        return form.format(**problem.get("ctx", {}))
    text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[0].lower() + text[1:]


def renamed(value: Any, fields: Mapping[str, str]) -> Any:
    """Return parsed JSON with the field names of an earlier version replaced; `fields` maps old names to new ones."""
    if not isinstance(value, dict):
        return value
    return {fields.get(name, name): item for name, item in value.items()}


class Class(Frozen):
    name: str
    color: tuple[int, int, int]
    """Red, green and blue, 0-255: the color of this class in masks."""


def digest_lines(lines: Iterable[str]) -> str:
    """Return the sha256 of the lines, each followed by a newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """Return one JSON encoding for equal values, so that their digests are equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
