"""Turn a dataset's source into a dataset in the store, once.

Each prepared source leaves a small object in the store, so that it is not prepared again: keyed by settings for
generated scenes, by sha256 for archives. Folders have no digest, so their files are hashed every time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import progress
from components.contract import digest_lines
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
from components.dataset.propose.proposal import classes_remedy, read_folder
from components.dataset.sources.address import STORED, Source, is_url, parse_sources, redacted, source_name
from components.dataset.sources.archive import archive_stem
from components.dataset.sources.credentials import credentials_for
from components.dataset.sources.download import empty, folders_for
from components.dataset.sources.fetch import fetch_source
from components.dataset.sources.unpack import unpack
from components.dataset.stored.store import store_dataset, stored_manifest
from components.disk import WORK_VARIABLE, scratch_folder, writing
from components.errors import UserError
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

_READING_VERSION = 5
"""Increment this when the same files would now give a different dataset."""


def prepare(
    dataset: str, sha256: str, store: "Store", work_dir: Path, *, pools: str = "", cache_dir: Path | None = None
) -> Manifest:
    """Store a dataset and return its manifest. A dataset that was prepared before is not stored again.

    Args:
        dataset: `scenes` or `scenes:train=160,width=256`; `stored:DIGEST`; a folder; a .tar, .tar.gz, .tgz, .tar.zst
            or .zip as a path, http(s):// URL or s3:// URI; or several folders, archives and URLs, as described in
            `components.dataset.sources.address`.
        sha256: digests of the archives, in hex; empty if unknown.
        work_dir: for temporary files, such as unpacked archives.
        pools: names of additional unlabelled pools to include, separated by commas.
        cache_dir: for downloads, so that interrupted ones can resume; defaults to `work_dir`.

    Raises:
        UserError: a source does not exist, has the wrong digest or format, or contains faulty data.
    """
    sources = parse_sources(dataset, sha256)
    wanted = pool_names(pools)
    for source in sources:
        if source.sha256 and not is_url(source.text) and Path(source.text).is_dir():
            raise UserError(
                f"sha256 was given for folder {source.text}, but only archives have one: leave it out, or write -"
            )
    if sources[0].text.startswith(STORED):
        return _stored(sources[0].text.removeprefix(STORED), wanted, store)
    if is_scenes(sources[0].text):
        return _prepare_scenes(parse_scenes(sources[0].text), wanted, store, work_dir)
    if len(sources) == 1 and not is_url(dataset) and Path(sources[0].text).is_dir():
        layout = with_pools(read_folder(Path(sources[0].text).resolve()), wanted)
        return _prepare_folder(layout, store, work_dir)
    return _Sources(sources, wanted, store, work_dir, cache_dir or work_dir).prepare()


def _stored(digest: str, pools: Sequence[str], store: "Store") -> Manifest:
    if pools:
        raise UserError(
            f"pools {', '.join(pools)} cannot be added to a stored dataset: prepare it again from its source"
        )
    manifest = stored_manifest(store, digest)
    if manifest is None:
        raise UserError(
            f"dataset {store.uri(keys.dataset_manifest(digest))} does not exist: prepare it from its source"
        )
    progress.say(STEP, f"{manifest.name}: found in the store, digest {digest[:12]}")
    return manifest


def _prepare_scenes(settings: SceneSettings, pools: Sequence[str], store: "Store", work_dir: Path) -> Manifest:
    described = [f"{name}={value}" for name, value in sorted(asdict(settings).items())]
    source = digest_lines(["scenes", str(GENERATOR_VERSION), *described])
    known = _find_prepared(source, store)
    if known is not None and not pools:
        return known
    with scratch_folder(work_dir) as folder:
        with writing(folder, WORK_VARIABLE):
            generate_scenes(folder, settings)
        layout = with_pools(generated_layout(folder), pools)
        return _record(source, _store(layout, folder, store), store, "scenes", described)


def _prepare_folder(layout: Layout, store: "Store", work_dir: Path) -> Manifest:
    """Store a folder's dataset. If its files' digests show that it was stored before, no label is decoded."""
    _describe(layout)
    refuse_unused(layout)
    hashes = hash_files(layout)
    described = [content_digest(hashes, layout.lists), layout.declared.meanings(), layout.kind]
    source = digest_lines(["folder", str(_READING_VERSION), *described])
    known = _find_prepared(source, store)
    if known is not None:
        return known
    with scratch_folder(work_dir) as scratch:
        try:
            manifest = _store_read(layout, scratch, store, hashes)
        except UserError as error:
            raise UserError(f"{error}{classes_remedy(layout.top or layout.folder, layout.declared)}") from None
        return _record(source, manifest, store, "folder", described[:1])


def _store(layout: Layout, scratch: Path, store: "Store") -> Manifest:
    _describe(layout)
    refuse_unused(layout)
    return _store_read(layout, scratch, store)


def _store_read(layout: Layout, scratch: Path, store: "Store", hashes: Mapping[str, str] | None = None) -> Manifest:
    """Read the labels and store the dataset; `hashes` are the sha256 of the layout's files, if known."""
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
        progress.say(STEP, f"{layout.name}: additional unlabelled pools, not used: {pools_text(layout.pool_sizes)}")


