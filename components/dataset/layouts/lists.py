"""Lists of `image label` lines: our own plain layout, and CamVid as SegNet has it."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from components.dataset.classes import CAMVID, FILES, read_classes
from components.dataset.layouts.model import Layout
from components.dataset.layouts.ratio_lists import own_ratio_lists
from components.dataset.manifest import Class, Lists, Sample
from components.errors import UserError

Existing = Callable[[Path, str, str], str]


def is_there(root: Path) -> bool:
    return any((root / f"{part}.txt").is_file() for part in ("train", "val"))


def is_described(root: Path) -> bool:
    """Lists with their classes: somebody's own word, which counts more than a well-known layout beside it."""
    return is_there(root) and any((root / name).is_file() for name in FILES)


def is_camvid(root: Path) -> bool:
    return is_there(root) and all((root / f"{part}annot").is_dir() for part in ("train", "val"))


def read(root: Path, _top: Path, name: str) -> Layout:
    classes = read_classes(root)
    if classes is None:
        raise UserError(f"dataset {root} does not say its classes: add {FILES[0]} or {FILES[1]} beside train.txt")
    return Layout(root, name, "lists", _lists(root, classes, existing))


def read_camvid(root: Path, _top: Path, name: str) -> Layout:
    return Layout(root, name, "camvid", _lists(root, read_classes(root) or (CAMVID, 11), _existing_below))


def _lists(root: Path, classes: tuple[tuple[Class, ...], int], find: Existing) -> Lists:
    train = read_list(root, "train.txt", find=find)
    unlabeled = [sample.image for sample in train if sample.label is None]
    if (root / "unlabeled.txt").is_file():
        unlabeled += [sample.image for sample in read_list(root, "unlabeled.txt", labels=False, find=find)]
    return Lists(
        classes=classes[0],
        ignore_index=classes[1],
        train=tuple(sample for sample in train if sample.label is not None),
        val=all_labeled(root, "val.txt", find=find),
        test=read_list(root, "test.txt", find=find) if (root / "test.txt").is_file() else (),
        unlabeled=tuple(dict.fromkeys(unlabeled)),
        ratio_lists=own_ratio_lists(
            root,
            ("", "splits"),
            [sample for sample in train if sample.label is not None],
            lambda name: all_labeled(root, name, find=find),
            lambda name: read_list(root, name, labels=False, find=find),
        ),
    )


def existing(root: Path, name: str, where: str) -> str:
    """The name of a file below the root. UserError where there is none, or it lies elsewhere."""
    # The reference's lists begin names with a slash and mean the dataset's folder.
    relative = inside(name, where)
    if not (root / relative).is_file():
        raise UserError(f"{where}: {name} does not exist in {root}; correct the line or add the file")
    return str(relative)


def inside(name: str, where: str) -> PurePosixPath:
    relative = PurePosixPath(name.lstrip("/"))
    if ".." in relative.parts or not relative.parts:
        raise UserError(f"{where}: {name!r} leads out of the dataset's folder; names are relative to it")
    return relative


def _existing_below(root: Path, name: str, where: str) -> str:
    # SegNet's lists name files from where their author kept them: /SegNet/CamVid/train/x.png.
    parts = inside(name, where).parts
    for start in range(len(parts)):
        if (root / PurePosixPath(*parts[start:])).is_file():
            return str(PurePosixPath(*parts[start:]))
    return existing(root, name, where)


def all_labeled(root: Path, name: str, *, find: Existing = existing) -> tuple[Sample, ...]:
    samples = read_list(root, name, find=find)
    for sample in samples:
        if sample.label is None:
            raise UserError(f"{root / name}: {sample.image} has no label; write `image label` on every line")
    if not samples:
        raise UserError(f"{root / name} is empty: write a line of `image label` for each image")
    return samples


def read_list(root: Path, name: str, *, labels: bool = True, find: Existing = existing) -> tuple[Sample, ...]:
    samples = []
    for where, fields in list_lines(root, name):
        names = [find(root, field, where) for field in (fields if labels else fields[:1])]
        samples.append(Sample(image=names[0], label=names[1] if len(names) == 2 else None))
    return tuple(samples)


def list_lines(root: Path, name: str) -> list[tuple[str, list[str]]]:
    """Where each line is, and its one or two names."""
    path = root / name
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"dataset {root} has no {name}: add it, a line is `image label`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {path} cannot be read: {error}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # A name may hold spaces where tabs separate, as in the reference's lists.
        fields = [field.strip() for field in line.strip().split("\t")] if "\t" in line.strip() else line.split()
        if len(fields) > 2:
            raise UserError(f"{path}:{number}: {len(fields)} names on a line; write `image label` or `image`")
        found.append((f"{path}:{number}", fields))
    return found
