"""Networks build by name, keep image sizes, and start the same from the same seed."""

import numpy as np
import paddle
import pytest
from paddle.nn import functional as F

from components.errors import UserError
from components.networks.layers import upsample
from components.networks.structures import BUILDERS, build
from components.recipes.model import STRUCTURES


@pytest.mark.parametrize("structure", ["small-fpn", "mobilenetv2-fpn"])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_logits_have_the_images_size(structure, size):
    logits = build(structure, 7)(paddle.zeros([2, 3, *size]))
    assert logits.shape == [2, 7, *size]


@pytest.mark.slow
@pytest.mark.parametrize(
    "structure",
    ["deeplabv3p-resnet50", "paddleseg:PPLiteSeg", "paddleseg:BiSeNetV2", "paddleseg:MobileSeg", "paddleseg:FCN",
     "paddleseg:UNet"],
)  # fmt: skip
def test_large_and_foreign_networks(structure):
    network = build(structure, 7)
    logits = network(paddle.zeros([2, 3, 64, 96]))
    assert logits.shape == [2, 7, 64, 96]
    logits.mean().backward()
    assert any(parameter.grad is not None for parameter in network.parameters())


def test_seed_decides_the_weights():
    one, two, other = (build("small-fpn", 3, seed).state_dict() for seed in (1, 1, 2))
    name = "stages.0.0.0.weight"
    np.testing.assert_array_equal(one[name].numpy(), two[name].numpy())
    assert (one[name].numpy() != other[name].numpy()).any()


@pytest.mark.parametrize(("wrong", "hint"), [("smal-fpn", "did you mean 'small-fpn'"), ("x", "there are: small-fpn")])
def test_unknown_structure(wrong, hint):
    with pytest.raises(UserError, match=hint):
        build(wrong, 3)


def test_unknown_paddleseg_network():
    with pytest.raises(UserError, match="paddleseg has no network 'PPLiteSeq'; did you mean 'PPLiteSeg'"):
        build("paddleseg:PPLiteSeq", 3)


def test_two_networks_of_one_structure_coexist_and_share_no_weights():
    left, right = build("mobilenetv2-fpn", 3, 1), build("mobilenetv2-fpn", 3, 2)
    left.features[0][0].weight.set_value(paddle.zeros_like(left.features[0][0].weight))
    assert float(right.features[0][0].weight.abs().sum()) > 0


def test_stem_and_the_rest_make_the_whole():
    network = build("mobilenetv2-fpn", 4, 0)
    network.eval()
    images = paddle.randn([1, 3, 64, 96])
    halves = network.after_stem(network.stem(images), (64, 96))
    np.testing.assert_array_equal(halves.numpy(), network(images).numpy())


@pytest.mark.parametrize(("source", "target"), [((5, 7), (20, 28)), ((6, 8), (11, 16)), ((9, 9), (3, 3))])
def test_upsample_is_bilinear_interpolation(source, target):
    tensor = paddle.randn([2, 3, *source])
    expected = F.interpolate(tensor, size=list(target), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(upsample(tensor, target).numpy(), expected.numpy(), atol=1e-6)


def test_recipes_know_every_structure():
    assert tuple(BUILDERS) == STRUCTURES
