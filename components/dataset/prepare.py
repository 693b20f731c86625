"""From where a dataset comes from to a dataset in the store, once.

A source that was prepared before is known by a small object beside the datasets: generated scenes by their
settings, archives by their sha256. Folders have no such name, so their files are hashed anew every time.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.dataset.check import STEP
from components.dataset.fetch import fetch, is_url, source_name
from components.dataset.layouts import read_layout
from components.dataset.manifest import Manifest, digest_lines
from components.dataset.scenes import (
    GENERATOR_VERSION,
    SceneSettings,
    generate_scenes,
    is_scenes,
    parse_scenes,
)
from components.dataset.store import store_dataset, stored_manifest
from components.dataset.unpack import archive_stem, unpack
from components.errors import UserError
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

_READING_VERSION = 1
"""Raised by hand when archives of the same bytes are read into another dataset than before."""


def prepare(source: str, sha256: str, store: "Store", work_dir: Path) -> Manifest:
    """Store the dataset that `source` names, and return its manifest.

    Args:
        source: `scenes` or `scenes:train=160,width=256`; a folder; a .tar, .tar.gz, .tgz or .zip as a path,
            http(s):// URL or s3:// URI.
        sha256: of the archive, in hex; empty where it is not known.
        work_dir: for what is downloaded, unpacked or generated, which is removed again.

    Raises:
        UserError: the source is not there, is not what it should be, or its data is wrong.
    """
    if is_scenes(source):
        return _prepare_scenes(parse_scenes(source), store, work_dir)
    if not is_url(source) and Path(source).is_dir():
        if sha256:
            raise UserError(f"sha256 was given for the folder {source}: it goes with archives only")
        return store_dataset(read_layout(Path(source).resolve()), store)
    return _prepare_archive(source, sha256, store, work_dir)


def _prepare_scenes(settings: SceneSettings, store: "Store", work_dir: Path) -> Manifest:
    described = [f"{name}={value}" for name, value in sorted(asdict(settings).items())]
    source = digest_lines(["scenes", str(GENERATOR_VERSION), *described])
    known = _known(source, store)
    if known is not None:
        return known
    with _scratch(work_dir) as folder:
        generate_scenes(folder, settings)
        return _remember(source, store_dataset(read_layout(folder, "scenes"), store), store, "scenes", described)


def _prepare_archive(source: str, sha256: str, store: "Store", work_dir: Path) -> Manifest:
    name = archive_stem(source_name(source)) or source_name(source)
    if is_url(source) and sha256:
        known = _known(_archive_source(sha256), store)
        if known is not None:
            return known
    with _scratch(work_dir) as folder:
        archive, found = fetch(source, sha256, folder, store, STEP)
        known = _known(_archive_source(found), store)
        if known is not None:
            return known
        progress.say(STEP, f"unpacking {source_name(source)}")
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        unpack(archive, unpacked)
        manifest = store_dataset(read_layout(unpacked, name), store)
        return _remember(_archive_source(found), manifest, store, "archive", [found])


def _archive_source(sha256: str) -> str:
    return digest_lines(["archive", str(_READING_VERSION), sha256.lower()])


@contextmanager
def _scratch(work_dir: Path) -> Iterator[Path]:
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dataset-", dir=work_dir) as folder:
        yield Path(folder)


def _known(source: str, store: "Store") -> Manifest | None:
    key = keys.dataset_source(source)
    if store.stat(key) is None:
        return None
    manifest = stored_manifest(store, str(store.get_json(key)["digest"]))
    if manifest is not None:
        progress.say(STEP, f"{manifest.name}: prepared before, {manifest.digest[:12]}")
    return manifest


def _remember(source: str, manifest: Manifest, store: "Store", kind: str, described: list[str]) -> Manifest:
    value: dict[str, Any] = {"digest": manifest.digest, "kind": kind, "source": described}
    store.put_json(keys.dataset_source(source), value)
    return manifest
