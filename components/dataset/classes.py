"""A dataset's classes: from its classes.json or classes.yaml, or the well-known ones of its layout."""

import json
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.dataset.manifest import Class
from components.errors import UserError

FILES = ("classes.json", "classes.yaml", "classes.yml")

CITYSCAPES = tuple(
    Class(name=name, color=color)
    for name, color in (
        ("road", (128, 64, 128)),
        ("sidewalk", (244, 35, 232)),
        ("building", (70, 70, 70)),
        ("wall", (102, 102, 156)),
        ("fence", (190, 153, 153)),
        ("pole", (153, 153, 153)),
        ("traffic light", (250, 170, 30)),
        ("traffic sign", (220, 220, 0)),
        ("vegetation", (107, 142, 35)),
        ("terrain", (152, 251, 152)),
        ("sky", (70, 130, 180)),
        ("person", (220, 20, 60)),
        ("rider", (255, 0, 0)),
        ("car", (0, 0, 142)),
        ("truck", (0, 0, 70)),
        ("bus", (0, 60, 100)),
        ("train", (0, 80, 100)),
        ("motorcycle", (0, 0, 230)),
        ("bicycle", (119, 11, 32)),
    )
)
"""Cityscapes' 19 evaluated classes with its own colours, by train id."""

CITYSCAPES_TRAIN_IDS = {
    label: train
    for train, label in enumerate((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33))
}
"""The train id of each of Cityscapes' label ids that is evaluated; the others, up to 33, are void."""

CAMVID = tuple(
    Class(name=name, color=color)
    for name, color in (
        ("sky", (128, 128, 128)),
        ("building", (128, 0, 0)),
        ("pole", (192, 192, 128)),
        ("road", (128, 64, 128)),
        ("pavement", (60, 40, 222)),
        ("tree", (128, 128, 0)),
        ("sign symbol", (192, 128, 128)),
        ("fence", (64, 64, 128)),
        ("car", (64, 0, 128)),
        ("pedestrian", (64, 64, 0)),
        ("bicyclist", (0, 128, 192)),
    )
)
"""CamVid's 11 classes as SegNet's lists number them; 11 is void there."""

_VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

_Id = Annotated[int, Field(ge=0, le=255)]


class _ClassLine(BaseModel):
    id: _Id
    name: Annotated[str, Field(min_length=1)]
    color: tuple[_Id, _Id, _Id] | None = None


class _KnownFile(BaseModel):
    model_config = ConfigDict(extra="ignore")

    classes: str
    ignore_index: _Id | None = None


class _ClassesFile(BaseModel):
    model_config = ConfigDict(extra="ignore")

    classes: Annotated[list[_ClassLine], Field(min_length=2)]
    ignore_index: _Id = 255


def read_classes(folder: Path) -> tuple[tuple[Class, ...], int] | None:
    """The classes in the order of their ids, and the ignore index; None where no file says them.

    Raises:
        UserError: the file is malformed, or its ids are not 0, 1, 2, …
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if isinstance(value, dict) and isinstance(value.get("classes"), str):
            return _known(path, _KnownFile.model_validate(value))
        listed = _ClassesFile.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        message = problem["msg"][0].lower() + problem["msg"][1:]
        raise UserError(f"{path}: {where}: {message}; write {_EXAMPLE}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}; write {_EXAMPLE}") from None
    return _in_order(path, listed), listed.ignore_index


def _known(path: Path, named: _KnownFile) -> tuple[tuple[Class, ...], int]:
    if named.classes not in KNOWN:
        raise UserError(f"{path}: classes {named.classes!r} are not known; there are {', '.join(KNOWN)}")
    classes, ignore_index = KNOWN[named.classes]
    return classes, ignore_index if named.ignore_index is None else named.ignore_index


_EXAMPLE = '{"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, …], "ignore_index": 255}'


def _in_order(path: Path, listed: _ClassesFile) -> tuple[Class, ...]:
    lines = sorted(listed.classes, key=lambda line: line.id)
    ids = [line.id for line in lines]
    if ids != list(range(len(ids))):
        raise UserError(f"{path}: class ids are {ids}, and should be 0 to {len(ids) - 1}, each once")
    if listed.ignore_index < len(ids):
        raise UserError(f"{path}: ignore_index {listed.ignore_index} is also a class id; 255 is usual")
    # Shifted by one: the first of the colours is black.
    return tuple(Class(name=line.name, color=line.color or _voc_color(line.id + 1)) for line in lines)


def _voc_color(value: int) -> tuple[int, int, int]:
    """PASCAL VOC's colour map, which keeps neighbouring ids apart."""
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (value & 1) << bit
        green |= (value >> 1 & 1) << bit
        blue |= (value >> 2 & 1) << bit
        value >>= 3
    return red, green, blue


VOC = tuple(Class(name=name, color=_voc_color(number)) for number, name in enumerate(_VOC_NAMES))
"""PASCAL VOC's 21 classes, background among them."""

KNOWN = {"cityscapes": (CITYSCAPES, 255), "voc": (VOC, 255), "camvid": (CAMVID, 11)}
"""Classes and ignore index of well-known datasets: `classes: cityscapes` in a classes file names them."""
