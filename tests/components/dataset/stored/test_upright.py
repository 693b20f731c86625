"""Networks get the same pixels for an image, whatever its source and orientation."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import read_layout
from components.dataset.stored import upright as pictures_module
from components.dataset.stored.reader import DatasetReader
from components.dataset.stored.store import store_dataset
from components.dataset.stored.upright import upright_rgb
from components.errors import UserError
from components.prediction.decode import decode
from components.storage.client import Store
from tests.components.conftest import MakeDataset

NAME = "images/train/00.png"


def turned(picture: Image.Image, orientation: int) -> bytes:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    rng, found = np.random.default_rng(0), {}
    upright = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    sixteen = rng.integers(0, 65536, (8, 12), dtype=np.uint16)
    for name, picture in {
        "grey": Image.fromarray(upright[..., 0]),
        "palette": Image.fromarray(upright).quantize(16),
        "alpha": Image.fromarray(np.dstack([upright, upright[..., :1]])),
        "16 bits": Image.fromarray(sixteen),
    }.items():
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        found[name] = buffer.getvalue()
    for orientation in range(1, 9):
        stored = Image.fromarray(upright if orientation < 5 else upright.transpose(1, 0, 2).copy())
        found[f"orientation {orientation}"] = turned(stored, orientation)
    return found


@pytest.mark.parametrize("kind", sorted(pictures()))
def test_training_sees_what_prediction_sees(make_dataset: MakeDataset, store: Store, tmp_path: Path, kind: str) -> None:
    folder, data = make_dataset(), pictures()[kind]
    (folder / NAME).write_bytes(data)
    manifest = store_dataset(read_layout(folder), store)
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        image = reader.image(NAME)
    assert image.shape == (8, 12, 3)
    assert np.array_equal(image, decode(data))


def test_a_large_picture_is_taken_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    monkeypatch.setattr(pictures_module, "_BAND", 15)  # two rows
    assert np.array_equal(upright_rgb(Image.fromarray(pixels)), pixels)
    monkeypatch.setattr(pictures_module, "_BAND", 1)  # less than one
    assert np.array_equal(upright_rgb(Image.fromarray(pixels)), pixels)


def test_16_bits_are_brought_to_8() -> None:
    grey = np.array([[0, 257, 65535]], np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    assert decode(buffer.getvalue()).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]


def test_a_label_lies_as_its_image_does_when_it_is_upright(make_dataset: MakeDataset, store: Store) -> None:
    folder = make_dataset()
    upright = np.asarray(Image.open(folder / NAME))
    on_its_side = Image.fromarray(np.rot90(upright).copy())
    (folder / NAME).write_bytes(turned(on_its_side, 6))
    report = inspect_dataset(read_layout(folder))
    assert [(finding.kind, len(finding.items)) for finding in report.findings if finding.kind == "turned"] == [
        ("turned", 1)
    ]
    assert report.verdict == "warning"
    assert np.array_equal(decode((folder / NAME).read_bytes()), upright)

    (folder / NAME).write_bytes(turned(Image.fromarray(upright), 6))
    with pytest.raises(UserError, match=r"label .* is 12x8, but its image .* is 8x12: give both the same size"):
        store_dataset(read_layout(folder), store)


@pytest.mark.parametrize(("mode", "array"), [("I;16", np.uint16), ("RGBA", None)])
def test_a_label_that_does_not_hold_8_bit_ids_is_refused(
    make_dataset: MakeDataset, store: Store, mode: str, array: type | None
) -> None:
    folder = make_dataset()
    label = Image.fromarray(np.ones((8, 12), array)) if array else Image.new("RGBA", (12, 8))
    label.save(folder / "labels/train/00.png")
    with pytest.raises(UserError, match=f"has pixel mode {mode}, but must hold class ids: save it as 8-bit"):
        store_dataset(read_layout(folder), store)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_few_bits_hold_ids(make_dataset: MakeDataset, store: Store, tmp_path: Path, bits: int) -> None:
    folder, ids = make_dataset(), np.random.default_rng(0).integers(0, 2, (8, 12), dtype=np.uint8)
    label = Image.fromarray(ids).convert("P")
    label.putdata(ids.ravel().tolist())
    label.putpalette([9, 8, 7, 200, 100, 0, *([0] * 762)])
    label.save(folder / "labels/train/00.png", bits=bits)
    manifest = store_dataset(read_layout(folder), store)
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        assert np.array_equal(reader.label("labels/train/00.png"), ids)
