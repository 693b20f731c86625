"""From where a dataset comes from to a dataset in the store, once.

A source that was prepared before is known by a small object beside the datasets: generated scenes by their
settings, archives by their sha256. Folders have no such name, so their files are hashed anew every time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.contract import canonical_json, digest_lines
from components.dataset.check.inspect import STEP, hash_files
from components.dataset.class_ids import with_class_ids
from components.dataset.classes import KNOWN
from components.dataset.layouts import (
    Layout,
    account_lines,
    pool_names,
    pools_text,
    read_layout,
    refuse_unused,
    with_pools,
)
from components.dataset.manifest import Manifest, content_digest
from components.dataset.sources.address import STORED, Source, is_url, parse_sources, redacted, source_name
from components.dataset.sources.archive import archive_stem
from components.dataset.sources.credentials import credentials_for
from components.dataset.sources.download import empty, folders_for
from components.dataset.sources.fetch import fetch_source
from components.dataset.sources.unpack import unpack
from components.dataset.stored.store import store_dataset, stored_manifest
from components.errors import UserError
from components.files import scratch_folder, writing
from components.scenes.generate import (
    GENERATOR_VERSION,
    SceneSettings,
    generate_scenes,
    is_scenes,
    parse_scenes,
)
from components.storage import keys

if TYPE_CHECKING:
    from components.storage.client import Store

if TYPE_CHECKING:
    from components.storage.client import Store

_READING_VERSION = 4
"""Raised by hand when the same files are read into another dataset than before."""


def prepare(
    dataset: str, sha256: str, store: "Store", work_dir: Path, *, pools: str = "", cache_dir: Path | None = None
) -> Manifest:
    """Store the dataset that `dataset` names, and return its manifest.

    Args:
        dataset: `scenes` or `scenes:train=160,width=256`; `stored:DIGEST`; a folder; a .tar, .tar.gz, .tgz, .tar.zst
            or .zip as a path, http(s):// URL or s3:// URI; or several of the last four, as
            `components.dataset.sources.address` says.
        sha256: of the archives, in hex; empty where they are not known.
        work_dir: for what is unpacked or generated, which is removed again.
        pools: names of the dataset's further unlabelled pools that are taken too, separated by commas.
        cache_dir: for downloads, so that one that was cut is gone on with later; `work_dir` when not given.

    Raises:
        UserError: a source is not there, is not what it should be, or its data is wrong.
    """
    sources = parse_sources(dataset, sha256)
    wanted = pool_names(pools)
    for source in sources:
        if source.sha256 and not is_url(source.text) and Path(source.text).is_dir():
            raise UserError(f"sha256 was given for the folder {source.text}: it goes with archives only")
    if sources[0].text.startswith(STORED):
        return _stored(sources[0].text.removeprefix(STORED), wanted, store)
    if is_scenes(sources[0].text):
        return _prepare_scenes(parse_scenes(sources[0].text), wanted, store, work_dir)
    if len(sources) == 1 and not is_url(dataset) and Path(sources[0].text).is_dir():
        layout = with_pools(read_layout(Path(sources[0].text).resolve()), wanted)
        return _prepare_folder(layout, store, work_dir)
    return _Parts(sources, wanted, store, work_dir, cache_dir or work_dir).prepare()


def _stored(digest: str, pools: Sequence[str], store: "Store") -> Manifest:
    if pools:
        raise UserError(f"pools {', '.join(pools)}: a stored dataset is taken with the pools it was stored with")
    manifest = stored_manifest(store, digest)
    if manifest is None:
        raise UserError(f"there is no dataset {store.uri(keys.dataset_manifest(digest))}: prepare it from its source")
    progress.say(STEP, f"{manifest.name}: in the store, {digest[:12]}")
    return manifest


def _prepare_scenes(settings: SceneSettings, pools: Sequence[str], store: "Store", work_dir: Path) -> Manifest:
    described = [f"{name}={value}" for name, value in sorted(asdict(settings).items())]
    source = digest_lines(["scenes", str(GENERATOR_VERSION), *described])
    known = _known(source, store)
    if known is not None and not pools:
        return known
    with scratch_folder(work_dir) as folder:
        with writing(folder):
            generate_scenes(folder, settings)
        layout = with_pools(generated_layout(folder), pools)
        return _remember(source, _store(layout, folder, store), store, "scenes", described)


def _prepare_folder(layout: Layout, store: "Store", work_dir: Path) -> Manifest:
    """Store a folder's dataset. Files that were stored before are known by their digests, without decoding a label."""
    _describe(layout)
    refuse_unused(layout)
    hashes = hash_files(layout)
    described = [content_digest(hashes, layout.lists), canonical_json(layout.declared.meanings()).decode(), layout.kind]
    source = digest_lines(["folder", str(_READING_VERSION), *described])
    known = _known(source, store)
    if known is not None:
        return known
    with scratch_folder(work_dir) as scratch:
        return _remember(source, _store_read(layout, scratch, store, hashes), store, "folder", described[:1])


