"""HEIC photographs are read like any others; without pillow-heif, a line says how to install it."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from components.dataset import heic
from components.dataset.heic import open_image
from components.dataset.layouts import read_layout
from components.dataset.prepare import prepare
from components.dataset.stored.image_sizes import stored_size
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.prediction.decode import Unreadable, decode
from components.storage.client import Store
from tests.components.dataset.scenes_on_disk import write_classes, write_dataset


def smooth() -> Image.Image:
    ramp = np.add.outer(np.arange(32) * 3, np.arange(48) * 2).astype(np.uint8)
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], axis=-1))


def encoded(picture: Image.Image, **settings: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=95, **settings)
    return buffer.getvalue()


@pytest.fixture
def phone(tmp_path: Path) -> Path:
    """Return a dataset whose photographs are HEIC."""
    folder = tmp_path / "phone"
    write_dataset(folder)
    for path in sorted((folder / "images").rglob("*.jpg")):
        with Image.open(path) as picture:
            path.with_suffix(".HEIC").write_bytes(encoded(picture.convert("RGB")))
        path.unlink()
    write_classes(folder, "background", "cat")
    return folder


def test_a_photograph_keeps_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(encoded(smooth()))
    difference = decode(path.read_bytes()).astype(int) - np.asarray(smooth())
    assert np.abs(difference).mean() < 3


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    path = tmp_path / "a.heic"
    path.write_bytes(encoded(smooth(), exif=exif.tobytes()))
    expected = np.asarray(smooth().transpose(Image.Transpose.ROTATE_270)).astype(int)
    found = decode(path.read_bytes())
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 3


def test_a_dataset_of_them_is_stored_and_read(phone: Path, store: Store, tmp_path: Path) -> None:
    manifest = prepare(str(phone), "", store, tmp_path / "work")
    name = manifest.train[0].image
    assert name.endswith(".HEIC")
    with DatasetReader(store, manifest.digest, tmp_path / "cache") as reader:
        image = reader.image(name)
    with Image.open(phone / Path(manifest.train[0].label or "")) as label:
        assert image.shape == (label.height, label.width, 3)
    assert stored_size(store, manifest, name) == image.shape[:2]


def test_heic_is_no_format_for_labels(phone: Path, store: Store, tmp_path: Path) -> None:
    for path in sorted((phone / "labels").rglob("*.png")):
        with Image.open(path) as picture:
            path.with_suffix(".heic").write_bytes(encoded(picture.convert("RGB")))
        path.unlink()
    with pytest.raises(UserError, match="is saved as HEIF, which changes class ids"):
        prepare(str(phone), "", store, tmp_path / "work")


@pytest.mark.parametrize("length", [12, 100, -100])
def test_damaged_files_are_named_with_what_to_do(phone: Path, store: Store, tmp_path: Path, length: int) -> None:
    [broken, *_] = sorted((phone / "images/train").iterdir())
    broken.write_bytes(broken.read_bytes()[:length])
    with pytest.raises(UserError, match=rf"{broken.name} cannot be read \(HEIC file that.*convert the photographs"):
        prepare(str(phone), "", store, tmp_path / "work")
    with pytest.raises(Unreadable, match="convert the photographs to JPEG"):
        decode(broken.read_bytes())


def test_without_pillow_heif_the_command_is_named(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from components.dataset.layouts import read_layout\n"
        "from components.errors import UserError\n"
        "from pathlib import Path\n"
        "try:\n    read_layout(Path(sys.argv[1]))\n"
        "except UserError as error:\n    print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", command, phone], capture_output=True, text=True, check=True).stdout
    assert "images/train/00.HEIC is HEIC): convert the photographs to JPEG, for example with `heif-convert`, or" in said
    assert "pip install 'cps-pipeline[heic]" in said
    data = next((phone / "images/train").iterdir()).read_bytes()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic._register.cache_clear()
    with pytest.raises(UserError, match=r"pillow-heif, which reads HEIC photographs, is not installed: pip install"):
        open_image(data)


def test_avif_needs_no_extra(phone: Path) -> None:
    for path in sorted((phone / "images").rglob("*.HEIC")):
        smooth().save(path.with_suffix(".avif"))
        path.unlink()
    assert len(read_layout(phone).lists.train) == 4
