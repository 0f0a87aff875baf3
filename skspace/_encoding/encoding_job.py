"""EncodingJob: encode the texts that no store has yet, in batches, shared among processes.

Texts are divided into parts by the first byte of their key. A process encodes a part while it holds the part's lock,
and skips parts that another process holds. Processes that start on the same texts thus share the work.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skspace._encoding.frozen_transformer import FrozenTransformer, Tokens
from skspace._runtime.progress_bar import Bar
from skspace._store.key_index import N_LOCKS, Keys, Lookup, lock_of
from skspace._store.shard import all_finite
from skspace._store.token_store import SHARD_BYTES, TokenStore

__all__ = ["EncodingJob", "default_batch_tokens", "distinct_texts", "divide"]

# On a processor each thread computes a batch on one core, and the output of a layer should fit that core's cache
# (examples/benchmarks/bench_encode.md). Types of two bytes take half the space, and their products are faster with more
# rows. The number for graphics cards is not measured.
_BATCH_TOKENS, _BATCH_TOKENS_OF_TWO_BYTES, _BATCH_TOKENS_ELSEWHERE = 768, 2048, 16384
_CHUNK_TEXTS = 4096  # sorted by length at a time: long enough to waste little padding, bounded in memory
_FIRST_TEXTS = 64  # of a chunk, tokenised before the others: what the cores begin with
_CHARACTERS_A_TOKEN = 5  # about, in English
_FLUSH_SECONDS = 10.0  # what a slow encoder may lose when its process is killed


def default_batch_tokens(device: torch.device, dtype: torch.dtype) -> int:
    """Tokens a batch for ``batch_tokens="auto"``."""
    if device.type != "cpu":
        return _BATCH_TOKENS_ELSEWHERE
    return _BATCH_TOKENS if dtype.itemsize == 4 else _BATCH_TOKENS_OF_TWO_BYTES


def distinct_texts(texts: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct texts in order of their first appearance, and for each text the index of its own among them."""
    index: dict[str, int] = {}
    inverse = np.array([index.setdefault(text, len(index)) for text in texts])
    return list(index), inverse


def divide(keys: Keys, n_parts: int) -> list[NDArray[np.int64]]:
    """Indices of texts in about `n_parts` parts that share no lock; no part is empty."""
    part = lock_of(keys) * min(n_parts, N_LOCKS) // N_LOCKS
    order = np.argsort(part, kind="stable")
    return [p for p in np.split(order, np.flatnonzero(np.diff(part[order])) + 1) if len(p)]


