"""Recipes are read and overridden; mistakes are refused in one line that suggests the closest setting."""

import pytest

from components.errors import UserError
from components.recipes import load_recipe, recipe_names
from components.recipes.loader import parse_recipe, setting_names
from components.training.schedule import plan


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_survives_a_record(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.summary
    assert parse_recipe(recipe.model_dump(mode="json"), "run.json") == recipe


def test_overrides_change_what_they_name():
    recipe = load_recipe("demo", {"optimization.learning_rate": 0.5, "training.epochs_by_ratio.1/8": 7})
    assert recipe.optimization.learning_rate == 0.5
    assert recipe.training.epochs_by_ratio == {"1/8": 7}
    assert load_recipe("demo").optimization.learning_rate != 0.5


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("dmo", {}, "unknown recipe 'dmo'; did you mean 'demo'?; available: camvid"),
        ("demo", {"training.epoch": 3}, "unknown setting 'training.epoch'; did you mean 'training.epochs'?"),
        ("demo", {"learning_rate": 3}, "did you mean 'optimization.learning_rate'?"),
        (
            "demo",
            {"training.epochs": -1},
            "setting 'training.epochs': must be at least 0, not -1",
        ),
        ("demo", {"training.epochs": "many"}, "setting 'training.epochs'"),
        ("demo", {"optimization.learning_rate": float("nan")}, "setting 'optimization.learning_rate'"),
        (
            "demo",
            {"network.structure": "small-fnp"},
            "unknown network structure 'small-fnp'; did you mean 'small-fpn'?",
        ),
        ("demo", {"evaluation.stride": [999, 1]}, "larger than crop"),
        ("camvid-mobilenetv2", {"network.right_structure": "small-fpn"}, "freeze_stem shares the first stages"),
        ("demo", {"network.right_structure": "resnet"}, "unknown network structure 'resnet'; available: small-fpn"),
        ("demo", {"network.right_pretrained": "a.npz"}, "right_pretrained needs a different right_structure"),
        ("demo", {"training.accumulate": 3}, "a batch_size of 8 cannot be split into accumulate=3 equal parts"),
        (
            "demo",
            {"training.precision": "float8"},
            "setting 'training.precision': must be one of 'float32', 'float16'",
        ),
        ("demo", {"optimization.clip_norm": -1}, "setting 'optimization.clip_norm': must be at least 0, not -1"),
        ("demo", {"cps.strong_augmentation": 2}, "setting 'cps.strong_augmentation': must be at most 1, not 2"),
        (
            "demo",
            {"cps.teacher": "average", "optimization.ema": 0},
            "cps.teacher=average needs a moving average of the weights: set optimization.ema",
        ),
        (
            "demo",
            {"cps.teacher": "average_eval", "optimization.ema": 0},
            "cps.teacher=average_eval needs a moving average of the weights: set optimization.ema",
        ),
        (
            "demo",
            {"cps.strong_views": 2},
            "cps.strong_views=2 needs strong augmentation, without which views differ in their boxes alone: set "
            "cps.strong_augmentation, for example to 1",
        ),
        (
            "demo",
            {"cps.strong_operations": 3},
            "cps.strong_operations=3 chooses the kind of strong augmentation, which is off: set "
            "cps.strong_augmentation, for example to 1",
        ),
        ("demo", {"cps.strong_views": 3}, "setting 'cps.strong_views': must be at most 2, not 3"),
        ("demo", {"cps.feature_dropout": 1}, "setting 'cps.feature_dropout': must be less than 1, not 1"),
        (
            "demo",
            {"cps.feature_dropout": 0.5, "network.right_structure": "paddleseg:UNet"},
            "cps.feature_dropout needs access to the encoder's features, which 'paddleseg:UNet' does not give: set "
            "cps.feature_dropout=0, or network.structure to one of small-fpn",
        ),
        ("demo", {"training.patience": 3}, "patience and holdout go together: set both to stop early, or neither"),
        ("nowhere.yaml", {}, "recipe file 'nowhere.yaml' does not exist"),
    ],
)
def test_mistakes_are_named_in_one_line(name, overrides, message):
    with pytest.raises(UserError) as caught:
        load_recipe(name, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "setting ''" not in str(caught.value)


def test_the_deeper_backbone_trains_in_the_same_way():
    deep, plain = (load_recipe(f"cityscapes-deeplabv3p-resnet{depth}").model_dump() for depth in (101, 50))
    assert deep["network"].pop("structure") == "deeplabv3p-resnet101"
    assert plain["network"].pop("structure") == "deeplabv3p-resnet50"
    for settings in (deep, plain):
        del settings["name"], settings["summary"]
        assert settings["network"].pop("pretrained").startswith("https://")
    assert deep == plain


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b", "\x00"])
def test_a_file_that_is_no_recipe(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken.yaml"):
        load_recipe(str(path))


def test_a_file_with_an_unknown_key_names_the_nearest(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("network: {structur: small-fpn}\naugmentation: {crop: [8, 8]}\n")
    with pytest.raises(UserError, match=r"unknown setting 'network.structur'; did you mean 'network.structure'"):
        load_recipe(str(path))


def test_setting_names_are_dotted():
    assert {"network.structure", "cps.weight", "evaluation.crop"} <= set(setting_names())


@pytest.mark.parametrize(
    ("recipe", "rate", "decay", "processes", "divided"),
    [
        ("cityscapes-deeplabv3p-resnet50", 0.02, 1e-4, 4, True),  # at a batch of 8
        ("cityscapes-deeplabv3p-resnet101", 0.02, 1e-4, 4, True),
        ("voc-deeplabv3p-resnet50", 0.005 * 8 / 16, 1e-4, 4, False),  # their code multiplies the rate by the processes
    ],
)
def test_learning_rate_and_weight_decay_have_the_references_effect(
    recipe: str, rate: float, decay: float, processes: int, divided: bool
) -> None:
    """Their gradient is divided by the number of processes: tests/components/training/test_group.py derives it."""
    settings = load_recipe(recipe).optimization
    assert settings.reference_batch == 8
    assert settings.learning_rate == pytest.approx(rate / processes if divided else rate)
    assert settings.weight_decay == pytest.approx(decay * processes)


def test_cityscapes_checkpoints_are_the_references() -> None:
    recipe = load_recipe("cityscapes-deeplabv3p-resnet50")
    found = plan(recipe, labeled=1488, unlabeled=1487, ratio="1/2")
    assert (found.epochs, found.checkpoint_epochs) == (240, tuple(range(205, 241, 5)))
