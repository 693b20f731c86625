"""`predict_files`: photographs in, masks, overlays and a gallery out; what cannot be read is listed."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from components.errors import UserError, WorkFailed
from components.inference import passes
from components.inference.checkpoint import open_checkpoint
from components.inference.sliding import Window, normalize, sliding_logits
from components.networks.weights import extract_branch
from components.prediction import masks
from components.prediction.decode import Unreadable, decode, read_label
from components.prediction.destinations import LEDGER
from components.prediction.photographs import find_photographs, unique_names
from components.prediction.predict import predict_files, spaced
from components.storage.client import Store
from tests.components.dataset.scenes_on_disk import grey_png
from tests.components.networks.small_weights import CLASSES


def photograph(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_folder(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "day").mkdir(parents=True)
    photograph().save(folder / "a.png")
    photograph(60, 33, 1).save(folder / "day" / "b.jpg")
    (folder / "notes.txt").write_text("not an image")
    assert predict_files(folder, weights, out) == []
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {
        "gallery.html",
        "predictions.jsonl",
        *(f"{kind}/{name}" for kind in ("masks", "color") for name in ("a.png", "day/b.png")),
        "overlays/a.jpg",
        "overlays/day/b.jpg",
    }
    mask = Image.open(out / "masks" / "day" / "b.png")
    assert (mask.mode, mask.size) == ("P", (60, 33))
    np.testing.assert_array_equal(
        np.asarray(mask.convert("RGB")), np.asarray(Image.open(out / "color" / "day" / "b.png"))
    )
    gallery = (out / "gallery.html").read_text()
    assert "http" not in gallery
    assert 'href="overlays/day/b.jpg"' in gallery
    assert "Truth" not in gallery
    assert "100%" in capsys.readouterr().err


def test_the_mask_is_the_argmax_of_averaged_probabilities(weights: Path, tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    predict_files(str(tmp_path / "a.png"), weights, tmp_path / "out")
    checkpoint = open_checkpoint(weights)
    planes = normalize(np.asarray(photograph()), checkpoint.description.mean, checkpoint.description.std)
    logits = sliding_logits(list(checkpoint.engines.values()), planes, Window((32, 32), (32, 16)))
    mean = sum(np.exp(values) / np.exp(values).sum(axis=0) for values in logits)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png")), mean.argmax(axis=0))


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = encoded(photograph(), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "whole.jpg").write_bytes(whole)
    refused = predict_files(tmp_path, weights, tmp_path / "out")
    assert [line.rpartition("/")[2].partition(":")[0] for line in refused] == ["cut.jpg", "empty.png", "text.png"]
    assert "the file is empty" in refused[1]
    assert (tmp_path / "out" / "masks" / "whole.png").exists()
    assert not (tmp_path / "out" / "masks" / "cut.png").exists()
    assert "3 could not be read" in (tmp_path / "out" / "gallery.html").read_text()
    last = capsys.readouterr().err.splitlines()[-4:]
    assert "3 of 4 images could not be read" in last[0]
    assert last[1:] == [f"[predict]   {line}" for line in refused]


def test_nothing_that_can_be_read(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(WorkFailed, match=r"1 of 1 images could not be read: .*empty\.png: the file is empty"):
        predict_files(tmp_path, weights, tmp_path / "out")


def test_mistakes(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no images in"):
        predict_files(tmp_path / "none", weights, tmp_path / "out")
    with pytest.raises(UserError, match="do not exist"):
        predict_files(tmp_path / "missing.jpg", weights, tmp_path / "out")
    photograph().save(tmp_path / "a.png")
    with pytest.raises(UserError, match="pull them again"):
        predict_files(tmp_path / "a.png", weights, tmp_path / "out", sha256="0" * 64)
    with pytest.raises(UserError, match="stride 64x64 must be positive and at most crop 32x32"):
        predict_files(tmp_path / "a.png", weights, tmp_path / "out", stride=(64, 64))
    (tmp_path / "other.safetensors").write_bytes(b"12345678901234567890")
    with pytest.raises(UserError, match=r"other\.safetensors"):
        predict_files(tmp_path / "a.png", tmp_path / "other.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photographs_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    data = encoded(photograph(50, 40), "JPEG", exif=exif)
    upright = decode(data)
    assert upright.shape == (50, 40, 3)
    plain = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(upright, np.rot90(plain, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_other_kinds_of_image_are_converted(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = decode(encoded(photograph().convert(mode), kind))
    assert (pixels.shape, pixels.dtype) == ((40, 50, 3), np.dtype(np.uint8))


def test_16_bits_of_which_12_are_used_are_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(buffer, "PNG")
    with pytest.raises(Unreadable, match="its 16-bit pixels use 12 bits or fewer and would look black"):
        decode(buffer.getvalue())


def test_labels_are_read_as_stored(tmp_path: Path) -> None:
    ids = np.arange(16, dtype=np.uint8).reshape(4, 4)
    grey_png(tmp_path / "grey.png", ids % np.uint8(4), 2)
    assert (read_label(tmp_path / "grey.png") == ids % 4).all()
    Image.fromarray(ids).save(tmp_path / "label.jpg")
    with pytest.raises(Unreadable, match="it is saved as JPEG, which changes class ids: save it as PNG"):
        read_label(tmp_path / "label.jpg")


def test_16_bits_are_brought_to_8() -> None:
    grey = np.array([[0, 257, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(grey), "PNG"))[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


def test_floating_point_images_are_refused() -> None:
    with pytest.raises(Unreadable, match="floating-point"):
        decode(encoded(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"))


def test_names_of_outputs_are_unique() -> None:
    assert unique_names(["a.jpg", "a.png", "A.webp", "b/a.jpg"]) == ["a", "a-2", "A-3", "b/a"]
    assert unique_names(["../../etc/x.jpg"]) == ["etc/x"]


def test_patterns_and_repeated_files(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.png"):
        photograph().save(tmp_path / name)
    found = find_photographs([str(tmp_path / "*.jpg"), str(tmp_path / "a.jpg"), str(tmp_path)])
    assert [item.name for item in found] == ["a", "b", "c"]


def test_a_limited_choice_is_spread_out() -> None:
    assert spaced(list(range(10)), 4) == [0, 2, 5, 7]
    assert spaced([1, 2], 4) == [1, 2]
    assert spaced([1, 2, 3], 0) == [1, 2, 3]


def test_classes_of_the_weights_name_the_gallery(weights: Path, tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    predict_files([str(tmp_path / "a.png")], weights, tmp_path / "out")
    gallery = (tmp_path / "out" / "gallery.html").read_text()
    ids = set(np.unique(np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))).tolist())
    for class_id, item in enumerate(CLASSES):
        assert (f"</span>{item.name}</li>" in gallery) == (class_id in ids)
    assert json.dumps("demo-1-8-s0-0123456789ab, epoch 3").strip('"') in gallery


def test_what_is_finished_is_not_done_again(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        photograph(seed=number).save(folder / f"{number}.png")
    predicted: list[int] = []
    plain = masks.predict_one

    def counted(*values: object, **options: object) -> object:
        predicted.append(1)
        if len(predicted) == 3:
            raise KeyboardInterrupt
        return plain(*values, **options)  # type: ignore[arg-type]

    # Killed in the middle, with a line of the ledger half written: what is finished stays.
    monkeypatch.setattr(masks, "predict_one", counted)
    with pytest.raises(KeyboardInterrupt):
        predict_files(folder, weights, out)
    finished = (out / LEDGER).read_text().count('"stamp"')
    with (out / LEDGER).open("a") as ledger:
        ledger.write('{"name": "0", "sta')
    predicted[:] = [1, 1, 1]
    assert predict_files(folder, weights, out) == []
    assert len(predicted) - 3 == 4 - finished
    before = {path: path.read_bytes() for path in (out / "masks").iterdir()}
    assert len(before) == 4

    def again(**options: object) -> int:
        predicted[:] = [1, 1, 1]
        assert predict_files(folder, weights, out, **options) == []  # type: ignore[arg-type]
        return len(predicted) - 3

    assert again() == 0
    assert {path: path.read_bytes() for path in before} == before
    gallery = (out / "gallery.html").read_text()
    assert gallery.count('<figure class="card"') == 4
    # Another picture of the same name, a lost output, another output, another window, other weights.
    photograph(seed=9).save(folder / "1.png")
    assert again() == 1
    (out / "overlays" / "2.jpg").unlink()
    assert again() == 1
    assert again(confidence=True) == 4
    assert again(stride=(32, 32)) == 4
    other = tmp_path / "left.safetensors"
    other.write_bytes(extract_branch(weights, "left"))
    predicted[:] = [1, 1, 1]
    predict_files(folder, other, out)
    assert len(predicted) - 3 == 4


def test_an_image_that_needs_more_memory_than_there_is_is_listed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photograph().save(tmp_path / "a.png")
    photograph(150, 120).save(tmp_path / "b.png")
    monkeypatch.setattr(passes, "available_memory", lambda: 4 * 2 * len(CLASSES) * 60 * 60)
    refused = predict_files(str(tmp_path / "*.png"), weights, tmp_path / "out", flip=True)
    assert len(refused) == 1
    assert "b.png: several scales or mirroring need " in refused[0]
    assert (tmp_path / "out/masks/a.png").exists()
    assert not (tmp_path / "out/masks/b.png").exists()


def test_confidence_and_triptychs(weights: Path, tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    label = np.zeros((40, 50), np.uint8)
    label[:5] = 255
    Image.fromarray(label).save(tmp_path / "a-label.png")
    (tmp_path / "list.txt").write_text("a.png\ta-label.png\n")
    out = tmp_path / "out"
    assert predict_files(tmp_path / "list.txt", weights, out, confidence=True, triptychs=True) == []
    checkpoint = open_checkpoint(weights)
    planes = normalize(np.asarray(photograph()), checkpoint.description.mean, checkpoint.description.std)
    logits = sliding_logits(list(checkpoint.engines.values()), planes, Window((32, 32), (32, 16)))
    mean = sum(np.exp(values) / np.exp(values).sum(axis=0) for values in logits) / 2
    confidence = np.asarray(Image.open(out / "confidence" / "a.png"))
    assert confidence.dtype == np.uint8
    assert np.abs(confidence / 255 - mean.max(axis=0)).max() < 0.5 / 255 + 1e-6
    triptych = Image.open(out / "triptychs" / "a.jpg")
    assert triptych.size == (3 * 50 + 2 * 8, 40)
    assert np.asarray(triptych)[:3, -40:].max() < 40  # black: no truth
    assert "Truth" in (out / "gallery.html").read_text()
    # The same mask, whatever else is asked for.
    predict_files(tmp_path / "a.png", weights, tmp_path / "plain")
    assert (tmp_path / "plain/masks/a.png").read_bytes() == (out / "masks/a.png").read_bytes()


def test_labels_that_do_not_fit_are_refused(weights: Path, tmp_path: Path) -> None:
    labels = {
        "small": Image.new("L", (49, 40)),
        "id": Image.new("L", (50, 40), 7),
        "color": Image.new("RGB", (50, 40)),
        "good": Image.new("L", (50, 40), 1),
    }
    lines = []
    for name, label in labels.items():
        photograph().save(tmp_path / f"{name}.png")
        label.save(tmp_path / f"{name}-label.png")
        lines.append(f"{name}.png {name}-label.png")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    refused = predict_files(tmp_path / "list.txt", weights, tmp_path / "out")
    assert "small.png: its label is 49x40 pixels, but the image is 50x40" in refused[0]
    assert "id.png: its label has id 7; valid ids are 0 to 1, and 255 (void)" in refused[1]
    assert "color-label.png: it has pixel mode RGB" in refused[2]
    assert len(refused) == 3
    assert (tmp_path / "out" / "masks" / "good.png").exists()


def test_predictions_inside_the_folder_of_photographs_are_no_photographs(weights: Path, tmp_path: Path) -> None:
    photograph().save(tmp_path / "a.png")
    for _ in range(2):
        predict_files(tmp_path, weights, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "masks").rglob("*.png")] == ["a.png"]


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    for name in ("a.png", "day/a.png"):
        photograph().save(tmp_path / name)
    (tmp_path / "list.txt").write_text("day/a.png\n\na.png\n")
    found = find_photographs([str(tmp_path / "list.txt")])
    assert [(item.name, item.truth) for item in found] == [("day/a", None), ("a", None)]
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    with pytest.raises(UserError, match=r"list\.txt:2: b\.png does not exist"):
        find_photographs([str(tmp_path / "list.txt")])


def test_photographs_in_the_object_store(store: Store, weights: Path, tmp_path: Path) -> None:
    for name in ("photos/day/a.png", "photos/day/b.png", "photos/night.png", "photos/notes.txt"):
        store.put_bytes(name, encoded(photograph(), "PNG"))
    names = {
        f"s3://{store.settings.bucket}/photos/": ["day/a", "day/b", "night"],
        f"s3://{store.settings.bucket}/photos/day": ["day/a", "day/b"],
        f"s3://{store.settings.bucket}/photos/night.png": ["night"],
    }
    for uri, expected in names.items():
        assert [item.name for item in find_photographs([uri], lambda: store)] == expected
    out = tmp_path / "out"
    uri = f"s3://{store.settings.bucket}/photos/"
    assert predict_files(uri, weights, out, open_store=lambda: store) == []
    photograph().save(tmp_path / "a.png")
    predict_files(tmp_path / "a.png", weights, tmp_path / "local")
    assert (out / "masks/day/a.png").read_bytes() == (tmp_path / "local/masks/a.png").read_bytes()

    found = find_photographs([uri], lambda: store)
    store.remove("photos/night.png")
    with pytest.raises(Unreadable, match="no longer in the store"):
        found[2].read()
    with pytest.raises(UserError, match="no images in"):
        find_photographs([f"s3://{store.settings.bucket}/empty/"], lambda: store)
    with pytest.raises(UserError, match="bucket 'not-there' does not exist"):
        find_photographs(["s3://not-there/photos/"], lambda: store)
    with pytest.raises(UserError, match="set AWS_ENDPOINT_URL"):
        find_photographs(["s3://some/photos/"])


def test_colour_images_of_16_bits() -> None:
    data = cv2.imencode(".png", np.full((4, 5, 3), 40000, np.uint16))[1].tobytes()
    assert np.abs(decode(data).astype(int) - 40000 / 257).max() <= 1
