"""Pretrained weights are part of what a run is: their sha256 is known before anything is trained."""

from pathlib import Path

from components.dataset.fetch import file_sha256, is_url
from components.errors import UserError
from components.recipes import Recipe

_SETTING = "network.pretrained"


def pin_pretrained(recipe: Recipe, *, is_here: bool) -> Recipe:
    """The recipe with `network.pretrained_sha256` filled in.

    Args:
        is_here: a path must exist on this machine, and is hashed. False when another one is to read it.

    Raises:
        UserError: no such file, another sha256 than the one given, or an address without one.
    """
    source, given = recipe.network.pretrained, recipe.network.pretrained_sha256.lower()
    if not source:
        return recipe
    if is_url(source):
        if not given:
            raise UserError(
                f"{_SETTING} is the address {source}: give network.pretrained_sha256 too, so that it is checked"
            )
        return _with_sha256(recipe, given)
    if not is_here:
        return recipe
    if not Path(source).is_file():
        raise UserError(
            f"{_SETTING}: {source!r} is not a file; give an .npz or .safetensors file, a URL or an s3:// URI"
        )
    found = file_sha256(Path(source))
    if given and given != found:
        raise UserError(f"{_SETTING}: {source} has sha256 {found}, and not network.pretrained_sha256 {given}")
    return _with_sha256(recipe, found)


def _with_sha256(recipe: Recipe, sha256: str) -> Recipe:
    return recipe.model_copy(update={"network": recipe.network.model_copy(update={"pretrained_sha256": sha256})})
