"""The size of a stored image, from the beginning of its file."""

from typing import TYPE_CHECKING

from components.dataset.heic import open_image
from components.dataset.manifest import Manifest
from components.dataset.stored.upright import upright_size

if TYPE_CHECKING:
    from components.storage.client import Store

_HEAD_BYTES = 1 << 16


def stored_size(store: "Store", manifest: Manifest, name: str) -> tuple[int, int]:
    """Return height and width of an image. Most formats state them, and the EXIF data, at the beginning."""
    entry = manifest.files[name]
    shard = manifest.shards[entry.shard].key
    try:
        return _size_in(store.get_range(shard, entry.offset, min(entry.size, _HEAD_BYTES)))
    except OSError:  # of Pillow, which misses the rest of the file
        return _size_in(store.get_range(shard, entry.offset, entry.size))


def _size_in(data: bytes) -> tuple[int, int]:
    with open_image(data) as picture:
        return upright_size(picture)
