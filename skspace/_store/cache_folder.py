"""The cache folder as a whole: its place, its files, and its limit.

Knows the files of all namespaces by name, size and last use, and nothing of what is in them. What is unlinked
here may still be read by processes that hold it open.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import platformdirs

from skspace._runtime.messages import warn
from skspace._store.shard import FORMAT, SHARD_NAME, TEMPORARY_NAME

__all__ = [
    "CacheLimit", "ShardFile", "cache_folder", "cache_limit", "evict", "namespace_folders", "shard_files",
    "size_in_bytes", "version_folder",
]  # fmt: skip

_DEFAULT_MAX_BYTES = 64 * 2**30
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_ROOM_LEFT = 0.1  # evicting makes this share of the limit free, so that the next shard does not evict again
_LOOK_AGAIN_BYTES = 256 * 2**20  # written by this process between two looks at the whole folder
_STALE_SECONDS = 3600.0  # a temporary file older than this belongs to a process that has died
_BUSY_SECONDS = 600.0


class ShardFile(NamedTuple):
    """A shard as its folder lists it."""

    path: Path
    n_bytes: int
    last_used: float  # seconds since the epoch


def cache_folder(cache_dir: str | os.PathLike[str] = "auto") -> Path:
    """Resolve "auto": ``$SKSPACE_CACHE_DIR``, or the user's cache folder."""
    folder = os.fspath(cache_dir)
    try:
        if folder in ("auto", ""):
            folder = os.environ.get("SKSPACE_CACHE_DIR") or platformdirs.user_cache_dir("skspace", appauthor=False)
        os.fsencode(folder)
        if "\0" in folder:
            raise ValueError("embedded null character")
        return Path(folder).expanduser().absolute()
    except (RuntimeError, ValueError) as error:  # no home, or no path
        raise ValueError(
            f"The cache folder cannot be told ({error}): cache_dir is {cache_dir!r}. Set cache_dir or the environment "
            "variable SKSPACE_CACHE_DIR to a path; with cache_dir=None nothing is kept."
        ) from error


def size_in_bytes(text: str) -> int | None:
    """A number such as 1000, 500M or 20G; None where it is none."""
    unit = text[-1:].upper()
    number = text[:-1] if unit in "KMGT" else text
    return int(number) * _UNITS[unit if unit in "KMGT" else ""] if number.isdecimal() else None


def cache_limit(max_bytes: int | str | None) -> int | None:
    """Resolve "auto": ``$SKSPACE_CACHE_MAX_BYTES``, or 64 GiB. None is no limit."""
    if max_bytes != "auto":
        return None if max_bytes is None else int(max_bytes)
    text = os.environ.get("SKSPACE_CACHE_MAX_BYTES") or str(_DEFAULT_MAX_BYTES)
    if not (n_bytes := size_in_bytes(text)):
        raise ValueError(
            "The environment variable SKSPACE_CACHE_MAX_BYTES must be a number of bytes, or one with a unit such "
            f"as 500M or 20G. Got {text!r} instead."
        )
    return n_bytes


def version_folder(cache_dir: str | os.PathLike[str]) -> Path:
    """Folder of the namespaces, below the cache folder; another format has another."""
    return cache_folder(cache_dir) / f"v{FORMAT}"


def shard_files(folder: Path) -> list[ShardFile]:
    """The shards of one namespace, by name; empty where there is no such folder."""
    found = []
    for entry in _entries(folder):
        if SHARD_NAME.fullmatch(entry.name):
            with suppress(FileNotFoundError):  # merged or evicted since the folder was listed
                stat = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False):
                    found.append(ShardFile(Path(entry.path), stat.st_size, stat.st_atime))
    return found


def evict(max_bytes: int, cache_dir: str | os.PathLike[str] = "auto", *, dry_run: bool = False) -> list[ShardFile]:
    """Delete the least recently used shards of all namespaces until those left take no more than `max_bytes`.

    Returns
    -------
    list of ShardFile
        What was deleted, or would be.
    """
    files = [file for folder in namespace_folders(cache_dir) for file in shard_files(folder)]
    if not dry_run:
        _remove_stale(cache_dir)
    excess = sum(file.n_bytes for file in files) - max_bytes
    deleted = []
    for file in sorted(files, key=lambda f: f.last_used):
        if excess <= 0:
            break
        if dry_run or _unlinked(file.path):
            deleted.append(file)
            excess -= file.n_bytes
    return deleted


class CacheLimit:
    """Keeps a cache folder under a size, looking at it at the first write of a process and now and then.

    Parameters
    ----------
    cache_dir : str or path
    max_bytes : int or None
        None is no limit.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], max_bytes: int | None) -> None:
        self.cache_dir, self.max_bytes = cache_dir, max_bytes
        self._unseen: int | None = None  # bytes written since the last look; None before the first
        self._warned = False

    def written(self, n_bytes: int) -> None:
        """Take note of bytes written to the folder, and evict if it may have become too large."""
        if self.max_bytes is None:
            return
        before, self._unseen = self._unseen, (self._unseen or 0) + n_bytes
        if before is not None and self._unseen < min(_LOOK_AGAIN_BYTES, self.max_bytes * _ROOM_LEFT):
            return
        self._unseen = 0
        try:
            self._look()
        except OSError as error:
            self._warn(f"The embedding cache in {self.cache_dir} cannot be kept under its limit ({error}).")

    def _look(self) -> None:
        assert self.max_bytes is not None  # noqa: S101 - for the type checker; `written` returned
        total = sum(file.n_bytes for folder in namespace_folders(self.cache_dir) for file in shard_files(folder))
        if total <= self.max_bytes:
            _remove_stale(self.cache_dir)
            return
        evicted = evict(int(self.max_bytes * (1 - _ROOM_LEFT)), self.cache_dir)
        if any(time.time() - file.last_used < _BUSY_SECONDS for file in evicted):
            self._warn(
                f"The embedding cache in {self.cache_dir} is full: what is used at one time is more than its limit of "
                f"{self.max_bytes / 2**30:.3g} GiB, and vectors that were just made are evicted again. Raise "
                "cache_max_bytes or SKSPACE_CACHE_MAX_BYTES, or give the cache a folder with more room."
            )

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warn(message)


def _remove_stale(cache_dir: str | os.PathLike[str]) -> None:
    """Delete what processes that were killed have left half written."""
    for folder in namespace_folders(cache_dir):
        for entry in _entries(folder):
            if TEMPORARY_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):  # it was not stale after all, and has its own name now
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS:
                        _unlinked(Path(entry.path))


def namespace_folders(cache_dir: str | os.PathLike[str]) -> list[Path]:
    """By name; folders behind a link are left out, since nothing may be deleted there."""
    parent = version_folder(cache_dir)
    if parent.is_symlink():
        return []
    return sorted(Path(e.path) for e in _entries(parent) if e.is_dir(follow_symlinks=False))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False  # another process was faster, or holds it open where that keeps a file (Windows)
    return True
