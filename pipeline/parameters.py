"""Convert a command's options to pipeline parameters, and check them before anything starts."""

import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.reading import expanded, shown
from pipeline.version import DATA_IMAGE, IMAGE

if TYPE_CHECKING:
    from pydantic import JsonValue

    from components.recipes import Overrides, Recipe
    from components.runs.request import PredictionRequest, Resources, RunRequest

STEPS = ("prepare-dataset", "split-labels", "train", "evaluate", "select", "predict", "finish")
"""The names of the pipeline's tasks, in the order in which they run."""
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_PREDICTION = {"predict_images": "images", "predict_limit": "limit"}


@dataclass(frozen=True)
class PipelineParameters:
    """Every parameter of the DAG: the run, its resources, and its images, ConfigMap and Secrets."""

    run: "RunRequest"
    resources: "Resources"
    prediction: "PredictionRequest"
    image: str = IMAGE
    data_image: str = DATA_IMAGE
    settings_config_map: str = "cps-settings"
    store_secret: str = "cps-store"
    download_secret: str = "cps-download"

    def as_dag(self) -> "dict[str, JsonValue]":
        """Return the arguments of `pipeline.dag.cross_pseudo_supervision`, as JSON."""
        run = self.run.model_dump(mode="json")
        resources = self.resources.model_dump(mode="json", exclude={"tolerations"})
        tolerations = [item.model_dump(mode="json", exclude_unset=True) for item in self.resources.tolerations]
        return {
            **run,
            "overrides": json.dumps(run["overrides"]),
            **resources,
            "tolerations": tolerations,
            **{name: getattr(self.prediction, field) for name, field in _PREDICTION.items()},
            **{name: getattr(self, name) for name in _NAMES},
        }

    @property
    def run_name(self) -> str:
        """Return the display name of the run: dataset, labelled ratio, recipe and seed, as far as they are given."""
        run = self.run
        name = run.dataset.split()[0].rstrip("/").rpartition("/")[2].split("?")[0].split(":")[0]
        given = [text for text in (run.labeled_ratio, run.recipe) if text != "auto"]
        return " ".join([name, *given, f"seed {run.seed}"])


_NAMES = ("image", "data_image", "settings_config_map", "store_secret", "download_secret")


def local_parameters(**options: Any) -> PipelineParameters:
    """Return a command's options as checked parameters for this machine, with absolute paths.

    Options have the DAG's names; an empty one keeps its default. Raises UserError.
    """
    return local_request(**options | {"overrides": parse_settings(options["overrides"])})


def local_request(*, overrides: "Overrides", **options: Any) -> PipelineParameters:
    """Return `local_parameters`, of overrides that are already parsed: a mapping of dotted names to values."""
    from components.recipes.loader import is_recipe_file

    recipe = options["recipe"]
    overrides = with_absolute_weights(overrides)
    options |= {
        "dataset": _absolute_sources(options["dataset"]),
        "recipe": _absolute(recipe) if is_recipe_file(recipe) else recipe,
        "predict_images": _absolute(options.get("predict_images", "val")),
    }
    parameters = _parameters(overrides, **options)
    _check(parameters, is_local=True)
    return parameters


def cluster_parameters(**options: Any) -> PipelineParameters:
    """Return a command's options as checked parameters for a cluster, which must not refer to local files.

    Options have the DAG's names; an empty one keeps its default, but evaluation uses GPUs if training does. Raises
    UserError.
    """
    from components.recipes.loader import is_recipe_file

    overrides = parse_settings(options.pop("overrides"))
    options |= {
        "node_selector": dict(_label(text) for text in options.get("node_selector", ())),
        "tolerations": [_toleration(text) for text in options.get("tolerations", ())],
    }
    if options.get("eval_gpus") is None:
        options["eval_gpus"] = min(1, options.get("gpus", 0))
    parameters = _parameters(overrides, **options)
    recipe = parameters.run.recipe
    if is_recipe_file(recipe):
        raise UserError(
            f"recipe {recipe!r} is a file on this machine, which the cluster cannot read: "
            "use a recipe from `cps recipes list`, and change it with --set"
        )
    _check(parameters, is_local=False)
    _check_datasets_place(parameters.run.dataset)
    check_weights_place(parameters.run.resolve(is_local=False))
    return parameters


def _parameters(overrides: "Overrides", **options: Any) -> PipelineParameters:
    from components.runs.request import PredictionRequest, Resources, RunRequest

    given = {name: value for name, value in options.items() if value not in ("", None)}
    own = {name: value for name, value in given.items() if name in _NAMES}
    prediction = {_PREDICTION[name]: value for name, value in given.items() if name in _PREDICTION}
    run = {name: value for name, value in given.items() if name in RunRequest.model_fields}
    resources = {name: value for name, value in given.items() if name in Resources.model_fields}
    assert len(own) + len(prediction) + len(run) + len(resources) == len(given), "an option that is no parameter"
    return PipelineParameters(
        RunRequest(overrides=dict(overrides), **run), Resources(**resources), PredictionRequest(**prediction), **own
    )


