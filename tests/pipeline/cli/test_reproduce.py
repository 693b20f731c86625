"""`cps reproduce RUN`: what differs is said, and what is made again is the same work under another key."""

import json

import pytest

from components.errors import UserError, WorkFailed
from components.networks.device import DETERMINISTIC
from components.runs.environment import this_environment
from components.runs.record import RunOutcome, RunRecord, load_run, note_environment, note_outcome
from components.runs.reproduce import comparison, comparison_lines, read_record, reproduction, take_dataset
from components.runs.request import RunRequest
from components.storage import keys
from tests.pipeline import in_process
from tests.pipeline.small_runs import SCENES

HERE = this_environment(processes=1, networks=2, device="cpu")


@pytest.fixture
def record(store, run_key) -> RunRecord:
    note_environment(store, run_key, HERE)
    return read_record(run_key, store)


def changed(record: RunRecord, **changes) -> RunRecord:
    return RunRecord.model_validate({**record.model_dump(mode="json"), **changes})


def test_a_run_by_key_by_path_and_by_uri_is_the_same(store, record, tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(store.get_bytes(keys.run(record.run_key, "run.json")))
    for name in (record.run_key, "demo-1-4", str(path), store.uri(keys.run(record.run_key, "run.json"))):
        assert read_record(name, store) == record


def test_where_nothing_differs_it_is_the_same_work_under_a_key_of_its_own(store, record, tmp_path):
    planned = reproduction(record, store, tmp_path, HERE)
    assert planned.differences == ()
    assert planned.run_key.startswith("again-scenes-demo-1-4-s5-")
    assert planned.run_key[-12:] != record.run_key[-12:]
    assert reproduction(record, store, tmp_path, HERE).run_key == planned.run_key, "it is found again"
    assert f"reproduces: {record.run_key}" in (tmp_path / "recipe.yaml").read_text()


def test_every_difference_of_the_environment_is_said(store, record, tmp_path):
    then = HERE.model_dump(mode="json")
    then |= {
        "versions": {**HERE.versions, "numpy": "1.0", "gone": "2"},
        "threads": 64,
        "processes": 4,
        "code": "f" * 12,
    }
    found = reproduction(changed(record, trained_on=[then]), store, tmp_path, HERE)
    assert [(item.what, item.then) for item in found.differences] == [
        ("gone", "2"),
        ("numpy", "1.0"),
        ("code", f"{'f' * 12} (commit {HERE.commit})" if HERE.commit else "f" * 12),
        ("threads", "64"),
        ("processes", "4"),
    ]
    assert str(found.differences[0]) == "gone: originally 2; now none"
    assert found.run_key, "none of that keeps it from being made again"


def test_a_run_that_went_on_elsewhere_and_one_without_a_record_of_it_say_so(store, record, tmp_path):
    elsewhere = HERE.model_copy(update={"cores": 64})
    note_environment(store, record.run_key, elsewhere)
    note_environment(store, record.run_key, elsewhere)
    again = read_record(record.run_key, store)
    assert again.trained_on == (HERE, elsewhere)
    assert [item.what for item in reproduction(again, store, tmp_path, HERE).differences] == ["cores", "environments"]
    unknown = reproduction(changed(record, trained_on=[]), store, tmp_path, HERE)
    assert ("code and machine", "not recorded") in [(item.what, item.then) for item in unknown.differences]


def test_a_dataset_that_is_gone_can_be_given_and_another_is_refused(store, record, tmp_path):
    for item in store.list(keys.DATASETS):
        store.remove(item.key)
    lacking = reproduction(record, store, tmp_path, HERE)
    assert [(item.what, item.fatal) for item in lacking.differences] == [("dataset", True)]
    assert lacking.run_key == ""
    with pytest.raises(UserError, match=r"--dataset scenes:.* has digest [0-9a-f]{12}, but run scenes-demo-1-4-s5-"):
        take_dataset(record, store, RunRequest(dataset="scenes:train=8,val=2,width=64,height=48"))
    take_dataset(record, store, RunRequest(dataset=SCENES))
    assert reproduction(record, store, tmp_path, HERE).differences == ()


def test_another_split_is_refused_and_other_settings_are_said(store, record, tmp_path):
    found = reproduction(changed(record, split="0" * 64), store, tmp_path, HERE)
    assert [(item.what, item.then, item.fatal) for item in found.differences] == [("split", "0" * 12, True)]
    settings = {**record.settings, "cps": {**record.settings["cps"], "weight": 0.25}}
    found = reproduction(changed(record, settings=settings), store, tmp_path, HERE)
    assert [(item.what, item.then, item.fatal) for item in found.differences] == [("run key", record.run_key, False)]
    found = reproduction(changed(record, method_version=0), store, tmp_path, HERE)
    assert [str(item) for item in found.differences] == ["method version: originally 0; now 1"]


def test_a_backbone_is_taken_by_its_sha256_wherever_it_lies(store, record, tmp_path):
    there, sha256 = tmp_path / "weights.npz", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    network = {**record.settings["network"], "pretrained": "gone.npz", "pretrained_sha256": sha256}
    pinned = changed(record, settings={**record.settings, "network": network})
    there.write_bytes(b"other")
    found = reproduction(pinned, store, tmp_path / "again", HERE, [there]).differences
    told = "network.pretrained: originally gone.npz (9f86d081884c); now missing: pass the file with --pretrained"
    assert str(found[0]) == told
    assert found[0].fatal
    there.write_bytes(b"test")
    found = reproduction(pinned, store, tmp_path / "again", HERE, [there]).differences
    assert [item.what for item in found] == ["run key"], "the record was changed by hand"
    assert f"pretrained: {there}" in (tmp_path / "again" / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a run.json that this version can read"),
        ("{}", "run_key is missing"),
        ("../x", "run_key is '../x'"),
        ("0" * 63, "dataset.digest is "),
        (None, "cannot be read: No such file"),
    ],
    ids=str,
)
def test_what_is_no_run_json_is_said_in_one_line(store, record, tmp_path, text, named):
    path = tmp_path / "some.json"
    value = record.model_dump(mode="json")
    if text == "../x":
        text = json.dumps({**value, "run_key": text})
    elif text == "0" * 63:
        text = json.dumps({**value, "dataset": {"name": "x", "digest": text}})
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as refused:
        read_record(str(path), store)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_object_or_a_run_that_is_not_there_is_the_users_mistake(store):
    for name in (store.uri("runs/none/run.json"), "nothing"):
        with pytest.raises(UserError):
            read_record(name, store)


