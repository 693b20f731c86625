"""Say which option a user may have meant instead of one that does not exist."""

import difflib
from collections.abc import Sequence

import click

_OTHER_NAMES = {
    "lr": "optimization.learning_rate",
    "wd": "optimization.weight_decay",
    "clip": "optimization.clip_norm",
    "amp": "training.precision",
    "fp16": "training.precision",
    "backbone": "network.structure",
    "model": "network.structure",
    "network": "network.structure",
    "arch": "network.structure",
    "crop_size": "augmentation.crop",
    "image_size": "augmentation.crop",
    "cps_weight": "cps.weight",
    "lambda": "cps.weight",
}
"""Names that other programs have for our settings."""
_OTHER_OPTIONS = {
    "data": "--dataset",
    "batch": "--batch-size",
    "bs": "--batch-size",
    "num_epochs": "--epochs",
    "gpu": "--gpus",
    "num_gpus": "--gpus",
    "labels": "--ratio",
    "labelled_ratio": "--ratio",
    "config": "--recipe",
    "cfg": "--recipe",
    "random_seed": "--seed",
    "out": "--output",
}


def unknown_option(error: click.NoSuchOption, arguments: Sequence[str]) -> str:
    """Return one line that names the option or setting that `error.option_name` is most likely meant to be."""
    command = error.ctx.command_path if error.ctx else "cps"
    options = _options(error.ctx)
    name = error.option_name.lstrip("-").replace("-", "_").lower()
    value = _value(error.option_name, arguments)
    said = f"`{command}` has no option {error.option_name}"
    meant = _OTHER_OPTIONS.get(name, "")
    if meant in options:
        return f"{said}: use {meant}{f' {value}' if value else ''}"
    similar = difflib.get_close_matches(f"--{name.replace('_', '-')}", options, n=1, cutoff=0.7)
    setting = _setting(name, exact=bool(similar)) if "--set" in options else ""
    if setting:
        return f"{said}: use --set {setting}={value or 'VALUE'}"
    return f"{said}{f'; did you mean {similar[0]}?' if similar else f': `{command} --help` lists the options'}"


def _options(context: click.Context | None) -> list[str]:
    parameters = context.command.get_params(context) if context else []
    return [name for parameter in parameters for name in parameter.opts if name.startswith("--")]


def _setting(name: str, *, exact: bool) -> str:
    """Return the dotted name of the recipe's only setting with this name, or a similar one, or an empty string."""
    from components.recipes.loader import setting_names

    if name in _OTHER_NAMES:
        return _OTHER_NAMES[name]
    dotted = name.replace(".", "_")
    found = [full for full in setting_names() if dotted in (full.rpartition(".")[2], full.replace(".", "_"))]
    if not found and not exact:
        last_parts = {full.rpartition(".")[2]: full for full in setting_names() if "." in full}
        found = [last_parts[part] for part in difflib.get_close_matches(dotted, last_parts, n=1, cutoff=0.8)]
    return found[0] if len(found) == 1 else ""


def _value(option: str, arguments: Sequence[str]) -> str:
    """Return the value that follows the option on the command line, or an empty string."""
    for number, argument in enumerate(arguments):
        given, equals, value = argument.partition("=")
        if given == option:
            following = arguments[number + 1] if number + 1 < len(arguments) else ""
            return value if equals else "" if following.startswith("--") else following
    return ""
