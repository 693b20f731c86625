"""Stored JSON is read as a model, or refused in one line."""

import pytest

from components.contract import read
from components.errors import WorkFailed
from components.runs.checkpoints import CheckpointEntry, CheckpointIndex

ENTRY = {"epoch": 1, "step": 4, "key": "runs/a/checkpoints/1.safetensors"}


def test_missing_fields_take_their_defaults() -> None:
    assert read(CheckpointEntry, ENTRY, "index") == CheckpointEntry(**ENTRY, sha256="", size=0, content="")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"run_key": "a"}, "checkpoints is missing"),
        ({"run_key": "a", "checkpoints": [{**ENTRY, "epoch": "x"}]}, "checkpoints.0.epoch must be a whole number"),
        ({"run_key": "a", "checkpoints": [{**ENTRY, "newer": 1}]}, "checkpoints.0.newer is not a known field"),
        ([], "the content must be a mapping of names to values"),
    ],
)
def test_what_another_version_wrote_is_one_line(value: object, named: str) -> None:
    with pytest.raises(WorkFailed) as refused:
        read(CheckpointIndex, value, "s3://cps/index.json")
    text = str(refused.value)
    assert text.startswith("s3://cps/index.json was not written by this version of the project (")
    assert named in text
    assert "\n" not in text
    assert "http" not in text


def test_an_entry_is_completed_by_the_bytes_it_stands_for() -> None:
    entry = CheckpointEntry(**ENTRY)
    packed = entry.packed(b"weights", "c0ffee")
    assert (packed.size, packed.content, packed.sha256[:8]) == (7, "c0ffee", "9a129038")
    assert entry.sha256 == ""
