"""The files of the project, as git lists them."""

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def project_files(*patterns: str) -> list[Path]:
    """Return what git tracks or would track; without git, everything outside hidden folders and build."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [
            path for pattern in patterns or ("*",) for path in REPOSITORY.rglob(pattern) if not _hidden_or_built(path)
        ]
    return sorted(path for path in paths if path.is_file())


def text_of(path: Path) -> str:
    """Return a file's text; a file that is not text has none."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def _hidden_or_built(path: Path) -> bool:
    folders = path.relative_to(REPOSITORY).parts[:-1]
    return any(folder.startswith(".") and folder != ".ci" for folder in folders) or folders[:1] == ("build",)
