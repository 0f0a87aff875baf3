"""Bar: tqdm's progress bar with its own lock.

Tqdm's own lock is shared by a process and all its forks, and stays locked for all of them when one is killed
within it.
"""

from __future__ import annotations

import os
import threading

from tqdm.auto import tqdm

__all__ = ["Bar"]


class Bar(tqdm):
    """A progress bar that shows on a terminal only, and not for work that is over before it could be read."""

    monitor_interval = 0  # else every bar, shown or not, starts a thread, which forks do not like

    def __init__(self, total: int, desc: str, unit: str, leave: bool = True) -> None:
        super().__init__(total=total, desc=desc, unit=unit, unit_scale=unit == "B", leave=leave, delay=2, disable=None)


def _new_lock() -> None:
    Bar.set_lock(threading.RLock())


_new_lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
