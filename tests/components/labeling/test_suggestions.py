"""The ranking: disputed images come first, similar ones are not repeated, and nothing is random."""

import numpy as np
import pytest

from components.labeling.disagreement import Measure
from components.labeling.suggestions import suggest


def measure(disagreement: float, *place: float, uncertainty: float | None = None) -> Measure:
    unsure = disagreement if uncertainty is None else uncertainty
    return Measure(disagreement, unsure, np.array(place or (0.0, 0.0), np.float32))


def names(unlabeled: dict[str, Measure], labeled: dict[str, Measure], count: int) -> list[str]:
    return [item.image for item in suggest(unlabeled, labeled, count)]


def test_equally_new_images_are_ranked_by_disagreement_and_uncertainty_alike():
    corners = np.eye(4)  # each as far from each other one
    unlabeled = {
        "disputed": measure(0.9, *corners[0], uncertainty=0.1),
        "both": measure(0.8, *corners[1], uncertainty=0.8),
        "unsure": measure(0.1, *corners[2], uncertainty=0.7),
        "neither": measure(0.0, *corners[3], uncertainty=0.0),
    }
    found = suggest(unlabeled, {}, 4)
    assert [item.image for item in found] == ["both", "disputed", "unsure", "neither"]
    assert [item.priority for item in found] == pytest.approx([5 / 6, 2 / 3, 0.5, 0.0])
    assert found[0].novelty is None
    assert found[0].nearest == ""
    assert found[1].novelty == pytest.approx(2**0.5)


def test_fifty_frames_of_one_scene_are_not_suggested():
    scene = {f"film-{number:02}": measure(0.9 + number / 1000, 1.0, number / 1e4) for number in range(50)}
    others = {f"other-{number}": measure(0.1 + number / 100, -1.0, number) for number in range(5)}
    chosen = names({**scene, **others}, {}, 5)
    # By priority alone all five would be of the film. other-0 has the lowest of all, which is none.
    assert sorted(chosen) == ["film-49", "other-1", "other-2", "other-3", "other-4"]


def test_what_looks_like_a_labeled_image_comes_late():
    unlabeled = {"known": measure(0.9, 0.0, 0.01), "new": measure(0.8, 1.0, 0.0), "dull": measure(0.0, 5.0, 0.0)}
    found = suggest(unlabeled, {"labeled": measure(0.0, 0.0, 0.0)}, 2)
    assert [item.image for item in found] == ["new", "known"]
    assert found[0].nearest == found[1].nearest == "labeled"
    assert found[1].novelty == pytest.approx(0.01)


def test_the_order_does_not_depend_on_the_order_of_the_list():
    rng = np.random.default_rng(0)
    unlabeled = {f"{number:03}.png": measure(round(rng.random(), 1), *rng.random(3)) for number in range(60)}
    shuffled = dict(sorted(unlabeled.items(), key=lambda item: item[0][::-1]))
    assert suggest(unlabeled, {}, 20) == suggest(shuffled, {}, 20)
    assert names(unlabeled, {}, 20)[:5] == names(unlabeled, {}, 5)


def test_equal_images_go_by_name_and_each_is_suggested_once():
    unlabeled = {name: measure(0.5, 1.0, 1.0) for name in "cab"}
    assert names(unlabeled, {}, 50) == ["a", "b", "c"]
    assert names({"only": measure(0.0)}, {"only labelled": measure(0.0)}, 1) == ["only"]
    assert names({}, {}, 3) == []
