"""TokenStore: token vectors of texts, computed once and kept on disk.

Floor 1; knows nothing of models or torch. A *namespace* is one way of encoding (model, layer, length …) and one
folder::

    <cache_dir>/v1/<readable name>-<digest of the namespace>/
        namespace.json          the namespace, for people
        lock                    held while somebody encodes; reading needs no lock
        <digest>.safetensors    a shard, see _shard.py

Shards are written beside and renamed, and never change. Each is verified the first time this process reads from it. One
that fails is dropped with a warning and its texts count as missing, so that the caller computes them again.

Left out so far: a size limit with eviction.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from skspace._shard import VALUES_DTYPE, Damage, Keys, Reader, Shard, write_beside, write_shard

__all__ = ["Lookup", "TokenStore", "text_keys"]

FORMAT = 1
SHARD_BYTES = 64 * 2**20
SMALL_SHARD_BYTES = SHARD_BYTES // 8
MAX_SMALL_SHARDS = 32
_SHARD_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{64}\.safetensors\.\d+-\d+\.tmp")


def text_keys(texts: Iterable[str]) -> Keys:
    """Key of every text, (n_texts, 2) uint64: BLAKE2b of its UTF-8, 16 bytes."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


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


class TokenStore:
    """Token vectors of one namespace, looked up by text.

    Parameters
    ----------
    cache_dir : str or Path
        The folder that all namespaces share. Made when first written to, readable by its owner only.
    namespace : mapping of str to JSON values
        Everything that the vectors of a text depend on.
    name : str, default="tokens"
        Readable part of the namespace's folder name.

    Notes
    -----
    What is kept is private data: keys are hashes of texts (a guess can be confirmed) and token vectors can in part be
    turned back into text.
    """

    def __init__(self, cache_dir: str | Path, namespace: Mapping[str, Any], name: str = "tokens") -> None:
        self.namespace = dict(namespace)
        canonical = json.dumps({"format": FORMAT, **self.namespace}, sort_keys=True)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
        parent = Path(cache_dir).expanduser().absolute() / f"v{FORMAT}"
        # Found by the digest: the readable part is for people, and may change from one version to the next.
        here = f"{readable}-{self.digest[:24]}"
        self.folder = next(parent.glob(f"*-{self.digest[:24]}"), parent / here)
        self._shards: dict[str, Shard] = {}
        self._warned: set[tuple[Any, ...]] = set()
        self._threads = threading.RLock()

    def forget_threads(self) -> None:
        """After a fork: whoever held the lock does not live in this process."""
        self._threads = threading.RLock()

    # ---------------------------------------------------------------- reading

    def lookup(self, keys: Keys) -> Lookup:
        """Find the rows of `keys`; every shard that is named in the answer has been verified by this process.

        The answer holds its shards open, so that nobody can take them away while it is in use.
        """
        found = Lookup(len(keys))
        with self._threads:
            self._find(keys, found)
            if len(found.missing) and self._refresh():
                self._find(keys, found)
        return found

    def _find(self, keys: Keys, found: Lookup) -> None:
        for name, shard in list(self._shards.items()):
            missing = found.missing
            if not len(missing):
                return
            which, rows = shard.rows_of(keys[missing])
            if not len(which):
                continue
            reader = self._open(name, shard)
            if reader is not None:
                start = shard.offsets[rows]
                found.add(reader, missing[which], start, shard.offsets[rows + 1] - start, shard.truncated[rows])

    def _open(self, name: str, shard: Shard) -> Reader | None:
        """A reader of a sound shard; None, and the shard forgotten, where it has gone or is damaged."""
        try:
            reader = shard.open()
            if shard.verified != reader.identity:
                if reader.digest() != shard.values_digest:
                    raise Damage("its values do not match their checksum")
                shard.verified = reader.identity
            return reader
        except Damage as damage:
            self._drop(shard.path, damage)
        except FileNotFoundError:
            pass  # another process merged or cleared it
        except OSError as error:
            self._warn_unreadable(shard.path, error)
        self._shards.pop(name, None)
        return None

    def _refresh(self) -> bool:
        """Take note of shards that came and went. True where there is a new one."""
        try:
            entries = [entry for entry in os.scandir(self.folder) if _SHARD_NAME.fullmatch(entry.name)]
            # Neither a pipe nor a device, which would block whoever opens it.
            names = {entry.name for entry in entries if entry.is_file() or entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            names = set()
        except OSError as error:
            self._warn_unreadable(self.folder, error)
            return False
        for gone in self._shards.keys() - names:
            del self._shards[gone]
        new = sorted(names - self._shards.keys())
        for name in new:
            self._note(name)
        return any(name in self._shards for name in new)

    def _note(self, name: str) -> None:
        path = self.folder / name
        try:
            self._shards[name] = Shard(path, self.digest)
        except Damage as damage:
            self._drop(path, damage)
        except FileNotFoundError:
            pass  # merged into another shard since the folder was listed; its texts are looked for there next time
        except OSError as error:
            self._warn_unreadable(path, error)

    def _drop(self, path: Path, damage: Exception) -> None:
        """Remove a damaged shard, with a warning; what was in it is computed again."""
        try:
            stat = path.stat()
            identity = (path.name, stat.st_ino, stat.st_mtime_ns)
            path.unlink()
        except OSError:
            # Not ours to remove (a read-only folder) or gone already: warned of once, passed over from now on.
            identity = (path.name, 0, 0)
        self._warn_once(
            ("damaged", *identity),
            f"The cached embeddings in {path} are damaged ({damage}); they are not used and are computed again.",
        )

    def _warn_unreadable(self, path: Path, error: OSError) -> None:
        self._warn_once(
            ("unreadable", str(path), error.errno),
            f"The embedding cache cannot read {path} ({error}); what is in it is computed again. Check its "
            "permissions, or choose another folder with cache_dir or SKSPACE_CACHE_DIR.",
        )

    def _warn_once(self, identity: tuple[Any, ...], message: str) -> None:
        if identity not in self._warned:
            self._warned.add(identity)
            warnings.warn(message, stacklevel=3)

    # ---------------------------------------------------------------- writing

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Hold the right to encode: others wait, then find in the store what they were about to compute."""
        lock = self._lock()
        if lock is None:
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def _lock(self) -> FileLock | None:
        try:
            self._make_folder()
            lock = FileLock(self.folder / "lock", mode=0o600)
            lock.acquire()
            return lock
        except (OSError, NotImplementedError) as error:
            # filelock raises the latter where a file system has no locks. The worst case is a text encoded twice.
            self._warn_unwritable(error)
            return None

    def _make_folder(self) -> None:
        self.folder.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.parent.mkdir(exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        description = self.folder / "namespace.json"
        if not description.exists():
            text = json.dumps({"format": FORMAT, **self.namespace}, indent=2, sort_keys=True)
            write_beside(description, text.encode())

    def write(
        self, keys: Keys, values: Sequence[NDArray[Any]], truncated: Sequence[bool]
    ) -> tuple[Any, NDArray[np.int64]]:
        """Keep the vectors of some texts as one shard.

        Parameters
        ----------
        keys : ndarray of uint64 of shape (n_texts, 2)
        values : sequence of ndarray of float16, (n_tokens of the text, n_features) each
        truncated : sequence of bool

        Returns
        -------
        segment : file reader, or ndarray where the disk refused
            Holds the vectors, text after text.
        offsets : ndarray of int64 of shape (n_texts + 1,)
        """
        if not len(keys) == len(values) == len(truncated):
            raise ValueError(
                f"TokenStore needs one array and one flag a text. Got {len(keys)} keys, {len(values)} arrays and "
                f"{len(truncated)} flags instead."
            )
        packed = np.ascontiguousarray(np.concatenate(values), VALUES_DTYPE)  # (n_tokens, d)
        offsets = np.cumsum([0, *map(len, values)]).astype("<i8")
        if not np.isfinite(packed).all():
            raise ValueError("TokenStore keeps finite float16 values only. Got inf or NaN instead.")
        try:
            with self._threads:
                self._make_folder()
                shard = write_shard(self.folder, self.digest, keys, packed, offsets, np.asarray(truncated))
                self._shards[shard.path.name] = shard
                reader = shard.open()
        except (OSError, Damage) as error:
            self._warn_unwritable(error)
            return packed, offsets
        try:
            with self._threads:
                self._merge_small_shards()
        except (OSError, Damage) as error:
            self._warn_unwritable(error)
        return reader, offsets

    def _merge_small_shards(self) -> None:
        """Keep the number of files bounded when texts come a few at a time. Needs the right to encode."""
        self._refresh()
        small = sorted((s for s in self._shards.values() if s.nbytes < SMALL_SHARD_BYTES), key=lambda s: s.nbytes)
        if len(small) <= MAX_SMALL_SHARDS:
            return
        # The smallest first, and no more than makes a full shard: what is merged passes through memory.
        fit = np.cumsum([shard.nbytes for shard in small]) <= SHARD_BYTES
        small = [shard for shard, fits in zip(small, fit, strict=True) if fits]
        opened = [(shard, self._open(shard.path.name, shard)) for shard in small]
        sound = [(shard, reader) for shard, reader in opened if reader is not None]
        if len(sound) < 2:
            return
        merged = write_shard(
            self.folder,
            self.digest,
            np.concatenate([shard.keys for shard, _ in sound]),
            np.concatenate([reader.read_all() for _, reader in sound]),
            np.cumsum(np.concatenate([[0], *(np.diff(shard.offsets) for shard, _ in sound)])),
            np.concatenate([shard.truncated for shard, _ in sound]),
        )
        self._shards[merged.path.name] = merged
        for shard, _ in sound:
            shard.path.unlink(missing_ok=True)
            self._shards.pop(shard.path.name, None)

    def _warn_unwritable(self, error: Exception) -> None:
        self._warn_once(
            ("unwritable",),
            f"The embedding cache cannot write to {self.folder} ({error}). The work goes on without it, but the same "
            "texts will have to be encoded again; free some space or choose another folder with cache_dir or "
            "SKSPACE_CACHE_DIR.",
        )

    # ---------------------------------------------------------------- care

    def info(self) -> dict[str, Any]:
        """What the store holds.

        Returns
        -------
        dict
            ``folder``, ``n_texts`` (rows, so a text that was encoded twice counts twice), ``n_distinct``,
            ``n_tokens``, ``n_bytes`` (of the files), ``n_shards``.
        """
        with self._threads:
            self._refresh()
            shards = list(self._shards.values())
        keys = np.concatenate([np.empty((0, 2), np.uint64), *(shard.keys for shard in shards)])
        return {
            "folder": str(self.folder),
            "n_texts": len(keys),
            "n_distinct": len(np.unique(keys, axis=0)),
            "n_tokens": sum(shard.n_tokens for shard in shards),
            "n_bytes": sum(shard.nbytes for shard in shards),
            "n_shards": len(shards),
        }

    def verify(self) -> int:
        """Check every shard against its checksums, drop (with a warning) those that fail, return how many did."""
        with self._threads:
            found = sum(bool(_SHARD_NAME.fullmatch(e.name)) for e in os.scandir(self.folder)) if self._exists() else 0
            self._shards.clear()
            self._refresh()
            for name, shard in list(self._shards.items()):
                self._open(name, shard)
            return found - len(self._shards)

    def clear(self) -> None:
        """Delete all shards of this namespace."""
        with self._threads:
            self._shards.clear()
            if self._exists():
                for entry in list(os.scandir(self.folder)):
                    ours = _SHARD_NAME.fullmatch(entry.name) or _TEMPORARY_NAME.fullmatch(entry.name)
                    if ours and not entry.is_dir(follow_symlinks=False):
                        Path(entry.path).unlink(missing_ok=True)

    def _exists(self) -> bool:
        return self.folder.is_dir()
