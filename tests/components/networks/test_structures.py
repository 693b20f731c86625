"""Networks build by name, keep image sizes, and start the same from the same seed."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from components.errors import UserError
from components.networks import paddleseg_models
from components.networks.layers import frozen_statistics, upsample
from components.networks.structures import BUILDERS, build
from components.recipes.model import PADDLESEG_MODELS, STRUCTURES


@pytest.mark.parametrize("structure", ["small-fpn", "mobilenetv2-fpn"])
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_logits_have_the_images_size(structure, size):
    logits = build(structure, 7)(paddle.zeros([2, 3, *size]))
    assert logits.shape == [2, 7, *size]


def assert_trains_as_a_pair(structure: str, *, size: tuple[int, int] = (64, 96), both: bool = True) -> None:
    """Check that two networks of a structure coexist in one process, with logits of the images' size and own gradients.

    Forward passes for pseudo labels must not change any state of the networks. Unless `both`, the second network is
    only built, and then the first must train: enough to find name clashes, in half the time.
    """
    pair = [build(structure, 7, seed) for seed in (1, 2)]
    height, width = size
    images = paddle.randn([2, 3, height, width])
    for network in pair if both else pair[:1]:
        before = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        with paddle.no_grad(), frozen_statistics(network):
            network(images)
        for name, tensor in network.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), before[name], err_msg=name)
        logits = network(images)
        assert logits.shape == [2, 7, height, width]
        logits.square().mean().backward()
        grown = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert len(grown) > 20
        network.eval()
        assert network(images[:1]).shape == [1, 7, height, width]
    assert {p.name for p in pair[0].parameters()}.isdisjoint(p.name for p in pair[1].parameters())
    assert {name for name, _ in pair[0].named_parameters()} == {name for name, _ in pair[1].named_parameters()}


@pytest.mark.parametrize("structure", ["paddleseg:PPHumanSegLite", "paddleseg:MobileSeg"])
def test_two_of_paddlesegs_networks(structure):
    assert_trains_as_a_pair(structure)


@pytest.mark.slow
@pytest.mark.parametrize(
    "structure",
    ["deeplabv3p-resnet50", "deeplabv3p-resnet101", *(f"paddleseg:{name}" for name in PADDLESEG_MODELS)],
)
def test_every_large_and_every_listed_network_trains_as_a_pair(structure):
    assert_trains_as_a_pair(structure, size=(64, 64), both=False)


def test_a_network_whose_parameters_exist_once_is_refused(monkeypatch):
    monkeypatch.setitem(paddleseg_models.BACKBONES, "PortraitNet", ("MobileNetV2_x0_25", {}))
    with pytest.raises(UserError, match=r"PortraitNet cannot be built .*parameter name .* have be been used"):
        build("paddleseg:PortraitNet", 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LPSNet", "LPSNet cannot be built from a class count alone: .*missing 3 required positional arguments"),
        ("LinearSegmenter", "LinearSegmenter cannot be built from a class count alone: "),
    ],
)
def test_networks_that_cannot_train_are_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        build(f"paddleseg:{name}", 3)
    assert "\n" not in str(caught.value)


class Odd(nn.Layer):
    """A network that accepts a class count but fails, or does not return logits of the images' size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images: paddle.Tensor) -> list[paddle.Tensor]:
        if self.num_classes == 3:
            raise ValueError("no\nway")
        return [images]


def test_a_network_that_is_not_listed_is_tried(monkeypatch):
    from paddleseg.cvlibs.manager import MODELS  # imports scikit-learn too

    monkeypatch.setitem(MODELS.components_dict, "Odd", Odd)
    with pytest.raises(UserError, match=r"paddleseg's Odd does not run with this Paddle: no way$"):
        build("paddleseg:Odd", 3)
    with pytest.raises(UserError, match=r"paddleseg's Odd returns shape \[2, 3, 64, 64\] for .*, not logits"):
        build("paddleseg:Odd", 4)


def test_a_network_that_is_not_listed_may_do(monkeypatch):
    monkeypatch.setattr(paddleseg_models, "PADDLESEG_MODELS", ())
    one, two = (build("paddleseg:PPHumanSegLite", 3, 5).state_dict() for _ in range(2))
    for (name, tensor), other in zip(one.items(), two.values(), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), other.numpy(), err_msg=name)


def test_seed_decides_the_weights():
    one, two, other = (build("small-fpn", 3, seed).state_dict() for seed in (1, 1, 2))
    name = "stages.0.0.0.weight"
    np.testing.assert_array_equal(one[name].numpy(), two[name].numpy())
    assert (one[name].numpy() != other[name].numpy()).any()


@pytest.mark.parametrize(("wrong", "hint"), [("smal-fpn", "did you mean 'small-fpn'"), ("x", "available: small-fpn")])
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
    halves = network.decode(network.after_stem(network.stem(images)), (64, 96))
    np.testing.assert_array_equal(halves.numpy(), network(images).numpy())


@pytest.mark.parametrize(
    "structure",
    [
        "small-fpn",
        "mobilenetv2-fpn",
        "efficientnet-lite0-fpn",
        pytest.param("deeplabv3p-resnet50", marks=pytest.mark.slow),
    ],
)
def test_encoder_and_decoder_make_the_whole(structure):
    network = build(structure, 4, 0)
    network.eval()
    images = paddle.randn([1, 3, 64, 96])
    whole = network.decode(network.encode(images), (64, 96))
    np.testing.assert_allclose(whole.numpy(), network(images).numpy(), atol=1e-6)


@pytest.mark.parametrize(("source", "target"), [((5, 7), (20, 28)), ((6, 8), (11, 16)), ((9, 9), (3, 3))])
def test_upsample_is_bilinear_interpolation(source, target):
    tensor = paddle.randn([2, 3, *source])
    expected = F.interpolate(tensor, size=list(target), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(upsample(tensor, target).numpy(), expected.numpy(), atol=1e-6)


def test_recipes_know_every_structure():
    assert tuple(BUILDERS) == STRUCTURES
