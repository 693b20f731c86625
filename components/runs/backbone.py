"""Pin pretrained weights by their sha256 before training starts, because they are part of a run's identity."""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.contract import Frozen, read
from components.dataset.sources.fetch import fetch, is_url
from components.errors import UserError, WorkFailed
from components.files import file_sha256
from components.networks.pretrained_weights.installed import IMAGENET, installed_weights
from components.reading import mistaken, open_file
from components.recipes import Recipe
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

SCRATCH = "none"
"""The value of `network.pretrained` that trains from random weights although the recipe has a pretrained backbone."""
_SETTINGS = ("pretrained", "right_pretrained")
_STEP = "split-labels"


class Backbone(Frozen):
    """What the file at an address was when a run first used it."""

    address: str
    sha256: str


def check_start(recipe: Recipe, published: Recipe) -> Recipe:
    """Return the recipe with `none` replaced by an empty setting.

    Args:
        published: the recipe without the user's changes.

    Raises:
        UserError: training would start from random weights without the user having said so.
    """
    network = recipe.network
    if published.network.pretrained and not network.pretrained:
        raise UserError(
            f"recipe {published.name} starts from pretrained weights, but network.pretrained is empty: omit it, or "
            f"set it to {SCRATCH} to train from random weights"
        )
    if network.pretrained == SCRATCH:
        network = network.model_copy(update={"pretrained": "", "pretrained_sha256": ""})
    if network.freeze_stem and not network.pretrained:
        raise UserError(
            "network.freeze_stem would freeze random weights: set network.pretrained, or network.freeze_stem=false"
        )
    return recipe.model_copy(update={"network": network})


def pin_pretrained(recipe: Recipe, *, is_here: bool) -> Recipe:
    """Return the recipe with the sha256 of `network.pretrained` and `network.right_pretrained` filled in.

    That of an address without a sha256 stays empty: see `pin_addresses`.

    Args:
        is_here: whether this machine will read the weights. If so, a path must exist, and is hashed.

    Raises:
        UserError: the file does not exist, is empty or a pointer to another, or has a different sha256.
    """
    return _with_digests(recipe, {setting: _sha256(recipe, setting, is_here=is_here) for setting in _SETTINGS})


def pin_addresses(recipe: Recipe, store: "Store") -> Recipe:
    """Fill in the sha256 of weights that were given by an address alone.

    The first run downloads them and records their sha256 in the store, which is enforced for every later run.

    Raises:
        WorkFailed: the weights cannot be downloaded.
    """
    found = {}
    for setting in _SETTINGS:
        source, given = getattr(recipe.network, setting), getattr(recipe.network, f"{setting}_sha256")
        found[setting] = _recorded(source, store) if is_url(source) and not given else given
    return _with_digests(recipe, found)


def _with_digests(recipe: Recipe, digests: dict[str, str]) -> Recipe:
    changes = {f"{setting}_sha256": sha256 for setting, sha256 in digests.items()}
    return recipe.model_copy(update={"network": recipe.network.model_copy(update=changes)})


def _recorded(address: str, store: "Store") -> str:
    key = keys.backbone(hashlib.sha256(address.encode()).hexdigest())
    known = store.find_json(key)
    if known is None:
        with tempfile.TemporaryDirectory(prefix="cps-pretrained-") as folder:
            try:
                _, sha256 = fetch(address, "", Path(folder), store, _STEP)
            except WorkFailed as error:
                raise WorkFailed(
                    f"{error}; or download the pretrained weights elsewhere and set network.pretrained to the file"
                ) from error
        if store.put_if_absent(key, Backbone(address=address, sha256=sha256).model_dump_json().encode()):
            progress.say(_STEP, f"pretrained weights {address}: sha256 {sha256} recorded")
        known = store.get_json(key)  # of several first runs, one has written it
    return read(Backbone, known, store.uri(key)).sha256


def _sha256(recipe: Recipe, setting: str, *, is_here: bool) -> str:
    source: str = getattr(recipe.network, setting)
    given: str = getattr(recipe.network, f"{setting}_sha256")
    if not source:
        return given
    if source == IMAGENET:
        return _of_package(recipe, setting, given)
    if is_url(source):
        return given.lower()
    if not is_here:
        return given
    if not Path(source).is_file():
        raise UserError(
            f"network.{setting}: {source!r} is not a file; set it to {IMAGENET}, an .npz, .safetensors, .pdparams or "
            ".pth file, a URL or an s3:// URI"
        )
    with open_file(Path(source)) as file:
        if why := mistaken(file.read(512)):
            raise UserError(f"network.{setting}: {source} cannot be read: {why}")
    found = file_sha256(Path(source))
    _compare(setting, source, given, found)
    return found


def _of_package(recipe: Recipe, setting: str, given: str) -> str:
    # Only the training step needs the package, and checks that it is installed.
    structures = recipe.network.structures
    structure = structures["left" if setting == "pretrained" else "right"]
    found = installed_weights(structure).sha256
    _compare(setting, IMAGENET, given, found)
    return found


def _compare(setting: str, source: str, given: str, found: str) -> None:
    if given and given.lower() != found:
        raise UserError(
            f"network.{setting}: {source} has sha256 {found}, but network.{setting}_sha256 is {given}: "
            "correct one of them"
        )
