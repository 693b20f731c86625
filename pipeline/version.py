"""The release. It stands here alone: pyproject.toml and scripts/images read it, and so does `cps --version`."""

VERSION = "0.2.0"
IMAGE = f"cps-pipeline/cps:{VERSION}"
DATA_IMAGE = f"cps-pipeline/data:{VERSION}"
"""The images of the steps: those that need Paddle, and the others."""
