"""Work side by side in threads that share out torch's cores.

A core that computes a whole batch waits for no other, where two that share one meet after every operation, and
the thread that hands out the work meanwhile has its own to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import torch

__all__ = ["map_in_threads"]

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 8  # results a thread that may wait to be taken: those that are taken are written meanwhile, now and then


def map_in_threads(
    function: Callable[[T], R], items: Iterable[T], n_items: int, n_threads: int
) -> Generator[R, None, None]:
    """Results in the order of the items, computed by as many threads as there are cores to share out.

    Parameters
    ----------
    function : callable
        Releases Python's lock while it computes, as torch does.
    items : iterable
        Read in the thread of the caller, a few items ahead of what is computed.
    n_items : int
        How many items there are, about.
    n_threads : int
        Cores to share out. With fewer items than that each thread gives torch several; with a single item or core
        everything happens in the thread of the caller.

    Yields
    ------
    result
        Only a few items beyond the last result taken are at work. Close the iterator to end before its time.
    """
    n_workers = min(n_threads, n_items)
    if n_workers <= 1:
        yield from map(function, items)
        return
    with _workers(n_workers, n_threads // n_workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD * n_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def _workers(n_workers: int, n_cores: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch uses `n_cores`; in other threads nothing changes."""
    started = Barrier(n_workers + 1)

    def start() -> None:
        torch.get_num_threads()  # at its first product a thread that was never asked begins with the common number
        torch.set_num_threads(n_cores)
        with suppress(BrokenBarrierError):
            started.wait()

    before = torch.get_num_threads()
    with ThreadPoolExecutor(n_workers, "skspace", start) as pool:
        try:
            for _ in range(n_workers):
                pool.submit(int)
            started.wait()
        except BaseException:  # an interrupt, or no more threads to be had: those that wait must not do so for good
            started.abort()
            pool.shutdown()
            torch.set_num_threads(before)
            raise
        # What a thread sets is its own, but is also what threads that start later begin with.
        torch.set_num_threads(before)
        yield pool
