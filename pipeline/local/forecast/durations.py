"""How long the steps of earlier runs took on this machine: <home>/runs/<run key>/seconds.json.

An estimate of what is left of a run adds them to the time that its current step still takes.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from components.files import write_whole

_SECONDS = TypeAdapter(dict[str, float])


def record_durations(home: Path, run_key: str, seconds: Mapping[str, float]) -> None:
    """Write the seconds of each step. Nothing depends on it being written.

    A step of a resumed run finds work that is done already, so the longest time of each step counts.
    """
    before = _read(_file(home, run_key))
    longest = {step: max(value, before.get(step, 0.0)) for step, value in seconds.items()}
    with suppress(OSError):
        write_whole(_file(home, run_key), _SECONDS.dump_json({**before, **longest}))


def earlier_durations(home: Path, run_key: str) -> dict[str, float]:
    """Return the seconds of each step of the same run, or else of the newest one on its dataset with its recipe.

    Empty without such a run: the work differs too much between datasets, networks and machines to guess.
    """
    if found := _read(_file(home, run_key)):
        return found
    similar = [path for path in (home / "runs").glob("*/seconds.json") if _kind(path.parent.name) == _kind(run_key)]
    for path in sorted(similar, key=_modified, reverse=True):
        if found := _read(path):
            return found
    return {}


def _kind(run_key: str) -> str:
    """Return `<dataset>-<recipe>` of `<dataset>-<recipe>-1-8-s<seed>-<12 hex digits>`."""
    return run_key.rsplit("-", 4)[0]


def _file(home: Path, run_key: str) -> Path:
    return home / "runs" / run_key / "seconds.json"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> dict[str, float]:
    try:
        return _SECONDS.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
