"""A short form of `python -m tests.endurance.kills`: a run that is killed twice ends as if nothing had happened."""

from pathlib import Path

import pytest

from pipeline.parameters import STEPS
from tests.endurance.kills import Kill, completed, interrupted, moments, undisturbed
from tests.endurance.workplace import workplace


def test_the_moments_cover_the_steps_and_depend_on_the_seed() -> None:
    seconds = dict.fromkeys(STEPS, 2.0)
    chosen = list(moments(20, seconds, seed=1))
    assert {kill.step for kill in chosen} == set(STEPS)
    assert {kill.everything for kill in chosen} == {True, False}
    assert all(0 <= kill.after <= 2 for kill in chosen)
    assert chosen == list(moments(20, seconds, seed=1)) != list(moments(20, seconds, seed=2))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_is_completed_by_the_same_command(tmp_path: Path) -> None:
    with workplace(tmp_path / "place", ("--epochs", "6")) as place:
        expected, seconds = undisturbed(place)
        place.forget()
        for step, everything in (("train", True), ("select", False)):
            assert interrupted(place, Kill(step, 0.7 * seconds[step], everything=everything)) == [], step
        wrong, _ = completed(place, expected)
        assert wrong == []
