"""What a rank does before the first step: pretrained weights from where the recipe says, and refusals in one line."""

import hashlib

import numpy as np
import paddle
import pytest

from components.errors import UserError
from components.networks.pretrained_weights.installed import installed_weights
from components.networks.structures import build
from components.recipes.loader import load_recipe
from components.training.precision import check_precision
from components.training.process import _load_pretrained
from tests.components.training.small_training import make_pair, make_recipe


def test_pretrained_weights_come_from_the_store_verified_and_are_said(store, tmp_path, capfd):
    source = build("mobilenetv2-fpn", 3, 1)
    paddle.save(source.state_dict(), str(tmp_path / "backbone.pdparams"))
    data = (tmp_path / "backbone.pdparams").read_bytes()
    store.put_bytes("backbone.pdparams", data)
    where = store.uri("backbone.pdparams")

    def recipe(sha256: str):
        return make_recipe(
            network__structure="mobilenetv2-fpn", network__pretrained=where, network__pretrained_sha256=sha256
        )

    pair = make_pair(recipe(hashlib.sha256(data).hexdigest()))
    _load_pretrained(store, pair.recipe, pair)
    for network in pair.networks.values():
        np.testing.assert_array_equal(network.features[0][0].weight.numpy(), source.features[0][0].weight.numpy())
    said = capfd.readouterr().err
    assert f"pretrained weights {where}: 255 of 255 backbone tensors" in said
    assert "in the file and not used: decoder.laterals.0.weight" in said
    with pytest.raises(UserError, match=f"has sha256 {hashlib.sha256(data).hexdigest()}, not 00"):
        _load_pretrained(store, recipe("00"), pair)


def test_installed_weights_want_their_own_normalisation(store, capfd):
    structure = "efficientnet-lite0-fpn"
    weights = installed_weights(structure)
    assert (load_recipe("photos").augmentation.mean, load_recipe("photos").augmentation.std) == (
        weights.mean,
        weights.std,
    )
    own = {"augmentation__mean": weights.mean, "augmentation__std": weights.std}
    for changes, expected in ((own, 0), ({}, 1)):
        recipe = make_recipe(network__structure=structure, network__pretrained="imagenet", **changes)
        _load_pretrained(store, recipe, make_pair(recipe))
        assert capfd.readouterr().err.count("expects augmentation.mean=[0.498, 0.498, 0.498]") == expected


@pytest.mark.skipif(paddle.device.get_device() != "cpu", reason="there is a GPU")
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_without_a_gpu_is_refused(precision):
    check_precision("float32")
    with pytest.raises(
        UserError, match=rf"training.precision={precision} needs a GPU, .*: set training.precision=float32"
    ):
        check_precision(precision)