def _store(layout: Layout, scratch: Path, store: "Store") -> Manifest:
    _describe(layout)
    refuse_unused(layout)
    return _store_read(layout, scratch, store)


def _store_read(layout: Layout, scratch: Path, store: "Store", hashes: Mapping[str, str] | None = None) -> Manifest:
    """Read the labels and store the dataset; `hashes` are those of the layout's files, where they are known."""
    read = with_class_ids(layout, scratch / "class-ids")
    for note in read.notes[len(layout.notes) :]:
        progress.say(STEP, f"{layout.name}: {note}")
    return store_dataset(read, store, hashes if read.folder == layout.folder else None)


def _describe(layout: Layout) -> None:
    lists = layout.lists
    unlabeled = f", {len(lists.unlabeled)} without a label" if lists.unlabeled else ""
    progress.say(
        STEP,
        f"{layout.name}: layout {layout.kind}, {len(lists.classes)} classes, {len(lists.train)} train, "
        f"{len(lists.val)} val, {len(lists.test)} test images{unlabeled}",
    )
    for note in (*layout.notes, *account_lines(layout.account)):
        progress.say(STEP, f"{layout.name}: {note}")
    if layout.pools:
        progress.say(STEP, f"{layout.name}: further unlabelled pools, not taken: {pools_text(layout.pool_sizes)}")


class _Parts:
    """One archive or several sources, unpacked into one folder in their order."""

    def __init__(
        self, sources: Sequence[Source], pools: Sequence[str], store: "Store", work_dir: Path, cache_dir: Path
    ) -> None:
        self.sources, self.pools, self.store, self.work_dir = sources, pools, store, work_dir
        self.downloads = cache_dir / "downloads"
        self.credentials = credentials_for(source.text for source in sources)

    def prepare(self) -> Manifest:
        known = self._known_by(source.sha256 for source in self.sources)
        if known is not None and all(is_url(source.text) for source in self.sources):
            return known
        with ExitStack() as stack:
            urls = (source.text for source in self.sources if is_url(source.text))
            kept = folders_for(urls, self.downloads, stack)
            # Who waited for another process finds the work done.
            known = self._known_by(source.sha256 for source in self.sources) if kept else None
            manifest = known or self._prepare(kept)
            for folder in kept.values():
                empty(folder)
        return manifest

    def _prepare(self, kept: dict[str, Path]) -> Manifest:
        with scratch_folder(self.work_dir) as scratch:
            fetched = [self._fetch(source, kept.get(source.text, scratch)) for source in self.sources]
            digests = [digest for _, digest in fetched]
            known = self._known_by(digests)
            if known is not None:
                return known
            unpacked = scratch / "unpacked"
            unpacked.mkdir()
            for source, (path, _) in zip(self.sources, fetched, strict=True):
                add_part(source, path, unpacked)
            manifest = _store(layout_of(unpacked, self.sources, self.pools), scratch, self.store)
            if not all(digests):
                return manifest
            return _remember(self._pointer(digests), manifest, self.store, "archive", digests)

    def _fetch(self, source: Source, folder: Path) -> tuple[Path, str]:
        """Its path here, and its sha256, which a folder has not."""
        if not is_url(source.text) and Path(source.text).is_dir():
            return Path(source.text), ""
        return fetch_source(source, folder, self.store, STEP, self.credentials)

    def _known_by(self, digests: Iterable[str]) -> Manifest | None:
        listed = list(digests)
        return _known(self._pointer(listed), self.store) if all(listed) else None

    def _pointer(self, digests: Sequence[str]) -> str:
        pools = ["pools", *self.pools] if self.pools else []
        return digest_lines(["archive", str(_READING_VERSION), *digests, *pools])


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


