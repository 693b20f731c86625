"""The release, defined only here: pyproject.toml, scripts/images and `cps --version` read it."""

VERSION = "0.2.0"
IMAGE = f"cps-pipeline/cps:{VERSION}"
DATA_IMAGE = f"cps-pipeline/data:{VERSION}"
"""Container images: for the steps that need Paddle, and for the others."""
