"""How long steps took: of the same run, or of the newest one on its dataset with its recipe."""

import os
from pathlib import Path

from pipeline.local.forecast.durations import earlier_durations, record_durations

KEY = "my-photos-demo-1-8-s0-0123456789ab"


def test_the_same_run_counts_first_then_the_newest_of_its_kind(tmp_path: Path) -> None:
    assert earlier_durations(tmp_path, KEY) == {}
    others = {"my-photos-demo-1-4-s1-aaaaaaaaaaaa": 30.0, "my-photos-demo-1-2-s3-bbbbbbbbbbbb": 20.0}
    for age, (key, seconds) in enumerate(others.items()):
        record_durations(tmp_path, key, {"train": seconds})
        os.utime(tmp_path / "runs" / key / "seconds.json", (1000 - age, 1000 - age))
    record_durations(tmp_path, "my-photos-voc-1-8-s0-cccccccccccc", {"train": 1.0})
    assert earlier_durations(tmp_path, KEY) == {"train": 30.0}
    record_durations(tmp_path, KEY, {"train": 10.0})
    assert earlier_durations(tmp_path, KEY) == {"train": 10.0}


def test_a_step_that_found_its_work_done_does_not_count(tmp_path: Path) -> None:
    record_durations(tmp_path, KEY, {"train": 100.0, "select": 5.0})
    record_durations(tmp_path, KEY, {"train": 0.5, "select": 6.0, "predict": 3.0})
    assert earlier_durations(tmp_path, KEY) == {"train": 100.0, "select": 6.0, "predict": 3.0}


def test_a_damaged_note_is_no_note_and_an_unwritable_place_no_error(tmp_path: Path) -> None:
    note = tmp_path / "runs" / KEY / "seconds.json"
    note.parent.mkdir(parents=True)
    note.write_text("{")
    assert earlier_durations(tmp_path, KEY) == {}
    note.unlink()
    note.mkdir()
    record_durations(tmp_path, KEY, {"train": 1.0})
