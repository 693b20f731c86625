"""What may import what, what a start of `cps` may load, and what no file of the project may say."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

from components.extras import EXTRAS, PACKAGE, PADDLESEG
from tests.project_files import REPOSITORY, project_files, text_of

# A part imports itself and what lies below it, never its neighbours. Every part but `pipeline` is components.<name>.
LAYERS = (
    {"pipeline"},
    {"api"},
    {"training", "evaluation", "prediction", "labeling", "matrix"},
    {"runs"},
    {"dataset", "inference"},
    {"networks", "scenes", "tracking"},
    {"recipes", "storage", "pages", "step_guard"},
    {"addresses", "files", "threads", "labeled_ratio", "contract", "extras", "progress", "metrics"},
    {"disk"},
    {"errors", "reading", "units"},
)
LEVEL = {part: level for level, parts in enumerate(reversed(LAYERS)) for part in parts}

NEVER = {"components": {"kfp", "pipeline", "tests"}, "pipeline": {"paddle", "paddleseg", "tests"}}

SLOW_TO_IMPORT = ["paddle", "kfp", "mlflow", "minio", "rich", "pydantic"]

# Packages whose module has another name. mlflow-skinny is the client alone.
PACKAGE_OF = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "mlflow": "mlflow-skinny",
    "paddle": "paddlepaddle",
    "pydantic_core": "pydantic",  # which documents it as the place of its error types
    "yaml": "pyyaml",
}

TOP_LEVEL = {".ci", "components", "docker", "docs", "manifests", "pipeline", "scripts", "tests"}

# Written so that this file does not itself contain what it looks for.
FORBIDDEN = {
    "a package registry's address": re.compile(
        r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|deb[.]debian[.]org|-index[-]url|^registry\s*=", re.M
    ),
    "a path of one machine": re.compile(r"(?<![\w.~}])/(?:work|root|home|Users)/[a-z]"),
    "a private key or token": re.compile(r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY|\bAKIA[0-9A-Z]{16}\b"),
}


def test_imports_go_down_only() -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line}: {part} imports {imported}"
        for path in _modules("components", "pipeline")
        for part in [_part(_module_name(path))]
        for line, name in _imports(path)
        for imported in [_part(name)]
        if imported and part and imported != part and LEVEL.get(imported, -1) >= LEVEL.get(part, 0)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count, because a reader meets them too."""
    paths = {_module_name(path): path for path in _modules("components", "pipeline")}
    graph = {
        module: {
            imported
            for _, name in _imports(path)
            for imported in (name, name.rpartition(".")[0])
            if imported in paths and imported != module and paths[imported].name != "__init__.py"
        }
        for module, path in paths.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_every_part_has_a_layer() -> None:
    parts = {_part(_module_name(path)) for path in _modules("components", "pipeline")} - {""}
    assert parts <= set(LEVEL), f"add to LAYERS: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("tree", sorted(NEVER))
def test_packages_that_a_tree_never_imports(tree: str) -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}"
        for path in _modules(tree)
        for line, name in _imports(path)
        if name.split(".")[0] in NEVER[tree]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_command_starts_without_anything_slow() -> None:
    program = (
        f"import json, sys, pipeline.cli.main; print(json.dumps(sorted(set(sys.modules) & set({SLOW_TO_IMPORT}))))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_no_file_contains(what: str) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()!r}"
        for path in project_files()
        for text in [text_of(path)]
        for match in FORBIDDEN[what].finditer(text)
    ]
    assert not found, "\n".join(found)


def test_the_top_level_holds_nothing_by_accident() -> None:
    folders = {path.relative_to(REPOSITORY).parts[0] for path in project_files() if path.parent != REPOSITORY}
    assert folders == TOP_LEVEL


def test_the_lock_has_what_pyproject_asks_for() -> None:
    locked = {_normal(entry.split("==")[0]) for entry in _locked(REPOSITORY / "requirements.lock")}
    wanted = set().union(*_requirements().values())
    assert len(wanted) > 40
    assert not wanted - locked, "run `make lock`"


def test_every_entry_of_the_lock_has_hashes() -> None:
    locked = _locked(REPOSITORY / "requirements.lock")
    assert locked
    assert not [entry for entry, hashes in locked.items() if not hashes]


def test_every_import_is_declared_where_it_is_needed() -> None:
    """Imported packages are in the plain installation, or `missing_package` knows the extra that brings them."""
    declared = _requirements()
    imported = {name.split(".")[0] for path in _modules("components", "pipeline") for _, name in _imports(path)}
    third_party = imported - set(sys.stdlib_module_names) - {"components", "pipeline", "paddleseg"}
    assert {"numpy", "paddle", "kfp"} <= third_party
    wrong = {
        module: EXTRAS.get(module, "the plain installation")
        for module in sorted(third_party)
        if _normal(PACKAGE_OF.get(module, module)) not in declared[EXTRAS.get(module, "")]
    }
    assert not wrong
    assert PADDLESEG in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]["paddleseg"]


@pytest.mark.parametrize(("package", "release"), [("minio", "7.2.20"), ("kfp", "2.17.0")])
def test_private_calls_were_tried_with_the_installed_release(package: str, release: str) -> None:
    """storage/minio_api.py and cluster/client.py use private methods: run their tests, then change this."""
    assert version(package) == release


def _modules(*trees: str) -> Iterator[Path]:
    for tree in trees:
        yield from sorted((REPOSITORY / tree).rglob("*.py"))


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def _part(module: str) -> str:
    """`components.dataset.split` -> `dataset`; `pipeline.cli` -> `pipeline`; others -> empty."""
    first, _, rest = module.partition(".")
    return {"pipeline": "pipeline", "components": rest.split(".")[0]}.get(first, "")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, also inside its functions; relative names resolved."""
    package = _module_name(path) if path.name == "__init__.py" else _module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def _requirements() -> dict[str, set[str]]:
    """The names that pyproject.toml asks for: "" for the plain installation, then by extra and by group."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = {"": project["project"]["dependencies"], **project["project"]["optional-dependencies"]}
    names = {
        part: {_normal(re.split(r"[^\w.-]", entry, maxsplit=1)[0]) for entry in entries}
        for part, entries in {**listed, **project["dependency-groups"]}.items()
    }
    names["services"] |= names["mlflow-server"]
    return {part: found - {_normal(PACKAGE)} for part, found in names.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _locked(path: Path) -> dict[str, frozenset[str]]:
    """name==version -> sha256 hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", path.read_text(), flags=re.M)[1:]
    return {block.split()[0]: frozenset(re.findall(r"sha256:[0-9a-f]{64}", block)) for block in blocks}
