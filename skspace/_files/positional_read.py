"""Read a file at a position, without moving its pointer, on every platform."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

__all__ = ["read_at"]


def read_at() -> Callable[[int, Sequence[memoryview], int], int]:
    """Return ``os.preadv``, or what does the same where a platform lacks it.

    Called with a descriptor, views to fill and a position, it returns the number of bytes read.
    """
    return getattr(os, "preadv", _preadv)


def _preadv(file: int, views: Sequence[memoryview], position: int) -> int:
    (view,) = views
    data = os.pread(file, len(view), position)
    view[: len(data)] = data
    return len(data)
