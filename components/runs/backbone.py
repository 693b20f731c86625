"""Pin pretrained weights by their sha256 before training starts, because they are part of a run's identity."""

from pathlib import Path

from components.dataset.sources.fetch import is_url
from components.errors import UserError
from components.files import file_sha256
from components.networks.installed_weights import IMAGENET, installed_weights
from components.recipes import Recipe


def pin_pretrained(recipe: Recipe, *, is_here: bool) -> Recipe:
    """Return the recipe with the sha256 of `network.pretrained` and `network.right_pretrained` filled in.

    Args:
        is_here: whether this machine will read the weights. If so, a path must exist, and is hashed.

    Raises:
        UserError: the file does not exist or has a different sha256, or a URL comes without a sha256.
    """
    found = {
        f"{setting}_sha256": _sha256(recipe, setting, is_here=is_here) for setting in ("pretrained", "right_pretrained")
    }
    return recipe.model_copy(update={"network": recipe.network.model_copy(update=found)})


def _sha256(recipe: Recipe, setting: str, *, is_here: bool) -> str:
    source: str = getattr(recipe.network, setting)
    given: str = getattr(recipe.network, f"{setting}_sha256")
    if not source:
        return given
    if source == IMAGENET:
        return _of_package(recipe, setting, given)
    if is_url(source):
        if not given:
            raise UserError(
                f"network.{setting} is the URL {source}: set network.{setting}_sha256 too, to verify the download"
            )
        return given.lower()
    if not is_here:
        return given
    if not Path(source).is_file():
        raise UserError(
            f"network.{setting}: {source!r} is not a file; set it to {IMAGENET}, an .npz, .safetensors, .pdparams or "
            ".pth file, a URL or an s3:// URI"
        )
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
