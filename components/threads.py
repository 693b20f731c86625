"""Parallel work in threads."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Map `work` over `items` in threads, and yield the results in order. For work that releases the GIL."""
    pool = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1)
    try:
        yield from pool.map(work, items)
    finally:
        # After an error, the remaining items are not processed.
        pool.shutdown(wait=True, cancel_futures=True)
