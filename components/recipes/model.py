"""The settings of a training run, frozen and validated when they are read.

A recipe contains everything that affects the weights: the same recipe, split and seed are the same run. Anything else,
such as the number of processes, addresses and paths, is not part of it.
"""

import difflib
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = tuple[Positive, Positive]
"""Height and width in pixels."""


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


AUTO = "auto"
"""The value that lets the program choose: a recipe and a labelled ratio that suit the dataset, or in `split.group_by`
the names of well-known datasets."""


class Split(Settings):
    """How to choose the labelled images if the dataset has no list of its own for the ratio."""

    stratify: bool = False
    """Rank the smallest set of images that contains every class first, so that no class is missing if possible."""
    group_by: str = ""
    """Keep the images of a sequence together, all labelled or all unlabelled. A regular expression, searched in an
    image's name; its groups, or else the whole match, name the sequence. `auto` recognises Cityscapes' and CamVid's
    names."""

    @model_validator(mode="after")
    def _is_expression(self) -> "Split":
        try:
            re.compile(self.group_by)
        except re.error as error:
            raise ValueError(f"group_by {self.group_by!r} is not a regular expression ({error})") from None
        return self


STRUCTURES = ("small-fpn", "mobilenetv2-fpn", "efficientnet-lite0-fpn", "deeplabv3p-resnet50", "deeplabv3p-resnet101")
"""Our own networks, which `components.networks.structures` builds."""
FOREIGN = "paddleseg:"
"""Prefix for the name of a paddleseg network."""
# fmt: off
PADDLESEG_MODELS = (
    "ANN", "AttentionUNet", "BiSeNetV2", "BiseNetV1", "CCNet", "DANet", "DDRNet_23", "DMNet", "DNLNet", "DeepLabV3",
    "DeepLabV3P", "ENCNet", "ENet", "ESPNetV2", "FCN", "FastFCN", "FastSCNN", "GCNet", "GINet", "GSCNN", "GloRe",
    "HarDNet", "ISANet", "LRASPP", "MobileSeg", "OCRNet", "PFPNNet", "PPHumanSegLite", "PPLiteSeg", "PSPNet",
    "RTFormer", "SINet", "STDCSeg", "SegFormer", "SegNet", "TopFormer", "U2Net", "U2Netp", "UNet", "UNet3Plus",
    "UNetPlusPlus", "UPerNet",
)
# fmt: on
"""Networks of paddleseg 2.8.0 that train in pairs on Paddle 3.3.1. Others are tested before use."""


Precision = Literal["float32", "float16", "bfloat16"]


