"""How the work is shared and what is predicted: wrong values are named."""

from pathlib import Path

import pytest

from components.errors import UserError
from components.parameters import check_prediction, check_sharing


def test_what_is_right_passes(tmp_path: Path) -> None:
    assert check_sharing(processes=1, eval_shards=256) is None
    for images in ("val", "test", "unlabeled", str(tmp_path), "photos/*.jpg"):
        assert check_prediction(images=images, limit=0) is None


@pytest.mark.parametrize(
    ("processes", "eval_shards", "named"), [(0, 1, "processes is 0"), (1, 0, "eval_shards is 0"), (1, 257, "257")]
)
def test_sharing_among_none_or_too_many_is_refused(processes: int, eval_shards: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        check_sharing(processes=processes, eval_shards=eval_shards)


@pytest.mark.parametrize(("images", "limit", "named"), [("vall", 1, "'vall'"), ("val", -1, "predict_limit is -1")])
def test_images_that_are_nowhere_and_negative_limits_are_refused(images: str, limit: int, named: str) -> None:
    with pytest.raises(UserError, match=named):
        check_prediction(images=images, limit=limit)
