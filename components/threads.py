"""Work spread over threads, in order."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`map` over threads, in order; hashing and decoding release the interpreter's lock."""
    pool = ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1)
    try:
        yield from pool.map(work, items)
    finally:
        # After an error the rest is not worth doing.
        pool.shutdown(wait=True, cancel_futures=True)
