"""Options that several commands have, in groups, and what a shell completes after them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from components import progress

_Command = TypeVar("_Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]
"""What `click.option` returns."""


def with_options(*groups: Sequence[Option]) -> Callable[[_Command], _Command]:
    """Give a command the options of these groups; its help lists them in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete a name of a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The named recipes, else files."""
    from components.recipes import recipe_names

    named = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]


def _be_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    progress.be_quiet(value)


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, expose_value=False, callback=_be_quiet, help="No progress: only results and errors."
)


def eval_shards(default: int) -> Option:
    """How many evaluation tasks share the checkpoints."""
    return click.option(
        "--eval-shards",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        help="Evaluation tasks that share the checkpoints.",
    )


DATASET: tuple[Option, ...] = (
    click.option(
        "--dataset",
        default="scenes",
        show_default=True,
        shell_complete=complete_file,
        help="A folder, archive, http(s) address, s3:// URI, several of these, or scenes: generated street scenes.",
    ),
    click.option(
        "--sha256", "dataset_sha256", default="", help="Expected sha256 of a dataset file; of several, in their order."
    ),
    click.option(
        "--pools",
        "dataset_pools",
        default="",
        help="Further unlabelled pools of the dataset to use, separated by commas.",
    ),
)
RATIO: tuple[Option, ...] = (
    click.option(
        "--ratio",
        "--labeled-ratio",
        "labeled_ratio",
        default="1/8",
        show_default=True,
        help="Share of the labels that is used, as a fraction.",
    ),
)
RECIPE: tuple[Option, ...] = (
    click.option(
        "--recipe",
        default="demo",
        show_default=True,
        shell_complete=complete_recipe,
        help="Named settings (`cps recipes`), or a .yaml file.",
    ),
    click.option(
        "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a setting of the recipe; repeatable."
    ),
)
SEED: tuple[Option, ...] = (
    click.option(
        "--seed", default=0, show_default=True, type=click.IntRange(0), help="Decides split, initialisation and order."
    ),
)
LENGTH: tuple[Option, ...] = (
    click.option(
        "--epochs", default=0, type=click.IntRange(0), help="Passes over the longer list.  [default: the recipe's]"
    ),
    click.option(
        "--batch-size", default=0, type=click.IntRange(0), help="Labelled images in a step.  [default: the recipe's]"
    ),
)
PROCESSES: tuple[Option, ...] = (
    click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Training processes."),
)
PREDICTION: tuple[Option, ...] = (
    click.option(
        "--predict",
        "predict_images",
        default="val",
        show_default=True,
        help="What is segmented at the end: val, test, unlabeled, or a file or folder.",
    ),
    click.option(
        "--predict-limit", default=24, show_default=True, type=click.IntRange(0), help="At most so many images; 0: all."
    ),
)
CONNECTION: tuple[Option, ...] = (
    click.option("--endpoint", default="", help="Address of the KFP server.  [default: KF_PIPELINES_ENDPOINT]"),
    click.option("-n", "--namespace", default="", envvar="KFP_NAMESPACE", help="Your namespace (multi-user servers)."),
    click.option(
        "--ca-cert", default="", type=click.Path(dir_okay=False), help="File of certificates to trust the server by."
    ),
)
PODS: tuple[Option, ...] = (
    click.option("--gpus", default=0, show_default=True, type=click.IntRange(0), help="GPUs on each node; 0: the CPU."),
    click.option("--accelerator", default="", help="What the nodes call a GPU.  [default: nvidia.com/gpu]"),
    click.option("--nodes", default=1, show_default=True, type=click.IntRange(1), help="Nodes that train together."),
    click.option("--cpu", default="", help="Cores for each pod that trains, evaluates or predicts.  [default: 2]"),
    click.option("--memory", default="", help="Memory for each of them.  [default: 8Gi]"),
    click.option("--node-selector", multiple=True, metavar="LABEL=VALUE", help="Nodes that train; repeatable."),
    click.option(
        "--toleration", "tolerations", multiple=True, metavar="KEY[=VALUE][:EFFECT]", help="A taint; repeatable."
    ),
    click.option("--image", default="", help="Image of the steps that train, evaluate and predict."),
    click.option("--data-image", default="", help="Image of the other steps."),
    click.option("--settings-config-map", default="", help="ConfigMap with addresses.  [default: cps-settings]"),
    click.option("--store-secret", default="", help="Secret with the store's keys.  [default: cps-store]"),
    click.option("--download-secret", default="", help="Secret with a dataset's login.  [default: cps-download]"),
    click.option("--secret-fields", default="", help="Names of both keys inside the store's Secret."),
)
RUN_NAME: tuple[Option, ...] = (
    click.option("--name", default="", help="Run name shown in the UI.  [default: dataset, ratio, recipe and seed]"),
)
PLACE: tuple[Option, ...] = (
    click.option(
        "--experiment",
        default="cps",
        show_default=True,
        envvar="KF_PIPELINES_DEFAULT_EXPERIMENT_NAME",
        help="Created if it does not exist.",
    ),
    click.option("--service-account", default="", help="Kubernetes service account of the pods."),
)
