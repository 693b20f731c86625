"""Derive classes from what the labels contain, with the names of a class file if there is one."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from components.dataset.class_files import RGB
from components.dataset.class_ids import Reading
from components.dataset.classes import FILES, Declared, class_file, voc_color
from components.dataset.layouts import Layout
from components.dataset.layouts.names import own_words
from components.dataset.propose.contents import BLACK, Contents, Mark, mark_order, mark_text
from components.errors import UserError
from components.pages.palette import class_colors

VOID = -1
"""Stands for void where the index of a class is expected."""
_BORDER: RGB = (224, 224, 192)
"""The colour of PASCAL VOC's borders between objects, which are void."""
_MAX_CLASSES = 255
_MAX_LEVELS = 16
"""At most this many values, spread evenly over 0 to 255, are classes drawn as grey levels."""
_THING_WORDS = 2
"""A folder name with more words than this is not used as a class name."""
_MIN_OBJECTS = 5
"""Labels that number their values without gaps look like numbered objects if one has at least this many."""


@dataclass(frozen=True)
class PlannedClass:
    id: int
    name: str
    marks: tuple[Mark, ...]
    """The values or colours in label files that mean this class."""
    color: RGB | None = None
    """The colour of its pixels in label files; in a finished plan, the colour to show it in."""


@dataclass(frozen=True)
class Plan:
    """The classes of a draft, and what else its labels contain."""

    classes: tuple[PlannedClass, ...]
    void: tuple[Mark, ...] = ()
    origin: str = ""
    """The class file that the names come from; empty if they stand in for names that nobody has given."""
    is_kept: bool = False
    """Whether the dataset already declares exactly these classes."""
    added: tuple[PlannedClass, ...] = ()
    """Classes that the dataset's own classes.json lacks."""
    notes: tuple[str, ...] = ()

    def meanings(self) -> dict[Mark, int]:
        """Return the index of the class, or VOID, of every mark."""
        found: dict[Mark, int] = dict.fromkeys(self.void, VOID)
        return found | {mark: index for index, each in enumerate(self.classes) for mark in each.marks}


@dataclass(frozen=True)
class VoidWish:
    """The values and colours that a user calls void."""

    marks: frozenset[Mark] = frozenset()
    detect: bool = True
    """Whether those that the labels suggest are void too."""

    @property
    def is_default(self) -> bool:
        return self.detect and not self.marks


def plan_classes(
    layout: Layout,
    contents: Contents,
    reading: Reading | None,
    wish: VoidWish = VoidWish(),
) -> Plan:
    """Return the classes that the labels of a draft contain.

    Args:
        reading: how the labels are read with the classes that the dataset declares; None if it declares none.

    Raises:
        UserError: the labels contain fewer than two classes or too many, or two readings are possible.
    """
    declared = layout.declared
    own = next((name for name in declared.files if name in FILES), "")
    if own and not wish.is_default:
        raise UserError(f'{layout.folder / own} exists: declare void in it, with "ignore_values", instead of --void')
    _check_void(layout, contents, wish.marks)
    if reading is None:
        return _checked(layout, _fresh(layout, contents, wish))
    if own:
        return _own(layout, contents, reading, own)
    if wish.is_default and not reading.refused and _fits(declared, contents, reading):
        return _as_declared(declared, contents, reading)
    if declared.is_known:
        return _checked(layout, _fresh(layout, contents, wish))
    return _checked(layout, _named(declared, contents, wish))


def meanings(declared: Declared, reading: Reading | None = None) -> dict[Mark, int]:
    """Return the index of the class, or VOID, of every declared mark."""
    found: dict[Mark, int] = {}
    found.update((reading or declared).values.items())
    found.update((reading or declared).colors.items())
    return {mark: VOID if number == declared.ignore_index else number for mark, number in found.items()}


def _check_void(layout: Layout, contents: Contents, void: Iterable[Mark]) -> None:
    for mark in void:
        if mark not in contents.pixels:
            found = _listed(sorted(contents.pixels, key=mark_order))
            raise UserError(f"--void {mark_text(mark)}: no label in {layout.folder} contains it; they contain {found}")


