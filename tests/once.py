"""What several tests start from and none changes, such as a training without a fault, computed once for all workers."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.files import holding

T = TypeVar("T")


@dataclass(frozen=True)
class Once:
    folder: Path
    """A folder that all workers see, and no other session."""

    def get(self, name: str, make: Callable[[], T]) -> T:
        """Return what `make` returns for the first who asks by this name; others wait for it."""
        path = self.folder / f"once-{name}"
        with holding(path.with_suffix(".lock")):
            if not path.exists():
                path.write_bytes(pickle.dumps(make()))
            found: T = pickle.loads(path.read_bytes())
        return found
