"""What a stored dataset is: its lists, its classes, and where each file lies in its shards."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.contract import Class, Frozen, canonical_json, digest_lines
from components.errors import WorkFailed


class Sample(Frozen):
    """An image and its label, by their names in the dataset."""

    image: str
    label: str | None = None


class FileEntry(Frozen):
    sha256: str
    size: int
    shard: int
    """Index into the manifest's shards."""
    offset: int
    """Of the file's first byte in its shard."""


class ShardEntry(Frozen):
    key: str
    sha256: str
    size: int


class RatioLists(Frozen):
    """A dataset's own split for one ratio."""

    labeled: tuple[Sample, ...]
    unlabeled: tuple[str, ...]


class Lists(Frozen):
    """A dataset's own word on its classes (an id is a place in the tuple) and on who is in which part."""

    classes: tuple[Class, ...]
    ignore_index: int = 255
    train: tuple[Sample, ...]
    """Every one of them has a label; a split hides most."""
    val: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    unlabeled: tuple[str, ...] = ()
    """Images that never had a label, on top of what a split takes from train."""
    ratio_lists: dict[str, RatioLists] = Field(default_factory=dict)
    """By ratio, as "1/8"."""

    def train_labels(self) -> dict[str, str]:
        """Of every training image that has a label, in whichever list, the label; a split hides most of them."""
        samples = [*self.train, *(sample for own in self.ratio_lists.values() for sample in own.labeled)]
        return {sample.image: sample.label for sample in samples if sample.label is not None}

    def file_names(self) -> list[str]:
        """Every file that a list names, once, sorted."""
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
    """A manifest as read from the store at `uri`; WorkFailed where it is not one that this version writes."""
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise WorkFailed(f"{uri} was not written by this version: {where}: {problem['msg']}") from None


def content_digest(hashes: Mapping[str, str], lists: Lists) -> str:
    """The dataset's digest: sha256 over the sorted (name, sha256) of its files, its lists among them.

    Lists and classes count as one more file, in a canonical form, because the same images under other lists
    or with other classes are another dataset.
    """
    listed = canonical_json(lists.model_dump(mode="json", include=set(Lists.model_fields)))
    entries = [*hashes.items(), ("", hashlib.sha256(listed).hexdigest())]
    return digest_lines(f"{name}\0{sha256}" for name, sha256 in sorted(entries))