def _checked(layout: Layout, plan: Plan) -> Plan:
    number = len(plan.classes)
    if number < 2:
        only = ", ".join(mark_text(mark) for each in plan.classes for mark in each.marks) or "void"
        raise UserError(
            f"the labels in {layout.folder} contain one class only ({only}), but training needs at least two: "
            "label the background too, with a value of its own"
        )
    if number > _MAX_CLASSES:
        raise UserError(
            f"the labels in {layout.folder} contain {number} different values or colours, but at most {_MAX_CLASSES} "
            "classes are possible: export semantic masks, with one value for each class"
        )
    wrong = next((mark for each in plan.classes for mark in each.marks if isinstance(mark, int) and mark > 255), None)
    if wrong is not None:
        raise UserError(
            f"the labels in {layout.folder} contain the value {wrong}, but classes have values of 0 to 255: "
            "export 8-bit masks"
        )
    return replace(plan, classes=with_colors(plan.classes))


def with_colors(classes: Sequence[PlannedClass]) -> tuple[PlannedClass, ...]:
    """Return the classes with the colours of the labels, or with other ones if two classes share a colour."""
    given = [each.color for each in classes]
    used = [color for color in given if color is not None]
    colors = class_colors([each.name for each in classes], given if len(set(used)) == len(used) else ())
    return tuple(replace(each, color=color) for each, color in zip(classes, colors, strict=True))


def _as_declared(declared: Declared, contents: Contents, reading: Reading) -> Plan:
    means = meanings(declared, reading)
    classes = tuple(
        PlannedClass(
            number, entry.name, tuple(mark for mark, meaning in means.items() if meaning == number), entry.color
        )
        for number, entry in enumerate(declared.classes)
    )
    void = tuple(
        mark for mark, meaning in means.items() if meaning == VOID and (mark != 255 or mark in contents.pixels)
    )
    return Plan(classes, void, declared.files[0] if declared.files else "", is_kept=True)


def _fits(declared: Declared, contents: Contents, reading: Reading) -> bool:
    """Return whether every mark has a meaning, and every class is in a label unless they are a known dataset's."""
    means = meanings(declared, reading)
    shown = {means[mark] for mark in contents.pixels if mark in means}
    is_complete = declared.is_known or shown >= set(range(len(declared.classes)))
    return is_complete and contents.pixels.keys() <= means.keys()


def _own(layout: Layout, contents: Contents, reading: Reading, own: str) -> Plan:
    """Return the plan for a dataset with a class file of ours, which may lack some classes of the labels."""
    declared = layout.declared
    plan = _as_declared(declared, contents, reading)
    known = plan.meanings()
    unknown = [mark for mark in _ordered(contents) if mark not in known]
    if not unknown or declared.is_known or (contents.is_colored and not declared.colors):
        return plan  # the check says what is wrong with the labels, if anything is
    taken = {line["id"] for line in class_file(layout.folder / own)["classes"]}
    added = []
    for mark in unknown:
        free = isinstance(mark, int) and mark not in taken and mark < 255
        number = mark if free and isinstance(mark, int) else next(n for n in range(256) if n not in taken)
        taken.add(number)
        name = _stand_in(number, [each.name for each in plan.classes])
        added.append(PlannedClass(number, name, (mark,), None if isinstance(mark, int) else mark))
    notes = (f"{own} lacks {_listed(unknown)}, which labels contain",)
    extended = _checked(layout, replace(plan, classes=(*plan.classes, *added), is_kept=False, notes=notes))
    return replace(extended, added=extended.classes[len(plan.classes) :])


