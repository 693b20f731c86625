"""What is said to be left, against what it then was."""

from pipeline.cli.progress import TimeLeft


def after(reports: list[tuple[float, float]], total: float, now: float) -> float | None:
    remaining = TimeLeft()
    for at, done in reports:
        remaining.report(done, total, at)
    return remaining.seconds(now)


def test_a_steady_step_is_told_to_the_second_at_every_moment() -> None:
    remaining = TimeLeft()
    for second in range(0, 100, 4):  # a unit takes 4 seconds, 25 of them
        remaining.report(second / 4, 25, second)
        for later in (0, 1, 3):
            left = remaining.seconds(second + later)
            assert left is None if second < 8 else left == 100 - second - later


def test_nothing_is_said_before_anybody_can_know() -> None:
    assert after([], 10, 5) is None
    assert after([(0, 1), (1, 2)], 10, 2) is None
    assert after([(0, 1), (1, 1), (2, 1)], 10, 3) is None


def test_what_was_done_before_is_no_speed() -> None:
    assert after([(0, 500), (1, 501), (2, 502)], 1000, 2) == 498


def test_a_slow_beginning_is_forgotten() -> None:
    steps = [(0.0, 0.0), (60.0, 1.0)] + [(60.0 + number, 1.0 + number) for number in range(1, 61)]
    assert after(steps, 161, 120) == 100


def test_other_units_and_a_step_that_falls_back_begin_anew() -> None:
    drawn = [(second, 100.0 * second) for second in range(10)]
    for total, first in ((20.0, 0.0), (1000.0, 10.0)):
        remaining = TimeLeft()
        for at, done in drawn:
            remaining.report(done, 1000, at)
        for second in range(3):
            remaining.report(first + second, total, 10 + second)
            if second < 2:
                assert remaining.seconds(10 + second) is None
        assert remaining.seconds(12) == total - first - 2


def test_while_a_step_stands_still_what_is_left_grows() -> None:
    steps = [(float(second), float(second)) for second in range(11)]
    left = [after(steps, 20, now) for now in (10, 11, 21, 61)]
    assert left == [10, 9, 19, 59]


def test_it_is_never_below_nothing() -> None:
    assert after([(0, 1), (10, 2), (20, 3)], 3, 25) == 0
