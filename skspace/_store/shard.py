"""Shard and Reader: an immutable safetensors file with the token vectors of some texts.

A shard holds ``values`` (n_tokens, d) F16, ``offsets`` (n + 1,) I64, ``keys``
(n, 16) U8 and ``truncated`` (n,) U8. Its header carries two SHA-256 digests: one of keys, offsets, flags and namespace,
checked when the shard is opened, one of the values, checked before a process reads from it first. Nothing in a
file is trusted: whatever does not fit is `Damage`. Values are read by position rather than memory-mapped: a mapped file
that somebody truncates kills the process. A file that is read from is held open, so that nobody can take it away
meanwhile, as long as the process may have so many files open.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace._files.atomic_write import write_beside
from skspace._files.open_files import OpenFile, changed, identity_of, open_to_read
from skspace._files.positional_read import read_at
from skspace._files.safetensors_format import Damage, extent, read_header, read_tensor, written_header
from skspace._store.key_index import Keys

__all__ = [
    "FORMAT", "SHARD_NAME", "TEMPORARY_NAME", "Reader", "Shard", "all_finite", "write_shard",
]  # fmt: skip

FORMAT = 1
SHARD_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
TEMPORARY_NAME = re.compile(r"\.([0-9a-f]{64}\.safetensors|namespace\.json)\.\d+-\d+\.tmp")
VALUES_DTYPE = np.dtype("<f2")
_TOUCH_SECONDS = 60.0
_INFINITY = 0x7C00  # float16's bits; those of NaN are greater
_DTYPES: dict[str, tuple[str, Any]] = {  # safetensors' name and numpy's
    "keys": ("U8", np.uint8),
    "offsets": ("I64", "<i8"),
    "truncated": ("U8", np.uint8),
    "values": ("F16", "<f2"),
}


def all_finite(values: NDArray[np.float16]) -> bool:
    """Whether no value is infinite or NaN: by their bits, twice as fast as np.isfinite, which widens float16 first."""
    exponent_and_fraction = values.view(np.uint16) & 0x7FFF
    return bool(exponent_and_fraction.max(initial=0) < _INFINITY)


def write_shard(
    folder: Path,
    namespace: str,
    keys: Keys,
    values: Sequence[NDArray[Any]],
    offsets: NDArray[Any],
    truncated: NDArray[Any],
) -> Shard:
    """Write a shard into `folder`, under its own digest as name, and read its index back.

    The values are arrays (n_tokens, d) of float16 that belong one behind the other; they are hashed and written where
    they lie, since copies of them were a third of the time of writing.
    """
    shape = sum(map(len, values)), values[0].shape[1]
    digest = hashlib.sha256()
    for part in values:
        digest.update(part.data)
    metadata = {"values": digest.hexdigest(), "namespace": namespace}
    index = {
        "offsets": offsets.astype("<i8"),
        "keys": keys.view(np.uint8).reshape(-1, 16),
        "truncated": truncated.astype(np.uint8),
    }
    metadata["index"] = _index_digest(
        namespace, index["keys"], index["offsets"], index["truncated"], shape, metadata["values"]
    )
    path = folder / f"{metadata['index']}.safetensors"
    shapes = {name: array.shape for name, array in index.items()} | {"values": shape}
    header = written_header({name: (_DTYPES[name], shapes[name]) for name in shapes}, metadata)
    write_beside(path, header, *(array.data for array in index.values()), *(vectors.data for vectors in values))
    shard, _ = Shard.read(path, namespace)
    shard.verified = shard.open().identity
    return shard


class Shard:
    """One shard file: how many texts it holds and where their vectors begin. Made by `read`."""

    path: Path
    nbytes: int
    n_tokens: int
    n_features: int
    offsets: NDArray[np.int64]  # (n_texts + 1,)
    truncated: NDArray[np.bool_]  # (n_texts,)
    begin: int  # position of the values in the file
    values_digest: str
    verified: tuple[int, ...] | None = None  # identity of the file whose values were checked
    number: int = -1  # for the index of its store
    _touched: float = -_TOUCH_SECONDS

    @classmethod
    def read(cls, path: Path, namespace: str) -> tuple[Shard, Keys]:
        """Read and check the index of a file.

        Returns
        -------
        shard : Shard
        keys : ndarray of uint64 of shape (n_texts, 2)
            Not kept by the shard: the store has an index of all shards.
        """
        self = cls()
        self.path = path
        with open(path, "rb", opener=open_to_read) as file:
            size = os.fstat(file.fileno()).st_size
            header, data = read_header(file, size)
            shapes = [
                extent(header, name, _DTYPES[name], data, size)[0]
                for name in ("keys", "offsets", "truncated", "values")
            ]
            n = shapes[0][0] if shapes[0] else 0
            if shapes[:3] != [(n, 16), (n + 1,), (n,)] or len(shapes[3]) != 2 or max(shapes[3]) > 2**40:
                raise Damage("its parts do not fit each other")
            keys, offsets, truncated = (
                read_tensor(file, header, name, _DTYPES[name], data, size) for name in ("keys", "offsets", "truncated")
            )
        metadata = header["__metadata__"]
        self.n_tokens, self.n_features = shapes[3]
        self.begin = data + header["values"]["data_offsets"][0]
        self.nbytes = size
        self.values_digest = str(metadata.get("values"))
        shape = self.n_tokens, self.n_features
        if metadata.get("index") != _index_digest(namespace, keys, offsets, truncated, shape, self.values_digest):
            raise Damage("its index does not match its checksum, or it belongs to another encoder")
        self.offsets = offsets.astype(np.int64)
        self.truncated = truncated.astype(bool)
        rising = self.offsets[0] == 0 and (self.offsets[1:] >= self.offsets[:-1]).all()
        if not rising or self.offsets[-1] != self.n_tokens:
            raise Damage("its parts do not fit each other")
        return self, keys.view("<u8").reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.truncated)

    def open(self) -> Reader:
        """A reader of the values; the caller compares its identity or digest before trusting it."""
        return Reader(self.path, self.begin, self.n_tokens, self.n_features, self.values_digest)

    def touch(self) -> None:
        """Leave a mark that the shard is in use, for `evict`: the file's time of last access, now and then."""
        now = time.monotonic()
        if now - self._touched >= _TOUCH_SECONDS:
            self._touched = now
            # On a read-only disk, another user's, or gone: this process will not evict it either.
            with suppress(OSError):
                os.utime(self.path, ns=(time.time_ns(), os.stat(self.path).st_mtime_ns))


