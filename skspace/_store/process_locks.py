"""Locks between processes, which are files in a folder.

A lock is free again when its process dies. Between machines they work as far as the shared disk has locks.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["acquire", "has_no_locks", "release"]


def acquire(folder: Path, names: Sequence[str], *, wait: bool) -> list[FileLock] | None:
    """Acquire some locks of a folder; None, and no lock held, if another process holds one and `wait` is False.

    Acquired in the order of their names, so that two processes cannot wait for each other.

    Raises
    ------
    OSError, NotImplementedError
        If the folder cannot be written to, or its disk has no locks.
    """
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.is_symlink():  # a stranger's link must not choose what is written elsewhere
        raise OSError(errno.ELOOP, "A link instead of a folder", str(folder))
    held: list[FileLock] = []
    try:
        for name in sorted(names):
            # Without fallback: it takes a file that is there for a lock that is held, and the file of a process that
            # died on another machine, or that had real locks, for one that is held for ever.
            lock = FileLock(folder / name, mode=0o600, fallback_to_soft=False)
            lock.acquire(timeout=-1 if wait else 0)
            held.append(lock)
    except BaseException as error:
        release(held)
        if isinstance(error, Timeout):
            return None
        raise
    return held


def has_no_locks(error: Exception) -> bool:
    """Whether `acquire` failed since the disk has no locks, rather than because it is full or read-only."""
    no_locks = errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP
    return isinstance(error, NotImplementedError) or (isinstance(error, OSError) and error.errno in no_locks)


def release(held: Sequence[FileLock]) -> None:
    """Give locks back."""
    for lock in held:
        lock.release()
