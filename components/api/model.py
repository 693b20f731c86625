"""Trained weights as an object that segments images."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from components.api.faults import explaining
from components.api.naming import store_of_environment, tracking_of_environment, weights_file
from components.errors import UserError
from components.units import percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from components.contract import Class
    from components.inference.checkpoint import Checkpoint, Description
    from components.inference.output import Output
    from components.inference.sliding import Window
    from components.metrics.confusion import ClassIds

ImageLike: TypeAlias = Union[str, "os.PathLike[str]", "Image.Image", "NDArray[np.uint8]"]
"""An image file, a Pillow image, or an array (H, W, 3) of uint8 RGB. Files and Pillow images are turned upright."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The segmentation of an image."""

    name: str
    """The image's path as it was given, or an empty string for pixels."""
    index: int
    """The image's position among those given to `Model.predict_batch`, from 0."""
    image: "NDArray[np.uint8]"
    """The image as the network sees it: (H, W, 3) RGB, upright. It has the size of the mask."""
    mask: "ClassIds"
    """Class ids, (H, W) uint8; uint16 with more than 256 classes."""
    classes: "tuple[Class, ...]"
    """Name and colour of each class id."""
    confidence: "NDArray[np.float32] | None" = None
    """The softmax probability of the predicted class, (H, W) in [0, 1], if it was asked for."""
    probabilities: "NDArray[np.float32] | None" = None
    """The softmax probabilities of all classes, (C, H, W) in [0, 1], if they were asked for."""

    def __repr__(self) -> str:
        height, width = self.mask.shape
        shares = ", ".join(f"{name} {percent(share)}" for name, share in self.shares().items())
        return f"<Prediction of {self.name or self.index}: {width} x {height} pixels, {shares}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay as a PNG, which notebooks show."""
        from components.pages.pictures import png

        return png(self.overlay())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class id."""
        return tuple(item.name for item in self.classes)

    def shares(self) -> dict[str, float]:
        """Return each class's share of the pixels, in [0, 1], by name, largest first. Absent classes are left out."""
        import numpy as np

        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes)) / self.mask.size
        named = zip(self.class_names, counts.tolist(), strict=True)
        return dict(sorted((item for item in named if item[1]), key=lambda item: -item[1]))

    def painted(self) -> "Image.Image":
        """Return the mask in the classes' colours, as an RGB image."""
        from components.pages.pictures import painted

        return painted(self.mask, self.classes)

    def overlay(self, strength: float = 0.5) -> "Image.Image":
        """Return the image blended with the painted mask; `strength` in [0, 1] is the weight of the mask."""
        from components.pages.pictures import overlay

        return overlay(self.image, self.mask, self.classes, strength)

    def save_mask(self, path: "str | os.PathLike[str]") -> None:
        """Write the mask as a PNG whose pixel values are the class ids, with the classes' colours as its palette.

        Raises UserError if the file cannot be written.
        """
        from components.disk import writing
        from components.files import write_whole
        from components.pages.pictures import mask_png

        with writing(Path(path)):
            write_whole(Path(path), mask_png(self.mask, self.classes))


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """Trained weights, ready to segment images. Made by `load_model`; safe to share between threads."""

    _checkpoint: "Checkpoint"
    _window: "Window"

    def __repr__(self) -> str:
        what = self.description
        return f"<Model {what.structure} of run {what.run_key or 'unknown'}, epoch {what.epoch}: {self.class_names}>"

    @property
    def description(self) -> "Description":
        """The metadata of the weights: network, classes, normalisation, crop and stride, run, epoch."""
        return self._checkpoint.description

    @property
    def classes(self) -> "tuple[Class, ...]":
        """Name and colour of each class id."""
        return self.description.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class id."""
        return tuple(item.name for item in self.classes)

    @property
    def run_key(self) -> str:
        """The run that trained the weights; empty if they do not say."""
        return self.description.run_key

    @property
    def engine(self) -> str:
        """The inference engine in use, such as onnxruntime."""
        return next(iter(self._checkpoint.engines.values())).name

    def predict(self, image: ImageLike, *, confidence: bool = False, probabilities: bool = False) -> Prediction:
        """Segment one image.

        Args:
            image: a file, a Pillow image, or an array (H, W, 3) of uint8 RGB, of any size.
            confidence, probabilities: whether to return them as well; probabilities take 4 bytes per pixel and class.

        Raises:
            UserError: the image cannot be read, the array has another shape or type, or memory does not suffice.
        """
        return self._predict(0, image, _output(confidence, probabilities))

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        *,
        confidence: bool = False,
        probabilities: bool = False,
        on_unreadable: Callable[[int, UserError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Segment images in parallel, as many at once as cores and memory allow, and yield predictions in order.

        Images may have different sizes, and are read as they are needed, so there may be any number of them.

        Args:
            images, confidence, probabilities: as for `predict`.
            on_unreadable: is called with the index and the error of each image that cannot be read, which is then left
                out. Without it, the first such image raises its error.

        Raises:
            UserError: as for `predict`; or `images` is a single path.
        """
        from components.threads import futures_in_order

        if isinstance(images, (str, os.PathLike)):
            raise UserError(
                f"predict_batch takes several images, not the path {str(images)!r}: call predict, or pass a list such "
                "as sorted(Path('photos').glob('*.jpg'))"
            )
        output, remaining = _output(confidence, probabilities), iter(images)
        first = list(islice(remaining, 1))
        numbered, threads = enumerate(chain(first, remaining)), self._threads(first)
        for (index, _), future in futures_in_order(lambda item: self._predict(*item, output), numbered, threads):
            try:
                found = future.result()
            except UserError as error:
                if on_unreadable is None:
                    raise
                on_unreadable(index, error)
            else:
                yield found

    def _threads(self, first: Sequence[ImageLike]) -> int:
        """Return how many images to segment at once, if all are as large as the first one."""
        from components.inference.sliding import images_in_flight
        from components.prediction.decode import Unreadable

        try:
            pixels = max((image.shape[0] * image.shape[1] for image in map(_pixels, first)), default=1)
        except (Unreadable, UserError):
            pixels = 1
        return images_in_flight(pixels, len(self.classes))

    def _predict(self, index: int, image: ImageLike, output: "Output") -> Prediction:
        from components.prediction.decode import Unreadable
        from components.prediction.masks import predict_one

        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""
        try:
            pixels = _pixels(image)
            found = predict_one(self._checkpoint, pixels, self._window, output)
        except Unreadable as error:
            raise UserError(f"image {name or index}: {error}") from None
        return Prediction(name, index, pixels, found.ids, self.classes, found.confidence, found.probabilities)