@contextmanager
def opened_layout(
    dataset: str, sha256: str, store: "Store | None", scratch: Path, downloads: Path, pools: str = ""
) -> Iterator[Layout]:
    """The dataset as it would be stored, without storing it. What is downloaded stays, for a run that follows.

    Labels that cannot be mapped to class ids are in the layout's `refused`, for a check to name them all.

    Args:
        dataset, sha256, pools: as in `prepare`.
        store: for s3:// alone.
        scratch: takes what is unpacked or generated; the caller removes it.

    Raises:
        UserError: a source is not there, or not what it should be.
    """
    sources, wanted = parse_sources(dataset, sha256), pool_names(pools)
    with ExitStack() as stack:
        if is_scenes(sources[0].text):
            with writing(scratch):
                generate_scenes(scratch / "scenes", parse_scenes(sources[0].text))
            layout = with_pools(generated_layout(scratch / "scenes"), wanted)
        elif len(sources) == 1 and not is_url(sources[0].text) and Path(sources[0].text).is_dir():
            layout = with_pools(read_layout(Path(sources[0].text).resolve()), wanted)
        else:
            kept = folders_for((source.text for source in sources if is_url(source.text)), downloads, stack)
            credentials, unpacked = credentials_for(source.text for source in sources), scratch / "unpacked"
            unpacked.mkdir()
            for source in sources:
                path = Path(source.text)
                if is_url(source.text) or not path.is_dir():
                    path, _ = fetch_source(source, kept.get(source.text, scratch), store, STEP, credentials)
                add_part(source, path, unpacked)
            layout = layout_of(unpacked, sources, wanted)
        yield with_class_ids(layout, scratch / "class-ids", keep_going=True)


def generated_layout(folder: Path) -> Layout:
    """The layout of generated scenes, whose few labels need not show every class."""
    layout = read_layout(folder, "scenes")
    return replace(layout, declared=replace(layout.declared, is_known=True))


def layout_of(unpacked: Path, sources: Sequence[Source], pools: Sequence[str] = ()) -> Layout:
    """How the unpacked sources lie. The dataset is called as its first one, unless the layout has a name of its own.

    Raises UserError that names the sources, where it would name `unpacked`.
    """
    name, origin = source_name(sources[0].text), " + ".join(redacted(source.text) for source in sources)
    try:
        layout = with_pools(read_layout(unpacked, archive_stem(name) or name), pools)
    except UserError as error:
        raise UserError(str(error).replace(str(unpacked), origin)) from None
    # None of several parts has the name of a well-known dataset.
    called = layout.kind if len(sources) > 1 and layout.kind in KNOWN else layout.name
    return replace(layout, name=called, origin=origin)


def add_part(source: Source, path: Path, unpacked: Path) -> None:
    if path.is_dir():
        with writing(unpacked):
            _link_all(path.resolve(), unpacked)
        return
    progress.say(STEP, f"unpacking {redacted(source.text)}")
    replaced = unpack(path, unpacked, STEP)
    if replaced:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        progress.say(STEP, f"{source_name(source.text)}: {replaced[0]}{more} replaced what an earlier part had there")


def _link_all(folder: Path, unpacked: Path) -> None:
    for path in sorted(folder.rglob("*")):
        target = unpacked / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            target.unlink(missing_ok=True)
            target.symlink_to(path)
