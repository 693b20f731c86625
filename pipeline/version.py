"""The release. It stands here alone: pyproject.toml and scripts/images read it, and so does `cps --version`."""

VERSION = "0.2.0"