def _check(parameters: PipelineParameters, *, is_local: bool) -> None:
    for name, value in (("dataset", parameters.run.dataset), ("predict_images", parameters.prediction.images)):
        if shown(value) != value:
            raise UserError(f"{name} {shown(value)!r} is not UTF-8: rename it, or make a link to it with another name")
    parameters.prediction.check(is_local=is_local)
    parameters.run.check_sources(is_local=is_local)
    parameters.run.resolve(is_local=is_local)


def _check_datasets_place(dataset: str) -> None:
    """Raise UserError if the dataset is a local file or folder."""
    from components.dataset.sources.address import STORED, is_url, parse_sources
    from components.scenes.generate import is_scenes

    for source in parse_sources(dataset):
        text = source.text
        if not (is_scenes(text) or text.startswith(STORED) or is_url(text)):
            raise UserError(
                f"dataset {text!r} is a path on this machine, which the cluster cannot read: "
                "use an s3:// or http(s):// URL"
            )


def check_weights_place(recipe: "Recipe") -> None:
    """Raise UserError if the pretrained weights are local files, which a cluster cannot read."""
    from components.dataset.sources.address import is_url
    from components.networks.pretrained_weights.installed import IMAGENET

    for setting in ("pretrained", "right_pretrained"):
        text = getattr(recipe.network, setting)
        if text not in ("", IMAGENET) and not is_url(text):
            raise UserError(
                f"network.{setting} {text!r} is a path on this machine, which the cluster cannot read: "
                f"use an s3:// or http(s):// URL, and set network.{setting}_sha256"
            )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"--node-selector {text!r} must be LABEL=VALUE, such as cloud.google.com/gke-spot=true")
    return key, value


def _toleration(text: str) -> dict[str, str]:
    """Return a toleration for KEY[=VALUE][:EFFECT], the format of `kubectl taint`."""
    taint, colon, effect = text.rpartition(":") if ":" in text else (text, "", "")
    key, equals, value = taint.partition("=")
    if not key or (colon and effect not in EFFECTS):
        raise UserError(
            f"--toleration {text!r} must be KEY or KEY=VALUE, optionally with :EFFECT ({', '.join(EFFECTS)}), "
            "such as nvidia.com/gpu:NoSchedule"
        )
    toleration = {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    return {**toleration, "effect": effect} if effect else toleration


def parse_secret_fields(text: str) -> tuple[str, str]:
    """Return the names of the access key and the secret key inside a Secret, or the defaults. Raises UserError."""
    from components.training.multi_node.pod_settings import KEYS

    fields = [name.strip() for name in text.split(",")] if text else [*KEYS]
    if len(fields) != 2 or not all(fields):
        raise UserError(f"--secret-fields {text!r} must be two names separated by a comma")
    return fields[0], fields[1]


def parse_settings(settings: Iterable[str], option: str = "--set") -> "Overrides":
    """Return settings such as `training.epochs=3` as overrides of a recipe; values are YAML. Raises UserError."""
    import yaml

    parsed: dict[str, JsonValue] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{option} {setting!r} must be NAME=VALUE, such as training.epochs=3")
        try:
            value = yaml.safe_load(text)
            json.dumps(value)
        except (yaml.YAMLError, TypeError):  # such as a date
            raise UserError(
                f"{option} {setting!r}: {text!r} is not a valid YAML value that JSON can represent"
            ) from None
        parsed[name.strip()] = value
    return parsed


def _absolute(path: str) -> str:
    """Return an existing path as absolute, because steps may run in another directory; others unchanged."""
    path = expanded(path)
    return os.path.abspath(path) if os.path.exists(path) else path


def _absolute_sources(dataset: str) -> str:
    from components.dataset.sources.address import parse_sources

    sources = [_absolute(source.text) for source in parse_sources(dataset)]
    return shlex.join(sources) if len(sources) > 1 else sources[0]


def with_absolute_weights(overrides: "Overrides") -> "Overrides":
    """Return overrides with the paths of pretrained weights as absolute, because steps may run in another directory."""
    from components.networks.pretrained_weights.installed import IMAGENET
    from components.runs.backbone import SCRATCH

    names = [f"network.{name}" for name in ("pretrained", "right_pretrained")]
    paths = {name: str(overrides[name]) for name in names if overrides.get(name) not in (None, "", IMAGENET, SCRATCH)}
    return {**overrides, **{name: _absolute(path) for name, path in paths.items()}}
