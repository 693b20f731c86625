"""Pin pretrained weights by their sha256 before training starts, because they are part of a run's identity."""

from pathlib import Path

from components.dataset.sources.fetch import is_url
from components.errors import UserError
from components.files import file_sha256
from components.reading import mistaken, open_file
from components.recipes import Recipe


def pin_pretrained(recipe: Recipe, *, is_here: bool) -> Recipe:
    """Return the recipe with the sha256 of `network.pretrained` and `network.right_pretrained` filled in.

    Args:
        is_here: whether this machine will read the weights. If so, a path must exist, and is hashed.

    Raises:
        UserError: the file does not exist, is empty or a pointer to another, or has a different sha256, or a URL comes
            without a sha256.
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
                f"network.{setting} is the URL {source}: set network.{setting}_sha256 too, to verify the download"
            )
        return given.lower()
    if not is_here:
        return given
    if not Path(source).is_file():
        raise UserError(
            f"network.{setting}: {source!r} is not a file; set it to an .npz, .safetensors or .pdparams file, a URL or "
            "an s3:// URI"
        )
    found = file_sha256(Path(source))
    with open_file(Path(source)) as file:
        if why := mistaken(file.read(512)):
            raise UserError(f"network.{setting}: {source} cannot be read: {why}")
    if given and given.lower() != found:
        raise UserError(
            f"network.{setting}: {source} has sha256 {found}, but network.{setting}_sha256 is {given}: "
            "correct one of them"
        )
    return found
