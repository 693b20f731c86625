"""The stored curve of a training."""

from components.runs.result import CURVE_POINTS, CurvePoint, thinned


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    points: list[CurvePoint] = []
    for step in range(1, 3 * CURVE_POINTS):
        points = thinned([*points, CurvePoint(step=step, loss_supervised=1, loss_cross=1, learning_rate=1)])
        assert len(points) <= CURVE_POINTS
        assert points[-1].step == step
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