def _named(declared: Declared, contents: Contents, wish: VoidWish) -> Plan:
    """Return a plan with the names of a tool's class file that does not fit the labels as it is."""
    file, number = declared.files[0], len(declared.classes)
    means, notes = meanings(declared), list[str]()
    values = [value for value in contents.values if value != 255]
    if contents.is_colored and not declared.colors:
        means = {voc_color(index): index for index in range(number)}
        if not set(contents.pixels) - {_BORDER} <= means.keys():
            plan = _fresh_classes(contents, wish)
            return replace(plan, notes=(*plan.notes, f"{file} names {number} classes, but not their colours"))
        notes.append(f"the colours are those of PASCAL VOC's palette: {file} names them by position")
    elif values and values[-1] == number and number not in means:
        means = {mark + 1: index for mark, index in means.items() if isinstance(mark, int) and index != VOID}
        notes.append(f"{file} names {number} classes and labels have values up to {number}: it names 1 to {number}")
    void = _void(contents, wish)
    if wish.detect:
        void |= {mark for mark in contents.pixels if means.get(mark) == VOID and mark != 255}
        if 0 in contents.pixels and 0 not in means:
            void |= {0}
            notes.append(f"{file} does not name 0, so 0 is void; `--void none` makes it a class")
    names = {mark: declared.classes[index].name for mark, index in means.items() if index != VOID}
    if 0 in contents.pixels and 0 not in names:
        names[0] = "background"
    plan = _build(contents, names, void)
    missing = [entry.name for entry in declared.classes if entry.name not in {each.name for each in plan.classes}]
    if missing:
        notes.append(f"no label contains {', '.join(missing)}, which {file} names: left out")
    unnamed = [mark for mark in _ordered(contents) if mark not in names and mark not in void]
    if unnamed:
        notes.append(f"{file} does not name {_listed(unnamed)}")
    return replace(plan, origin=file, notes=tuple(notes))


def _fresh(layout: Layout, contents: Contents, wish: VoidWish) -> Plan:
    """Return a plan without any names to go by."""
    if wish.is_default:
        _check_two_readings(layout, contents)
    plan = _fresh_classes(contents, wish)
    if _is_binary(contents, plan.void):
        thing = _thing(layout, contents)
        named = (replace(plan.classes[0], name="background"), replace(plan.classes[1], name=thing))
        return replace(plan, classes=named)
    return plan


def _fresh_classes(contents: Contents, wish: VoidWish) -> Plan:
    notes = []
    void = _void(contents, wish)
    if 255 in void - wish.marks:
        notes.append("255 is void (pixels without a label); `--void none` makes it a class")
    if wish.is_default:
        if _is_binary(contents, tuple(void)):
            pass
        elif 0 in contents.pixels and not contents.palette and contents.values[:2] == [0, 1]:
            notes.append("0 is a class like the others; if it means that a pixel has no label, use `--void 0`")
        elif BLACK in contents.pixels:
            notes.append("black is the background; if it means that a pixel has no label, use `--void '#000000'`")
    if _number_objects(contents):
        notes.append(
            "every label numbers its values without gaps: if they number objects and not classes, this is the wrong "
            "kind of mask; export semantic masks"
        )
    black: list[Mark] = [BLACK] if contents.is_colored else [
        index for index, color in contents.palette.items() if color == BLACK and not _is_grey(contents.palette)
    ]  # fmt: skip
    return replace(_build(contents, dict.fromkeys(black[:1], "background"), void), notes=tuple(notes))


def _build(contents: Contents, names: Mapping[Mark, str], void: Set[Mark]) -> Plan:
    """Return a plan for all marks in the labels; marks of the same name are one class."""
    marks: dict[str, list[Mark]] = {}
    for number, mark in enumerate(mark for mark in _ordered(contents) if mark not in void):
        stand_in = _stand_in(mark if isinstance(mark, int) else number, names.values())
        marks.setdefault(names.get(mark) or stand_in, []).append(mark)
    firsts = [each[0] for each in marks.values()]
    as_values = all(isinstance(mark, int) and mark < 255 for mark in firsts) and not _is_levels(contents)
    classes = [
        PlannedClass(
            mark if as_values and isinstance(mark, int) else number,
            name,
            tuple(each),
            _painted(mark, contents),
        )
        for number, (mark, (name, each)) in enumerate(zip(firsts, marks.items(), strict=True))
    ]
    return Plan(tuple(classes), tuple(mark for mark in _ordered(contents) if mark in void))


