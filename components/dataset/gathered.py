"""What several sources, or one archive, unpack to: one folder, where a later source replaces an earlier one's files."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from components import progress
from components.dataset.check import STEP
from components.dataset.class_ids import with_class_ids
from components.dataset.classes import KNOWN
from components.dataset.credentials import credentials_for
from components.dataset.downloads import folders_for
from components.dataset.fetch import fetch_source
from components.dataset.layouts import Layout, pool_names, read_layout, with_pools
from components.dataset.scenes import generate_scenes, is_scenes, parse_scenes
from components.dataset.sources import Source, is_url, parse_sources, shown, source_name
from components.dataset.unpack import archive_stem, unpack
from components.errors import UserError
from components.files import writing

if TYPE_CHECKING:
    from components.storage.client import Store


@contextmanager
def gathered(
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
    name, origin = source_name(sources[0].text), " + ".join(shown(source.text) for source in sources)
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
    progress.say(STEP, f"unpacking {shown(source.text)}")
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
