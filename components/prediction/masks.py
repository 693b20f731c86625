"""Predict photographs and write their masks and overlays, for both the pipeline's step and `cps predict`."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np

from components import progress
from components.contract import Class
from components.inference.checkpoint import Checkpoint
from components.inference.output import Output, Segmentation
from components.inference.paddle_engine import Floats
from components.inference.passes import TooLarge
from components.inference.segmentation import CLASS_IDS, segment
from components.inference.sliding import Window, images_in_flight
from components.metrics.confusion import ClassIds
from components.pages.pictures import ids_of_png, jpeg, mask_png, overlay, painted, png, triptych
from components.pages.shown import Painter
from components.prediction.decode import Pixels, Unreadable
from components.prediction.destinations import Destination
from components.prediction.gallery import MOST, Card, draw_card, limits_for, render_gallery
from components.prediction.photographs import Photograph
from components.threads import futures_in_order

STEP = "predict"


@dataclass(frozen=True)
class Outputs:
    """Optional outputs for each image, in addition to masks/NAME.png, color/NAME.png and overlays/NAME.jpg."""

    triptychs: bool = False
    """triptychs/NAME.jpg: photograph, prediction, and the truth if it is known, side by side."""
    confidence: bool = False
    """confidence/NAME.png: the softmax probability of the predicted class, scaled from [0, 1] to 0 … 255."""

    def names(self, name: str) -> list[str]:
        """Return the names of an image's files. The mask is last: if it exists, so do the others."""
        return [
            f"color/{name}.png",
            f"overlays/{name}.jpg",
            *([f"triptychs/{name}.jpg"] if self.triptychs else []),
            *([f"confidence/{name}.png"] if self.confidence else []),
            f"masks/{name}.png",
        ]

    def encode(
        self,
        name: str,
        image: Pixels,
        ids: ClassIds,
        truth: ClassIds | None,
        confidence: Floats | None,
        classes: Sequence[Class],
    ) -> dict[str, bytes]:
        """Return the content of each file, in the order of `names`."""
        files = {
            f"color/{name}.png": png(painted(ids, classes)),
            f"overlays/{name}.jpg": jpeg(overlay(image, ids, classes), 92),
        }
        if self.triptychs:
            files[f"triptychs/{name}.jpg"] = jpeg(triptych(image, ids, truth, classes), 92)
        if confidence is not None:
            files[f"confidence/{name}.png"] = png(np.rint(confidence * 255).astype(np.uint8))
        files[f"masks/{name}.png"] = mask_png(ids, classes)
        return files


@dataclass(frozen=True)
class RefusedImage:
    name: str
    reason: str


@dataclass
class PredictionOutcome:
    done: int = 0
    """Images whose outputs exist."""
    reused: int = 0
    """Images in `done` whose outputs already existed."""
    refused: list[RefusedImage] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)

    def refused_lines(self) -> list[str]:
        """Return a line for each refused image."""
        return [f"{item.name}: {item.reason}" for item in self.refused]


@dataclass(frozen=True)
class Page:
    """The gallery's title and facts, and how to draw its cards."""

    title: str
    facts: Sequence[tuple[str, str]]
    link: bool
    """Whether cards link to the overlays, which must then be next to the page."""
    ignore_index: int = 255


@dataclass(frozen=True)
class _Done:
    card: Card | None
    reused: bool


