"""Options that several commands share, in groups, and their shell completion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from components import progress
from components.reading import expanded
from pipeline.cli.project import with_settings

_Command = TypeVar("_Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]
"""The decorator that `click.option` returns."""


def with_options(*groups: Sequence[Option]) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of these groups; the help lists them in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def complete_file(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete a file or folder name."""
    return [CompletionItem(incomplete, type="file")]


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete recipe names; if none match, files."""
    from components.recipes import recipe_names

    named = [CompletionItem(name) for name in ("auto", *recipe_names()) if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]


def _be_quiet(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    progress.be_quiet(value)


quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_be_quiet,
    help="Print only results and errors, no progress.",
)


class LocalPath(click.Path):
    """A path on this machine, as a Path. A leading ~ is the home folder."""

    def __init__(self, **checks: bool) -> None:
        super().__init__(path_type=Path, **checks)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(expanded(value) if isinstance(value, str) else value, param, ctx)


def eval_shards(default: int) -> Option:
    """Return the option `--eval-shards` with this default."""
    return click.option(
        "--eval-shards",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        help="Number of evaluation tasks that share the checkpoints.",
    )


DATASET: tuple[Option, ...] = (
    click.option(
        "--dataset",
        default="scenes",
        show_default=True,
        shell_complete=complete_file,
        help="Folder, archive, http(s):// or s3:// URL, several of these in quotes, or scenes (generated images).",
    ),
    click.option(
        "--sha256",
        "dataset_sha256",
        default="",
        help="Expected SHA-256 of the dataset file; for several files, one each in the same order, or - to skip one.",
    ),
    click.option(
        "--pools",
        "dataset_pools",
        default="",
        help="Additional unlabelled pools of the dataset to use, separated by commas.",
    ),
)
RATIO: tuple[Option, ...] = (
    click.option(
        "--ratio",
        "--labeled-ratio",
        "labeled_ratio",
        default="auto",
        show_default=True,
        help="Share of the labels to use: 1/8, 0.125 or 12.5%. auto: all, or 1/8 of the generated scenes.",
    ),
)
RECIPE: tuple[Option, ...] = (
    click.option(
        "--recipe",
        default="auto",
        show_default=True,
        shell_complete=complete_recipe,
        help="Recipe name (see `cps recipes list`) or path of a .yaml file. auto: one that suits the dataset.",
    ),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=VALUE",
        callback=with_settings,
        help="Override a setting of the recipe; repeatable.",
    ),
)
SEED: tuple[Option, ...] = (
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Seed of the split, the initial weights and the image order.",
    ),
)
LENGTH: tuple[Option, ...] = (
    click.option(
        "--epochs",
        default=0,
        type=click.IntRange(0),
        help="Passes over the longer of the labelled and unlabelled lists.  [default: the recipe's]",
    ),
    click.option(
        "--batch-size",
        default=0,
        type=click.IntRange(0),
        help="Labelled images per step, over all processes.  [default: the recipe's]",
    ),
)
PROCESSES: tuple[Option, ...] = (
    click.option(
        "--processes",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Training processes. Results depend slightly on the number with OHEM, which selects pixels within each "
        "process, and with dropout.",
    ),
)
PREDICTION: tuple[Option, ...] = (
    click.option(
        "--predict",
        "predict_images",
        default="val",
        show_default=True,
        help="Images to segment at the end: val, test, unlabeled or an s3:// prefix; on this machine also a file, a "
        "folder or a pattern.",
    ),
    click.option(
        "--predict-limit",
        default=24,
        show_default=True,
        type=click.IntRange(0),
        help="Maximum number of images to segment; 0 for all.",
    ),
)
CONNECTION: tuple[Option, ...] = (
    click.option(
        "--endpoint",
        default="",
        help="URL of the KFP server.  [default: KF_PIPELINES_ENDPOINT, or the current cluster]",
    ),
    click.option("-n", "--namespace", default="", envvar="KFP_NAMESPACE", help="Your namespace (multi-user servers)."),
    click.option(
        "--ca-cert", default="", type=click.Path(dir_okay=False), help="CA certificate file to verify the server with."
    ),
)
GPUS: tuple[Option, ...] = (
    click.option(
        "--gpus",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Number of GPUs to train on, with one process each. Fails if this machine has fewer.",
    ),
)
PODS: tuple[Option, ...] = (
    click.option(
        "--gpus", default=0, show_default=True, type=click.IntRange(0), help="GPUs per node; 0 to train on the CPU."
    ),
    click.option(
        "--eval-gpus",
        type=click.IntRange(0, 1),
        help="GPUs for each pod that evaluates, selects or predicts: 0 or 1.  [default: 1 with --gpus, otherwise 0]",
    ),
    click.option("--accelerator", default="", help="Kubernetes resource name of the GPUs.  [default: nvidia.com/gpu]"),
    click.option(
        "--nodes",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Training nodes; more than 1 needs Kubeflow Trainer.",
    ),
    click.option("--cpu", default="", help="CPU cores for each pod that trains, evaluates or predicts.  [default: 2]"),
    click.option("--memory", default="", help="Memory for each of these pods.  [default: 8Gi]"),
    click.option(
        "--shm",
        default="",
        help="Size of /dev/shm in each training pod, half of which is for decoded images: 16Gi. Counts as memory.  "
        "[default: as much as its memory]",
    ),
    click.option(
        "--node-selector",
        multiple=True,
        metavar="LABEL=VALUE",
        help="Label that a node must have to run training, or another step with a GPU; repeatable.",
    ),
    click.option(
        "--toleration",
        "tolerations",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="Taint that all pods tolerate; repeatable.",
    ),
    click.option("--image", default="", help="Container image of the steps that train, evaluate, select or predict."),
    click.option("--data-image", default="", help="Container image of the other steps."),
    click.option(
        "--settings-config-map",
        default="",
        help="ConfigMap with the addresses of the services.  [default: cps-settings]",
    ),
    click.option(
        "--store-secret",
        default="",
        help="Secret with the object store's access key and secret key.  [default: cps-store]",
    ),
    click.option(
        "--download-secret",
        default="",
        help="Secret with CPS_DOWNLOAD_TOKEN, if the dataset needs authentication.  [default: cps-download]",
    ),
    click.option(
        "--secret-fields",
        default="",
        help="Names of the access key and the secret key inside the store's Secret, separated by a comma.  "
        "[default: AWS_ACCESS_KEY_ID,AWS_SECRET_ACCESS_KEY]",
    ),
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
        help="Experiment of the run; created if it does not exist.",
    ),
    click.option("--service-account", default="", help="Kubernetes service account of the pods."),
)
