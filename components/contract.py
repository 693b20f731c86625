"""The base of the data that steps exchange: frozen models, and digests of their content."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

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
        message = f"{where}: {problem['msg']}" if where else problem["msg"]
        raise WorkFailed(f"{origin} was not written by this version of the project ({message})") from None


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
