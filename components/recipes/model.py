"""The settings of one training, frozen and validated when they are read.

A recipe says everything that changes the weights: two runs of one recipe on one split and seed are the same run.
What does not change them (number of processes, addresses, where files lie) is not in it.
"""

import difflib
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = tuple[Positive, Positive]
"""Height, width in pixels."""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AUTO = "auto"
"""A value of `split.group_by`."""


class Split(Settings):
    """Whose labels are used, where the dataset brings no list of its own for the ratio."""

    stratify: bool = False
    """Rank first the fewest images that show every class, so that none is missing where the ratio allows it."""
    group_by: str = ""
    """Keep images of one sequence together: all labelled or none. A regular expression that is searched in an image's
    name, whose groups (else the whole match) name the sequence; `auto` knows Cityscapes' and CamVid's names."""

    @model_validator(mode="after")
    def _is_expression(self) -> "Split":
        try:
            re.compile(self.group_by)
        except re.error as error:
            raise ValueError(f"group_by {self.group_by!r} is not a regular expression ({error})") from None
        return self


STRUCTURES = ("small-fpn", "mobilenetv2-fpn", "deeplabv3p-resnet50", "deeplabv3p-resnet101")
"""Our own networks; `components.networks.structures` builds them."""
FOREIGN = "paddleseg:"
"""Before the name of one of paddleseg's networks."""
# fmt: off
PADDLESEG_MODELS = (
    "ANN", "AttentionUNet", "BiSeNetV2", "BiseNetV1", "CCNet", "DANet", "DDRNet_23", "DMNet", "DNLNet", "DeepLabV3",
    "DeepLabV3P", "ENCNet", "ENet", "ESPNetV2", "FCN", "FastFCN", "FastSCNN", "GCNet", "GINet", "GSCNN", "GloRe",
    "HarDNet", "ISANet", "LRASPP", "MobileSeg", "OCRNet", "PFPNNet", "PPHumanSegLite", "PPLiteSeg", "PSPNet",
    "RTFormer", "SINet", "STDCSeg", "SegFormer", "SegNet", "TopFormer", "U2Net", "U2Netp", "UNet", "UNet3Plus",
    "UNetPlusPlus", "UPerNet",
)
# fmt: on
"""Of paddleseg 2.8.0, those that were found to train in pairs on Paddle 3.3.1; others may, and are tried first."""


Precision = Literal["float32", "float16", "bfloat16"]


