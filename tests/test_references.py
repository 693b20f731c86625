"""Modules, names and files of this project that its files mention exist, also where no type checker looks."""

from pathlib import Path

import pytest

from tests.project_files import REPOSITORY, project_files, text_of
from tests.references import broken_references

# Records of other versions, and this file, whose mentions are wrong on purpose.
APART = {"CHANGELOG.md", "tests/golden", str(Path(__file__).relative_to(REPOSITORY))}


def test_everything_of_ours_that_a_file_mentions_exists() -> None:
    files = {path.relative_to(REPOSITORY): text_of(path) for path in project_files()}
    checked = {path: text for path, text in files.items() if not APART & {str(path), *map(str, path.parents)}}
    assert len(checked) > 400
    wrong = [line for path, text in checked.items() for line in sorted(broken_references(path, text))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("a.py", "from components.storage.client import Sotre", "1: components.storage.client.Sotre"),
        ("a.py", "def run():\n    import pipeline.local.runs", "2: pipeline.local.runs"),
        ("a.py", "from components import storages", "1: components.storages"),
        ("a.py", "from tests.object_stores import (\n    Server,\n    Sevrer,\n)", "1: tests.object_stores.Sevrer"),
        # A program in a string, also of one line, and with the braces of an f-string.
        (
            "a.py",
            'RUN = """\nimport sys\nfrom components.runs.steps import prepare_set\n"""',
            "3: components.runs.steps.prepare_set",
        ),
        (
            "a.py",
            r'RUN = "import sys\nfrom components.scenes.plan import plans\nplans()"',
            "2: components.scenes.plan.plans",
        ),
        ("a.py", 'f"""\nfrom pipeline.dag import dags\ndags({1})"""', "2: pipeline.dag.dags"),
        ("a.py", 'setattr("components.storage.transfer.SINGEL", 1)', "1: components.storage.transfer.SINGEL"),
        (
            "a.py",
            'setattr("components.storage.client.Store.put_byte", 1)',
            "1: components.storage.client.Store.put_byte",
        ),
        ("a.py", '[sys.executable, "-m", "pipeline.clis"]', "1: pipeline.clis"),
        ("a.py", '[sys.executable, "-m", "pipeline.local", "run"]', "1: -m pipeline.local"),
        ("a.yaml", "command: [python, -m, components.runs.step]", "1: components.runs.step"),
        ("Dockerfile", "RUN true\nRUN python -m pipeline.cli.manuals", "2: pipeline.cli.manuals"),
        ("a.sh", "python -m pipeline.local", "1: -m pipeline.local"),
        ("a.sh", "python -c 'from components.extras import EXTRA; print(EXTRA)'", "1: components.extras.EXTRA"),
        ("a.md", "See `tests/test_reference.py`.", "1: tests/test_reference.py"),
    ],
)
def test_a_broken_mention_is_found(name: str, text: str, wrong: str) -> None:
    assert f"{name}:{wrong} does not exist" in broken_references(Path(name), text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "from components.recipes import load_recipe"),  # imported by the package, defined below it
        ("a.py", "components = {}\ncomponents.items()"),
        ("a.py", 'setattr("components.training.supervision.resources.time.monotonic", 1)'),  # beyond this project
        ("a.py", 'setattr("components.storage.client.Store.put_bytes", 1)'),
        ("a.sh", "python -m pipeline.cli && python -m pipeline.cli.manual > pipeline.yaml"),
        ("a.toml", 'cps = "pipeline.cli.main:main"'),
    ],
)
def test_what_exists_or_may_exist_is_not_found(name: str, text: str) -> None:
    assert broken_references(Path(name), text) == set()
