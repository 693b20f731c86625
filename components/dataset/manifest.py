"""The manifest of a stored dataset: its lists, its classes, and the place of each file in the shards."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.contract import Class, Frozen, canonical_json, digest_lines, problem_text
from components.errors import WorkFailed


class Sample(Frozen):
    """The names of an image and of its label, if it has one."""

    image: str
    label: str | None = None


class FileEntry(Frozen):
    sha256: str
    size: int
    shard: int
    """Index into the manifest's shards."""
    offset: int
    """Position of the file's first byte in its shard."""


class ShardEntry(Frozen):
    key: str
    sha256: str
    size: int


class RatioLists(Frozen):
    """The dataset's own split for one ratio."""

    labeled: tuple[Sample, ...]
    unlabeled: tuple[str, ...]


class Lists(Frozen):
    """The dataset's classes (a class id is an index into the tuple) and the images in each part."""

    classes: tuple[Class, ...]
    ignore_index: int = 255
    train: tuple[Sample, ...]
    """Every one has a label, most of which a split hides."""
    val: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    unlabeled: tuple[str, ...] = ()
    """Images that never had a label; a split adds images from train."""
    ratio_lists: dict[str, RatioLists] = Field(default_factory=dict)
    """The dataset's own splits by ratio, as "1/8"."""

    def train_labels(self) -> dict[str, str]:
        """Return the label of every training image that has one in any list, including those that a split hides."""
        samples = [*self.train, *(sample for own in self.ratio_lists.values() for sample in own.labeled)]
        return {sample.image: sample.label for sample in samples if sample.label is not None}

    def file_names(self) -> list[str]:
        """Return the sorted names of all files in the lists."""
        samples = [*self.train, *self.val, *self.test]
        images = list(self.unlabeled)
        for lists in self.ratio_lists.values():
            samples.extend(lists.labeled)
            images.extend(lists.unlabeled)
        names = {name for sample in samples for name in (sample.image, sample.label) if name is not None}
        return sorted(names | set(images))


class Manifest(Lists):
    format: Literal[1] = 1
    digest: str
    name: str
    layout: str
    files: dict[str, FileEntry]
    shards: tuple[ShardEntry, ...]


def parse_manifest(value: Any, uri: str) -> Manifest:
    """Validate a manifest that was read from `uri`. Raises WorkFailed if this version cannot read it."""
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise WorkFailed(f"{uri} was not written by this version: {where} {problem_text(problem)}") from None


def content_digest(hashes: Mapping[str, str], lists: Lists) -> str:
    """Return the dataset's digest: sha256 of the sorted (name, sha256) pairs of its files and its lists.

    Lists and classes count as one more file, in canonical form, because the same images with other lists or classes are
    a different dataset.
    """
    listed = canonical_json(lists.model_dump(mode="json", include=set(Lists.model_fields)))
    entries = [*hashes.items(), ("", hashlib.sha256(listed).hexdigest())]
    return digest_lines(f"{name}\0{sha256}" for name, sha256 in sorted(entries))
