"""An image and its label: what is wrong with them on their own."""

from components.dataset.check.facts import ID_MODES, FileFacts
from components.dataset.check.findings import Finding, Item, Level

# kind: (level, title, advice)
KINDS: dict[str, tuple[Level, str, str]] = {
    "unreadable": (
        "fatal", "Files that cannot be read",
        "Training would stop at them. Fetch them again, or take them off the lists.",
    ),
    "size": (
        "fatal", "Labels and images of different sizes",
        "Pixels and classes would not belong together. Give both the same size; labels without interpolation.",
    ),
    "lossy": (
        "fatal", "Labels in a format that changes values",
        "JPEG and its kind smooth edges, which makes pixels of other classes. Save labels as PNG.",
    ),
    "mode": (
        "fatal", "Labels that do not hold class ids",
        'Write each pixel\'s id as 8-bit grey or palette PNG, or give each class its "color" in classes.json.',
    ),
    "palette": (
        "fatal", "Labels whose palettes contradict",
        'An index stands for one class in some labels and for another elsewhere. Give each class its "color" in '
        "classes.json, or save ids as 8-bit grey.",
    ),
    "classes": (
        "fatal", "Labels of other classes than the layout's",
        "The dataset lies as PASCAL VOC does, and its classes were taken for granted. Name your own.",
    ),
    "ids": (
        "fatal", "Label ids outside the classes",
        'Correct the labels, add the missing classes to classes.json, or give the values to a class as its "values" or '
        'to void in "ignore_values". In the pictures these pixels are orange.',
    ),
    "turned": (
        "warning", "Labelled images that their EXIF data turns",
        "Training and prediction turn them upright. See that their labels were drawn on the upright picture.",
    ),
    "void": (
        "warning", "Labels that are void throughout",
        "Nothing is learned from them, and they take a labelled image's place in the split.",
    ),
    "single": (
        "warning", "Labels that hold a single class",
        "Often a label that nobody finished, or an export that went wrong. Look at a few.",
    ),
}  # fmt: skip


def pair_problems(
    image: FileFacts, label: FileFacts | None, *, classes: int, ignore_index: int, root: str = ""
) -> list[tuple[str, Item]]:
    """(kind, item) for everything that is wrong, the fatal ones first.

    Args:
        root: what stands before the names in the text, such as the dataset's folder and a slash.
    """
    name = root + image.name
    problems: list[tuple[str, Item]] = []
    if image.problem:
        problems.append(("unreadable", Item(_unreadable("image", name, image.problem), image=image.name)))
    if label is None:
        return problems
    shown = "" if image.problem else image.name
    label_name = root + label.name
    if label.problem:
        text = _unreadable("label", label_name, label.problem)
        return [*problems, ("unreadable", Item(text, image=shown))]
    if label.mode not in ID_MODES:
        text = (
            f"label {label_name} is a picture of mode {label.mode}, and should hold class ids: "
            "save it as 8-bit grey or palette PNG"
        )
        problems.append(("mode", Item(text, image=shown, label=label.name)))
    if not image.problem and label.size != image.size:
        text = (
            f"label {label_name} is {size_text(label.size)} and its image {name} is {size_text(image.size)}: "
            "give both the same size"
        )
        problems.append(("size", Item(text, image=shown, label=label.name)))
    if image.turned:
        text = f"image {name} is {size_text(image.size)} when turned as its EXIF data says; its label must lie so, too"
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
            f"ids are 0 to {classes - 1}, and {ignore_index} for void; give others to a class as its "
            '"values" in classes.json, or to void in "ignore_values"'
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


def _unreadable(what: str, name: str, reason: str) -> str:
    return f"{what} {name} cannot be read ({reason}): replace it or take it off the lists"


def _values(values: tuple[int, ...]) -> str:
    shown = ", ".join(str(value) for value in values[:8])
    return f"{shown}, … ({len(values)} values)" if len(values) > 8 else shown
