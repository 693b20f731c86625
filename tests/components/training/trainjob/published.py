"""The schemas that Kubeflow Trainer publishes for its objects, applied as the API server applies them."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

FOLDER = Path(__file__).parent / "crds"


def complaints(plural: str, item: dict[str, Any]) -> list[str]:
    """What is wrong with an object, field by field; an unknown field is wrong, as with fieldValidation=Strict."""
    errors = jsonschema.Draft202012Validator(_schema(plural)).iter_errors(item)
    return sorted(f"{'.'.join(map(str, error.absolute_path)) or 'it'}: {error.message}" for error in errors)


@cache
def _schema(plural: str) -> dict[str, Any]:
    definition = yaml.safe_load((FOLDER / f"{plural}.yaml").read_text())
    [version] = definition["spec"]["versions"]
    return dict(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema: Any) -> Any:
    """No field but those that are named; and of a field that may be a number or text, the pattern is the text's."""
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items() if key not in ("properties", "default")}
    if "properties" in schema:
        strict["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        strict.setdefault("additionalProperties", False)
    return strict
