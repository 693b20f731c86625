"""A command's options as the parameters of the pipeline, checked before anything starts."""

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from components.errors import UserError

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def cluster_parameters(
    *,
    dataset: str,
    ratio: str,
    settings: Mapping[str, Any],
    node_selector: Iterable[str],
    tolerations: Iterable[str],
    sha256: str = "",
    pools: str = "",
    **others: Any,
) -> dict[str, Any]:
    """Every parameter of the pipeline; `others` have their names already, and empty ones keep their defaults.

    `settings` are changes to the recipe. Raises UserError, naming what is wrong, or what only this machine can read.
    """
    named = {
        "dataset": dataset,
        "dataset_sha256": sha256,
        "dataset_pools": pools,
        "labeled_ratio": ratio,
        "overrides": json.dumps(settings),
        "node_selector": dict(_label(text) for text in node_selector),
        "tolerations": [_toleration(text) for text in tolerations],
        **others,
    }
    defaults = _defaults()
    parameters = {name: defaults[name] if value in ("", None) else value for name, value in named.items()}
    _check_for_cluster(parameters)
    return parameters


def run_name(parameters: dict[str, Any]) -> str:
    """As a person calls a run: what is trained, on how many labels, how, and by which seed."""
    name = parameters["dataset"].split()[0].rstrip("/").rpartition("/")[2].split("?")[0].split(":")[0]
    return f"{name} {parameters['labeled_ratio']} {parameters['recipe']} seed {parameters['seed']}"


def _defaults() -> dict[str, Any]:
    import inspect

    from pipeline.dag import cross_pseudo_supervision

    signature = inspect.signature(cross_pseudo_supervision.pipeline_func)
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def _check_for_cluster(parameters: Mapping[str, Any]) -> None:
    from components.recipes import recipe_names
    from components.runs.request import check_pods, check_prediction, check_sharing, validate_parameters

    recipe = parameters["recipe"]
    if recipe not in recipe_names() and recipe.endswith((".yaml", ".yml")):
        raise UserError(
            f"recipe {recipe!r} is a file of this machine, which the cluster cannot read: "
            "give one of the project's by name, and change it with --set"
        )
    check_sharing(**{name: parameters[name] for name in ("processes", "gpus", "nodes", "eval_shards")})
    check_pods(**{name: parameters[name] for name in ("cpu", "memory", "accelerator", "node_selector", "tolerations")})
    check_prediction(images=parameters["predict_images"], limit=parameters["predict_limit"], is_here=False)
    parsed = validate_parameters(
        source=parameters["dataset"],
        sha256=parameters["dataset_sha256"],
        labeled_ratio=parameters["labeled_ratio"],
        recipe=recipe,
        overrides_json=parameters["overrides"],
        seed=parameters["seed"],
        epochs=parameters["epochs"],
        batch_size=parameters["batch_size"],
        source_is_here=False,
    )
    network = parsed.recipe.network
    _check_places(
        parameters["dataset"], {"pretrained": network.pretrained, "right_pretrained": network.right_pretrained}
    )


def _check_places(dataset: str, weights: Mapping[str, str]) -> None:
    """Raises UserError for what lies on this machine."""
    from components.dataset.sources.address import STORED, is_url, parse_sources
    from components.scenes.generate import is_scenes

    for source in parse_sources(dataset):
        text = source.text
        if not (is_scenes(text) or text.startswith(STORED) or is_url(text)):
            raise UserError(
                f"dataset {text!r} is a path of this machine, which the cluster cannot read: "
                "give an s3:// or http(s):// address"
            )
    for setting, text in weights.items():
        if text and not is_url(text):
            raise UserError(
                f"network.{setting} {text!r} is a path of this machine, which the cluster cannot read: "
                f"give an s3:// or http(s):// address, and network.{setting}_sha256"
            )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"--node-selector {text!r} must be LABEL=VALUE, such as cloud.google.com/gke-spot=true")
    return key, value


def _toleration(text: str) -> dict[str, str]:
    """KEY[=VALUE][:EFFECT], as `kubectl taint` writes a taint."""
    taint, colon, effect = text.rpartition(":") if ":" in text else (text, "", "")
    key, equals, value = taint.partition("=")
    if not key or (colon and effect not in EFFECTS):
        raise UserError(
            f"--toleration {text!r} must be KEY, KEY=VALUE or either with :EFFECT ({', '.join(EFFECTS)}), "
            "such as nvidia.com/gpu:NoSchedule"
        )
    toleration = {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    return {**toleration, "effect": effect} if effect else toleration


def parse_secret_fields(text: str) -> tuple[str, str]:
    """Names of access key and secret key inside a Secret; ours where none are given. Raises UserError."""
    from components.training.multi_node.pod_settings import KEYS

    fields = [name.strip() for name in text.split(",")] if text else [*KEYS]
    if len(fields) != 2 or not all(fields):
        raise UserError(f"--secret-fields {text!r} must be two names, separated by a comma")
    return fields[0], fields[1]


def pipeline_parameters(
    dataset: str, ratio: str, recipe: str, settings: Iterable[str], predict_images: str, **others: Any
) -> dict[str, Any]:
    """A command's options as the pipeline's parameters, paths from the root, checked. Raises UserError."""
    parameters = {
        "dataset": _absolute_sources(dataset),
        "dataset_sha256": others.pop("sha256"),
        "dataset_pools": others.pop("pools"),
        "labeled_ratio": ratio,
        "recipe": _absolute(recipe) if recipe.endswith((".yaml", ".yml")) else recipe,
        "overrides": json.dumps(_with_absolute_backbone(parse_settings(settings))),
        "predict_images": _absolute(predict_images),
        **others,
    }
    _check_here(parameters)
    return parameters


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`training.epochs=3` and so on as a mapping; values are read as YAML. Raises UserError."""
    import yaml

    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--set {setting!r} must be NAME=VALUE, such as training.epochs=3")
        try:
            parsed[name.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {setting!r}: {text!r} is not a value in YAML") from None
    return parsed


def _absolute(path: str) -> str:
    """A path that exists, from the root: a step need not run in this directory."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _absolute_sources(dataset: str) -> str:
    from components.dataset.sources.address import parse_sources

    sources = [_absolute(source.text) for source in parse_sources(dataset)]
    return shlex.join(sources) if len(sources) > 1 else sources[0]


def _with_absolute_backbone(settings: dict[str, Any]) -> dict[str, Any]:
    name = "network.pretrained"
    return {**settings, name: _absolute(str(settings[name]))} if name in settings else settings


def _check_here(parameters: dict[str, Any]) -> None:
    from components.runs.request import check_prediction, check_sharing, validate_parameters

    check_sharing(processes=parameters["processes"], eval_shards=parameters["eval_shards"])
    check_prediction(images=parameters["predict_images"], limit=parameters["predict_limit"])
    validate_parameters(
        source=parameters["dataset"],
        sha256=parameters["dataset_sha256"],
        labeled_ratio=parameters["labeled_ratio"],
        recipe=parameters["recipe"],
        overrides_json=parameters["overrides"],
        seed=parameters["seed"],
        epochs=parameters["epochs"],
        batch_size=parameters["batch_size"],
    )
