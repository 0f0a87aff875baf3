"""Keys of texts, and where in a store the vectors of a text lie.

Numpy only; knows neither files nor vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_LOCKS", "KeyIndex", "Keys", "Lookup", "lock_of", "text_keys"]

Keys = NDArray[np.uint64]  # (n, 2): a 16-byte digest of a text a row
N_LOCKS = 64  # as many processes can encode side by side


def text_keys(texts: Iterable[str]) -> Keys:
    """Key of every text, (n_texts, 2) uint64: BLAKE2b of its UTF-8, 16 bytes."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


def lock_of(keys: Keys) -> NDArray[np.int64]:
    """Which of the locks, 0 … N_LOCKS - 1, guards the encoding of each key, (n_texts,)."""
    return (keys[:, 0] % N_LOCKS).astype(np.int64)


class Lookup:
    """Where each of some keys lies: row i is ``segments[segment[i]][start[i] : start[i] + length[i]]``.

    Attributes
    ----------
    segment : ndarray of int32 of shape (n_keys,)
        -1 where the key is not in the store.
    start, length : ndarray of int64 of shape (n_keys,)
    truncated : ndarray of bool of shape (n_keys,)
        Whether the text was longer than the encoder takes.
    segments : list of ndarray or file readers
    """

    def __init__(self, n_keys: int) -> None:
        self.segments: list[Any] = []
        self.segment = np.full(n_keys, -1, np.int32)
        self.start = np.zeros(n_keys, np.int64)
        self.length = np.zeros(n_keys, np.int64)
        self.truncated = np.zeros(n_keys, bool)

    @property
    def missing(self) -> NDArray[np.int64]:
        """Indices of the keys that were not found."""
        return np.flatnonzero(self.segment < 0)

    def add(
        self,
        segment: Any,
        keys: NDArray[np.integer],
        start: NDArray[np.integer],
        length: NDArray[np.integer],
        truncated: NDArray[np.bool_],
    ) -> None:
        """Say that `keys`, indices into this lookup, lie in `segment`."""
        self.segment[keys] = len(self.segments)
        self.start[keys], self.length[keys], self.truncated[keys] = start, length, truncated
        self.segments.append(segment)


class _Run(NamedTuple):
    """Entries sorted by the first half of their key."""

    first: NDArray[np.uint64]  # (n,), the halves apart: searching needs the first in one piece
    second: NDArray[np.uint64]  # (n,)
    shards: NDArray[np.int32]  # (n,)
    rows: NDArray[np.int32]  # (n,)


class KeyIndex:
    """From keys to (shard number, row); the caller numbers the shards from 0, each number once.

    Entries lie in sorted runs, each at least twice as long as the next, so that a look-up takes a few binary searches
    however many shards there are, and a shard of one text is added without sorting the others again. 24 bytes a text.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._alive = np.zeros(64, bool)  # by shard number; what is gone is skipped, and dropped when runs are merged

    def add(self, shards: Sequence[tuple[int, Keys]]) -> None:
        """Add shards: the number of each, and the keys of its rows, (n, 2)."""
        if not shards:
            return
        largest = max(number for number, _ in shards)
        if largest >= len(self._alive):
            self._alive = np.concatenate([self._alive, np.zeros(largest + 1, bool)])
        self._alive[[number for number, _ in shards]] = True
        lengths = [len(keys) for _, keys in shards]
        keys = np.concatenate([keys for _, keys in shards])
        run = _Run(
            keys[:, 0],
            keys[:, 1],
            np.repeat(np.array([number for number, _ in shards], np.int32), lengths),
            np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        )
        self._push(self._sorted([run]))

    def remove(self, number: int) -> None:
        """Forget a shard."""
        self._alive[number] = False

    def find(self, keys: Keys) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Shard number and row of every key of `keys`, (n, 2); the number is -1 where there is none."""
        shards, rows = np.full(len(keys), -1, np.int32), np.zeros(len(keys), np.int32)
        if len(keys) == 1:
            shards[0], rows[0] = self._find_one(*keys[0])
            return shards, rows
        for run in reversed(self._runs):  # the newest first: it is the smallest
            missing = np.flatnonzero(shards < 0)
            if not len(missing):
                break
            place = np.searchsorted(run.first, keys[missing, 0])
            while len(missing):
                inside = place < len(run.first)
                missing, place = missing[inside], place[inside]
                same = run.first[place] == keys[missing, 0]
                missing, place = missing[same], place[same]
                if not len(missing):
                    break
                hit = (run.second[place] == keys[missing, 1]) & self._alive[run.shards[place]]
                shards[missing[hit]], rows[missing[hit]] = run.shards[place[hit]], run.rows[place[hit]]
                # The same first half, but another text or a shard that has gone: look one further.
                missing, place = missing[~hit], place[~hit] + 1
        return shards, rows

    def _find_one(self, first: np.uint64, second: np.uint64) -> tuple[int, int]:
        """As `find`; for a single key most of that is the time of a dozen calls of NumPy."""
        for run in reversed(self._runs):
            place = int(run.first.searchsorted(first))
            while place < len(run.first) and run.first[place] == first:
                if run.second[place] == second and self._alive[run.shards[place]]:
                    return run.shards[place], run.rows[place]
                place += 1
        return -1, 0

    def n_distinct(self) -> int:
        """Number of different keys."""
        if not self._runs:
            return 0
        run = self._sorted(self._runs)
        return len(np.unique(np.stack([run.first, run.second], 1), axis=0))

    def _sorted(self, runs: Sequence[_Run]) -> _Run:
        """One run of several, without the entries of shards that have gone."""
        first, second, shards, rows = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        alive = np.flatnonzero(self._alive[shards])
        order = alive[np.argsort(first[alive], kind="stable")]  # stable: fast on what is sorted in parts
        return _Run(first[order], second[order], shards[order], rows[order])

    def _push(self, run: _Run) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2].first) < 2 * len(self._runs[-1].first):
            self._runs[-2:] = [self._sorted(self._runs[-2:])]