class Network(Settings):
    """The structure of the two networks, and the weights that they start from."""

    structure: str = "mobilenetv2-fpn"
    """`small-fpn`, `mobilenetv2-fpn`, `efficientnet-lite0-fpn`, `deeplabv3p-resnet50`, `deeplabv3p-resnet101`, or a
    model of paddleseg as `paddleseg:NAME`."""
    pretrained: str = ""
    """Backbone weights: path, http(s) URL or s3:// URI of an .npz, .safetensors, .pdparams or PyTorch .pth file;
    `imagenet` for weights that are installed with this program; empty trains from scratch, and so does `none`, which
    overrides the pretrained weights of a recipe."""
    pretrained_sha256: str = ""
    """Expected SHA-256 of the file. If empty, the first run records that of a downloaded file, and later runs verify
    it."""
    right_structure: str = ""
    """The right network's structure, if it differs; if empty, both networks use `structure`."""
    right_pretrained: str = ""
    """Backbone weights for `right_structure`; `pretrained` then applies to the left network only."""
    right_pretrained_sha256: str = ""
    """Expected SHA-256 of that file."""
    longest_side: Annotated[int, Field(ge=0)] = 0
    """Reduce larger images so that their longer side has this many pixels before a network sees them; 0 keeps their
    size. Scores and masks are always at an image's own size."""
    freeze_stem: bool = False
    """Freeze the backbone's first stages, with BatchNorm in evaluation mode. Both networks then share these stages and
    run them only once."""

    @property
    def structures(self) -> dict[str, str]:
        """The structure of each network, left and right."""
        return {"left": self.structure, "right": self.right_structure or self.structure}

    @property
    def backbones(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Source, sha256 and target networks of each file with pretrained weights."""
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
                hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(STRUCTURES)}, {FOREIGN}NAME"
                raise ValueError(f"unknown network structure {structure!r}; {hint}")
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Network":
        differ = len(set(self.structures.values())) > 1
        if differ and self.freeze_stem:
            raise ValueError("freeze_stem shares the first stages, so both networks need the same structure")
        if self.right_pretrained and not differ:
            raise ValueError("right_pretrained needs a different right_structure; pretrained applies to both networks")
        return self


class Augmentation(Settings):
    """Random changes to a training image before it is cropped, drawn anew for every image in every step."""

    crop: Size
    """Height and width, in pixels, of what a network sees in training."""
    scales: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.5, 2.0)
    """An image is resized by a random factor from this range, then cropped; missing pixels are padded as void."""
    scale_step: Annotated[float, Field(ge=0)] = 0.0
    """Spacing of the factors, starting at the lower end; 0 draws from the continuous range."""
    flip: Share = 0.5
    """Probability of mirroring an image left to right."""
    brightness: Share = 0.4
    """Brightness is multiplied by a random factor between 1 - this share and 1 + this share."""
    contrast: Share = 0.4
    """The same for contrast."""
    saturation: Share = 0.4
    """The same for saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Hues are rotated by at most this share of the colour circle in either direction."""
    distort: Share = 0.5
    """Probability of changing each of brightness, contrast, saturation and hue."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of red, green and blue, from 0 to 1, that is subtracted from every pixel; the default is ImageNet's."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of red, green and blue that every pixel is then divided by."""

    @model_validator(mode="after")
    def _range(self) -> "Augmentation":
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales must go from small to large, not {self.scales[0]} to {self.scales[1]}")
        return self


class SupervisedLoss(Settings):
    """The loss on labelled images."""

    kind: Literal["cross_entropy", "ohem"] = "cross_entropy"
    """Cross entropy over all labelled pixels, or (`ohem`) over the hardest ones only (online hard example mining)."""
    ohem_threshold: Share = 0.7
    """Pixels whose true class has at most this predicted probability are always kept."""
    ohem_min_kept: Positive = 50_000
    """Minimum number of hard pixels kept per image, for an 800 x 800 crop; scales with the crop's area."""
    class_weights: Literal["none", "root_median_frequency"] = "none"
    """`root_median_frequency`: (median share of pixels / a class's share) ** 0.5, over the labelled images. The cross
    pseudo supervision losses are never weighted."""


class CrossPseudoSupervision(Settings):
    """How the two networks learn from unlabelled images."""

    weight: Annotated[float, Field(ge=0)] = 1.5
    """Weight of the two cross pseudo supervision losses relative to the two supervised ones. 0 trains the supervised
    baseline, which reads no unlabelled image."""
    burn_in: Share = 0.0
    """Share of all steps, at the beginning, that train on the labelled images alone, as in Unbiased Teacher (Liu et
    al., ICLR 2021). Early pseudo labels teach little, and a step without them takes less than half of the time."""
    ramp_up: Share = 0.0
    """Share of all steps, after the burn-in, over which the weight rises from 0 (half a Gaussian, as in Laine and Aila
    2017)."""
    confidence: Share = 0.0
    """Pseudo labels with a lower probability become void; 0 keeps all, as in the paper."""
    cutmix_boxes: Annotated[int, Field(ge=0)] = 3
    """Number of boxes cut from one unlabelled image and pasted onto another; 0 disables CutMix."""
    cutmix_area: tuple[Share, Share] = (0.25, 0.5)
    """Share of the image that all boxes cover together. Where two boxes overlap, they cancel each other out."""
    strong_augmentation: Share = 0.0
    """Share of the mixed images that get strong colour changes and blur before a network learns from them, as in ST++
    and UniMatch. Pseudo labels come from the unchanged images."""
    strong_operations: Annotated[int, Field(ge=0, le=11)] = 0
    """Strong augmentation applies one to this many random intensity operations, each of random strength, as in AugSeg,
    which uses 3; 0 is colour jitter, greyscale and blur."""
    strong_views: Annotated[int, Field(ge=1, le=2)] = 1
    """Number of mixed images made from each pair of unlabelled images, each with its own CutMix boxes and strong
    augmentation; the cross losses average over them. 2 is the dual-stream perturbation of UniMatch."""
    rare_class_paste: Share = 0.0
    """Share of the mixed images onto which classes of a labelled image are pasted with their labels, as in ClassMix;
    rare classes are drawn most often, in inverse proportion to their pixels in the labelled images."""
    adaptive_cutmix: bool = False
    """Paste a box of a labelled image, with its labels, onto each mixed image with a probability of one minus the
    confidence of the pseudo labels in it, as in AugSeg."""
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping each channel of the encoder's features of a mixed image before the decoder predicts it
    once more: the feature perturbation of UniMatch, which uses 0.5. This prediction gets half of the weight of the
    cross losses."""
    teacher: Literal["network", "average", "average_eval"] = "network"
    """Source of the pseudo labels: the current network, or (`average`) the moving average of its weights that
    `optimization.ema` maintains, as in Mean Teacher. `average_eval` is the same average in evaluation mode, as in
    UniMatch V2: without dropout, and normalising by running statistics, which are averaged too."""


class Optimization(Settings):
    """The optimiser and its learning rate, which falls to 0 over the run."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Learning rate for a batch of `reference_batch`; scales linearly with the batch size."""
    reference_batch: Positive = 8
    """Number of labelled images in a batch that `learning_rate` refers to."""
    momentum: Share = 0.9
    """Momentum of SGD; AdamW ignores it."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Does not apply to biases and normalisation."""
    poly_power: Annotated[float, Field(gt=0)] = 0.9
    """The learning rate is multiplied by (1 - step / steps) to this power."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the exponential moving average of the weights that checkpoints then contain; 0 disables it."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Maximum norm of each network's gradients, over all processes; 0 disables clipping."""


class Training(Settings):
    """How long a run trains, on how many images at once, and what it saves."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the longer list. 0 uses `epochs_by_ratio`; ratios that it lacks get the steps of the closest one."""
    epochs_by_ratio: dict[str, Positive] = {}
    """Epochs for each labelled ratio, such as `{1/16: 128, 1/8: 137}`."""
    batch_size: Positive = 8
    """Labelled images per step, over all processes; each of the two unlabelled streams has the same number."""
    accumulate: Positive = 1
    """Number of micro-batches per step, to save memory. The losses are those of the whole batch, but batch
    normalisation sees one micro-batch at a time, and OHEM selects and averages pixels within each."""
    precision: Precision = "float32"
    """Precision of the forward passes on a GPU. Weights stay float32, and float16 uses loss scaling."""
    tf32: bool = True
    """Whether float32 training on an NVIDIA GPU may round the factors of products to TF32, as both references' did on
    Ampere and later. Scores are always computed in exact float32."""
    checkpoints: Positive = 5
    """Number of saved checkpoints, evenly spaced over the last `checkpoint_span` of the epochs, including the last."""
    checkpoint_span: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the epochs, at the end, that checkpoints are saved in."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after this many epochs without a better mIoU on the held-out images; 0 trains to the end. The learning rate
    schedule and the checkpoints are planned for all epochs; the epoch at which training stops is saved too."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the labelled images held out for `patience`, chosen by the seed. Training does not use them: with few
    labels that costs more than it saves."""
    loader_workers: Annotated[int, Field(ge=0)] = 0
    """Threads of each process that prepare batches; 0 is two on a CPU, and the cores divided among the machine's
    processes on a GPU. Does not affect the batches."""
    recovery_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between saves of the complete training state; 0 is a minute on a CPU and ten minutes on a GPU."""
    recovery_steps: Annotated[int, Field(ge=0)] = 0
    """Number of steps between additional saves; 0 saves by time alone."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"a batch_size of {self.batch_size} cannot be split into accumulate={self.accumulate} equal parts"
            )
        if (self.patience > 0) != (self.holdout > 0):
            raise ValueError("patience and holdout go together: set both to stop early, or neither")
        return self


class Evaluation(Settings):
    """The sliding window that evaluation and prediction share."""

    crop: Size
    """Height and width of the window in pixels."""
    stride: Size
    """Vertical and horizontal distance between windows in pixels, at most the crop."""
    batch: Positive = 4
    """Number of windows per forward pass; affects the time but not the result."""
    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Field(min_length=1)] = (1.0,)
    """Every image is predicted at each of these scales, and the probabilities are averaged; the time multiplies."""
    flip: bool = False
    """Also predict each scale mirrored left to right, which takes twice as long."""
    bf16: bool = False
    """Use bfloat16 on processors that support it: up to four times as fast with large networks, but several percent of
    the pixels change. Other processors use float32."""

    @model_validator(mode="after")
    def _covers(self) -> "Evaluation":
        if self.stride[0] > self.crop[0] or self.stride[1] > self.crop[1]:
            raise ValueError(f"stride {self.stride} is larger than crop {self.crop}: windows would leave gaps")
        return self


class Recipe(Settings):
    """Everything that affects the weights of a run, apart from the dataset, its split and the seed."""

    name: str
    """The name of the file, if it has none of its own."""
    summary: str
    """One sentence that `cps recipes list` shows."""
    reproduces: str = ""
    """Key of the run that this one repeats; `cps reproduce` sets it, and it does not affect the weights."""
    split: Split = Split()
    network: Network
    augmentation: Augmentation
    loss: SupervisedLoss = SupervisedLoss()
    cps: CrossPseudoSupervision = CrossPseudoSupervision()
    optimization: Optimization = Optimization()
    training: Training
    evaluation: Evaluation

    @model_validator(mode="after")
    def _has_views(self) -> "Recipe":
        if self.cps.strong_views > 1 and self.cps.strong_augmentation == 0:
            raise ValueError(
                f"cps.strong_views={self.cps.strong_views} needs strong augmentation, without which views differ in "
                "their boxes alone: set cps.strong_augmentation, for example to 1"
            )
        if self.cps.strong_operations > 0 and self.cps.strong_augmentation == 0:
            raise ValueError(
                f"cps.strong_operations={self.cps.strong_operations} chooses the kind of strong augmentation, which is "
                "off: set cps.strong_augmentation, for example to 1"
            )
        foreign = [name for name in self.network.structures.values() if name.startswith(FOREIGN)]
        if self.cps.feature_dropout > 0 and foreign:
            raise ValueError(
                f"cps.feature_dropout needs access to the encoder's features, which {foreign[0]!r} does not give: set "
                f"cps.feature_dropout=0, or network.structure to one of {', '.join(STRUCTURES)}"
            )
        return self

    @model_validator(mode="after")
    def _has_teacher(self) -> "Recipe":
        if self.cps.teacher != "network" and self.optimization.ema == 0:
            raise ValueError(
                f"cps.teacher={self.cps.teacher} needs a moving average of the weights: set optimization.ema, for "
                "example to 0.98, or cps.teacher=network"
            )
        return self
