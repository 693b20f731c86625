"""cps.yaml in the current directory: the dataset, recipe and services of a project, so that commands need no options.

The command line overrides the environment, which overrides the file.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic import JsonValue

FILE = "cps.yaml"
COMPILED = "# PIPELINE DEFINITION"
"""How KFP's compiler begins a file; `cps compile` may have written one with this name."""
_OPTIONS = {
    "dataset": "dataset",
    "sha256": "dataset_sha256",
    "pools": "dataset_pools",
    "ratio": "labeled_ratio",
    "recipe": "recipe",
    "seed": "seed",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "predict": "predict_images",
}
"""Keys of the file, and the parameters of commands that they set."""
_ENDPOINTS = {
    "store": "AWS_ENDPOINT_URL",
    "bucket": "CPS_BUCKET",
    "mlflow": "MLFLOW_TRACKING_URI",
    "kfp": "KF_PIPELINES_ENDPOINT",
}
_SETTINGS, _PLACES = "set", "endpoints"
_WHOLE_NUMBERS = ("seed", "epochs", "batch_size")


def apply(context: click.Context, folder: Path) -> None:
    """Make the file's values the defaults of the commands below `context`, and name its services in the environment.

    Raises UserError, which names the key that is wrong.
    """
    file = read(folder / FILE)
    if file is None:
        return
    group = context.command
    assert isinstance(group, click.Group)
    context.default_map = dict.fromkeys(group.commands, file.defaults)
    # JSON is YAML on one line, as `--set` takes it.
    context.meta[__name__] = [f"{name}={json.dumps(value)}" for name, value in file.settings.items()]
    for key, address in file.endpoints.items():
        if not os.environ.get(_ENDPOINTS[key]):
            os.environ[_ENDPOINTS[key]] = address


def with_settings(context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the settings of the file, then those of the command line, which override them."""
    if context.params.get("resume"):
        return given  # the run's record has all settings
    return (*context.meta.get(__name__, ()), *given)


@dataclass(frozen=True)
class ProjectFile:
    """The checked values of cps.yaml."""

    defaults: dict[str, Any]
    """Values of command-line options, by parameter name."""
    settings: dict[str, Any]
    """Values of recipe settings, as `--set` takes them."""
    endpoints: dict[str, str]
    """Addresses of services, by their key in the file."""


def read(path: Path) -> ProjectFile | None:
    """Return the checked values of the file, or None if it does not exist or is empty. Raises UserError."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path.name} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        ) from None
    if text.startswith(COMPILED):
        return None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return None
    return _checked(path.name, values)


def is_compiled(path: Path) -> bool:
    """Return whether a file exists and is a pipeline that `cps compile` has written."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith(COMPILED)


def _checked(name: str, values: Any) -> ProjectFile:
    _check_keys(name, values, (*_OPTIONS, _SETTINGS, _PLACES))
    _check_keys(f"{name}: {_PLACES}", values.get(_PLACES, {}), tuple(_ENDPOINTS))
    if not isinstance(values.get(_SETTINGS, {}), dict):
        raise UserError(
            f"{name}: {_SETTINGS} must map settings to values, such as {{optimization.learning_rate: 0.01}}"
        )
    return ProjectFile(
        defaults={_OPTIONS[key]: _option(name, key, value) for key, value in values.items() if key in _OPTIONS},
        settings=values.get(_SETTINGS, {}),
        endpoints={key: str(value) for key, value in values.get(_PLACES, {}).items()},
    )


def _check_keys(where: str, values: Any, known: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{where} must map {', '.join(known)} to values, one `key: value` on each line")
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{nearest(str(key), known)}; known are {', '.join(known)}")


def _option(name: str, key: str, value: Any) -> Any:
    if key == "dataset" and isinstance(value, list):
        return shlex.join(map(str, value))
    if key in _WHOLE_NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UserError(f"{name}: {key} must be a whole number of at least 0, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{name}: {key} must be a string, not {value!r}")
    return str(value)


def save(context: click.Context, folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Write the parameters of a command that are not the defaults, and the services of the environment, to the file."""
    import yaml

    from components.addresses import without_login
    from components.disk import writing
    from components.files import write_whole
    from pipeline.parameters import parse_settings

    default = click.core.ParameterSource.DEFAULT
    given = {name for name in context.params if context.get_parameter_source(name) != default}
    values: dict[str, JsonValue] = {key: context.params[option] for key, option in _OPTIONS.items() if option in given}
    settings = parse_settings(context.params.get("overrides", ()))
    places = {key: without_login(environ[name]) for key, name in _ENDPOINTS.items() if environ.get(name)}
    document = {**values, **({_SETTINGS: dict(settings)} if settings else {}), **({_PLACES: places} if places else {})}
    path = folder / FILE
    if is_compiled(path):
        raise UserError(f"{path.name} is a compiled pipeline: rename it before you save options under this name")
    with writing(path):
        write_whole(path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return path
