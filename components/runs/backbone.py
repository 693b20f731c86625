"""Pretrained weights are part of what a run is: their sha256 is known before anything is trained."""

from pathlib import Path

from components.dataset.sources.fetch import is_url
from components.errors import UserError
from components.files import file_sha256
from components.recipes import Recipe


def pin_pretrained(recipe: Recipe, *, is_here: bool) -> Recipe:
    """The recipe with the sha256 of `network.pretrained` filled in, and of `network.right_pretrained`.

    Args:
        is_here: a path must exist on this machine, and is hashed. False when another one is to read it.

    Raises:
        UserError: no such file, another sha256 than the one given, or an address without one.
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
    if is_url(source):
        if not given:
            raise UserError(
                f"network.{setting} is the address {source}: give network.{setting}_sha256 too, so that it is checked"
            )
        return given.lower()
    if not is_here:
        return given
    if not Path(source).is_file():
        raise UserError(
            f"network.{setting}: {source!r} is not a file; give an .npz, .safetensors or .pdparams file, a URL or an "
            "s3:// URI"
        )
    found = file_sha256(Path(source))
    if given and given.lower() != found:
        raise UserError(f"network.{setting}: {source} has sha256 {found}, and not network.{setting}_sha256 {given}")
    return found
