"""Every environment variable that the code or the manifests mention is in the reference."""

import re
from pathlib import Path

import pytest

from tests.project_files import REPOSITORY, project_files, text_of

PAGE = REPOSITORY / "docs" / "reference" / "environment.md"
OURS = re.compile(r"\b(?:CPS|MLFLOW|AWS|MINIO|KFP|KF_PIPELINES)_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)")
# Where any other variable is read.
READ = re.compile(r"""environ(?:\.get|\.setdefault)?[(\[]\s*["']([A-Z][A-Z0-9_]+)["']""")
CONSTANTS = {"MLFLOW_VARIABLE"}
"""Names in the code that look like variables and are not."""


def variables(path: Path) -> set[str]:
    """Return the environment variables that a file mentions."""
    text = text_of(path)
    assigned = set(re.findall(r"^([A-Z][A-Z0-9_]+)(?::[^=\n]+)? = ", text, re.M))
    return (set(OURS.findall(text)) | set(READ.findall(text))) - assigned - CONSTANTS


def documented() -> set[str]:
    return set(re.findall(r"`([A-Z][A-Za-z0-9_]+)`", PAGE.read_text()))


def mentioned() -> dict[str, str]:
    """Return each variable, and one of the files that mention it."""
    files = [path for path in project_files("pipeline", "components", "docker", "manifests") if path.suffix != ".md"]
    return {name: str(path.relative_to(REPOSITORY)) for path in files for name in variables(path)}


def test_every_variable_is_in_the_reference() -> None:
    missing = {name: path for name, path in mentioned().items() if name not in documented()}
    assert not missing, f"add to {PAGE.relative_to(REPOSITORY)}: {missing}"


def test_the_reference_has_only_variables_that_exist() -> None:
    words = {word for path in project_files("pipeline", "components", "manifests") for word in words_of(path)}
    # Variables that the libraries read, and the _FILE form that the code builds from a name.
    libraries = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_COLOR"}
    built = {name for name in documented() if name.removesuffix("_FILE") in words}
    assert documented() - words - libraries - built == set()


def words_of(path: Path) -> set[str]:
    return set(re.findall(r"\b[A-Z][A-Za-z0-9_]+\b", text_of(path)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('os.environ.get("CPS_HOME")', {"CPS_HOME"}),
        ('BYTES = "CPS_BYTES"', {"CPS_BYTES"}),
        ('os.environ["NVIDIA_TF32_OVERRIDE"]', {"NVIDIA_TF32_OVERRIDE"}),
        ("MLFLOW_LIMIT: Final = 1\nMLFLOW_LIMIT + 1", set()),
    ],
)
def test_variables_are_found(text: str, found: set[str], tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(text)
    assert variables(tmp_path / "module.py") == found
