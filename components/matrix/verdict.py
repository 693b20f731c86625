"""Say in one sentence whether the methods helped, claiming no more than seeds and images support."""

from collections.abc import Sequence

from components.matrix.cells import SUPERVISED, Method
from components.matrix.gains import Gain, name_of
from components.pages.render import points
from components.pages.verdict import PageVerdict, listed

MORE_SEEDS = "Run the matrix with at least three seeds, such as --seeds 1,2,3."


def judge(gains: Sequence[Gain]) -> PageVerdict:
    """Return the verdict on the gains of all methods and ratios; without any, there is nothing to compare with."""
    if not gains:
        return PageVerdict(
            "doubtful",
            "No comparison",
            "this matrix has no supervised baseline, so it does not show whether CPS helps.",
            next=("Add the baseline: cps matrix --baseline. Finished runs are not repeated.",),
        )
    seeds = max(len(gain.differences) for gain in gains)
    methods = {gain.method for gain in gains}
    notes = tuple(f"{note}." for note in remarks(gains))
    several = len(methods) > 1
    if seeds < 2:
        return PageVerdict(
            "doubtful",
            "One seed",
            "no conclusion.",
            (
                "One run of each kind does not show how much results differ by chance.",
                f"Seen: {_said(gains, several)}.",
                *notes,
            ),
            (MORE_SEEDS,),
        )
    better = [gain for gain in gains if gain.call == "clear gain"]
    worse = [gain for gain in gains if gain.call == "clear loss"]
    unclear = [gain for gain in gains if gain not in better and gain not in worse]
    over = f"over {seeds} seeds and over images" if all(gain.images for gain in gains) else f"over {seeds} seeds"
    why = [f"The gain is clear {over}: {_said(better, several)}."] if better else []
    why += [f"It is clearly worse: {_said(worse, several)}."] if worse else []
    why += [f"Not clear, because chance may explain the difference: {_said(unclear, several)}."] if unclear else []
    if len(gains) > 1:
        why.append(f"Holm’s correction for {len(gains)} comparisons is applied.")
    advice = (f"To settle {_places(unclear, several)}, add seeds.",) if unclear else ()
    reference = gains[0].reference
    is_alone = len(methods) == 1 and reference == SUPERVISED
    subject = name_of(gains[0].method) if is_alone else ""
    more = (*why, *notes)
    if better and worse:
        subject = subject or "a method"
        sentence = (
            f"{subject} helps with {_places(better, several)} of the labels and hurts with {_places(worse, several)}."
        )
        return PageVerdict("doubtful", "Mixed", sentence, more, advice)
    if not better and not worse:
        pair = f"{subject} and its baseline" if is_alone else f"the {name_of(reference)} and the other methods"
        return PageVerdict("doubtful", "No clear difference", f"{pair}, compared over {seeds} seeds.", more, advice)
    found = better or worse
    verb, noun = ("helps", "gain") if better else ("hurts", "loss")
    word = f"{subject} {verb}" if is_alone else f"Clear {noun} over the {name_of(reference)}"
    return PageVerdict(
        "good" if better else "bad", word, f"with {_places(found, several)} of the labels.", more, advice
    )


def remarks(gains: Sequence[Gain]) -> list[str]:
    """Return the notes of gains, each once, with the method and the ratios that it is about."""
    ratios: dict[tuple[Method, str], list[str]] = {}
    for gain in gains:
        for note in gain.notes:
            ratios.setdefault((gain.method, note), []).append(gain.labeled_ratio)
    return [f"{name_of(method)} with {listed(found)}: {note}" for (method, note), found in ratios.items()]


def _places(gains: Sequence[Gain], several: bool) -> str:
    """Return the ratios of gains, with the methods if the matrix has several."""
    if not several:
        return listed([gain.labeled_ratio for gain in gains])
    return "; ".join(
        f"{name_of(method)} at {listed([gain.labeled_ratio for gain in gains if gain.method == method])}"
        for method in dict.fromkeys(gain.method for gain in gains)
    )


def _said(gains: Sequence[Gain], several: bool) -> str:
    return listed(
        [
            f"{points(gain.mean)} points with {gain.labeled_ratio}{f' ({name_of(gain.method)})' if several else ''}"
            for gain in gains
        ]
    )
