"""Put a proposal together, check it by reading the folder as it will be, and write it."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from components.contract import Frozen
from components.dataset.check.facts import FileFacts
from components.dataset.check.findings import CheckReport
from components.dataset.check.inspect import inspect_dataset
from components.dataset.class_files import RGB
from components.dataset.class_ids import Reading, choose_reading, scan_labels, with_class_ids
from components.dataset.classes import FILES, UNDECLARED, Declared
from components.dataset.layouts import Incomplete, Layout, read_draft, read_layout
from components.dataset.layouts.annotations.model import TITLES
from components.dataset.layouts.model import counted
from components.dataset.manifest import Lists, Sample
from components.dataset.propose.classes import VOID, Plan, VoidWish, plan_classes
from components.dataset.propose.contents import Contents, Mark, mark_order, read_contents
from components.dataset.propose.groups import parse_name
from components.dataset.propose.holdout import Holdout, Method, default_share, hold_out
from components.dataset.propose.rare import INTO_VOID, class_shares, merged, rare_classes
from components.dataset.propose.stray import check_stray
from components.dataset.propose.texts import CLASSES, classes_text, list_texts, mirror
from components.disk import scratch_folder, work_folder
from components.errors import UserError, WorkFailed
from components.files import write_together
from components.recipes.model import AUTO

Progress = Callable[[int, int], None]


class Settings(Frozen):
    """What a user may decide about a proposal."""

    void: frozenset[Mark] = frozenset()
    """Values and colours that mean void."""
    detect_void: bool = True
    """Whether those that the labels suggest are void too."""
    merge_rare: str = ""
    """The class to merge rare classes into, or `void`; empty to leave them."""
    val_share: float | None = None
    """None for `default_share`."""
    seed: int = 0
    group_by: str = AUTO


class FoundMark(Frozen):
    """A value or colour in the labels."""

    mark: Mark
    pixel_share: float
    """Share of the pixels of all labels, 0 to 1."""
    image_share: float
    """Share of the labels that contain it, 0 to 1."""
    meaning: str
    """The name of a class, or `void`."""


class ProposedClass(Frozen):
    id: int
    name: str
    color: RGB
    pixel_share: float
    images: int
    is_rare: bool


class Split(Frozen):
    """A proposed validation split."""

    method: Method
    images: int
    labeled: int
    """Number of labelled images, of which `images` are held out."""
    share: float
    seed: int
    groups: tuple[str, ...]
    """The sequences or blocks of consecutive numbers in val."""
    missing: tuple[str, ...]
    """Classes that val lacks although enough labels have them."""


class NewFile(Frozen):
    path: str
    """Relative to the proposal's folder."""
    text: str
    replaces: bool
    """Whether a file of this name exists."""
    images: int = 0
    """Number of images in a list."""


class Problem(Frozen):
    """What the check finds in the dataset as it will be."""

    level: Literal["fatal", "warning"]
    title: str
    items: tuple[str, ...]


class Proposal(Frozen):
    format: Literal[1] = 1
    folder: str
    """The dataset's folder, which may be inside the one that was given."""
    dataset: str
    layout: str
    images: dict[str, int]
    """Number of images found in each part: labeled, unlabeled, val, test."""
    joined: bool
    """Whether several folders side by side become one dataset."""
    marks: tuple[FoundMark, ...]
    classes: tuple[ProposedClass, ...]
    names_from: str
    """The class file with the names; empty if the names stand in for ones that nobody has given."""
    split: Split | None
    """None if the dataset has validation images."""
    notes: tuple[str, ...]
    files: tuple[NewFile, ...]
    """What is missing; empty if the dataset is complete."""
    problems: tuple[Problem, ...]

    @property
    def replaced(self) -> list[str]:
        """Return the names of the files that would be replaced."""
        return [file.path for file in self.files if file.replaces]

    def refuse_fatal(self) -> None:
        """Raise UserError if the dataset could not be trained on even with the proposed files."""
        fatal = [problem for problem in self.problems if problem.level == "fatal"]
        if fatal:
            number = sum(len(problem.items) for problem in fatal)
            more = f" (and {number - 1:,} more)" if number > 1 else ""
            raise UserError(f"dataset {self.folder}: {fatal[0].items[0]}{more}")


