"""Read a JSON file into a model, with one line for whatever is wrong with it."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from components.contract import problem_text
from components.dataset.layouts.files import read_text
from components.errors import UserError

_Model = TypeVar("_Model", bound=BaseModel)


def read_json(path: Path, model: type[_Model]) -> _Model:
    """Return a file's content.

    Raises:
        UserError: the file cannot be read, is not UTF-8 or not JSON, or a field is missing or wrong.
    """
    try:
        return model.model_validate_json(read_text(path))
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        detail = str(problem["ctx"]["error"])
        raise UserError(f"{path} is damaged or incomplete ({detail}): export or copy it again")
    where = ".".join(str(part) for part in problem["loc"])
    raise UserError(f"{path}: {where} {problem_text(problem)}: correct it, or export the file again")
