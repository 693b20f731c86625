"""Write photographs and labels for tests, with any file names and any label format."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Ids = NDArray[np.uint8]
WriteLabel = Callable[[Path, Ids], None]

SIZE = (16, 24)
PARTS = {"train": 4, "val": 2}
PAINT = np.array([[0, 0, 0], [220, 20, 60], [0, 0, 142]], np.uint8)


def ids_of(number: int, classes: int = 2) -> Ids:
    """Return (16, 24) ids: background 0, and one band per other class whose width depends on `number`."""
    ids = np.zeros(SIZE, np.uint8)
    for value in range(1, classes):
        ids[2 * value : 2 * value + 2, : 3 + (number + value) % 7] = value
    return ids


def photograph(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    options: dict[str, Any] = {"quality": 90} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, **options)


def grey(path: Path, ids: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def painted(path: Path, ids: Ids, paint: NDArray[np.uint8] = PAINT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(paint[ids]).save(path)


def with_palette(path: Path, indices: Ids, colors: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette(colors.astype(np.uint8).tobytes())
    picture.save(path)


def grey_png(path: Path, ids: Ids, bits: int) -> None:
    """Write a grey PNG with 1, 2 or 4 bits per pixel, which Pillow can read but not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.parent.mkdir(parents=True, exist_ok=True)
    bits_of = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits :].reshape(len(ids), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits_of, axis=1))
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def write_dataset(
    root: Path,
    image: str = "images/{part}/{name}.jpg",
    label: str = "labels/{part}/{name}.png",
    *,
    parts: Mapping[str, int] = PARTS,
    classes: int = 2,
    write: WriteLabel = grey,
    first: int = 0,
) -> dict[str, list[tuple[str, str]]]:
    """Write the given number of pairs in each part, without labels if `label` is empty; return the names by part."""
    names: dict[str, list[tuple[str, str]]] = {}
    for place, (part, count) in enumerate(parts.items()):
        for index in range(count):
            number = first + 100 * place + index
            pair = image.format(part=part, name=f"{index:02}"), label.format(part=part, name=f"{index:02}")
            photograph(root / pair[0], number)
            if label:
                write(root / pair[1], ids_of(number, classes))
            names.setdefault(part, []).append(pair)
    return names


def write_classes(
    root: Path, *names: str, paint: NDArray[np.uint8] | None = None, first: int = 0, **more: object
) -> None:
    lines: list[dict[str, object]] = [{"id": first + number, "name": name} for number, name in enumerate(names)]
    if paint is not None:
        for line, color in zip(lines, paint.tolist(), strict=True):
            line["color"] = color
    (root / "classes.json").write_text(json.dumps({"classes": lines, **more}))


def pixels_of(classes: int, parts: Mapping[str, int] = PARTS) -> list[int]:
    """Return the number of pixels of each class in the labels of `write_dataset`."""
    numbers = (100 * place + index for place, count in enumerate(parts.values()) for index in range(count))
    labels = [ids_of(number, classes) for number in numbers]
    return np.bincount(np.concatenate(labels).ravel(), minlength=classes).tolist()
