"""A user's request: a run, the resources for it, and the images that its best weights segment.

Everything that does not depend on the dataset is checked on construction. An invalid value raises UserError.
"""

import json
import os
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, field_validator, model_validator

from components.contract import Frozen
from components.dataset.sources.address import STORED, check_source, parse_sources
from components.errors import UserError
from components.labeled_ratio import parse_ratio, ratio_text
from components.recipes import Overrides, Recipe, load_recipe
from components.recipes.model import AUTO
from components.runs.backbone import check_start, pin_pretrained

if TYPE_CHECKING:
    from components.runs.record import RunRecord

DEMO, PHOTOS = "demo", "photos"
"""The recipes that `auto` chooses: for generated scenes, and for photographs, where it is adapted to the dataset."""
MOST_PROCESSES = 1024
MOST_SHARDS = 256
IMAGE_SETS = ("val", "test", "unlabeled")

_SIZE = re.compile(r"0*[1-9]\d*(?:\.\d+)?(?:k|M|G|T|Ki|Mi|Gi|Ti)")
_QUANTITY = re.compile(r"(?:0*[1-9]\d*(?:\.\d+)?|0*\.0*[1-9]\d*|0+\.0*[1-9]\d*)(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?")
"""A Kubernetes quantity in its usual forms: 500m, 2, 1.5, 16Gi."""
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_QUALIFIED_NAME = re.compile(rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?{_LABEL}")
_MOST_SEEDS = 2**31
_OVERRIDES_EXAMPLE = 'write, for example, {"optimization.learning_rate": 0.01}'


def parse_overrides(text: str) -> Overrides:
    """Parse recipe overrides, a JSON object of dotted names and values. Raises UserError."""
    try:
        overrides = json.loads(text or "{}")
    except ValueError as error:
        raise UserError(f"overrides {text!r} are not JSON ({error}); {_OVERRIDES_EXAMPLE}") from None
    if not isinstance(overrides, dict):
        raise UserError(f"overrides {text!r} are not a JSON object; {_OVERRIDES_EXAMPLE}")
    return overrides


def _lowest_terms(text: str) -> str:
    return AUTO if text == AUTO else ratio_text(parse_ratio(text))


class RunRequest(Frozen):
    """A run as requested. Different requests give the same run key if they resolve to the same settings."""

    dataset: str = "scenes"
    """One or more paths or URLs, parsed by `components.dataset.sources.address`."""
    dataset_sha256: str = ""
    """Expected sha256 of each source, in the same order; empty skips the check."""
    dataset_pools: str = ""
    """Additional unlabelled pools of the dataset to use, separated by commas."""
    labeled_ratio: Annotated[str, AfterValidator(_lowest_terms)] = AUTO
    """In lowest terms: 2/16 becomes 1/8. `auto` uses all labels, but 1/8 of the generated scenes."""
    recipe: str = AUTO
    """A recipe's name, the path of a YAML file, or `auto` for one that suits the dataset."""
    overrides: dict[str, JsonValue] = Field(default_factory=dict)
    """Changes to the recipe's settings, by dotted name."""
    seed: int = 0
    epochs: int = 0
    batch_size: int = 0
    """`epochs` and `batch_size` override the recipe's values; 0 keeps them."""

    @field_validator("dataset_sha256")
    @classmethod
    def _lower(cls, text: str) -> str:
        return text.lower()

    @field_validator("seed")
    @classmethod
    def _check_seed(cls, seed: int) -> int:
        if not 0 <= seed < _MOST_SEEDS:
            raise UserError(f"seed {seed} is not a whole number from 0 to {_MOST_SEEDS - 1}")
        return seed

    @model_validator(mode="after")
    def _check_lengths(self) -> "RunRequest":
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 0:
                raise UserError(f"{name} is {value}: give a whole number above 0, or 0 for the recipe's value")
        return self

    @property
    def ratio(self) -> Fraction:
        return parse_ratio(self.labeled_ratio)

    @property
    def all_overrides(self) -> Overrides:
        """Return the overrides, including epochs and batch size."""
        lengths = {"training.epochs": self.epochs, "training.batch_size": self.batch_size}
        return {**self.overrides, **{setting: value for setting, value in lengths.items() if value}}

    def check_sources(self, *, is_local: bool = True) -> None:
        """Check the dataset's sources. With `is_local`, this machine will read them, so a path must exist."""
        for source in parse_sources(self.dataset, self.dataset_sha256):
            check_source(source.text, is_here=is_local)

    def resolve(self, *, is_local: bool = True) -> Recipe:
        """Return the recipe with the overrides applied and the sha256 of pretrained weights filled in.

        For `auto` this is only a check, with the recipe that most such datasets get: see
        `components.runs.planning.auto`.

        Args:
            is_local: whether this machine will read the weights. If so, a path must exist, and is hashed.

        Raises:
            UserError: the recipe, a setting or the weights are invalid.
        """
        name = self._likely_recipe()
        recipe = check_start(load_recipe(name, self.all_overrides), load_recipe(name))
        return pin_pretrained(recipe, is_here=is_local)

    def _likely_recipe(self) -> str:
        if self.recipe != AUTO:
            return self.recipe
        from components.scenes.generate import is_scenes

        return DEMO if is_scenes(parse_sources(self.dataset)[0].text) else PHOTOS

    @classmethod
    def of_record(cls, record: "RunRecord", recipe_file: str) -> "RunRequest":
        """Return the request that repeats a recorded run, whose resolved recipe is in `recipe_file`."""
        return cls(
            dataset=f"{STORED}{record.dataset.digest}",
            labeled_ratio=record.labeled_ratio,
            recipe=recipe_file,
            seed=record.seed,
        )


class Toleration(Frozen):
    """A pod's toleration, with the field names and values of Kubernetes."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    tolerationSeconds: int | None = None  # noqa: N815 - Kubernetes' name


def _check_labels(labels: Any) -> Any:
    if not isinstance(labels, Mapping):
        return labels  # which the model refuses
    for key, value in labels.items():
        if not _QUALIFIED_NAME.fullmatch(key) or not isinstance(value, str):
            raise UserError(f"node_selector has {key!r}: {value!r}; map names of node labels to their values, as text")
    return labels


def _check_tolerations(tolerations: Any) -> Any:
    for toleration in tolerations:
        known = isinstance(toleration, Toleration) or (
            isinstance(toleration, Mapping) and toleration and not set(toleration) - set(Toleration.model_fields)
        )
        if not known:
            names = ", ".join(Toleration.model_fields)
            raise UserError(f"tolerations has {toleration!r}: give a list of objects with the fields {names}")
    return tolerations


class Resources(Frozen):
    """The processes, GPUs and nodes that share the work, and the resources of each pod on a cluster."""

    processes: int = 1
    """Training processes if `gpus` is 0."""
    gpus: int = 0
    """GPUs per training node, with one process each; 0 trains on the CPU."""
    nodes: int = 1
    """Nodes that train together."""
    eval_shards: int = 2
    """Evaluation tasks among which the checkpoints are divided."""
    eval_gpus: int = 0
    """GPUs of each pod that evaluates, selects or predicts: 0 or 1."""
    cpu: str = "2"
    memory: str = "8Gi"
    """`cpu` and `memory` are Kubernetes quantities, used as request and limit."""
    shm: str = ""
    """Size of /dev/shm in each training pod, a Kubernetes quantity; empty for as much as its memory."""
    accelerator: str = "nvidia.com/gpu"
    """The Kubernetes resource name of a GPU."""
    node_selector: Annotated[dict[str, str], BeforeValidator(_check_labels)] = Field(default_factory=dict)
    tolerations: Annotated[tuple[Toleration, ...], BeforeValidator(_check_tolerations)] = ()

    @model_validator(mode="after")
    def _check(self) -> "Resources":
        """Reject values that would otherwise fail hours later, when Kubernetes creates a pod."""
        _check_count("processes", self.processes, 1, MOST_PROCESSES)
        _check_count("eval_shards", self.eval_shards, 1, MOST_SHARDS)
        _check_count("eval_gpus", self.eval_gpus, 0, 1)
        _check_count("gpus", self.gpus, 0, MOST_PROCESSES)
        _check_count("nodes", self.nodes, 1, MOST_PROCESSES)
        if self.gpus and self.processes not in (1, self.gpus):
            raise UserError(
                f"gpus is {self.gpus} and processes is {self.processes}: each GPU runs one process; set processes to 1"
            )
        for name, amount, example in (("cpu", self.cpu, "2 or 500m"), ("memory", self.memory, "8Gi")):
            if not _QUANTITY.fullmatch(amount):
                raise UserError(f"{name} is {amount!r}: give a Kubernetes quantity such as {example}")
        if self.shm and not _SIZE.fullmatch(self.shm):
            raise UserError(f"shm is {self.shm!r}: give a size such as 16Gi, or leave it empty for as much as memory")
        if not _QUALIFIED_NAME.fullmatch(self.accelerator) or "/" not in self.accelerator:
            raise UserError(
                f"accelerator is {self.accelerator!r}: give a Kubernetes resource name such as nvidia.com/gpu"
            )
        return self


def _check_count(name: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise UserError(f"{name} is {count}: give a whole number from {least} to {most}")


class PredictionRequest(Frozen):
    """The images that the best weights segment at the end of a run."""

    images: str = "val"
    """val, test, unlabeled, an s3:// prefix, or a path or glob on the machine that runs the step."""
    limit: int = 24
    """Maximum number of images; 0 segments all."""

    def check(self, *, is_local: bool = True) -> None:
        """Check that the images exist. Without `is_local`, paths are rejected. Raises UserError."""
        images = self.images
        known = images in IMAGE_SETS or images.startswith("s3://") or (is_local and set("*?[") & set(images))
        if not known and not (is_local and os.path.exists(images)):
            or_path = ", or an existing file or folder" if is_local else ""
            raise UserError(f"predict_images is {images!r}: give {', '.join(IMAGE_SETS)}, an s3:// prefix{or_path}")
        if self.limit < 0:
            raise UserError(f"predict_limit is {self.limit}: give a whole number above 0, or 0 for all")
