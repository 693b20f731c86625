"""The agreement of two networks, counted from several threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from components.evaluation.agreement import Agreement


def test_it_is_the_share_of_equal_pixels_whatever_the_threads() -> None:
    random, agreement = np.random.default_rng(0), Agreement()
    pairs = [random.integers(0, 3, (2, 20 + number, 30)).astype(np.uint8) for number in range(40)]

    def observe(number: int) -> None:
        left, right = pairs[number]
        agreement.observe(number, "left", left)
        agreement.observe(number, "right", right)
        agreement.observe(number, "ensemble", left)

    assert agreement.share is None
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(observe, range(40)))
    equal = sum(int((left == right).sum()) for left, right in pairs)
    assert agreement.share == equal / sum(left.size for left, _ in pairs)
