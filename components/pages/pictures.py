"""Draw class ids as pictures (painted masks, overlays, error maps) and encode them."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.contract import Class
from components.metrics.confusion import ClassIds
from components.pages.palette import is_background

Pixels = NDArray[np.uint8]

VOID = (0, 0, 0)
"""The colour of pixels without ground truth."""
WRONG = (213, 94, 0)
"""Okabe and Ito's vermilion, which is distinct from grey for every kind of colour vision."""


def palette(classes: Sequence[Class]) -> Pixels:
    """Return the colour of every 8-bit id as (256, 3) uint8. Ids outside the classes get the void colour."""
    table = np.full((256, 3), VOID, np.uint8)
    for class_id, item in enumerate(classes[:256]):
        table[class_id] = item.color
    return table


def paint(ids: ClassIds, classes: Sequence[Class]) -> Pixels:
    """Return (H, W) ids as (H, W, 3) uint8 RGB."""
    colors = np.full((max(256, len(classes), int(ids.max(initial=0)) + 1), 3), VOID, np.uint8)
    colors[: len(classes)] = [item.color for item in classes]
    painted = np.empty((*ids.shape, 3), np.uint8)
    for rows in row_bands(len(ids)):
        painted[rows] = colors[ids[rows]]
    return painted


def painted(ids: ClassIds, classes: Sequence[Class]) -> Image.Image:
    """Return `paint` as a picture, made in row bands so that no full array is held."""
    return _joined((paint(ids[rows], classes) for rows in row_bands(len(ids))), ids.shape)


def overlay(photograph: Pixels, ids: ClassIds, classes: Sequence[Class], strength: float = 0.5) -> Image.Image:
    """Blend the painted mask with the photograph and draw white lines between classes. A background is transparent."""
    clear = [number for number, item in enumerate(classes) if is_background(item.name)]

    def mixed(rows: slice) -> Pixels:
        band = photograph[rows] * np.float32(1 - strength) + paint(ids[rows], classes) * np.float32(strength)
        result = band.round().astype(np.uint8)
        if clear:
            np.copyto(result, photograph[rows], where=np.isin(ids[rows], clear)[..., None])
        with_next = ids[rows.start : rows.stop + 1]
        result[borders(with_next)[: rows.stop - rows.start]] = 255
        return result

    return _joined(map(mixed, row_bands(len(ids))), ids.shape)


def row_bands(height: int, band: int = 256) -> Iterator[slice]:
    """Yield an image's rows in bands, so that no wide intermediate array ever has the size of a large image.

    NumPy's index arrays alone, made when ids or masks are used as an index, take 8 or 16 bytes per pixel.
    """
    for top in range(0, height, band):
        yield slice(top, min(top + band, height))


def borders(ids: ClassIds) -> NDArray[np.bool_]:
    """Mark the pixels whose right or lower neighbour belongs to another class."""
    edge = np.zeros(ids.shape, bool)
    edge[:-1] |= ids[:-1] != ids[1:]
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    return edge


def difference(photograph: Pixels, label: ClassIds, prediction: ClassIds, ignore_index: int) -> Pixels:
    """Return the photograph in pale grey with wrong pixels in WRONG and pixels without ground truth in black."""
    result = np.empty_like(photograph)
    for rows in row_bands(len(photograph)):
        grey = photograph[rows].mean(axis=2, dtype=np.float32) * np.float32(0.45) + np.float32(130)
        result[rows] = grey.astype(np.uint8)[..., None]
        result[rows][label[rows] != prediction[rows]] = WRONG
        result[rows][label[rows] == ignore_index] = VOID
    return result


def triptych(photograph: Pixels, prediction: ClassIds, truth: ClassIds | None, classes: Sequence[Class]) -> Pixels:
    """Return photograph, painted prediction and, if known, painted truth side by side, with white gaps."""
    parts = [photograph, paint(prediction, classes)]
    if truth is not None:
        parts.append(paint(truth, classes))
    gap = np.full((photograph.shape[0], 8, 3), 255, np.uint8)
    return np.concatenate([part for pair in zip(parts, [gap] * len(parts), strict=True) for part in pair][:-1], axis=1)


def thumbnail(pixels: Pixels, width: int) -> Pixels:
    """Shrink a picture to at most `width` pixels wide."""
    if pixels.shape[1] <= width:
        return pixels
    size = (width, max(1, round(pixels.shape[0] * width / pixels.shape[1])))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def ids_thumbnail(ids: ClassIds, width: int) -> ClassIds:
    """Shrink class ids to at most `width` columns by picking the nearest pixel, as ids cannot be blended."""
    if ids.shape[1] <= width:
        return ids
    height = max(1, round(ids.shape[0] * width / ids.shape[1]))
    rows = (np.arange(height) + 0.5) * ids.shape[0] / height
    columns = (np.arange(width) + 0.5) * ids.shape[1] / width
    smaller: ClassIds = ids[rows.astype(np.intp)[:, None], columns.astype(np.intp)]
    return smaller


def jpeg(pixels: Pixels | Image.Image, quality: int = 85) -> bytes:
    return _encoded(_picture(pixels), "JPEG", quality=quality)


def png(pixels: Pixels | Image.Image) -> bytes:
    return _encoded(_picture(pixels), "PNG", optimize=False)


def mask_png(ids: ClassIds, classes: Sequence[Class]) -> bytes:
    """Return class ids as a PNG whose pixel values are the ids.

    The PNG has 8 bits and the classes' colours as its palette, so that viewers show it painted. Above 256 classes it is
    16-bit grey.
    """
    if len(classes) > 256:
        return _encoded(Image.fromarray(ids.astype(np.uint16)), "PNG")
    picture = Image.fromarray(ids.astype(np.uint8))
    picture.putpalette(palette(classes).tobytes())
    return _encoded(picture, "PNG", optimize=False)


def ids_of_png(data: bytes) -> ClassIds:
    """Read the ids from the bytes of `mask_png`."""
    with Image.open(io.BytesIO(data)) as picture:
        ids: ClassIds = np.array(picture, np.uint8 if picture.mode == "P" else np.uint16)
    return ids


def data_uri(data: bytes) -> str:
    """Return PNG, WebP or JPEG bytes as a data: URI, to embed a picture in a page."""
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data.startswith(b"RIFF") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _joined(bands: Iterable[Pixels], size: tuple[int, ...]) -> Image.Image:
    """Stack bands from top to bottom into one picture of `size` (height, width)."""
    picture, top = Image.new("RGB", (size[1], size[0])), 0
    for band in bands:
        picture.paste(Image.fromarray(band), (0, top))
        top += len(band)
    return picture


def _picture(pixels: Pixels | Image.Image) -> Image.Image:
    return pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
