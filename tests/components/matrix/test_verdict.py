"""The sentence that opens the matrix's page."""

from dataclasses import replace

import pytest

from components.matrix.gains import Gain
from components.matrix.verdict import judge

CLEAR, LOST, UNCLEAR, ONE = (
    Gain("1/8", 20, (0.030, 0.031, 0.032)),
    Gain("1/4", 40, (-0.030, -0.031, -0.032)),
    Gain("1/2", 80, (0.030, -0.031, 0.001)),
    Gain("1/1", 160, (0.030,)),
)
RECIPE = Gain("1/8", 20, (0.030, 0.031, 0.032), "photos", notes=("900 steps, but the supervised baseline 400",))


@pytest.mark.parametrize(
    ("gain", "said"), [(CLEAR, "clear gain"), (LOST, "clear loss"), (UNCLEAR, "not clear"), (ONE, "one seed")]
)
def test_a_gain_is_called_clear_only_if_its_interval_excludes_zero(gain: Gain, said: str) -> None:
    assert gain.call == said


@pytest.mark.parametrize(
    ("gains", "level", "word"),
    [
        ([CLEAR, RECIPE], "good", "Clear gain over the supervised baseline"),
        ([RECIPE], "good", "photos helps"),
        ([], "doubtful", "No comparison"),
        ([ONE], "doubtful", "One seed"),
        ([CLEAR, UNCLEAR], "good", "CPS helps"),
        ([LOST], "bad", "CPS hurts"),
        ([CLEAR, LOST], "doubtful", "Mixed"),
        ([UNCLEAR], "doubtful", "No clear difference"),
    ],
)
def test_the_verdict_claims_no_more_than_the_seeds_support(gains: list[Gain], level: str, word: str) -> None:
    found = judge(gains)
    assert (found.level, found.word) == (level, word)


def test_no_clear_difference_reads_as_a_sentence() -> None:
    found = judge([UNCLEAR])
    assert f"{found.word}: {found.sentence}".startswith("No clear difference: CPS and its baseline, compared over ")


def test_what_is_not_clear_is_named_with_advice() -> None:
    found = judge([CLEAR, UNCLEAR])
    assert found.sentence == "with 1/8 of the labels."
    assert "+3.1 points with 1/8" in found.why[0]
    assert found.next == ("To settle 1/2, add seeds.",)


def test_differences_that_explain_a_gain_are_among_the_reasons() -> None:
    assert "photos with 1/8: 900 steps, but the supervised baseline 400." in judge([CLEAR, RECIPE]).why
    assert judge([CLEAR, RECIPE, UNCLEAR]).sentence == "with CPS at 1/8; photos at 1/8 of the labels."
    assert judge([UNCLEAR, RECIPE]).sentence == "with photos at 1/8 of the labels.", "the matrix has another method"
    again = replace(RECIPE, labeled_ratio="1/4")
    assert judge([CLEAR, RECIPE, again]).why[-1].startswith("photos with 1/8 and 1/4: 900 steps")
    assert "Holm’s correction for 2 comparisons is applied." in judge([CLEAR, RECIPE]).why
