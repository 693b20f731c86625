"""Batches ahead of the step that needs them, made by threads; image decoding and warping release Python's lock."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(make: Callable[[int], Item], first: int, last: int, *, workers: int, depth: int) -> Iterator[Item]:
    """make(first), make(first + 1), … make(last - 1), with up to `depth` of them made in advance.

    An error in `make` is raised where its item is due, and ends the threads.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        pending: list[Future[Item]] = []
        try:
            for number in range(first, last):
                while len(pending) < depth and number + len(pending) < last:
                    pending.append(pool.submit(make, number + len(pending)))
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