class Reader:
    """The values of one shard, read by position."""

    dtype = VALUES_DTYPE

    def __init__(self, path: Path, begin: int, n_tokens: int, n_features: int, values_digest: str) -> None:
        self.path, self.begin, self.shape, self.values_digest = path, begin, (n_tokens, n_features), values_digest
        self._file = OpenFile(path)
        self.identity = self._file.identity

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a path; as the values themselves where another process has taken the file away meanwhile."""
        try:
            there = identity_of(os.stat(self.path)) == self.identity
        except OSError:
            there = False
        if there:  # a pickle names skspace._store.shard._reader: it is for other processes, not for keeping
            return _reader, (self.path, self.begin, *self.shape, self.values_digest, self.identity)
        return np.asarray, (self.read_all(),)

    def read_runs(self, runs: Iterable[tuple[int, int, int]], out: NDArray[Any]) -> None:
        """Fill parts of `out`, (n_tokens, d): for each (start, begin, end) ``out[begin:end]`` from `start` on."""
        if out.dtype != VALUES_DTYPE or out.shape[1:] != self.shape[1:] or not out.flags.c_contiguous:
            raise ValueError(f"A shard gives float16, (n, {self.shape[1]}). Got {out.dtype}, {out.shape} instead.")
        if out.nbytes == 0:
            return
        view, width = out.data.cast("B"), self.shape[1] * VALUES_DTYPE.itemsize
        file = self._file.borrow()
        try:
            # Short, for it runs once a text.
            read, data = read_at(), self.begin
            for start, begin, end in runs:
                n_read = read(file, (view[begin * width : end * width],), data + start * width)
                if n_read != (end - begin) * width:
                    self._read_rest(file, view[begin * width + n_read : end * width], data + start * width + n_read)
            if identity_of(os.fstat(file)) != self.identity:  # now, so that what was written meanwhile is noticed too
                raise OSError(changed(self.path))
        finally:
            self._file.give_back()

    def _read_rest(self, file: int, view: memoryview, position: int) -> None:
        while len(view):
            n_read = read_at()(file, (view,), position)
            if n_read == 0:
                raise OSError(
                    f"The cached embeddings in {self.path} were cut short while they were in use. Run again: what "
                    "is missing is computed anew."
                )
            view, position = view[n_read:], position + n_read

    def read_into(self, start: int, out: NDArray[Any]) -> None:
        """Fill `out`, (n, d), with the token vectors start … start + n."""
        self.read_runs([(start, 0, len(out))], out)

    def read_all(self) -> NDArray[Any]:
        out = np.empty(self.shape, VALUES_DTYPE)
        self.read_into(0, out)
        return out

    def digest(self) -> str:
        """SHA-256 of the values, read in pieces so that memory stays bounded."""
        digest = hashlib.sha256()
        step = max(1, 2**22 // max(1, self.shape[1]))
        for start in range(0, self.shape[0], step):
            piece = np.empty((min(step, self.shape[0] - start), self.shape[1]), VALUES_DTYPE)
            try:
                self.read_into(start, piece)
            except OSError as error:
                raise Damage("it is cut short") from error
            digest.update(piece.data)
        return digest.hexdigest()


def _reader(path: Path, begin: int, n_tokens: int, n_features: int, digest: str, identity: tuple[int, ...]) -> Reader:
    """A reader that has travelled. Where the file has another identity, as on another machine, what is in it counts."""
    reader = Reader(path, begin, n_tokens, n_features, digest)
    if reader.identity != identity and reader.digest() != digest:
        raise OSError(changed(path))
    return reader


def _index_digest(
    namespace: str,
    keys: NDArray[Any],
    offsets: NDArray[Any],
    truncated: NDArray[Any],
    shape: tuple[int, ...],
    values_digest: str,
) -> str:
    digest = hashlib.sha256(json.dumps([namespace, list(shape), values_digest]).encode())
    for part in (keys, offsets, truncated):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
