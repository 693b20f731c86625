"""Photographs in, masks and overlays out. The pipeline's step and `cps predict` both come here."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from components import progress
from components.inference.checkpoint import Checkpoint
from components.inference.pictures import jpeg, mask_png, overlay, paint, png
from components.inference.sliding import Size, images_in_flight, sliding_classes
from components.metrics.confusion import ClassIds
from components.prediction.gallery import Card, draw_card, render_gallery
from components.prediction.photographs import Photograph, Pixels, Unreadable

STEP = "predict"
CARDS = 48
"""Images that the gallery shows at most: the page holds its pictures and should stay below some 3 MB."""


@dataclass(frozen=True)
class Window:
    """Height and width, in pixels, of the sliding window and of its steps."""

    crop: Size
    stride: Size
    batch: int = 4
    """Windows that go through a network at once; it does not change the result."""


@dataclass(frozen=True)
class Refused:
    name: str
    reason: str


@dataclass
class Outcome:
    done: int = 0
    refused: list[Refused] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)

    def refused_lines(self) -> list[str]:
        return [f"{item.name}: {item.reason}" for item in self.refused]


@dataclass(frozen=True)
class Page:
    """What the gallery says about itself."""

    title: str
    facts: Sequence[tuple[str, str]]
    link: bool
    """Whether cards link to the overlays: where the page lies beside them."""
    ignore_index: int = 255


def predict_photographs(
    checkpoint: Checkpoint, photographs: Sequence[Photograph], window: Window, out: Path, page: Page
) -> Outcome:
    """Write masks/NAME.png (class ids), color/NAME.png, overlays/NAME.jpg and gallery.html below `out`.

    An image that cannot be read is said in one line and listed; the rest is done.
    """
    classes = checkpoint.description.classes
    outcome = Outcome()
    card_width = 480 if len(photographs) <= 24 else 320

    def one(photograph: Photograph, with_card: bool) -> Card | None:
        image = photograph.read()
        ids = predict_one(checkpoint, image, window)
        _write(out / "masks" / f"{photograph.name}.png", mask_png(ids, classes))
        _write(out / "color" / f"{photograph.name}.png", png(paint(ids, classes)))
        _write(out / "overlays" / f"{photograph.name}.jpg", jpeg(overlay(image, ids, classes), 92))
        if not with_card:
            return None
        truth = photograph.truth() if photograph.truth else None
        link = f"overlays/{photograph.name}.jpg" if page.link else ""
        return draw_card(photograph.shown, image, ids, truth, classes, page.ignore_index, card_width, link)

    began = time.monotonic()
    for number, (photograph, wait) in enumerate(_in_parallel(checkpoint, photographs, one), start=1):
        try:
            card = wait()
        except Unreadable as error:
            outcome.refused.append(Refused(photograph.shown, str(error)))
            progress.say(STEP, f"left out {photograph.shown}: {error}")
        else:
            outcome.done += 1
            outcome.cards.extend([card] if card else [])
        rate = number / max(1e-9, time.monotonic() - began)
        progress.advance(STEP, number, len(photographs), f"{rate:.1f} images/s")
    if outcome.done:
        html = render_gallery(page.title, outcome.cards, outcome.done, classes, outcome.refused_lines(), page.facts)
        _write(out / "gallery.html", html.encode())
    return outcome


def predict_one(checkpoint: Checkpoint, image: Pixels, window: Window) -> ClassIds:
    """Class ids (H, W) of one photograph, (H, W, 3) uint8 RGB; the mean of the networks where there are two."""
    description = checkpoint.description
    return sliding_classes(
        list(checkpoint.engines.values()),
        image,
        mean=description.mean,
        std=description.std,
        crop=window.crop,
        stride=window.stride,
        batch=window.batch,
    )


def _in_parallel(
    checkpoint: Checkpoint,
    photographs: Sequence[Photograph],
    one: Callable[[Photograph, bool], Card | None],
) -> Iterator[tuple[Photograph, Callable[[], Card | None]]]:
    """Run `one` for every photograph, a few at a time; yields them in order, each with a call for its result."""
    classes = len(checkpoint.description.classes)
    threads = images_in_flight(_pixels_of_first(photographs), classes)
    waiting: deque[tuple[Photograph, Future[Card | None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, photograph in enumerate(photographs):
                waiting.append((photograph, pool.submit(one, photograph, number < CARDS)))
                if len(waiting) > threads:
                    done, future = waiting.popleft()
                    yield done, future.result
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result
        finally:
            for _, future in waiting:
                future.cancel()


def _pixels_of_first(photographs: Sequence[Photograph]) -> int:
    for photograph in photographs[:10]:
        try:
            return photograph.read()[..., 0].size
        except Unreadable:
            continue
    return 1


def _write(path: Path, data: bytes) -> None:
    """All of it or nothing: a killed run leaves no half picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    os.replace(partial, path)
