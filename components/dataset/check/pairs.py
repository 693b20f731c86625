"""Check a single image and its label."""

from components.dataset.check.facts import ID_MODES, FileFacts
from components.dataset.check.findings import Finding, Item, Level

# kind: (level, title, advice)
KINDS: dict[str, tuple[Level, str, str]] = {
    "unreadable": (
        "fatal", "Unreadable files",
        "Training would fail on them. Download them again, or remove them from the lists.",
    ),
    "size": (
        "fatal", "Labels and images of different sizes",
        "Label pixels would not match image pixels. Give both the same size; resize labels without interpolation.",
    ),
    "lossy": (
        "fatal", "Labels with blurred edges",
        "Anti-aliasing and formats such as JPEG create pixels of other classes. Export as PNG, without smoothing.",
    ),
    "mode": (
        "fatal", "Labels that do not hold class ids",
        'Save each pixel\'s id as 8-bit grey or palette PNG, or give each class its "color" in classes.json.',
    ),
    "palette": (
        "fatal", "Labels with contradictory palettes",
        'The same index means different classes in different labels. Give each class its "color" in classes.json, or '
        "save ids as 8-bit grey.",
    ),
    "shapes": (
        "fatal", "Annotations that cannot be drawn",
        "Drawing them as something else would give wrong labels. Correct or remove them in the annotation tool.",
    ),
    "classes": (
        "fatal", "Labels that do not fit PASCAL VOC's classes",
        "The folders are those of PASCAL VOC, so its classes were assumed. Declare your own classes.",
    ),
    "ids": (
        "fatal", "Label ids outside the classes",
        'Correct the labels, add the missing classes to classes.json, map the values to a class with "values", or '
        'to void with "ignore_values". The page paints these pixels orange.',
    ),
    "turned": (
        "warning", "Labelled images rotated by their EXIF data",
        "Training and prediction rotate them upright. Check that their labels match the upright image.",
    ),
    "void": (
        "warning", "Labels that are entirely void",
        "Training learns nothing from them, yet each takes the place of a labelled image in the split.",
    ),
    "single": (
        "warning", "Labels with a single class",
        "Often an unfinished label or a failed export. Look at a few.",
    ),
}  # fmt: skip


def pair_problems(
    image: FileFacts, label: FileFacts | None, *, classes: int, ignore_index: int, root: str = "", label_name: str = ""
) -> list[tuple[str, Item]]:
    """Return (kind, item) for every problem, fatal ones first.

    Args:
        root: prefix of file names in the texts, such as the dataset's folder with a slash.
        label_name: the label's name in the texts, if `label` was converted from another file.
    """
    name = root + image.name
    problems: list[tuple[str, Item]] = []
    if image.problem:
        problems.append(("unreadable", Item(unreadable("image", name, image.problem), image=image.name)))
    if label is None:
        return problems
    shown = "" if image.problem else image.name
    label_name = root + (label_name or label.name)
    if label.problem:
        text = unreadable("label", label_name, label.problem)
        return [*problems, ("unreadable", Item(text, image=shown))]
    if label.mode not in ID_MODES:
        text = (
            f"label {label_name} has pixel mode {label.mode}, but must hold class ids: "
            "save it as 8-bit grey or palette PNG"
        )
        problems.append(("mode", Item(text, image=shown, label=label.name)))
    if not image.problem and label.size != image.size:
        text = (
            f"label {label_name} is {size_text(label.size)}, but its image {name} is {size_text(image.size)}: "
            "give both the same size"
        )
        problems.append(("size", Item(text, image=shown, label=label.name)))
    if image.turned:
        text = f"image {name} is {size_text(image.size)} after its EXIF rotation; check that its label matches"
        problems.append(("turned", Item(text, image=shown, label=label.name)))
    return problems + _id_problems(label, label_name, shown, classes, ignore_index)


def _id_problems(label: FileFacts, name: str, image: str, classes: int, ignore_index: int) -> list[tuple[str, Item]]:
    if label.ids is None:
        return []
    present = [value for value, pixels in enumerate(label.ids.tolist()) if pixels]
    wrong = tuple(value for value in present if value >= classes and value != ignore_index)
    if wrong:
        text = (
            f"label {name} has ids outside the {classes} classes: {_values(wrong)}; "
            f"valid ids are 0 to {classes - 1}, and {ignore_index} for void; map others to a class with "
            '"values" in classes.json, or to void with "ignore_values"'
        )
        return [("ids", Item(text, image=image, label=label.name, ids=wrong))]
    if present == [ignore_index]:
        return [("void", Item(f"label {name} is void ({ignore_index}) in every pixel", image=image, label=label.name))]
    if len(present) == 1 and label.ids.sum() > 1:
        return [("single", Item(f"label {name} has id {present[0]} in every pixel", image=image, label=label.name))]
    return []


def pair_findings(problems: list[tuple[str, Item]]) -> list[Finding]:
    return [
        Finding(kind, *KINDS[kind], items=tuple(item for found, item in problems if found == kind)) for kind in KINDS
    ]


def size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def unreadable(what: str, name: str, reason: str) -> str:
    """Return the line for a file that cannot be read."""
    return f"{what} {name} cannot be read ({reason}): replace it, or remove it from the dataset"


def _values(values: tuple[int, ...]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown}, … ({len(values)} values)" if len(values) > 8 else shown