def _stand_in(number: int, taken: Iterable[str]) -> str:
    """Return a name for a class that has none, unlike those that are taken."""
    return f"class-{number}" if f"class-{number}" not in taken else f"unnamed-{number}"


def _painted(mark: Mark, contents: Contents) -> RGB | None:
    """Return the colour of a mark in the labels; None if they are grey."""
    if not isinstance(mark, int):
        return mark
    return None if _is_grey(contents.palette) else contents.palette.get(mark)


def _is_grey(palette: Mapping[int, RGB]) -> bool:
    return all(len(set(color)) == 1 for color in palette.values())


def _ordered(contents: Contents) -> list[Mark]:
    """Return all marks: values in order; colours in the order of VOC's palette, or black first and then by size."""
    colors = {mark for mark in contents.pixels if not isinstance(mark, int)}
    palette = {voc_color(number): number for number in range(256)}
    if colors <= palette.keys():
        return [*contents.values, *sorted(colors, key=palette.__getitem__)]
    return [*contents.values, *sorted(colors, key=lambda mark: (mark != BLACK, -contents.pixels[mark], mark))]


def _is_binary(contents: Contents, void: Sequence[Mark]) -> bool:
    """Return whether the labels hold one class and a background of 0 or black."""
    marks = contents.pixels.keys() - set(void)
    return len(marks) == 2 and bool(marks & {0, BLACK})


def _void(contents: Contents, wish: VoidWish) -> set[Mark]:
    """Return the marks that are void by a user's wish or by convention."""
    conventional = {mark for mark in (255, _BORDER) if mark in contents.pixels and _shows_void(contents)}
    return {*wish.marks, *(conventional if wish.detect else ())}


def _shows_void(contents: Contents) -> bool:
    """Return whether 255 or VOC's border colour means void: two other marks are left, and these are no grey levels."""
    return len(contents.pixels) > 2 and not _is_levels(contents)


def _is_levels(contents: Contents) -> bool:
    """Return whether the values are grey levels, spread evenly from 0 to 255."""
    values = contents.values
    steps = len(values) - 1
    return 2 < len(values) <= _MAX_LEVELS and all(
        abs(value - 255 * number / steps) < 2 for number, value in enumerate(values)
    )


def _check_two_readings(layout: Layout, contents: Contents) -> None:
    """Raise UserError if 255 may be void or the same class as 1: no label has both, but some have one of them and 0."""
    if contents.values != [0, 1, 255] or contents.is_colored:
        return
    ones = [name for name, counts in contents.labels.items() if 1 in counts]
    highs = [name for name, counts in contents.labels.items() if 255 in counts and 0 in counts]
    if ones and highs and not set(ones) & set(highs):
        raise UserError(
            f"label {layout.root}{highs[0]} has 0 and 255, but label {ones[0]} has 1: 255 may be void, or the same "
            "class as 1; use --void 255, or export all labels in one way"
        )


def _number_objects(contents: Contents) -> bool:
    """Return whether every label has the values 1, 2 … without gaps, up to numbers that differ."""
    sets = [numbers for counts in contents.labels.values() if (numbers := set(counts) - {0, 255})]
    in_a_row = all(numbers == set(range(1, len(numbers) + 1)) for numbers in sets)
    return in_a_row and len({len(numbers) for numbers in sets}) > 1 and max(map(len, sets)) >= _MIN_OBJECTS


def _thing(layout: Layout, contents: Contents) -> str:
    """Return the name of the class in binary masks: what the folders of labels are named after, or the dataset."""
    folders = {PurePosixPath(name).parent for name in contents.labels}
    for parts in (*zip(*(reversed(folder.parts) for folder in sorted(folders)), strict=False), (layout.folder.name,)):
        words = {tuple(word for word in own_words(part) if len(word) > 2) for part in parts}
        name = " ".join(words.pop()) if len(words) == 1 else ""
        if 0 < len(name.split()) <= _THING_WORDS and name not in ("background", "binary"):
            return name
    return "foreground"


def _listed(marks: Sequence[Mark]) -> str:
    shown = ", ".join(map(mark_text, marks[:8]))
    return f"{shown} and {len(marks) - 8} more" if len(marks) > 8 else shown
