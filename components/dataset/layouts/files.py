"""Which pictures lie in a folder."""

import os
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


def pictures(root: Path, folder: str) -> tuple[str, ...]:
    """The names, from the root, of all pictures below one of its folders; sorted, none where there is no folder."""
    found = []
    for path, folders, files in os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        # A Mac leaves ._name.png beside name.png.
        names = [name for name in files if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
        found += [(Path(path) / name).relative_to(root).as_posix() for name in names]
    return tuple(sorted(found))