class Network(Settings):
    structure: str = "mobilenetv2-fpn"
    """One of ours (STRUCTURES), or a paddleseg model as `paddleseg:NAME`."""
    pretrained: str = ""
    """Backbone weights: path, http(s) URL or s3:// URI of an .npz, .safetensors or .pdparams file; empty trains from
    scratch."""
    pretrained_sha256: str = ""
    right_structure: str = ""
    """The right network's, where it has another one than the left; empty gives both `structure`."""
    right_pretrained: str = ""
    """Backbone weights for `right_structure`; `pretrained` is then for the left network alone."""
    right_pretrained_sha256: str = ""
    freeze_stem: bool = False
    """Keep the backbone's first stages as they were pretrained (BatchNorm in evaluation mode too). Both networks then
    share them, so they run once for both."""

    @property
    def structures(self) -> dict[str, str]:
        """By network: left, right."""
        return {"left": self.structure, "right": self.right_structure or self.structure}

    @property
    def backbones(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Files of pretrained weights: where from, sha256, and for which networks."""
        differ = len(set(self.structures.values())) > 1
        found: list[tuple[str, str, tuple[str, ...]]] = [
            (self.pretrained, self.pretrained_sha256, ("left",) if differ else ("left", "right")),
            (self.right_pretrained, self.right_pretrained_sha256, ("right",)),
        ]
        return [entry for entry in found if entry[0]]

    @model_validator(mode="after")
    def _known(self) -> "Network":
        for structure in self.structures.values():
            if structure not in STRUCTURES and not structure.startswith(FOREIGN):
                near = difflib.get_close_matches(structure, STRUCTURES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(STRUCTURES)}, {FOREIGN}NAME"
                raise ValueError(f"unknown network structure {structure!r}; {hint}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Network":
        differ = len(set(self.structures.values())) > 1
        if differ and self.freeze_stem:
            raise ValueError("freeze_stem shares the first stages, so both networks need one structure")
        if self.right_pretrained and not differ:
            raise ValueError("right_pretrained is for a right_structure of its own; pretrained serves both networks")
        return self


class Augmentation(Settings):
    """What is done to a training image before it is cropped; drawn anew for every image in every step."""

    crop: Size
    scales: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.5, 2.0)
    """An image is resized by a factor drawn from this range, then cropped; what the crop lacks is padded as void."""
    scale_step: Annotated[float, Field(ge=0)] = 0.0
    """Factors are multiples of this step from the lower end; 0 draws from the whole range."""
    flip: Share = 0.5
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Turned by at most this share of the colour circle, either way."""
    distort: Share = 0.5
    """The chance of each of brightness, contrast, saturation and hue to be changed."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _range(self) -> "Augmentation":
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales must go from small to large, not {self.scales[0]} to {self.scales[1]}")
        return self


class SupervisedLoss(Settings):
    kind: Literal["cross_entropy", "ohem"] = "cross_entropy"
    ohem_threshold: Share = 0.7
    """Pixels whose true class has at most this probability are always kept."""
    ohem_min_kept: Positive = 50_000
    """Hard pixels kept per image at least, for an 800 x 800 crop; scaled with the crop's area."""
    class_weights: Literal["none", "root_median_frequency"] = "none"
    """`root_median_frequency`: (median share of pixels / a class's share) ** 0.5, over the labelled images. The cross
    pseudo losses are never weighted."""


class CrossPseudoSupervision(Settings):
    weight: Annotated[float, Field(ge=0)] = 1.5
    """Of the two cross pseudo losses against the two supervised ones. 0 trains the supervised baseline: no unlabelled
    image is read."""
    ramp_up: Share = 0.0
    """The share of all steps over which the weight rises from 0 (a half Gaussian, as in Laine and Aila 2017)."""
    confidence: Share = 0.0
    """Pseudo labels of a lower probability are void; 0 keeps them all, as in the paper."""
    cutmix_boxes: Annotated[int, Field(ge=0)] = 3
    """Boxes cut from one unlabelled image and pasted onto another; 0 trains on the images as they are."""
    cutmix_area: tuple[Share, Share] = (0.25, 0.5)
    """The share of the image that the boxes cover together, before one is inverted into the other."""
    strong_augmentation: Share = 0.0
    """The share of the mixed images whose colours are changed strongly, and which are blurred, before a network learns
    from them, as in ST++ and UniMatch. Pseudo labels come from the images without."""
    teacher: Literal["network", "average"] = "network"
    """What makes the pseudo labels: the network as it is, or (`average`) the average of its weights that
    `optimization.ema` keeps, as Mean Teacher does."""


class Optimization(Settings):
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """At `reference_batch`; scales with the batch."""
    reference_batch: Positive = 8
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """None on biases and normalisation."""
    poly_power: Annotated[float, Field(gt=0)] = 0.9
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, which then is what checkpoints hold; 0 is off."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Each network's gradients, of all processes together, are scaled to at most this norm; 0 is off."""


class Training(Settings):
    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the longer list. 0: `epochs_by_ratio`, and for a ratio it lacks as many steps as its nearest."""
    epochs_by_ratio: dict[str, Positive] = {}
    batch_size: Positive = 8
    """Labelled images a step, over all processes; each of the two unlabelled streams has as many."""
    accumulate: Positive = 1
    """Micro-batches that a step's batch is cut into, to need less memory. The losses are those of the whole batch; but
    batch normalisation sees a micro-batch at a time, and OHEM picks and averages its pixels in each."""
    precision: Precision = "float32"
    """Of the forward passes, on a GPU; weights stay float32. float16 scales its losses."""
    checkpoints: Positive = 5
    """How many are saved: evenly spaced over the last `checkpoint_span` of the epochs, the last epoch always."""
    checkpoint_span: Annotated[float, Field(gt=0, le=1)] = 1.0
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after so many epochs without a better mIoU on the held-out images; 0 trains to the end. The learning rate is
    planned for all epochs, and checkpoints are spread over all of them; the last epoch is saved wherever it is."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the labelled images that is held out for `patience`, drawn by the seed. Nothing is learned from
    them: with few labels that costs more than it saves."""
    recovery_steps: Positive = 50
    """The complete training state is saved every so many steps."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch_size of {self.batch_size} cannot be cut into accumulate={self.accumulate} parts")
        if (self.patience > 0) != (self.holdout > 0):
            raise ValueError("patience and holdout go together: set both to stop early, or neither")
        return self


class Evaluation(Settings):
    crop: Size
    stride: Size
    batch: Positive = 4
    """Windows that go through a network at once; it changes the time, and not the result."""
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(min_length=1)] = (1.0,)
    """Every image is scored resized by each of these factors, and the probabilities are averaged: slower by their
    number."""
    flip: bool = False
    """Besides, every scale mirrored left to right: twice as slow."""
    bf16: bool = False
    """Let networks compute in bfloat16 on processors that have it: faster, and a few pixels in a thousand differ.
    Elsewhere they compute in float32 as always."""

    @model_validator(mode="after")
    def _covers(self) -> "Evaluation":
        if self.stride[0] > self.crop[0] or self.stride[1] > self.crop[1]:
            raise ValueError(f"stride {self.stride} is larger than crop {self.crop}: pixels would be left out")
        return self


class Recipe(Settings):
    name: str
    summary: str
    reproduces: str = ""
    """The key of the run that this one repeats, apart from it; `cps reproduce` sets it, and no weight depends on it."""
    split: Split = Split()
    network: Network
    augmentation: Augmentation
    loss: SupervisedLoss = SupervisedLoss()
    cps: CrossPseudoSupervision = CrossPseudoSupervision()
    optimization: Optimization = Optimization()
    training: Training
    evaluation: Evaluation

    @model_validator(mode="after")
    def _has_teacher(self) -> "Recipe":
        if self.cps.teacher == "average" and self.optimization.ema == 0:
            raise ValueError("cps.teacher=average needs an average of the weights: set optimization.ema, e.g. to 0.99")
        return self
