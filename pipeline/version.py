"""The release, as pyproject.toml has it: known without the package being installed, and without reading files."""

VERSION = "0.1.0"
