"""OpenFile: files held open for reading, as many as the process may have.

An open file stays readable if it is unlinked.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
import weakref
from pathlib import Path

__all__ = ["OpenFile", "changed", "identity_of", "open_to_read"]


class OpenFile:
    """A file held open for reading; closed and opened again where the process would have too many."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users, self.last_used = 0, 0
        self._file = [-1]  # in a list, so that what closes it in the end need not know this object
        weakref.finalize(self, _close, self._file)
        self.identity: tuple[int, ...] | None = None
        self.borrow()
        self.give_back()

    def borrow(self) -> int:
        """The file's descriptor, which stays open until it is given back."""
        with _opening:
            if self._file[0] < 0:
                self._open()
            self.users += 1
            self.last_used = next(_clock)
            return self._file[0]

    def give_back(self) -> None:
        with _opening:
            self.users -= 1

    def _open(self) -> None:
        if len(_open_files) >= _max_open_files():
            idle = sorted((f for f in _open_files if not f.users), key=lambda f: f.last_used)
            for file in idle[: len(idle) // 4 + 1]:
                _close(file._file)
                _open_files.discard(file)
        gone = (
            f"The cached embeddings in {self.path} have gone: cleared, evicted or merged into another file. Transform "
            "the texts again: what is missing is computed anew."
        )
        try:
            opened = open_to_read(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise FileNotFoundError(gone) from error
        identity = identity_of(os.fstat(opened))
        if self.identity not in (None, identity):
            os.close(opened)
            raise FileNotFoundError(gone)
        self.identity, self._file[0] = identity, opened
        _open_files.add(self)


_opening = threading.Lock()
_clock = itertools.count()
_open_files: weakref.WeakSet[OpenFile] = weakref.WeakSet()


def _max_open_files() -> int:
    """Half of what the process may have open: the rest is the program's."""
    try:
        import resource
    except ImportError:  # Windows, whose C library allows 512
        return 256
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**15 if limit == resource.RLIM_INFINITY else max(1, limit // 2)


def _close(file: list[int]) -> None:
    if file[0] >= 0:
        os.close(file[0])
        file[0] = -1


def open_to_read(path: str | os.PathLike[str], flags: int) -> int:
    """Open a regular file; a pipe or device in its place would block the reader.

    Leaves no trace in the time of last access, which is `Shard.touch`'s, where that is allowed (Linux).
    """
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # the first on Windows, the second elsewhere
    try:
        file = os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # another user's file, perhaps readable all the same
        file = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return file


def _new_lock() -> None:
    """After a fork: the thread that held the lock may not exist in this process."""
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def identity_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def changed(path: Path) -> str:
    return (
        f"The cached embeddings in {path} were changed while they were in use. Run again: what is damaged is computed "
        "anew."
    )
