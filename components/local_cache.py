"""Where this machine keeps what is worth keeping between runs."""

import os
from pathlib import Path


def default_cache() -> Path:
    """CPS_CACHE, else ~/.cache/cps."""
    return Path(os.environ.get("CPS_CACHE") or Path.home() / ".cache" / "cps")
