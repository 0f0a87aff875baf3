"""RaggedArray: token vectors of texts of different lengths, indexed like an array of texts.

A row is a text, an array of shape (its n_tokens, n_features). Rows point into *segments*, which are arrays in memory or
readers of a file. So a subset in any order copies nothing until its vectors are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RaggedArray"]


class Segment(Protocol):
    """What a row can point into besides an array in memory: a file that is read by position."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]

    def read_runs(self, runs: Iterable[tuple[int, int, int]], out: NDArray[Any]) -> None:
        """Fill parts of `out`, (n_tokens, d): for each (start, begin, end) ``out[begin:end]`` from `start` on."""


class RaggedArray:
    """Token vectors of many texts, sliceable like an array of texts.

    Parameters
    ----------
    values : array-like of shape (n_tokens, n_features)
        The vectors of all tokens, text after text.
    offsets : array-like of int of shape (n_texts + 1,)
        Text ``i`` owns ``values[offsets[i]:offsets[i + 1]]``; starts with 0, never falls, ends with ``n_tokens``.
        A text may own no token.

    Attributes
    ----------
    shape : tuple of int
        ``(n_texts,)``, which is what scikit-learn splits on.
    offsets : ndarray of int64 of shape (n_texts + 1,)
    lengths : ndarray of int64 of shape (n_texts,)
        Number of tokens of each text.
    n_features : int
        Length of a token vector.
    values : ndarray of shape (n_tokens, n_features)
        Made anew at each access unless the rows already lie so in memory.

    Raises
    ------
    ValueError
        If `values` is not two-dimensional or `offsets` does not divide it.

    Examples
    --------
    >>> import numpy as np
    >>> from skspace import RaggedArray
    >>> texts = RaggedArray(np.arange(10.0).reshape(5, 2), [0, 2, 2, 5])
    >>> len(texts), texts[0].shape, texts[1].shape
    (3, (2, 2), (0, 2))
    >>> texts[[2, 0]].offsets
    array([0, 3, 5])
    """

    __module__ = "skspace"  # what pickles and messages name
    ndim = 1

    def __init__(self, values: ArrayLike, offsets: ArrayLike) -> None:
        values = np.ascontiguousarray(values)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        offsets = np.asarray(offsets)
        if values.ndim != 2:
            raise ValueError(
                f"RaggedArray: values must have shape (n_tokens, n_features). Got {values.ndim} dimension(s) instead."
            )
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(
                f"RaggedArray: values must be floating-point numbers. Got dtype {values.dtype} instead; convert them "
                "with values.astype('float32')."
            )
        if offsets.ndim != 1 or len(offsets) == 0 or not np.issubdtype(offsets.dtype, np.integer):
            raise ValueError(
                "RaggedArray: offsets must be a 1-D array of n_texts + 1 integers. "
                f"Got shape {offsets.shape}, dtype {offsets.dtype} instead."
            )
        offsets = offsets.astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
            raise ValueError(
                f"RaggedArray: offsets must start with 0, never fall and end with n_tokens={len(values)}. "
                f"Got first {offsets[0]}, last {offsets[-1]} instead."
            )
        self._segments: list[NDArray[Any] | Segment] = [values]
        self._segment = np.zeros(len(offsets) - 1, np.int32)
        self._start = offsets[:-1]
        self.lengths = np.diff(offsets)
        self.n_features = values.shape[1]
        self.dtype = values.dtype

    @classmethod
    def from_rows(cls, rows: Iterable[ArrayLike], n_features: int | None = None) -> RaggedArray:
        """Pack one array of shape (n_tokens of the text, n_features) per text.

        Parameters
        ----------
        rows : iterable of array-like
        n_features : int, default=None
            Needed only where no row says it, that is, without any row.
        """
        arrays = [np.asarray(row) for row in rows]
        if not arrays:
            arrays = [np.empty((0, n_features or 0), np.float32)]
            return cls(arrays[0], [0])
        width = n_features or (arrays[0].shape[-1] if arrays[0].ndim else "n_features")
        for i, row in enumerate(arrays):
            if row.ndim != 2 or row.shape[1] != width:
                raise ValueError(
                    f"RaggedArray: every row must have shape (n_tokens, {width}). Got {row.shape} in row {i} instead."
                )
        return cls(np.concatenate(arrays), np.cumsum([0, *map(len, arrays)]))

    @classmethod
    def from_segments(
        cls,
        segments: Sequence[NDArray[Any] | Segment],
        segment: NDArray[np.integer],
        start: NDArray[np.integer],
        lengths: NDArray[np.integer],
        *,
        n_features: int,
        dtype: np.dtype[Any] | type,
    ) -> RaggedArray:
        """Rows that lie anywhere: row i is ``segments[segment[i]][start[i] : start[i] + lengths[i]]``."""
        self = cls.__new__(cls)
        self._segments = list(segments)
        self._segment = np.asarray(segment, np.int32)
        self._start = np.asarray(start, np.int64)
        self.lengths = np.asarray(lengths, np.int64)
        self.n_features = int(n_features)
        self.dtype = np.dtype(dtype)
        return self

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        return (
            f"<RaggedArray: {len(self)} texts, {int(self.lengths.sum())} tokens, "
            f"{self.n_features} features, {self.dtype}>"
        )

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for i in range(len(self)):
            yield self._read(np.array([i]))

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        raise TypeError(
            "A RaggedArray has rows of different length and does not fit a rectangular array. Use .values and "
            ".offsets, or pass it to SpaceClassifier(encoder='precomputed')."
        )

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def offsets(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that `values` takes in memory."""
        return int(self.lengths.sum()) * self.n_features * self.dtype.itemsize

    @property
    def values(self) -> NDArray[Any]:
        first = self._segments[0] if len(self._segments) == 1 else None
        as_they_lie = isinstance(first, np.ndarray) and len(first) == self.lengths.sum()
        if as_they_lie and np.array_equal(self._start, self.offsets[:-1]):
            return cast(NDArray[Any], first)
        return self._read(np.arange(len(self)))

    def __getitem__(self, key: Any) -> Any:
        """An integer gives the text's array (n_tokens, n_features); a slice, mask or index array a RaggedArray."""
        if isinstance(key, tuple):
            # scikit-learn indexes whatever has a shape as X[key, ...].
            rest = key[1:]
            if not key or any(k is not Ellipsis for k in rest):
                raise IndexError(
                    f"RaggedArray has one dimension, its texts. Got index {key!r} instead; index tokens in ragged[i]."
                )
            key = key[0]
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            if not -len(self) <= key < len(self):
                raise IndexError(f"RaggedArray: index {key} is out of bounds for {len(self)} texts.")
            return self._read(np.array([int(key) % len(self)]))
        rows = self._index(key)
        return RaggedArray.from_segments(
            self._segments,
            self._segment[rows],
            self._start[rows],
            self.lengths[rows],
            n_features=self.n_features,
            dtype=self.dtype,
        )

    @staticmethod
    def _index(key: Any) -> Any:
        """What NumPy takes for rows, checked."""
        if key is Ellipsis or isinstance(key, slice):
            return key
        key = np.asarray(key)
        if key.ndim == 1 and len(key) == 0:
            return np.zeros(0, np.int64)
        if key.ndim != 1 or not (key.dtype == bool or np.issubdtype(key.dtype, np.integer)):
            raise IndexError(
                "RaggedArray: an index must be an integer, a slice, a boolean mask or a 1-D array of integers. "
                f"Got shape {key.shape}, dtype {key.dtype} instead."
            )
        return key

    def _read(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """The token vectors of `rows`, one text after another, (n_tokens, n_features)."""
        lengths = self.lengths[rows]
        stops = np.cumsum(lengths)
        n_tokens = int(stops[-1]) if len(stops) else 0
        if len(self._segments) == 1 and isinstance(self._segments[0], np.ndarray):
            # token i of the result stands at start[its row] + its place in the row
            shift = self._start[rows] - (stops - lengths)
            return self._segments[0][np.arange(n_tokens) + np.repeat(shift, lengths)]
        out = np.empty((n_tokens, self.n_features), self.dtype)
        for segment, runs in self._runs(rows, stops - lengths, stops):
            source = self._segments[segment]
            if not isinstance(source, np.ndarray):
                source.read_runs(runs, out)
                continue
            for start, begin, end in runs:
                out[begin:end] = source[start : start + end - begin]
        return out

    def _runs(
        self, rows: NDArray[np.integer], begins: NDArray[np.integer], ends: NDArray[np.integer]
    ) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
        """Each segment with what is to be read of it: (start there, begin and end in the result)."""
        if not len(rows):
            return
        segment, start = self._segment[rows], self._start[rows]
        # Rows that are neighbours in their segment too are read at once.
        follows = (segment[1:] == segment[:-1]) & (start[1:] == start[:-1] + self.lengths[rows][:-1])
        firsts = np.flatnonzero(np.concatenate([[True], ~follows]))
        lasts = np.append(firsts[1:], len(rows)) - 1
        filled = np.flatnonzero(ends[lasts] > begins[firsts])
        firsts, lasts = firsts[filled], lasts[filled]
        order = np.argsort(segment[firsts], kind="stable")
        firsts, lasts = firsts[order], lasts[order]
        runs = list(zip(start[firsts].tolist(), begins[firsts].tolist(), ends[lasts].tolist(), strict=True))
        bounds = [0, *(np.flatnonzero(np.diff(segment[firsts])) + 1).tolist(), len(runs)]
        for begin, end in pairwise(bounds):
            if end > begin:
                yield int(segment[firsts[begin]]), runs[begin:end]

    def find_non_finite(self) -> int | None:
        """First row with an inf or NaN, or None. Files are passed over: a store keeps finite values only."""
        memory = [i for i, segment in enumerate(self._segments) if isinstance(segment, np.ndarray)]
        rows = np.flatnonzero(np.isin(self._segment, memory))
        for begin in range(0, len(rows), 1024):
            part = rows[begin : begin + 1024]
            finite = np.isfinite(self._read(part)).all(1)  # (n_tokens,)
            if not finite.all():
                ends = np.cumsum(self.lengths[part])
                return int(part[np.searchsorted(ends, np.flatnonzero(~finite)[0], side="right")])
        return None

    def in_memory(self) -> RaggedArray:
        """The same texts with their vectors in one array in memory."""
        return RaggedArray(self.values, self.offsets)

    def __getstate__(self) -> dict[str, Any]:
        """Rows of files travel as their path; rows in memory without the rest of the array they were taken from."""
        state = self.__dict__.copy()
        used = np.unique(self._segment).tolist()
        files = [i for i in used if not isinstance(self._segments[i], np.ndarray)]
        place = np.full(len(self._segments), len(files), np.int32)  # rows in memory move into one last segment
        place[files] = np.arange(len(files))
        state["_segment"] = place[self._segment]
        state["_segments"] = [self._segments[i] for i in files]
        rows = np.flatnonzero(state["_segment"] == len(files))
        if len(rows) or not files:
            lengths = self.lengths[rows]
            state["_segments"].append(self._read(rows))
            state["_start"] = self._start.copy()
            state["_start"][rows] = np.cumsum(lengths) - lengths
        return state
