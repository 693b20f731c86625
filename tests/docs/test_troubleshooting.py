"""The messages in the troubleshooting page are messages of the program."""

import ast
import re
from pathlib import Path

import pytest

from tests.project_files import REPOSITORY, project_files

PAGE = REPOSITORY / "docs" / "help" / "troubleshooting.md"
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.M)


def texts(path: Path) -> list[str]:
    """Return the texts in a module, with a blank for each value that is inserted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


@pytest.fixture(scope="module")
def program() -> str:
    return "\n".join(text for path in project_files("components/**.py", "pipeline/**.py") for text in texts(path))


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_says_it(message: str, program: str) -> None:
    # A name in the message may be inserted by the program, such as that of a variable or a file.
    fixed = re.split(r"\s*…\s*|\b[A-Z]+_[A-Z_]+\b|\w+\.json |\(?SIG[A-Z]+", message)
    missing = [part for part in map(str.strip, fixed) if len(part) > 3 and part.strip(":;, )") not in program]
    assert not missing


def test_there_are_many() -> None:
    assert len(MESSAGES) > 40
