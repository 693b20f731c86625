"""Whether the modules, names and files of this project that a text mentions exist. Imports nothing of what it checks.

Type checkers see only code. Programs inside strings, `python -m` in shell scripts, Dockerfiles and YAML, and the dotted
names that monkeypatch takes break silently when a module moves, and then often only where the slow tests run.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

from tests.project_files import REPOSITORY

_OURS = r"(?<![\w./-])(?:components|pipeline|tests)"
_MENTION = re.compile(_OURS)
_FROM = re.compile(rf"\bfrom\s+({_OURS}[\w.]*)\s+import\s+(\([^)]*\)|[^\n;'\"]+)")
_DOTTED = re.compile(rf"{_OURS}(?:\.\w+)+")
_RUN = re.compile(rf"-m[\"',\s]+({_OURS}[\w.]*)")
_FILE = re.compile(r"(?<![\w./-])(?:components|pipeline|tests)/[\w/-]+\.(?:py|j2|css|csv)\b")
# `pipeline.yaml` is a file rather than an attribute of the package.
_ENDINGS = ("py", "yaml", "md", "json", "html")


def broken_references(path: Path, text: str) -> set[str]:
    """Return a line for everything that `text`, the content of `path`, mentions and that does not exist."""
    found = {(1 + text.count("\n", 0, at), name) for at, name in _broken_files(text)}
    # Of a Python file, imports and strings: `components` may be a variable elsewhere, and "\\n" ends a line in strings.
    for line, part in _imports_and_strings(text) if path.suffix == ".py" else [(1, text)]:
        found |= {(line + part.count("\n", 0, at), name) for at, name in _broken_names(part)}
    return {f"{path}:{line}: {name} does not exist" for line, name in found}


def _broken_files(text: str) -> Iterator[tuple[int, str]]:
    for match in _FILE.finditer(text):
        if not (REPOSITORY / match[0]).exists():
            yield match.start(), match[0]


def _broken_names(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position and name of each module, or name inside one, that does not exist."""
    for match in _FROM.finditer(text):
        for name in re.sub(r"#.*|[()]", "", match[2]).split(","):
            if (first := re.match(r"\s*(\w+)", name)) and not exists(f"{match[1]}.{first[1]}"):
                yield match.start(), f"{match[1]}.{first[1]}"
    for match in _DOTTED.finditer(text):
        if not match[0].endswith(_ENDINGS) and not exists(match[0]):
            yield match.start(), match[0]
    for match in _RUN.finditer(text):
        if not _runs(match[1]):
            yield match.start(), f"-m {match[1]}"


def _imports_and_strings(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of a program's imports, also inside functions, of its strings and of commands' `-m`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _MENTION.search(node.value):
                yield node.lineno, node.value
        elif isinstance(node, ast.List | ast.Tuple):
            words = [str(item.value) for item in node.elts if isinstance(item, ast.Constant)]
            yield from ((node.lineno, f"-m {after}") for word, after in pairwise(words) if word == "-m")


@cache
def exists(dotted: str) -> bool:
    """Return whether a dotted name is a module of this project, or a name or a class's member inside one.

    What a module imports counts as its own and is followed, as far as this project goes.
    """
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        if module := _module(".".join(parts[:length])):
            break
    else:
        return False
    name, *rest = parts[length:] or [""]
    if not name or (name.startswith("__") and name.endswith("__")):
        return True
    bound = _bound(module)
    if name not in bound:
        return False
    if isinstance(node := bound[name], str):
        return not re.match(rf"{_OURS}(\.|$)", node) or exists(".".join([node, *rest]))
    # Members that a class inherits, and attributes of any other object, are beyond a look at the source.
    return not rest or not isinstance(node, ast.ClassDef) or bool(node.bases) or rest[0] in _members(node)


def _module(dotted: str) -> Path | None:
    """Return the file of a module, or the folder of a package without one."""
    base = REPOSITORY.joinpath(*dotted.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return base if base.is_dir() else None


def _runs(dotted: str) -> bool:
    path = _module(dotted)
    if path is None or path.name == "__init__.py" or path.is_dir():
        return _module(f"{dotted}.__main__") is not None
    return True


@cache
def _bound(module: Path) -> dict[str, ast.stmt | str]:
    """Return the names at the top of a module, each with the statement that binds it or the full name it imports."""
    bound: dict[str, ast.stmt | str] = {}
    for node in [] if module.is_dir() else _statements(ast.parse(module.read_text(), str(module)).body):
        if isinstance(node, ast.ImportFrom):
            bound.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            bound.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound[node.name] = node
        else:
            bound.update(dict.fromkeys(_stored(node), node))
    return bound


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module's own scope, also those below `if`, `try` and `with`."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            yield from _statements([inner for inner in ast.iter_child_nodes(node) if isinstance(inner, ast.stmt)])
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _stored(node: ast.AST) -> set[str]:
    return {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}


def _members(node: ast.ClassDef) -> set[str]:
    """Return what a class defines, and the attributes that its methods set."""
    defined = {
        item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    set_in_methods = {item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute)}
    return defined | set_in_methods | _stored(node)