class _Sources:
    """One or more sources that are unpacked into one folder, in order."""

    def __init__(
        self, sources: Sequence[Source], pools: Sequence[str], store: "Store", work_dir: Path, cache_dir: Path
    ) -> None:
        self.sources, self.pools, self.store, self.work_dir = sources, pools, store, work_dir
        self.downloads = cache_dir / "downloads"
        self.credentials = credentials_for(source.text for source in sources)

    def prepare(self) -> Manifest:
        known = self._find_by_digests(source.sha256 for source in self.sources)
        if known is not None and all(is_url(source.text) for source in self.sources):
            return known
        with ExitStack() as stack:
            urls = (source.text for source in self.sources if is_url(source.text))
            kept = folders_for(urls, self.downloads, stack)
            # While we waited for the lock, another process may have prepared the dataset.
            known = self._find_by_digests(source.sha256 for source in self.sources) if kept else None
            manifest = known or self._prepare(kept)
            for folder in kept.values():
                empty(folder)
        return manifest

    def _prepare(self, kept: dict[str, Path]) -> Manifest:
        with scratch_folder(self.work_dir) as scratch:
            fetched = [self._fetch(source, kept.get(source.text, scratch)) for source in self.sources]
            digests = [digest for _, digest in fetched]
            known = self._find_by_digests(digests)
            if known is not None:
                return known
            unpacked = scratch / "unpacked"
            unpacked.mkdir()
            for source, (path, _) in zip(self.sources, fetched, strict=True):
                add_part(source, path, unpacked)
            manifest = _store(layout_of(unpacked, self.sources, self.pools), scratch, self.store)
            if not all(digests):
                return manifest
            return _record(self._pointer(digests), manifest, self.store, "archive", digests)

    def _fetch(self, source: Source, folder: Path) -> tuple[Path, str]:
        """Return a source's local path and its sha256, which is empty for a folder."""
        if not is_url(source.text) and Path(source.text).is_dir():
            return Path(source.text), ""
        return fetch_source(source, folder, self.store, STEP, self.credentials)

    def _find_by_digests(self, digests: Iterable[str]) -> Manifest | None:
        listed = list(digests)
        return _find_prepared(self._pointer(listed), self.store) if all(listed) else None

    def _pointer(self, digests: Sequence[str]) -> str:
        pools = ["pools", *self.pools] if self.pools else []
        return digest_lines(["archive", str(_READING_VERSION), *digests, *pools])


def _find_prepared(source: str, store: "Store") -> Manifest | None:
    key = keys.dataset_source(source)
    if store.stat(key) is None:
        return None
    manifest = stored_manifest(store, str(store.get_json(key)["digest"]))
    if manifest is not None:
        progress.say(STEP, f"{manifest.name}: prepared before, digest {manifest.digest[:12]}")
    return manifest


def _record(source: str, manifest: Manifest, store: "Store", kind: str, described: list[str]) -> Manifest:
    value: dict[str, Any] = {"digest": manifest.digest, "kind": kind, "source": described}
    store.put_json(keys.dataset_source(source), value)
    return manifest


@contextmanager
def opened_layout(
    dataset: str, sha256: str, store: "Store | None", scratch: Path, downloads: Path, pools: str = ""
) -> Iterator[Layout]:
    """Yield the dataset as it would be stored, without storing it. Downloads are kept for a later run.

    Labels that cannot be converted to class ids are in the layout's `refused`, so that a check can list them all.

    Args:
        dataset, sha256, pools: as in `prepare`.
        store: needed for s3:// sources only.
        scratch: folder for temporary files, which the caller removes.

    Raises:
        UserError: a source does not exist, or has the wrong digest or format.
    """
    sources, wanted = parse_sources(dataset, sha256), pool_names(pools)
    with ExitStack() as stack:
        if is_scenes(sources[0].text):
            with writing(scratch, WORK_VARIABLE):
                generate_scenes(scratch / "scenes", parse_scenes(sources[0].text))
            layout = with_pools(generated_layout(scratch / "scenes"), wanted)
        elif len(sources) == 1 and not is_url(sources[0].text) and Path(sources[0].text).is_dir():
            layout = with_pools(read_folder(Path(sources[0].text).resolve()), wanted)
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
    """Return the layout of generated scenes, whose few labels need not contain every class."""
    layout = read_layout(folder, "scenes")
    return replace(layout, declared=replace(layout.declared, is_known=True))


def layout_of(unpacked: Path, sources: Sequence[Source], pools: Sequence[str] = ()) -> Layout:
    """Return the layout of the unpacked sources, named after the first source or a well-known layout.

    Raises UserError with the sources in place of `unpacked`.
    """
    name, origin = source_name(sources[0].text), " + ".join(redacted(source.text) for source in sources)
    try:
        layout = with_pools(read_layout(unpacked, archive_stem(name) or name), pools)
    except UserError as error:
        raise UserError(str(error).replace(str(unpacked), origin)) from None
    # The archives of a well-known dataset are named after their content, not after the dataset.
    called = layout.kind if len(sources) > 1 and layout.kind in KNOWN else layout.name
    return replace(layout, name=called, origin=origin)


def add_part(source: Source, path: Path, unpacked: Path) -> None:
    if path.is_dir():
        with writing(unpacked, WORK_VARIABLE):
            _link_all(path.resolve(), unpacked)
        return
    progress.say(STEP, f"unpacking {redacted(source.text)}")
    replaced = unpack(path, unpacked, STEP)
    if replaced:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        progress.say(STEP, f"{source_name(source.text)}: overwrote {replaced[0]}{more} from an earlier source")


def _link_all(folder: Path, unpacked: Path) -> None:
    for path in sorted(folder.rglob("*")):
        target = unpacked / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            target.unlink(missing_ok=True)
            target.symlink_to(path)
