"""The models that Kubeflow Trainer publishes of its objects (kubeflow-trainer-api), applied as the API server would."""

from functools import cache
from typing import Any

import jsonschema

KINDS = {
    "trainjobs": "TrainerV1alpha1TrainJob",
    "clustertrainingruntimes": "TrainerV1alpha1ClusterTrainingRuntime",
}
# Kubernetes describes this one in words; its model is a class around text or a number.
QUANTITY = {
    "type": ["string", "number"],
    "pattern": r"^[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$",
}


def complaints(plural: str, item: dict[str, Any]) -> list[str]:
    """What is wrong with an object, field by field; an unknown field is wrong, as with fieldValidation=Strict.

    The models have types, required fields and names; other patterns, and rules between fields, are the cluster's alone.
    """
    errors = jsonschema.Draft202012Validator(_schema(plural)).iter_errors(item)
    return sorted(f"{'.'.join(map(str, error.absolute_path)) or 'it'}: {error.message}" for error in errors)


@cache
def _schema(plural: str) -> dict[str, Any]:
    from kubeflow_trainer_api import models  # seconds, which a test process without these tests is spared

    schema = dict(_strict(getattr(models, KINDS[plural]).model_json_schema(by_alias=True)))
    schema["$defs"]["IoK8sApimachineryPkgApiResourceQuantity"] = QUANTITY
    return schema


def _strict(schema: Any) -> Any:
    """No field but those that are named, and none that is there and null."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    match schema.get("anyOf"):
        case [given, {"type": "null"}]:
            return _strict(given)
    strict = {key: _strict(value) for key, value in schema.items() if key not in ("properties", "default")}
    if "properties" in schema:
        strict["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        strict.setdefault("additionalProperties", False)
    return strict