def predict_photographs(
    checkpoint: Checkpoint,
    photographs: Sequence[Photograph],
    window: Window,
    place: Destination,
    page: Page,
    outputs: Outputs = Outputs(),
) -> PredictionOutcome:
    """Write the outputs of every image, and gallery.html, to `place`.

    Existing outputs from the same weights and settings are kept. An image that cannot be read, or whose label does not
    match it, is logged, listed as refused and skipped.
    """
    classes = checkpoint.description.classes
    outcome = PredictionOutcome()
    painter, limits = Painter(classes), limits_for(len(photographs))

    def one(photograph: Photograph, with_card: bool) -> _Done:
        names = outputs.names(photograph.name)
        reused = place.holds(photograph, names)
        if reused and not with_card:
            return _Done(None, reused)
        image = photograph.read()
        truth = photograph.truth() if photograph.truth else None
        if truth is not None:
            _check_truth(image, truth, len(classes), page.ignore_index)
        if reused:
            ids = ids_of_png(place.read(names[-1]))
        else:
            found = predict_one(checkpoint, image, window, Output(confidence=outputs.confidence))
            ids, confidence = found.ids, found.confidence
            place.put(photograph, outputs.encode(photograph.name, image, ids, truth, confidence, classes))
        if not with_card:
            return _Done(None, reused)
        link = quote(os.fsencode(f"overlays/{photograph.name}.jpg")) if page.link else ""
        card = draw_card(photograph.shown, image, ids, truth, painter, page.ignore_index, limits, link)
        return _Done(card, reused)

    report = _Progress(len(photographs))
    for photograph, wait in _in_parallel(checkpoint, photographs, one):
        try:
            done = wait()
        except Unreadable as error:
            outcome.refused.append(RefusedImage(photograph.shown, str(error)))
            progress.say(STEP, f"skipped {photograph.shown}: {error}")
            report.passed()
        else:
            outcome.done += 1
            outcome.reused += done.reused
            outcome.cards.extend([done.card] if done.card else [])
            report.passed() if done.reused else report.predicted()
    if outcome.reused:
        progress.say(STEP, f"{outcome.reused} of {len(photographs)} images were already predicted")
    if outcome.done:
        html = render_gallery(page.title, outcome.cards, outcome.done, classes, outcome.refused_lines(), page.facts)
        place.put_page("gallery.html", html.encode())
    return outcome


def predict_one(checkpoint: Checkpoint, image: Pixels, window: Window, output: Output = CLASS_IDS) -> Segmentation:
    """Segment a photograph, (H, W, 3) uint8 RGB, with the mean of the networks if there are two.

    Raises Unreadable if the image needs more memory than there is.
    """
    description, engines = checkpoint.description, list(checkpoint.engines.values())
    try:
        [found] = segment(engines, image, window, mean=description.mean, std=description.std, output=output)
    except TooLarge as error:
        raise Unreadable(str(error)) from None
    return found


def _check_truth(image: Pixels, truth: ClassIds, classes: int, ignore_index: int) -> None:
    """Raise Unreadable if the label does not match its image or has unknown ids."""
    if truth.shape != image.shape[:2]:
        raise Unreadable(
            f"its label is {truth.shape[1]}x{truth.shape[0]} pixels, but the image is {image.shape[1]}x{image.shape[0]}"
        )
    strange = np.unique(truth[(truth >= classes) & (truth != ignore_index)])
    if strange.size:
        raise Unreadable(f"its label has id {strange[0]}; valid ids are 0 to {classes - 1}, and {ignore_index} (void)")


class _Progress:
    """Counts finished images, and predicted images per second."""

    def __init__(self, total: int) -> None:
        self._total, self._through, self._predicted = total, 0, 0
        self._began = time.monotonic()

    def passed(self) -> None:
        self._through += 1
        rate = self._predicted / max(1e-9, time.monotonic() - self._began)
        progress.advance(STEP, self._through, self._total, f"{rate:.1f} images/s" if self._predicted else "")

    def predicted(self) -> None:
        self._predicted += 1
        self.passed()


def _in_parallel(
    checkpoint: Checkpoint,
    photographs: Sequence[Photograph],
    one: Callable[[Photograph, bool], _Done],
) -> Iterator[tuple[Photograph, Callable[[], _Done]]]:
    """Run `one` concurrently on the photographs. Yield them in order, each with a function that returns its result."""
    classes = len(checkpoint.description.classes)
    threads = images_in_flight(_pixels_of_first(photographs), classes)
    numbered = enumerate(photographs)
    for (_, photograph), future in futures_in_order(lambda item: one(item[1], item[0] < MOST), numbered, threads):
        yield photograph, future.result


def _pixels_of_first(photographs: Sequence[Photograph]) -> int:
    for photograph in photographs[:10]:
        try:
            return photograph.read()[..., 0].size
        except Unreadable:
            continue
    return 1