def test_the_outcomes_are_compared_figure_by_figure_and_bit_by_bit(record):
    outcome = RunOutcome(mean_iou=0.5, epoch=2, variant="ensemble", weights={1: "a", 2: "b"})
    other = RunOutcome(mean_iou=0.505, epoch=1, variant="left", weights={1: "a", 2: "c"})
    assert comparison_lines(record, comparison(outcome, outcome)) == [
        "best mIoU 50.00 % originally, 50.00 % now: equal",
        "the weights of all 2 checkpoints are bit-identical",
    ]
    assert comparison_lines(record, comparison(outcome, other)) == [
        "best mIoU 50.00 % originally, 50.50 % now: +0.50 points",
        "the weights of 1 of 2 checkpoints are bit-identical",
    ]
    assert comparison(outcome, outcome.model_copy(update={"weights": {1: "a"}})).weights is False
    empty = outcome.model_copy(update={"weights": {}})
    assert "weights are not compared" in comparison_lines(record, comparison(empty, empty))[1]
    assert "was not finished" in comparison_lines(record, comparison(None, outcome))[0]


def test_the_outcome_is_written_once(store, record):
    outcome = RunOutcome(mean_iou=0.5, epoch=2, variant="ensemble", weights={2: "b"})
    note_outcome(store, record.run_key, outcome)
    first = store.stat(keys.run(record.run_key, "run.json"))
    note_outcome(store, record.run_key, outcome)
    assert store.stat(keys.run(record.run_key, "run.json")) == first
    assert load_run(store, record.run_key)[0].outcome == outcome


def test_the_command_checks_and_refuses(store, record, store_environment, tmp_path, refusing_tracker):
    environment = {**store_environment, "MLFLOW_TRACKING_URI": refusing_tracker}

    def run(*arguments):
        return in_process.cps("reproduce", *arguments, folder=tmp_path, **environment)

    before = [(item.key, item.modified) for item in store.list("")]
    checked = run(record.run_key, "--check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["run"] == record.run_key
    assert [(item.key, item.modified) for item in store.list("")] == before
    for item in store.list(keys.DATASETS):
        store.remove(item.key)
    refused = run(record.run_key)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"cps: error: run {record.run_key} cannot be repeated: dataset: ")


def test_a_reproduction_asks_for_deterministic_kernels(
    record, store_environment, refusing_tracker, tmp_path, monkeypatch
):
    asked = {}

    def run_locally(*_: object, environment: dict[str, str], **__: object) -> None:
        asked.update(environment)
        raise WorkFailed("enough")

    monkeypatch.setattr("pipeline.local.run.run_locally", run_locally)
    environment = {**store_environment, "MLFLOW_TRACKING_URI": refusing_tracker}
    ended = in_process.cps("reproduce", record.run_key, folder=tmp_path, **environment)
    assert ended.stderr.endswith("cps: error: enough\n"), ended.stderr
    assert asked[DETERMINISTIC] == "1"
