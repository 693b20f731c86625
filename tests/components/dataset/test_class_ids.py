"""Label files become class ids, or are refused with one line that says how to fix them."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.dataset.check.inspect import inspect_dataset
from components.dataset.prepare import opened_layout, prepare
from components.dataset.stored.reader import DatasetReader
from components.errors import UserError
from components.storage.client import Store
from tests.components.dataset.scenes_on_disk import (
    PAINT,
    Ids,
    WriteLabel,
    grey,
    grey_png,
    ids_of,
    painted,
    photograph,
    pixels_of,
    with_palette,
    write_classes,
    write_dataset,
)

NAMES = ("background", "cat", "dog", "bird", "cow", "horse")


def stored_pixels(folder: Path, store: Store) -> list[int]:
    """Return the pixels of each class in the stored labels, void last."""
    manifest = prepare(str(folder), "", store, folder.parent / "work")
    with DatasetReader(store, manifest.digest, folder.parent / "cache") as reader:
        labels = [reader.label(sample.label) for sample in (*manifest.train, *manifest.val) if sample.label]
    counts = np.bincount(np.concatenate(labels).ravel(), minlength=256)
    known = counts[: len(manifest.classes)]
    assert known.sum() + counts[manifest.ignore_index] == counts.sum()
    return [*known.tolist(), int(counts[manifest.ignore_index])]


def refusal(folder: Path, store: Store, *, stored: int = 0) -> str:
    """Return the error of a refused dataset; `stored` objects were in the store before."""
    with pytest.raises(UserError) as error:
        prepare(str(folder), "", store, folder.parent / "work")
    assert "\n" not in str(error.value)
    assert len(store.list("datasets/")) == stored
    # The check names the same, and does not stop at the first.
    with opened_layout(str(folder), "", None, folder.parent / "scratch", folder.parent / "downloads") as layout:
        assert inspect_dataset(layout).verdict == "fatal"
    return str(error.value)


def scaled(factor: int) -> WriteLabel:
    return lambda path, ids: grey(path, ids * np.uint8(factor))


def as_16_bits(path: Path, ids: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint16)).save(path)


def as_grey_rgb(path: Path, ids: Ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(ids[..., None], 3, axis=2)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("high", [255, 128, 200])
def test_two_values_of_two_classes_are_these_in_order(
    folder: Path, store: Store, capsys: pytest.CaptureFixture[str], high: int
) -> None:
    write_dataset(folder, write=scaled(high))
    write_classes(folder, "background", "lane")
    assert stored_pixels(folder, store) == [*pixels_of(2), 0]
    assert f"labels contain only 0 and {high}: {high} is read as class 1 (lane)" in capsys.readouterr().err


def test_255_stays_void_where_the_classes_say_so(folder: Path, store: Store) -> None:
    write_dataset(folder, write=scaled(255))
    write_classes(folder, "background", "lane", ignore_index=255)
    assert "no label contains class 1 (lane)" in refusal(folder, store)


def test_0_and_255_of_more_classes_are_refused(folder: Path, store: Store) -> None:
    write_dataset(folder, write=scaled(255))
    write_classes(folder, *NAMES[:3])
    assert "no label contains class 1 (cat)" in refusal(folder, store)


@pytest.mark.parametrize("own", [True, False], ids=["classes.json", "labels.txt"])
def test_spread_values_are_refused_with_the_whole_assignment(folder: Path, store: Store, own: bool) -> None:
    write_dataset(folder, classes=3, write=lambda path, ids: grey(path, np.array([0, 128, 255], np.uint8)[ids]))
    if own:
        write_classes(folder, *NAMES[:3])
    else:
        (folder / "labels.txt").write_text("\n".join(NAMES[:3]))
    text = refusal(folder, store)
    assert "has 128, which belongs to no class: the labels hold 0, 128, 255; if these are the classes in this" in text
    file = folder / "classes.json"
    if own:
        assert (
            "add in classes.json \"values\": [0] to 'background', \"values\": [128] to 'cat', "
            "\"values\": [255] to 'dog'" in text
        )
        content = json.loads(file.read_text())
        for line, value in zip(content["classes"], [0, 128, 255], strict=True):
            line["values"] = [value]
        file.write_text(json.dumps(content))
    else:
        content, _ = json.JSONDecoder().raw_decode(text.partition("write classes.json with ")[2])
        file.write_text(json.dumps(content))
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_read_by_its_samples(folder: Path, store: Store, bits: int) -> None:
    classes = {1: 2, 2: 4, 4: 6}[bits]
    write_dataset(folder, classes=classes, write=lambda path, ids: grey_png(path, ids, bits))
    write_classes(folder, *NAMES[:classes])
    assert stored_pixels(folder, store) == [*pixels_of(classes), 0]


@pytest.mark.parametrize("write", [as_16_bits, as_grey_rgb], ids=["16 bits", "grey as RGB"])
def test_ids_in_wider_pixels_are_read(folder: Path, store: Store, write: WriteLabel) -> None:
    write_dataset(folder, classes=3, write=write)
    write_classes(folder, *NAMES[:3])
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def test_ids_from_1_with_0_for_void(folder: Path, store: Store) -> None:
    def write(path: Path, ids: Ids) -> None:
        shifted = ids + np.uint8(1)
        shifted[:1] = 0
        grey(path, shifted)

    write_dataset(folder, classes=3, write=write)
    write_classes(folder, *NAMES[:3], first=1, ignore_index=0)
    void = 6 * ids_of(0).shape[1]
    background, *others = pixels_of(3)
    assert stored_pixels(folder, store) == [background - void, *others, void]


def test_ids_with_gaps_are_classes_in_their_order(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3, write=lambda path, ids: grey(path, np.array([3, 7, 20], np.uint8)[ids]))
    lines = [{"id": number, "name": name} for number, name in ((7, "cat"), (20, "dog"), (3, "ground"))]
    (folder / "classes.json").write_text(json.dumps({"classes": lines}))
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def test_values_merge_classes_and_ignore_some(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=5)
    lines = [{"id": 0, "name": "ground", "values": [0, 4]}, {"id": 1, "name": "animal", "values": [1, 2]}]
    (folder / "classes.json").write_text(json.dumps({"classes": lines, "ignore_values": [3]}))
    ground, cat, dog, bird, cow = pixels_of(5)
    assert stored_pixels(folder, store) == [ground + cow, cat + dog, bird]


def test_a_value_without_a_meaning_is_refused_and_the_advice_leads_on(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3)
    write_classes(folder, "ground", "cat")
    text = refusal(folder, store)
    assert "has ids outside the 2 classes: 2" in text
    assert 'map others to a class with "values" in classes.json, or to void with "ignore_values"' in text
    write_classes(folder, "ground", "cat", ignore_values=[2])
    assert stored_pixels(folder, store) == pixels_of(3)


def test_painted_masks_are_read_by_the_colours_of_the_classes(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3, write=painted)
    write_classes(folder, *NAMES[:3])
    assert 'give each class its "color" in classes.json' in refusal(folder, store)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


@pytest.mark.parametrize("color", [[0, 0, 142], "#00008E"])
def test_a_colour_of_no_class_is_named_and_may_be_void(folder: Path, store: Store, color: object) -> None:
    write_dataset(folder, classes=3, write=painted)
    write_classes(folder, *NAMES[:2], paint=PAINT[:2])
    text = refusal(folder, store)
    assert 'has the colour (0, 0, 142), which belongs to no class: assign it to a class with "color"' in text
    write_classes(folder, *NAMES[:2], paint=PAINT[:2], ignore_values=[color])
    assert stored_pixels(folder, store) == pixels_of(3)


def test_smoothed_edges_are_refused(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3, write=painted)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    label = folder / "labels/train/00.png"
    noise = np.random.default_rng(0).integers(0, 256, (16 * 24, 3), dtype=np.uint8)
    Image.fromarray(np.tile(noise, (4, 1)).reshape(64, 24, 3)).resize((240, 160), Image.Resampling.BILINEAR).save(label)
    assert "labels/train/00.png has more than 1,024 colours, but a mask has one for each class" in refusal(
        folder, store
    )


def disc(classes: int) -> Ids:
    """Return (80, 120) ids: discs on background."""
    rows, columns = np.indices((80, 120))
    ids = np.zeros((80, 120), np.uint8)
    for value in range(1, classes):
        ids[(rows - 40) ** 2 + (columns - 35 * value) ** 2 < 225] = value
    return ids


def blurred() -> Image.Image:
    return Image.fromarray(disc(2) * np.uint8(255)).filter(ImageFilter.GaussianBlur(1))


def once_a_jpeg(mode: str) -> Image.Image:
    data = io.BytesIO()
    Image.fromarray(PAINT[disc(3)]).convert(mode).save(data, "JPEG", quality=85)
    return Image.open(data)


@pytest.mark.parametrize(
    ("draw", "what"),
    [
        (blurred, "values"),
        (lambda: once_a_jpeg("L"), "values"),
        (lambda: once_a_jpeg("RGB"), "colours"),
        (lambda: once_a_jpeg("RGB").quantize(64), "values"),
    ],
)
def test_masks_with_smoothed_edges_are_to_be_exported_again(
    folder: Path, store: Store, draw: Callable[[], Image.Image], what: str
) -> None:
    write_dataset(folder, classes=3, write=painted if what == "colours" else grey)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    draw().save(folder / "labels/train/00.png")
    assert re.search(
        rf"labels/train/00.png has [0-9]+ {what} that belong to no class, most of them in few pixels, as anti-aliasing "
        "and JPEG leave them: export it again as PNG without anti-aliasing",
        refusal(folder, store),
    )


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_lossy_labels_are_refused(folder: Path, store: Store, ending: str) -> None:
    def write(path: Path, ids: Ids) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids * np.uint8(4)).save(path, quality=90)

    write_dataset(folder, label=f"labels/{{part}}/{{name}}.{ending}", classes=6, write=write)
    write_classes(folder, *(f"kind {number}" for number in range(40)))
    said = {"jpg": "JPEG", "webp": "WEBP"}[ending]
    assert f"labels/train/00.{ending} is saved as {said}, which changes class ids" in refusal(folder, store)


def test_lossless_webp_is_read(folder: Path, store: Store) -> None:
    def write(path: Path, ids: Ids) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PAINT[ids]).save(path, lossless=True, quality=100)

    write_dataset(folder, label="labels/{part}/{name}.webp", classes=3, write=write)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def test_a_palette_in_another_order_is_read_by_its_colours(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3, write=lambda path, ids: with_palette(path, np.uint8(2) - ids, PAINT[::-1]))
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def test_a_palette_that_differs_by_file_is_read_by_its_colours(folder: Path, store: Store) -> None:
    def write(path: Path, ids: Ids) -> None:
        turned = int(path.stem) % 2
        with_palette(path, np.uint8(2) - ids if turned else ids, PAINT[::-1] if turned else PAINT)

    write_dataset(folder, classes=3, write=write)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]
    write_classes(folder, *NAMES[:3])
    text = refusal(folder.parent / "photos", store, stored=4)
    assert "labels/train/01.png has (0, 0, 142) at palette index 0, but label labels/train/00.png has" in text


def test_a_palette_of_other_colours_goes_by_its_indices(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3, write=lambda path, ids: with_palette(path, ids, PAINT + np.uint8(7)))
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def other_order(*colors: tuple[int, int, int]) -> WriteLabel:
    """Write ids 0, 1 and 2 as palette indices 2, 1 and 0, which have these colours."""
    return lambda path, ids: with_palette(path, np.uint8(2) - ids, np.array(colors, np.uint8))


def test_a_palette_of_almost_the_classes_colours_in_another_order_is_read_by_the_nearest(
    folder: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(folder, classes=3, write=other_order((3, 0, 138), (222, 20, 57), (0, 0, 0)))
    grey(folder / "labels/train/00.png", ids_of(0, 3))  # among labels that hold ids
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]
    printed = capsys.readouterr().err
    assert "palette colours that differ from those of the classes by up to 4 of 255 are read as the nearest" in printed


def test_one_label_of_few_colours_is_read_as_the_others_of_its_palette(folder: Path, store: Store) -> None:
    colors = np.array([[0, 0, 140], [220, 20, 60], [0, 0, 0]], np.uint8)

    def write(path: Path, ids: Ids) -> None:
        with_palette(path, np.full_like(ids, 0) if path.stem == "00" else np.uint8(2) - ids, colors)

    write_dataset(folder, classes=3, write=write, parts={"train": 4, "val": 2})
    write_classes(folder, *NAMES[:3], paint=PAINT)
    expected = np.zeros(3, np.int64)
    for place, count in enumerate((4, 2)):
        for index in range(count):
            ids = ids_of(100 * place + index, 3)
            expected += np.bincount((np.full_like(ids, 2) if index == 0 else ids).ravel(), minlength=3)
    assert stored_pixels(folder, store) == [*expected.tolist(), 0]


@pytest.mark.parametrize(
    "colors",
    [
        ((12, 0, 130), (205, 20, 60), (0, 0, 1)),  # further away
        ((0, 0, 138), (0, 3, 142), (0, 0, 1)),  # two that are nearest to one class
        ((3, 0, 138), (90, 200, 90), (0, 0, 4)),  # one that is far from any class
    ],
)
def test_colours_that_may_be_those_of_the_classes_in_another_order_are_refused(
    folder: Path, store: Store, colors: tuple[tuple[int, int, int], ...]
) -> None:
    write_dataset(folder, classes=3, write=other_order(*colors))
    write_classes(folder, *NAMES[:3], paint=PAINT)
    text = refusal(folder, store)
    assert "so that its colours and indices may disagree: give the classes the palette's colours" in text
    # The advice works.
    write_classes(folder, *NAMES[:3], paint=np.array(colors[::-1], np.uint8))
    assert stored_pixels(folder, store) == [*pixels_of(3), 0]


def test_a_colour_between_two_classes_is_not_guessed(folder: Path, store: Store) -> None:
    paint = np.array([[0, 0, 0], [0, 60, 100], [0, 72, 100]], np.uint8)
    write_dataset(folder, classes=3, write=other_order((0, 66, 100), (0, 60, 100), (0, 0, 0)))
    write_classes(folder, *NAMES[:3], paint=paint)
    assert "which belongs to no class" in refusal(folder, store)
    write_dataset(folder, classes=3, write=other_order((0, 66, 100), (0, 61, 100), (0, 0, 1)))
    assert "its colours and indices may disagree" in refusal(folder, store)


def test_a_palette_for_decoration_may_resemble_one_class(folder: Path, store: Store) -> None:
    paint = np.array([[10, 10, 10], [220, 20, 60], [0, 0, 142], [131, 3, 2], [70, 70, 70], [250, 170, 30]], np.uint8)
    voc = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]], np.uint8)
    write_dataset(folder, classes=6, write=lambda path, ids: with_palette(path, ids, voc))
    write_classes(folder, *NAMES, paint=paint)
    assert stored_pixels(folder, store) == [*pixels_of(6), 0]


def test_a_palette_that_is_half_the_classes_is_refused(folder: Path, store: Store) -> None:
    colors = np.array([[0, 0, 142], [9, 9, 200], [0, 0, 0]], np.uint8)
    write_dataset(folder, classes=3, write=lambda path, ids: with_palette(path, ids, colors))
    write_classes(folder, *NAMES[:3], paint=PAINT)
    text = refusal(folder, store)
    assert "has the colour (0, 0, 142) of 'dog' at palette index 0, but also (9, 9, 200), which belongs to no" in text


def test_transparent_labels_are_refused(folder: Path, store: Store) -> None:
    def write(path: Path, ids: Ids) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.dstack([PAINT[ids], np.where(ids, 255, 0).astype(np.uint8)])).save(path)

    write_dataset(folder, classes=3, write=write)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    assert "has transparent pixels, whose class is undefined" in refusal(folder, store)


def test_a_class_that_no_label_shows_is_refused(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=2)
    write_classes(folder, *NAMES[:3])
    assert "no label contains class 2 (dog): correct the labels or remove the class" in refusal(folder, store)
    write_classes(folder, *NAMES[:2])
    assert stored_pixels(folder, store) == [*pixels_of(2), 0]


def test_a_dataset_that_was_stored_misread_is_read_again(folder: Path, store: Store) -> None:
    """An earlier version read 255 as void, and stored the result under the digest of these files."""
    write_dataset(folder, write=scaled(255))
    write_classes(folder, "background", "lane")
    right = prepare(str(folder), "", store, folder.parent / "work")
    again = prepare(str(folder), "", store, folder.parent / "work")
    assert again == right
    assert right.train[0].label == "labels/train/00_trainIds.png"
    # The same files with other classes are another dataset.
    write_classes(folder, "lane", "background")
    assert prepare(str(folder), "", store, folder.parent / "work").digest != right.digest


@pytest.mark.parametrize("color", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize("bits", [10, 12])
def test_photographs_of_few_bits_in_16_are_refused(folder: Path, store: Store, bits: int, *, color: bool) -> None:
    write_dataset(folder)
    write_classes(folder, "ground", "cat")
    rng = np.random.default_rng(0)
    path = folder / "images/train/00.png"
    (folder / "images/train/00.jpg").unlink()
    if color:
        import cv2

        cv2.imwrite(str(path), rng.integers(0, 1 << bits, (16, 24, 3), dtype=np.uint16))
    else:
        Image.fromarray(rng.integers(0, 1 << bits, (16, 24), dtype=np.uint16)).save(path)
    text = refusal(folder, store)
    assert "images/train/00.png cannot be read (its 16-bit pixels use 12 bits or fewer and would look black" in text


def test_a_photograph_of_16_bits_is_read(folder: Path, store: Store) -> None:
    write_dataset(folder)
    write_classes(folder, "ground", "cat")
    (folder / "images/train/00.jpg").unlink()
    pixels = np.linspace(0, 65535, 16 * 24).astype(np.uint16).reshape(16, 24)
    Image.fromarray(pixels).save(folder / "images/train/00.png")
    assert stored_pixels(folder, store) == [*pixels_of(2), 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "it is a Git LFS pointer"),
    ],
)
def test_files_that_are_not_there_yet_are_named(folder: Path, store: Store, content: bytes, said: str) -> None:
    write_dataset(folder)
    write_classes(folder, "ground", "cat")
    (folder / "images/train/01.jpg").write_bytes(content)
    assert f"images/train/01.jpg cannot be read ({said}" in refusal(folder, store)


def test_a_run_reads_what_a_photograph_is_worth(folder: Path, store: Store) -> None:
    """Changing one photograph gives another dataset with the same labels."""
    write_dataset(folder, classes=3, write=painted)
    write_classes(folder, *NAMES[:3], paint=PAINT)
    first = prepare(str(folder), "", store, folder.parent / "work")
    photograph(folder / "images/train/00.jpg", 999)
    second = prepare(str(folder), "", store, folder.parent / "work")
    assert second.digest != first.digest
    assert second.files["labels/train/00_trainIds.png"].sha256 == first.files["labels/train/00_trainIds.png"].sha256


def test_0_and_65535_of_two_classes_are_read(folder: Path, store: Store) -> None:
    write_dataset(folder, write=lambda path, ids: as_16_bits(path, ids.astype(np.uint16) * np.uint16(65535)))
    write_classes(folder, "background", "salt")
    assert stored_pixels(folder, store) == [*pixels_of(2), 0]


def test_255_for_1_in_some_labels_only_is_refused(folder: Path, store: Store) -> None:
    write_dataset(folder, write=lambda path, ids: grey(path, ids * np.uint8(255 if path.stem == "01" else 1)))
    write_classes(folder, "background", "lane")
    text = refusal(folder, store)
    assert "labels/train/01.png has 0 and 255, but label" in text
    assert 'declare in classes.json whether 255 is void ("ignore_index": 255) or class 1 ("values": [1, 255])' in text
    lines = [{"id": 0, "name": "background"}, {"id": 1, "name": "lane", "values": [1, 255]}]
    (folder / "classes.json").write_text(json.dumps({"classes": lines}))
    assert stored_pixels(folder, store) == [*pixels_of(2), 0]


def test_labels_whose_names_differ_by_an_ending_stay_apart(folder: Path, store: Store) -> None:
    pairs = write_dataset(
        folder, "{part}/{name}.jpg", "masks/{part}{name}.png", write=scaled(255), parts={"train": 1, "val": 1}
    )
    photograph(folder / "train/more.jpg", 9)
    grey(folder / "masks/train00_L.png", np.zeros((16, 24), np.uint8))
    write_classes(folder, "background", "lane")
    for part, names in pairs.items():
        more = "train/more.jpg masks/train00_L.png\n" if part == "train" else ""
        (folder / f"{part}.txt").write_text("".join(f"{image} {label}\n" for image, label in names) + more)
    background, lane = pixels_of(2, {"train": 1, "val": 1})
    assert stored_pixels(folder, store) == [background + 16 * 24, lane, 0]


def test_a_palette_of_greys_in_another_order_is_refused(folder: Path, store: Store) -> None:
    greys = np.array([[255] * 3, [0] * 3], np.uint8)
    write_dataset(folder, write=lambda path, ids: with_palette(path, ids, greys))
    write_classes(folder, "background", "lane")
    assert "has a grey palette in another order than its indices" in refusal(folder, store)


def test_a_black_mask_among_painted_ones_is_painted(folder: Path, store: Store) -> None:
    paint = np.array([[9, 9, 200], [220, 20, 60]], np.uint8)
    write_dataset(folder, write=lambda path, ids: painted(path, ids, paint))
    painted(folder / "labels/train/03.png", np.zeros((16, 24), np.uint8))
    write_classes(folder, "background", "lane", paint=paint)
    assert "labels/train/03.png has the colour (0, 0, 0), which belongs to no class" in refusal(folder, store)


def test_grey_labels_beside_a_table_of_colours_go_by_its_rows(folder: Path, store: Store) -> None:
    write_dataset(folder, classes=3)
    (folder / "class_dict.csv").write_text("name,r,g,b\nVoid,0,0,0\ncat,220,20,60\ndog,0,0,142\n")
    void, cat, dog = pixels_of(3)
    assert stored_pixels(folder, store) == [cat, dog, void]


def test_labels_of_several_pages_are_refused(folder: Path, store: Store) -> None:
    def write(path: Path, ids: Ids) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(path, save_all=True, append_images=[Image.fromarray(ids)])

    write_dataset(folder, label="labels/{part}/{name}.tif", write=write)
    write_classes(folder, "background", "lane")
    assert "has pixel mode L with several pages, but must hold class ids" in refusal(folder, store)


def test_an_ignore_index_that_hides_a_class_is_named(folder: Path, store: Store) -> None:
    write_dataset(folder, write=scaled(255))
    write_classes(folder, "background", "lane", ignore_index=255)
    assert "if 255 means this class and not void, add it to the class's" in refusal(folder, store)


def test_findings_about_converted_labels_name_the_files_of_the_dataset(folder: Path) -> None:
    write_dataset(folder, write=scaled(255))
    write_classes(folder, *NAMES[:2])
    grey(folder / "labels/train/01.png", np.zeros_like(ids_of(0)))
    with opened_layout(str(folder), "", None, folder.parent / "scratch", folder.parent / "downloads") as layout:
        [finding] = [each for each in inspect_dataset(layout).findings if each.kind == "single"]
    assert [item.text for item in finding.items] == ["label labels/train/01.png has id 0 in every pixel"]
