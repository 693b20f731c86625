"""A run's key changes with everything that affects the weights, but not with the version that computes it."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from components.errors import UserError
from components.recipes import load_recipe
from components.recipes.model import Recipe
from components.runs.key import find_key, run_key, same_work, without_effect

DEFAULTS = Path(__file__).parents[2] / "golden" / "recipe-defaults.json"


def key(recipe: str, **overrides: Any) -> str:
    dotted = {name.replace("__", "."): value for name, value in overrides.items()}
    return run_key(load_recipe(recipe, dotted), "photos", "d" * 64, "f" * 64, Fraction(1, 8), 0)


def test_the_key_holds_what_the_weights_depend_on_and_nothing_else() -> None:
    assert key("demo") == key("demo", evaluation__batch=1) == key("demo", training__recovery_steps=7)
    assert key("demo") == key("demo", training__recovery_seconds=5.0) == key("demo", training__recovery_steps=50)
    assert key("demo") == key("demo", training__loader_workers=3)
    training = {f"training.{name}" for name in ("loader_workers", "recovery_seconds", "recovery_steps")}
    assert without_effect() == {"summary", "evaluation.batch", *training}
    assert key("demo") != key("demo", evaluation__stride=[64, 64])
    assert len({key("demo"), key("demo", split__stratify=True), key("demo", split__group_by="auto")}) == 3


def test_every_option_of_the_method_makes_another_run() -> None:
    changed: list[dict[str, Any]] = [
        {},
        {"augmentation__hue": 0.1},
        {"cps__burn_in": 0.2},
        {"cps__strong_augmentation": 0.5},
        {"cps__teacher": "average"},
        {"cps__teacher": "average_eval"},
        {"cps__strong_augmentation": 0.5, "cps__strong_views": 2},
        {"cps__feature_dropout": 0.5},
        {"cps__rare_class_paste": 0.5},
        {"cps__strong_augmentation": 0.5, "cps__strong_operations": 3},
        {"cps__adaptive_cutmix": True},
        {"optimization__clip_norm": 1.0},
        {"training__accumulate": 2},
        {"training__precision": "float16"},
        {"training__tf32": False},
        {"training__patience": 2, "training__holdout": 0.1},
        {"training__patience": 2, "training__holdout": 0.2},
        {"network__right_structure": "mobilenetv2-fpn"},
    ]
    assert len({key("demo", **overrides) for overrides in changed}) == len(changed)


def test_weights_of_a_known_digest_are_the_same_wherever_they_lie() -> None:
    known = {"network__pretrained_sha256": "a" * 64}
    assert key("demo", network__pretrained="a.npz", **known) == key("demo", network__pretrained="s3://b/a.npz", **known)
    assert key("demo", network__pretrained="a.npz") != key("demo", network__pretrained="b.npz")
    right = {"network__right_structure": "mobilenetv2-fpn", "network__right_pretrained_sha256": "b" * 64}
    assert key("demo", network__right_pretrained="a.npz", **right) == key(
        "demo", network__right_pretrained="s3://b/a.npz", **right
    )


def test_a_setting_that_is_given_its_default_is_left_alone() -> None:
    assert key("demo", split__stratify=False) == key("demo")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("demo", "photos-demo-1-8-s0-df70c817d7db"),
        ("camvid-mobilenetv2", "photos-camvid-mobilenetv2-1-8-s0-30992181ab39"),
        ("cityscapes-deeplabv3p-resnet50", "photos-cityscapes-deeplabv3p-resnet50-1-8-s0-cb04bf44d46d"),
    ],
)
def test_keys_of_the_recipes_stay(recipe: str, expected: str) -> None:
    """If a key changes on purpose, all finished runs of that recipe train again."""
    assert key(recipe) == expected


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("", ""), ("my photos (2)", "my-photos-2-"), ("…", "dataset-"), ("x" * 99, "x" * 40 + "-"), ("a.b_c", "a.b_c-")],
)
def test_the_name_of_the_dataset_is_in_front_and_changes_nothing(dataset: str, name: str) -> None:
    found = run_key(load_recipe("demo"), dataset, "d" * 64, "f" * 64, Fraction(1, 8), 0)
    assert found == f"{name}demo-1-8-s0-df70c817d7db"
    assert same_work(found, key("demo"))
    again = load_recipe("demo").model_copy(update={"reproduces": "x"})
    assert run_key(again, dataset, "d" * 64, "f" * 64, Fraction(1, 8), 0).startswith(f"again-{name}demo-")


def test_the_name_of_a_recipe_stays_whole_as_in_0_1() -> None:
    recipe = load_recipe("demo").model_copy(update={"name": "a-recipe-whose-name-is-longer-than-forty-characters"})
    old = run_key(recipe, "", "d" * 64, "f" * 64, Fraction(1, 8), 0)
    assert old.startswith(f"{recipe.name}-1-8-s0-")
    assert run_key(recipe, "photos", "d" * 64, "f" * 64, Fraction(1, 8), 0) == f"photos-{old}"


def test_a_key_is_found_by_its_beginning_or_by_what_follows_the_dataset() -> None:
    known = [f"photos-demo-1-8-s{seed}-0123456789a{seed}" for seed in (0, 1)] + ["again-photos-demo-1-8-s0-a"]
    for given in ("photos-demo-1-8-s0", "demo-1-8-s0", known[0]):
        assert find_key(given, known, "run") == known[0]
    for given in ("demo-1-8", "photos-demo", "emo-1-8-s0", ""):
        with pytest.raises(UserError, match=f"'{given}' "):
            find_key(given, known, "run")


def test_no_default_changes_unnoticed() -> None:
    """Keys omit default values, so a changed default needs a new METHOD_VERSION; add new settings to the list."""
    assert dict(sorted(defaults(Recipe))) == json.loads(DEFAULTS.read_text(encoding="utf-8"))


def defaults(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, entry in model.model_fields.items():
        if isinstance(entry.annotation, type) and issubclass(entry.annotation, BaseModel):
            yield from defaults(entry.annotation, f"{prefix}{name}.")
        elif not entry.is_required():
            yield f"{prefix}{name}", json.loads(json.dumps(entry.default))