def load_model(
    weights: "str | os.PathLike[str]",
    *,
    crop: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    engine: str = "auto",
    bf16: bool = False,
    sha256: str = "",
) -> Model:
    """Load trained weights from a file, or the best weights of a run.

    A run's weights are downloaded once, to `.cps/runs` or below CPS_HOME, and verified.

    Args:
        weights: a weights file (.safetensors), or a run: its key, an unambiguous part of it, @last, @best or @champion.
        crop, stride: size and step of the sliding window as (height, width) in pixels; by default, those that the
            weights were scored with.
        scales, flip: resize each image by every scale, also mirror it, and average the probabilities.
        engine: auto (a GPU, or the fastest exact engine), paddle, onnxruntime, onnxruntime-cuda, openvino or
            openvino-bf16.
        bf16: whether engines may round to bfloat16, which changes several percent of the pixels.
        sha256: the expected SHA-256 of the weights; empty skips the check.

    Raises:
        UserError: there is no such file or run, the file is not a weights file of this project or has another sha256,
            an option is invalid, a package is not installed, or the services cannot be reached.
        WorkFailed: the engine cannot run this network, or a download fails.
    """
    with explaining():
        from components.files import check_digest
        from components.inference.checkpoint import open_checkpoint
        from components.networks.processor import usable_cores
        from components.prediction.predict import window_of

        path = weights_file(os.fspath(weights), store_of_environment, tracking_of_environment)
        if sha256:
            check_digest(path, sha256)
        checkpoint = open_checkpoint(path, threads=usable_cores(), engine=engine, allow_bf16=bf16)
        return Model(checkpoint, window_of(checkpoint, crop, stride, scales, flip))


def _output(confidence: bool, probabilities: bool) -> "Output":
    from components.inference.output import Output

    return Output(confidence=confidence, probabilities=probabilities)


def _pixels(image: ImageLike) -> "NDArray[np.uint8]":
    """Return an image as (H, W, 3) uint8 RGB. Raises Unreadable, or UserError for an argument that is no image."""
    import numpy as np
    from PIL import Image

    from components.prediction.decode import decode, pixels_of, read_file

    if isinstance(image, (str, os.PathLike)):
        return decode(read_file(Path(image).expanduser()))
    if isinstance(image, Image.Image):
        return pixels_of(image)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f"an image must be a path, a Pillow image or a NumPy array, not {type(image).__name__}: convert it first"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"an image array must be (height, width, 3) uint8 RGB, not {image.shape} {image.dtype}: convert it, for "
            "example with np.asarray(Image.open(path).convert('RGB'))"
        )
    return image