@dataclass(frozen=True)
class _Draft:
    """A folder as it is, with all that is known about its labels."""

    layout: Layout
    facts: Mapping[str, FileFacts]
    contents: Contents


def propose(folder: Path, settings: Settings, on_progress: Progress | None = None) -> Proposal:
    """Return what the folder lacks to be a dataset. Nothing is written.

    Args:
        on_progress: called after each checked image with the number of checked images and the total.

    Raises:
        UserError: the folder has no labelled images, or its labels have no meaning that could be proposed.
    """
    layout = read_draft(folder)
    draft, plan = _planned(layout, settings)
    notes = [note for note in layout.notes if note not in layout.declared.notes and "held out" not in note]
    rare = rare_classes(plan, draft.contents)
    if settings.merge_rare:
        plan, rare = _merged(layout, plan, rare, settings.merge_rare), []
    lists, holdout = _lists(draft, plan, settings)
    notes += [*plan.notes, *_split_notes(lists, holdout, settings)]
    texts = _texts(draft, plan, lists)
    report = _read_back(draft, plan, lists, texts, on_progress)
    names = [each.name for each in plan.classes]
    return Proposal(
        folder=str(layout.folder),
        dataset=layout.name,
        layout=layout.kind,
        images=_counts(layout, lists),
        joined=layout.joined,
        marks=_found(draft.contents, plan),
        classes=_classes(draft.contents, plan, rare),
        names_from=plan.origin,
        split=holdout and _split(holdout, settings, names),
        notes=tuple(notes),
        files=_files(layout.folder, texts),
        problems=tuple(
            Problem(level=each.level, title=each.title, items=tuple(item.text for item in each.items))
            for each in report.findings
            if each.level != "fine"
        ),
    )


def read_folder(folder: Path) -> Layout:
    """Read the dataset in a user's folder, as `read_layout` does. If `cps init` helps, the error names it."""
    try:
        return read_layout(folder)
    except Incomplete as error:
        helps = _plan_of(folder) is not None
        remedy = f"; or run `cps init {shlex.quote(str(folder))}`, {error.remedy}"
        raise UserError(f"{error}{remedy if helps else ''}") from None


def classes_remedy(folder: Path, declared: Declared) -> str:
    """Return the end of an error about a folder whose labels do not fit the classes of a tool or a known dataset.

    Returns an empty string if they fit, or if `cps init` does not help.
    """
    plan = None if any(name in FILES for name in declared.files) else _plan_of(folder)
    if plan is None or plan.is_kept:
        return ""
    return f"; `cps init {shlex.quote(str(folder))}` proposes classes that fit the labels"


def _plan_of(folder: Path) -> Plan | None:
    """Return the classes that would be proposed for a folder; None if that is impossible."""
    try:
        return _planned(read_draft(folder), Settings())[1]
    except UserError:
        return None


