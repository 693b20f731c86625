"""Write annotated images in the formats of COCO, LabelMe and CVAT for tests, and read their labels back."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from components.dataset.check.inspect import inspect_dataset
from components.dataset.layouts import Layout
from components.dataset.prepare import opened_layout
from components.errors import UserError
from tests.components.dataset.scenes_on_disk import SIZE, Ids, photograph

HEIGHT, WIDTH = SIZE
SQUARE = [2, 2, 8, 2, 8, 8, 2, 8]
"""A polygon that covers exactly the pixels from (2, 2) to (7, 7)."""
CATEGORIES = {1: "cat", 2: "dog"}


def square(left: int = 2, top: int = 2, side: int = 6) -> list[int]:
    right, bottom = left + side, top + side
    return [left, top, right, top, right, bottom, left, bottom]


def polygon(category: int = 1, points: Sequence[float] = SQUARE, **more: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": [list(points)], "iscrowd": 0, "bbox": [2, 2, 6, 6], **more}


def coco(
    root: Path,
    file: str,
    images: Mapping[str, Sequence[Mapping[str, Any]]],
    categories: Mapping[int, str] = CATEGORIES,
    folder: str | None = None,
) -> None:
    """Write a COCO file and its images, which `folder` holds by their last name; by default, the file's folder."""
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, shapes) in enumerate(images.items(), start=1):
        place = root / (str(PurePosixPath(file).parent) if folder is None else folder) / PurePosixPath(name).name
        photograph(place, hash_of(str(place)))
        listed.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for shape in shapes:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **shape})
    value = {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(value))


def two_parts(root: Path, train: Mapping[str, Sequence[Mapping[str, Any]]] | None = None, **options: Any) -> None:
    """Write a dataset with train and valid as Roboflow exports it."""
    whole = [polygon(1), polygon(2, square(10, 2, 4))]
    coco(root, "train/_annotations.coco.json", train or {"a.jpg": whole, "b.jpg": whole}, **options)
    coco(root, "valid/_annotations.coco.json", {"c.jpg": whole, "d.jpg": whole}, **options)


def labelme(path: Path, *shapes: Mapping[str, Any], image: str | None = None, **more: Any) -> None:
    """Write a LabelMe file and, unless `image` names another, the photograph next to it."""
    if image is None:
        photograph(path.with_suffix(".jpg"), hash_of(path.stem))
    path.parent.mkdir(parents=True, exist_ok=True)
    value: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{"shape_type": "polygon", "group_id": None, "flags": {}, **shape} for shape in shapes],
        "imagePath": image or f"{path.stem}.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    path.write_text(json.dumps(value | more))


def corners(points: Sequence[float] = SQUARE) -> list[list[float]]:
    return [[points[place], points[place + 1]] for place in range(0, len(points), 2)]


def cvat(
    root: Path, file: str, images: Mapping[str, str], *, labels: Sequence[str] = ("cat", "dog"), folder: str = "images"
) -> None:
    """Write a CVAT file and its images. `images` has the XML of each image's shapes, and its name with attributes."""
    rows = []
    for number, (name, shapes) in enumerate(images.items()):
        name, _, attributes = name.partition(" ")
        photograph(root / folder / name, hash_of(name))
        rows.append(
            f'<image id="{number}" name="{name}" width="{WIDTH}" height="{HEIGHT}" {attributes}>{shapes}</image>'
        )
    declared = "".join(
        f"<label><name>{label}</name><color>#{20 + n:02x}0000</color></label>" for n, label in enumerate(labels)
    )
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels>{declared}'
        f"</labels></task></meta>{''.join(rows)}</annotations>\n"
    )
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(text)


def cvat_polygon(label: str = "cat", points: Sequence[float] = SQUARE, **attributes: Any) -> str:
    listed = ";".join(f"{x},{y}" for x, y in corners(points))
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<polygon label="{label}" points="{listed}"{more}></polygon>'


def decoded(runs: Any) -> Ids:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own
        return np.asarray(coco_mask.decode(runs))


def hash_of(text: str) -> int:
    return sum(place * byte for place, byte in enumerate(text.encode(), start=1))


def read_labels(folder: Path) -> tuple[Layout, dict[str, Ids]]:
    """Return the layout as it would be stored, and each label by the stem of its image."""
    with opened(folder) as layout:
        assert not layout.refused
        lists = layout.lists
        samples = [sample for part in (lists.train, lists.val, lists.test) for sample in part if sample.label]
        return layout, {
            PurePosixPath(sample.image).stem: np.array(Image.open(layout.folder / str(sample.label)))
            for sample in samples
        }


def opened(folder: Path) -> Any:
    scratch = folder.parent / f"scratch-{len(list(folder.parent.iterdir()))}"
    scratch.mkdir()
    return opened_layout(str(folder), "", None, scratch, folder.parent / "downloads")


def refusal(folder: Path) -> str:
    """Return the one line with which a dataset is refused, or the first fatal finding of its check."""
    try:
        with opened(folder) as layout:
            found = [
                item.text for each in inspect_dataset(layout).findings if each.level == "fatal" for item in each.items
            ]
    except UserError as error:
        found = [str(error)]
    if not found:
        pytest.fail("the dataset was accepted")
    assert "\n" not in found[0]
    return found[0]


def expected(*squares: tuple[int, Sequence[int]], background: int = 0) -> Ids:
    """Return a label with squares of class ids, each given as left, top and side."""
    ids = np.full(SIZE, background, np.uint8)
    for value, (left, top, side) in squares:
        ids[top : top + side, left : left + side] = value
    return ids
