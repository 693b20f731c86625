"""`label_next` on a run in a real store: it writes usable files, reads no label and measures nothing twice."""

import csv
import io
import json

import pytest

from components.dataset.layouts.lists import read_list
from components.dataset.manifest import Sample
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.labeling import measures
from components.labeling.disagreement import compare
from components.labeling.label_next import label_list, label_next
from components.labeling.suggestions import Suggestion
from components.storage import keys
from tests.components.evaluation.conftest import TrainedRun, trained_run  # noqa: F401
from tests.run_objects import make_best, make_result


@pytest.fixture
def run(trained_run: TrainedRun) -> TrainedRun:  # noqa: F811
    return trained_run


def test_suggestions_as_a_table_a_page_and_a_list(run, tmp_path, monkeypatch):
    monkeypatch.setattr(DatasetReader, "label", lambda *_: pytest.fail("a label was read"))
    found = label_next(run.store, run.key, 3, tmp_path / "out", run.cache)
    rows = list(csv.DictReader(io.StringIO(found.files["csv"].read_text())))
    names = [row["image"] for row in rows]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert len(set(names)) == 3
    assert set(names) <= set(run.split.unlabeled)
    page = found.files["html"].read_text()
    assert all(f"{item.rank}. {item.image}" in page for item in found.suggestions)
    assert page.count('data-view="photograph" data-hover="errors"') == 3, "photographs first, maps on hover"
    assert json.loads(found.as_json())["suggestions"][0]["image"] == names[0]
    # The list is one that a dataset may bring.
    for name in run.manifest.files:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "labeled.txt").write_text(found.files["list"].read_text())
    labels = {sample.image: sample.label for sample in run.manifest.train}
    expected = [*(sample.image for sample in run.split.labeled), *names]
    listed = read_list(tmp_path / "photos", "labeled.txt")
    assert listed == tuple(Sample(image=name, label=labels[name]) for name in expected)


def test_measures_are_kept_and_an_interrupted_ranking_resumes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "CHUNK", 3)
    seen = []

    def counted(engines, image, description):
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return compare(engines, image, description)

    monkeypatch.setattr(measures, "compare", counted)
    with pytest.raises(KeyboardInterrupt):
        label_next(run.store, run.key, 3, tmp_path / "out", run.cache)
    assert not (tmp_path / "out").exists()
    first = label_next(run.store, run.key, 2, tmp_path / "out", run.cache)
    after_first = len(seen)
    assert after_first <= 6 + 5  # of eight images three were kept
    more = label_next(run.store, run.key, 4, tmp_path / "more", run.cache)
    assert len(seen) == after_first
    assert more.suggestions[:2] == first.suggestions


def test_the_best_checkpoint_is_used_once_there_is_one(run, tmp_path):
    assert label_next(run.store, run.key, 1, tmp_path, run.cache).epoch == 6
    run.store.put_json(
        keys.run(run.key, "result.json"), make_result(run.key, best=make_best(epoch=4)).model_dump(mode="json")
    )
    assert label_next(run.store, run.key, 1, tmp_path, run.cache).epoch == 4


def test_images_that_the_networks_see_at_a_smaller_size_are_on_the_page(run, tmp_path):
    entry = run.put_checkpoint(8, longest_side=36)
    run.put_index([entry])
    found = label_next(run.store, run.key, 2, tmp_path, run.cache)
    page = found.files["html"].read_text()
    assert found.epoch == 8
    assert all(f"{item.rank}. {item.image}" in page for item in found.suggestions)


def test_an_untrained_run_is_reported_with_what_to_do(run, tmp_path):
    run.store.remove(keys.checkpoint_index(run.key))
    with pytest.raises(UserError, match=f"cps run --resume {run.key}"):
        label_next(run.store, run.key, 1, tmp_path / "out", run.cache)
    assert not (tmp_path / "out").exists()


def test_no_list_where_a_suggested_image_has_no_label_yet(run):
    item = Suggestion(1, "images/never-labeled.png", 1.0, 0.5, 0.5, None, "")
    assert label_list(run.split, run.manifest, [item]) is None