def write(proposal: Proposal) -> None:
    """Write the proposed files: all of them, or none if that fails.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(proposal.folder)
    try:
        write_together({folder / file.path: file.text for file in proposal.files})
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; nothing was changed") from None


def check_writable(folder: Path) -> None:
    """Raise UserError if no file can be created in the folder."""
    probe = folder / f".cps-{os.getpid()}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror}; copy the folder, or print the proposal with --json"
        ) from None


def dataset_folder(folder: Path) -> Path:
    """Return the folder of the dataset in `folder`, where its new files belong. Raises UserError like `propose`."""
    return read_draft(folder).folder


def _planned(layout: Layout, settings: Settings) -> tuple[_Draft, Plan]:
    """Return the draft and its classes. Well-known datasets with labels of their own keep both.

    Raises UserError if the labels are annotations rather than masks, because these name their classes.
    """
    if layout.drawing is not None:
        raise UserError(
            f"dataset {layout.folder} has {TITLES[layout.drawing.format]} annotations, which name their classes, so "
            "there is nothing to propose: `cps dataset check` shows how it is read, and classes.json can change that"
        )
    facts = scan_labels(layout)
    reading = _reading(layout, facts)
    contents = read_contents(layout, facts, reading)
    plan = plan_classes(layout, contents, reading, VoidWish(settings.void, settings.detect_void))
    if not plan.is_kept:
        check_stray(layout, contents)
    return _Draft(layout, facts, contents), plan


def _reading(layout: Layout, facts: Mapping[str, FileFacts]) -> Reading | None:
    """Return how the labels are read with the classes that the dataset declares; None if it declares none."""
    if layout.label_ids is not None or layout.label_colors is not None:
        return Reading(layout.label_ids or {}, layout.label_colors or {})
    return None if layout.declared is UNDECLARED else choose_reading(layout.declared, facts, layout.kind)


def _merged(layout: Layout, plan: Plan, rare: Sequence[int], into: str) -> Plan:
    own = next((name for name in layout.declared.files if name in FILES), "")
    if own:
        raise UserError(
            f'{layout.folder / own} exists: merge classes with "values" or "ignore_values" in it, not with --merge-rare'
        )
    return merged(plan, rare, into)


def _lists(draft: _Draft, plan: Plan, settings: Settings) -> tuple[Lists, Holdout | None]:
    """Return the lists as they will be read, and the split if one is proposed."""
    layout, lists = draft.layout, draft.layout.lists
    if not layout.held_out:
        return lists, None
    means = plan.meanings()
    classes = {
        name: sorted({means[mark] for mark in counts if means.get(mark, VOID) != VOID})
        for name, counts in draft.contents.labels.items()
    }
    samples = sorted((*lists.train, *lists.val), key=lambda sample: sample.image)
    share = _val_share(settings, len(samples))
    holdout = hold_out(samples, classes, share=share, seed=settings.seed, group_by=settings.group_by)
    unlabeled = dict.fromkeys((*lists.unlabeled, *(image for pool in layout.pools.values() for image in pool)))
    update = {"train": holdout.train, "val": holdout.val, "unlabeled": tuple(unlabeled)}
    return lists.model_copy(update=update), holdout


def _split_notes(lists: Lists, holdout: Holdout | None, settings: Settings) -> Iterator[str]:
    default = Settings()
    asked = (settings.val_share, settings.seed, settings.group_by)
    if holdout is None and asked != (default.val_share, default.seed, default.group_by):
        yield "the dataset has validation images: --val-share, --seed and --group-by change nothing"
    if holdout and holdout.method == "sequences" and settings.group_by == AUTO:
        chains = [parse_name(image).chain for image in lists.unlabeled]
        groups = set(holdout.groups)
        number = sum(any("/".join(chain[:end]) in groups for end in range(1, len(chain) + 1)) for chain in chains)
        if number:
            yield f"{counted(number, 'images')} without a label belong to the sequences in val; training sees them"


def _texts(draft: _Draft, plan: Plan, lists: Lists) -> dict[str, str]:
    """Return the files to write by name; those that exist with the same text are left out."""
    layout = draft.layout
    needs_lists = layout.held_out or layout.joined
    texts = list_texts(layout, lists) if needs_lists else {}
    has_own = any(name in FILES for name in layout.declared.files)
    if not plan.is_kept or (needs_lists and not has_own):
        texts = {CLASSES: classes_text(layout, plan, draft.contents), **texts}
    odd = next((name for name in lists.file_names() if needs_lists and not _is_listable(name)), None)
    if odd is not None:
        raise UserError(f"{layout.root}{odd!r}: lists cannot hold this file name; rename the file")
    return {name: text for name, text in texts.items() if not _is_same(layout.folder / name, text)}


def _is_listable(name: str) -> bool:
    """Return whether a line of a UTF-8 file can hold a name."""
    return "\t" not in name and name.splitlines() == [name] and _is_utf8(name)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # undecodable bytes, which Python spells as surrogates
        return False
    return True


def _is_same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _read_back(
    draft: _Draft, plan: Plan, lists: Lists, texts: Mapping[str, str], on_progress: Progress | None
) -> CheckReport:
    """Check the dataset as it will be, in a folder of links.

    Raises:
        UserError: it would be read differently from what is proposed.
    """
    top = draft.layout.top or draft.layout.folder
    place = draft.layout.folder.relative_to(top)
    with scratch_folder(work_folder()) as scratch:
        shadow = scratch / "shadow"
        mirror(top, shadow, {(place / name).as_posix(): text for name, text in texts.items()})
        try:
            layout = replace(read_layout(shadow, draft.layout.name), origin=str(draft.layout.folder))
            _compare(layout.lists, lists, plan)
            read = with_class_ids(layout, scratch / "class-ids", keep_going=True, facts=draft.facts)
            report = inspect_dataset(read, on_progress=on_progress)
        except UserError as error:
            raise UserError(str(error).replace(str(shadow), str(top))) from None
        _compare_pixels(draft, plan, lists, report)
    return report


def _compare(read: Lists, proposed: Lists, plan: Plan) -> None:
    for part in ("train", "val", "test", "unlabeled"):
        one, other = getattr(read, part), getattr(proposed, part)
        if one != other:
            names = [each.image if isinstance(each, Sample) else each for each in (*other, *one)]
            odd = next((each for each in names if names.count(each) == 1), names[0])
            raise UserError(
                f"the lists would not be read as proposed, because of the file name {odd!r}: rename the file, or "
                "write train.txt and val.txt by hand"
            )
    if [(each.name, each.color) for each in read.classes] != [(each.name, each.color) for each in plan.classes]:
        raise UserError(f"the classes would not be read as proposed: write {CLASSES} by hand")


def _compare_pixels(draft: _Draft, plan: Plan, lists: Lists, report: CheckReport) -> None:
    """Raise WorkFailed if the pixels of a class are not those that the proposal says."""
    if any(finding.level == "fatal" for finding in report.findings):
        return
    labels = {sample.label for sample in (*lists.train, *lists.val)}
    measured = Contents({name: counts for name, counts in draft.contents.labels.items() if name in labels})
    for each, share, row in zip(plan.classes, class_shares(plan, measured), report.balance, strict=True):
        if share.pixels != row.train_pixels + row.val_pixels:
            raise WorkFailed(
                f"class {each.name} has {share.pixels:,} pixels, but {row.train_pixels + row.val_pixels:,} would be "
                f"read: write {CLASSES} by hand"
            )


def _counts(layout: Layout, lists: Lists) -> dict[str, int]:
    held = len(lists.val) if layout.held_out else 0
    return {
        "labeled": len(lists.train) + held,
        "unlabeled": len(lists.unlabeled),
        "val": len(lists.val) - held,
        "test": len(lists.test),
    }


def _found(contents: Contents, plan: Plan) -> tuple[FoundMark, ...]:
    means, total = plan.meanings(), max(1, contents.pixels.total())
    # Void, which is -1, comes last.
    order = sorted(
        contents.pixels, key=lambda mark: (means.get(mark, VOID) % (len(plan.classes) + 1), mark_order(mark))
    )
    return tuple(
        FoundMark(
            mark=mark,
            pixel_share=contents.pixels[mark] / total,
            image_share=contents.images[mark] / len(contents.labels),
            meaning=INTO_VOID if means.get(mark, VOID) == VOID else plan.classes[means[mark]].name,
        )
        for mark in order
    )


def _classes(contents: Contents, plan: Plan, rare: Sequence[int]) -> tuple[ProposedClass, ...]:
    total = max(1, contents.pixels.total())
    return tuple(
        ProposedClass(
            id=each.id,
            name=each.name,
            color=each.color or (0, 0, 0),
            pixel_share=share.pixels / total,
            images=share.images,
            is_rare=index in rare,
        )
        for index, (each, share) in enumerate(zip(plan.classes, class_shares(plan, contents), strict=True))
    )


def _val_share(settings: Settings, labeled: int) -> float:
    return default_share(labeled) if settings.val_share is None else settings.val_share


def _split(holdout: Holdout, settings: Settings, names: Sequence[str]) -> Split:
    labeled = len(holdout.train) + len(holdout.val)
    return Split(
        method=holdout.method,
        images=len(holdout.val),
        labeled=labeled,
        share=_val_share(settings, labeled),
        seed=settings.seed,
        groups=holdout.groups,
        missing=tuple(names[number] for number in holdout.missing),
    )


def _files(folder: Path, texts: Mapping[str, str]) -> tuple[NewFile, ...]:
    return tuple(
        NewFile(
            path=name,
            text=text,
            replaces=(folder / name).exists(),
            images=0 if name == CLASSES else text.count("\n"),
        )
        for name, text in texts.items()
    )