class EncodingJob:
    """Fill in what is missing in a look-up.

    Parameters
    ----------
    texts : sequence of str
    keys : ndarray of uint64 of shape (n_texts, 2)
    found : Lookup
        Of `keys`; what is encoded, by this process or another, is added.
    transformer : FrozenTransformer
    store : TokenStore or None
    batch_tokens : int
        Tokens a batch, padding included.
    check : callable
        Called with the vectors that are kept of a text, and the text, where a number of its batch is not finite.
    drop_special : bool
    written : callable
        Called with the number of bytes after every write to the store.
    """

    def __init__(
        self,
        texts: Sequence[str],
        keys: Keys,
        found: Lookup,
        *,
        transformer: FrozenTransformer,
        store: TokenStore | None,
        batch_tokens: int,
        drop_special: bool,
        check: Callable[[NDArray[np.float16], str], None],
        written: Callable[[int], None],
    ) -> None:
        self.texts, self.keys, self.found = texts, keys, found
        self.transformer, self.store = transformer, store
        self.batch_tokens, self.drop_special, self.check, self.written = batch_tokens, drop_special, check, written

    def run(self) -> int:
        """Encode; return how many texts this process encoded. What is done is kept when this is interrupted."""
        missing = self.found.missing
        if len(self.keys) == 1:
            return self._encode(missing, lambda n_texts: None)
        with Bar(total=len(missing), desc="Encoding", unit="text") as bar:
            if self.store is None:
                return self._encode(missing, bar.update)
            parts = [missing[part] for part in divide(self.keys[missing], -(-len(missing) // _CHUNK_TEXTS))]
            return self._share(parts, self.store, bar.update)

    def _share(self, parts: list[NDArray[np.int64]], store: TokenStore, done: Callable[[int], Any]) -> int:
        """Encode the parts that no other process is at, then wait for the rest, in which little should be missing."""
        n_encoded = 0
        wait = False
        while parts:
            passed_over = []
            for part in parts:
                with store.encoding(self.keys[part], wait=wait) as held:
                    if not held:
                        passed_over.append(part)
                        continue
                    wait = False
                    store.lookup(self.keys, self.found, part)  # others may have encoded some meanwhile
                    missing = part[self.found.segment[part] < 0]
                    done(len(part) - len(missing))
                    n_encoded += self._encode(missing, done)
            wait = len(passed_over) == len(parts)
            parts = passed_over
        return n_encoded

    def _encode(self, missing: NDArray[np.int64], done: Callable[[int], Any]) -> int:
        shard = _ShardInProgress(self.keys, self.found, self.store, self.written, single=len(self.keys) == 1)
        try:
            for begin in range(0, len(missing), _CHUNK_TEXTS):
                chunk = missing[begin : begin + _CHUNK_TEXTS]
                work = _Batches([self.texts[i] for i in chunk], self.transformer, self.batch_tokens)
                with closing(self.transformer.forward_all(work, work.n_expected)) as encoded:
                    for vectors in encoded:  # (n_texts, n_padded, d)
                        batch = work.handed_out.popleft()
                        finite = all_finite(vectors)  # of all at once: this thread's time is not the cores'
                        for of_text, (i, tokens) in zip(vectors, batch, strict=True):
                            kept = self._kept(of_text[: len(tokens.ids)], tokens)
                            if not finite:
                                self.check(kept, self.texts[chunk[i]])
                            shard.add(chunk[i], kept, tokens.truncated)
                        shard.flush_if_full()
                        done(len(batch))
        finally:
            shard.flush()
        return len(missing)

    def _kept(self, vectors: NDArray[np.float16], tokens: Tokens) -> NDArray[np.float16]:
        return vectors[~tokens.special] if self.drop_special else vectors


class _Batches:
    """Texts as tokens, in batches of like length, made when they are asked for.

    The longest texts come first and are tokenised alone, the others while those are computed.

    Attributes
    ----------
    n_expected : int
        About how many batches there will be.
    handed_out : deque of lists of (place in texts, tokens)
        The batches that were handed out and are not finished.
    """

    def __init__(self, texts: Sequence[str], transformer: FrozenTransformer, batch_tokens: int) -> None:
        self.texts, self.transformer, self.batch_tokens = texts, transformer, batch_tokens
        self.handed_out: deque[list[tuple[int, Tokens]]] = deque()
        lengths = (min(len(text) // _CHARACTERS_A_TOKEN, transformer.max_length) for text in texts)
        self.n_expected = max(1, sum(lengths) // batch_tokens)

    def __iter__(self) -> Iterator[list[Tokens]]:
        longest_first = sorted(range(len(self.texts)), key=lambda i: -len(self.texts[i]))
        for part in (longest_first[:_FIRST_TEXTS], longest_first[_FIRST_TEXTS:]):
            tokens = self.transformer.tokenize([self.texts[i] for i in part], spans=False)
            for batch in batches([len(t.ids) for t in tokens], self.batch_tokens, self.transformer.pads):
                self.handed_out.append([(part[i], tokens[i]) for i in batch])
                yield [tokens[i] for i in batch]


class _ShardInProgress:
    """Vectors that are encoded and not yet written.

    A shard is written beside the encoding of the next, but the last when there is nothing else to do. So the first are
    small: what is left to the end is half of the whole at most, and no more than one full shard.
    """

    def __init__(
        self, keys: Keys, found: Lookup, store: TokenStore | None, written: Callable[[int], None], *, single: bool
    ) -> None:
        self.keys, self.found, self.store, self.written, self.single = keys, found, store, written, single
        self.full, self.n_bytes_before = SHARD_BYTES // 8, 0
        self._reset()

    def _reset(self) -> None:
        self.rows: list[int] = []
        self.vectors: list[NDArray[np.float16]] = []
        self.truncated: list[bool] = []
        self.n_bytes, self.since = 0, time.monotonic()

    def add(self, row: int, vectors: NDArray[np.float16], truncated: bool) -> None:
        self.rows.append(row)
        self.vectors.append(vectors)
        self.truncated.append(truncated)
        self.n_bytes += vectors.nbytes

    def flush_if_full(self) -> None:
        if self.n_bytes >= self.full or time.monotonic() - self.since > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if not self.rows:
            return
        rows = np.array(self.rows)
        if self.store is None:
            segment: Any = np.concatenate(self.vectors)
            offsets = np.cumsum([0, *map(len, self.vectors)])
        elif self.single:
            segment, offsets = self.vectors[0], np.array([0, len(self.vectors[0])])
            self.store.write_later(self.keys[rows], segment, self.truncated[0])
            self.written(self.n_bytes)
        else:
            segment, offsets = self.store.write(self.keys[rows], self.vectors, self.truncated, checked=True)
            if not isinstance(segment, np.ndarray):  # else the disk has refused
                self.written(self.n_bytes)
        self.found.add(segment, rows, offsets[:-1], np.diff(offsets), np.array(self.truncated))
        self.n_bytes_before += self.n_bytes
        self.full = min(SHARD_BYTES, max(self.full, self.n_bytes_before))
        self._reset()


def batches(lengths: Sequence[int], batch_tokens: int, pads: bool) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first, so that padded they stay under `batch_tokens`.

    Without `pads`, of equal length.
    """
    batch: list[int] = []
    for i in np.argsort(lengths, kind="stable")[::-1].tolist():
        full = batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens
        if full or (batch and not pads and lengths[i] != lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
