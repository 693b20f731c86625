"""Cells of a matrix that a dataset has no split for: said before the others run, which run all the same."""

import json
import shutil
from typing import Any

import pytest

from components.dataset.prepare import prepare
from components.matrix.cells import CPS, SUPERVISED, VARIATIONS, cell_request, cells, impossible
from components.recipes.loader import FOLDER
from components.runs.request import RunRequest
from components.scenes.generate import SceneSettings, draw_photographs
from components.storage import keys
from pipeline.cli.commands.matrix import _methods
from tests.pipeline.in_process import cps as in_process
from tests.pipeline.small_runs import cps

GROUPS = {"split.group_by": "street_000000|street_00000(?=[1-7])"}
"""One image and seven: shares of 1/8 and of 7/8 exist."""
REASON = f"split.group_by {GROUPS['split.group_by']!r} forms 2 groups of 1 to 7 images"


@pytest.fixture
def photos(tmp_path):
    """Without lists of its own for a ratio, which would count more than groups."""
    draw_photographs(tmp_path / "photos", SceneSettings(train=8, val=2, width=256, height=128), 0)
    return tmp_path / "photos"


def test_cells_without_a_split_are_named_with_the_reason(store, photos, tmp_path):
    digest = prepare(str(photos), "", store, tmp_path / "work").digest
    request = RunRequest(overrides=GROUPS, epochs=1, batch_size=2)
    wanted = cells(["1/8", "1/2"], [1], {SUPERVISED: VARIATIONS[SUPERVISED], CPS: VARIATIONS[CPS]})
    found = impossible(store, wanted, request, digest)
    assert list(found) == wanted[2:]
    assert all(reason.startswith(REASON) for reason in found.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--compare", "baseline,photo"], "--compare photo: no such method; available: baseline, cps, the recipes "),
        (["--compare", "cps,none.yaml"], "recipe file '/"),
        (["--compare", "cps,a/photos.yaml"], "--compare a/photos.yaml: another method is called photos: rename"),
        (["--compare", "x.yaml", "--cluster"], "--compare x.yaml: a file on this machine, which the cluster cannot"),
        (["--compare", "cps,photos", "--recipe", "photos"], "--compare photos: that is --recipe, which is called cps"),
        (["--compare", "cps", "--baseline"], "--baseline is short for --compare baseline,cps: give --compare alone"),
        (["--compare", ","], "--compare ',' names no method: give, for example, baseline,cps"),
        (["--compare", "baseline", "--set", "cps.weight=0"], "the baseline is the recipe with cps.weight=0, which"),
        (["--compare", "cps.weight=0,cps"], "--compare cps.weight=0: that is called baseline in the list"),
        (["--compare", "cps,cps.weight=1.0", "--recipe", "photos"], "that changes nothing, so it is called cps in"),
        (["--compare", "cps,cps.techer=average"], "unknown setting 'cps.techer'; did you mean 'cps.teacher'?"),
        (["--compare", "cps,network.pretrained=a.npz"], "a.npz' is not a file"),
        (["--compare", "cps,network.pretrained=a.npz", "--cluster"], "a.npz' is a path on this machine"),
        (["--compare", "cps,=average"], "--compare '=average' must be NAME=VALUE"),
        (["--compare", "cps,cps.teacher=nobody"], "cps.teacher"),
    ],
)
def test_methods_that_cannot_be_compared_are_refused(arguments, said, tmp_path):
    ended = in_process("matrix", "--dataset", "scenes", *arguments, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def methods(compare: str, *, recipe: str = "demo", baseline: bool = False) -> Any:
    return _methods(compare, baseline=baseline, recipe=recipe, overrides=(), cluster=False)


def test_the_reference_is_trained_first():
    assert list(methods("photos,cps,baseline")) == [SUPERVISED, "photos", CPS]
    assert list(methods("cps,photos")) == [CPS, "photos"]
    assert list(methods("", recipe="auto", baseline=True)) == [SUPERVISED, CPS]
    assert list(methods("", recipe="auto")) == [CPS]


def test_a_recipe_file_is_a_method_with_its_name(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text((FOLDER / "demo.yaml").read_text().replace("learning_rate: 0.004", "learning_rate: 0.002"))
    baseline, mine = cells(["1/8"], [1], methods(f"baseline,{file}"))
    assert [baseline.method, mine.method] == [SUPERVISED, "mine"]
    assert cell_request(baseline, RunRequest(recipe="demo")).recipe == "demo"
    assert cell_request(mine, RunRequest(recipe="demo")).resolve().optimization.learning_rate == 0.002


def test_two_recipe_files_need_different_names(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(FOLDER / "demo.yaml", tmp_path / folder / "mine.yaml")
    ended = in_process("matrix", "--compare", "a/mine.yaml,b/mine.yaml", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "cps: error: --compare b/mine.yaml: another method is called mine: rename the file\n"


def test_settings_are_a_method_that_leaves_everything_else_equal():
    both = "cps.teacher=average+optimization.learning_rate=1e+1"
    crop = "augmentation.crop=[64, 96]"
    plain, teacher, small = cells(["1/8"], [1], methods(f"cps, {both}, {crop}"))
    assert [plain.method, teacher.method, small.method] == [CPS, both, crop]
    recipes = [cell_request(cell, RunRequest(recipe="demo")).resolve() for cell in (plain, teacher, small)]
    changed = {"cps": recipes[1].cps, "optimization": recipes[1].optimization}
    assert recipes[0].model_copy(update=changed) == recipes[1]
    assert (recipes[1].cps.teacher, recipes[1].optimization.learning_rate) == ("average", 10.0)
    assert recipes[2].augmentation.crop == (64, 96)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_other_cells_are_run_and_one_is_made_again_to_the_bit(
    store, store_environment, photos, tmp_path, refusing_tracker
):
    words = ("--dataset", str(photos), "--recipe", "demo", "--ratios", "1/8,1/2", "--seeds", "1", "--epochs", "1")
    settings = ("--batch-size", "1", "--set", f"split.group_by={GROUPS['split.group_by']}", "-o", "study", "--json")
    ended = cps("matrix", *words, *settings, folder=tmp_path, environment=store_environment, tracker=refusing_tracker)
    assert ended.returncode == 2, ended.stderr
    lines = ended.stderr.splitlines()
    assert [line for line in lines if line.startswith(f"cps: error: ratio 1/2 seed 1 cps: {REASON}")]
    said = [line for line in lines if line.startswith("[matrix] ") and " seed " in line]
    assert [line.split(": ")[0] for line in said] == [
        "[matrix] 1/2 ratio 1/8 seed 1 cps",
        "[matrix] 2/2 ratio 1/2 seed 1 cps",
        "[matrix] 1/2 ratio 1/8 seed 1 cps",
    ]
    [point] = json.loads(ended.stdout)["points"]
    assert (point["labeled_ratio"], point["labelled_images"]) == ("1/8", 1)
    assert (tmp_path / "study" / "matrix.html").exists()

    [cell] = json.loads(ended.stdout)["runs"]
    original = store.get_json(keys.run(cell["run_key"], "result.json"))
    alone = tmp_path / "alone.json"
    alone.write_bytes(store.get_bytes(keys.run(cell["run_key"], "run.json")))
    for item in store.list(keys.run(cell["run_key"], "")):
        store.remove(item.key)  # run.json is all that is left
    reproduce = ("reproduce", str(alone), "--json")
    ended = cps(*reproduce, folder=tmp_path, environment=store_environment, tracker=refusing_tracker)
    assert ended.returncode == 0, ended.stderr
    again = json.loads(ended.stdout)
    assert again["run_key"].startswith("again-photos-demo-1-8-s1-")
    assert again["best"]["mIoU"] == original["best"]["mIoU"]
    told = again["reproduction"]
    assert (told["of"], told["mIoU"], told["weights"], told["differences"]) == (cell["run_key"], True, True, [])
    assert told["equal_checkpoints"] == [row["epoch"] for row in original["checkpoints"]]
