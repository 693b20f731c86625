"""Say in one sentence whether Cross Pseudo Supervision helped, claiming no more than the seeds support."""

from collections.abc import Sequence

from components.matrix.gains import Gain
from components.pages.render import points
from components.pages.verdict import PageVerdict, listed

MORE_SEEDS = "Run the matrix with at least three seeds, such as --seeds 1,2,3."


def judge(gains: Sequence[Gain]) -> PageVerdict:
    """Return the verdict on the gains of all ratios; without any, there is nothing to compare with."""
    if not gains:
        return PageVerdict(
            "doubtful",
            "No comparison",
            "this matrix has no supervised baseline, so it does not show whether CPS helps.",
            next=("Add the baseline: cps matrix --baseline. Finished runs are not repeated.",),
        )
    seeds = max(len(gain.differences) for gain in gains)
    if seeds < 2:
        return PageVerdict(
            "doubtful",
            "One seed",
            "no conclusion.",
            ("One run of each kind does not show how much results differ by chance.", f"Seen: {_said(gains)}."),
            (MORE_SEEDS,),
        )
    better = [gain for gain in gains if call(gain) == "clear gain"]
    worse = [gain for gain in gains if call(gain) == "clear loss"]
    unclear = [gain for gain in gains if gain not in better and gain not in worse]
    why = [f"The 95 % interval over {seeds} seeds lies above zero: {_said(better)}."] if better else []
    why += [f"It is clearly worse: {_said(worse)}."] if worse else []
    why += [f"Not clear, because the interval contains zero: {_said(unclear)}."] if unclear else []
    advice = (f"To settle {_ratios(unclear)}, add seeds.",) if unclear else ()
    if better and not worse:
        return PageVerdict("good", "CPS helps", f"with {_ratios(better)} of the labels.", tuple(why), advice)
    if worse and not better:
        return PageVerdict("bad", "CPS hurts", f"with {_ratios(worse)} of the labels.", tuple(why), advice)
    if better:
        sentence = f"CPS helps with {_ratios(better)} of the labels and hurts with {_ratios(worse)}."
        return PageVerdict("doubtful", "Mixed", sentence, tuple(why), advice)
    return PageVerdict(
        "doubtful", "No clear difference", f"between CPS and its baseline over {seeds} seeds.", tuple(why), advice
    )


def call(gain: Gain) -> str:
    """Return `clear gain`, `clear loss`, `not clear` or `one seed`."""
    width = gain.half_width
    if width is None:
        return "one seed"
    if abs(gain.mean) <= width:
        return "not clear"
    return "clear gain" if gain.mean > 0 else "clear loss"


def _ratios(gains: Sequence[Gain]) -> str:
    return listed([gain.labeled_ratio for gain in gains])


def _said(gains: Sequence[Gain]) -> str:
    return listed([f"{points(gain.mean)} points with {gain.labeled_ratio}" for gain in gains])
