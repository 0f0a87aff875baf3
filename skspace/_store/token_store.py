"""TokenStore: token vectors of texts, computed once and kept on disk.

A *namespace* is one way of encoding (model, layer,
length …) and one folder::

    <cache_dir>/v1/<readable name>-<digest of the namespace>/
        namespace.json          the namespace, for people
        <digest>.safetensors    a shard, see shard.py
        locks/00 … 3f           held while the texts whose key begins so are encoded; reading needs no lock

Shards are written beside and renamed, and never change. Each is verified the first time this process reads from it. One
that fails is dropped with a warning and its texts count as missing, so that the caller computes them again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace._files.safetensors_format import Damage
from skspace._store.disk_warnings import DiskWarnings
from skspace._store.key_index import KeyIndex, Keys, Lookup, lock_of
from skspace._store.merging import smallest_within, write_merged
from skspace._store.namespace_folder import NamespaceFolder, clear_folder
from skspace._store.process_locks import acquire, has_no_locks, release
from skspace._store.shard import VALUES_DTYPE, Reader, Shard, all_finite, write_shard

__all__ = ["TokenStore"]

SHARD_BYTES = 64 * 2**20
SMALL_SHARD_BYTES = SHARD_BYTES // 8
MAX_SMALL_SHARDS = 32
MAX_PENDING = 64


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
        self._place = NamespaceFolder(cache_dir, namespace, name)
        self.namespace, self.digest, self.folder = self._place.namespace, self._place.digest, self._place.path
        self._warnings = DiskWarnings(self.folder)
        self._forget_all()
        self._keep_damaged = False
        self._damaged: set[Path] = set()  # files found damaged since the last `verify`
        self._threads = threading.RLock()
        self._pending: dict[bytes, tuple[NDArray[np.float16], bool]] = {}  # see write_later

    def _forget_all(self) -> None:
        self._shards: dict[str, Shard] = {}
        self._numbered: dict[int, str] = {}  # names of the shards by number, as the index knows them
        self._next_number = 0
        self._index = KeyIndex()
        self._listed = -math.inf  # when the folder was read, on the monotonic clock

    def after_fork(self) -> None:
        """In a child, where no other thread lives on: forget what one of them was changing at that moment."""
        if not self._threads.acquire(blocking=False):
            self._forget_all()
        self._threads = threading.RLock()
        self._pending.clear()  # its parent writes it

    # ---------------------------------------------------------------- reading

    def lookup(
        self,
        keys: Keys,
        found: Lookup | None = None,
        among: NDArray[np.integer] | slice = slice(None),
        *,
        max_age: float = 0.0,
    ) -> Lookup:
        """Find the rows of `keys`; every shard that is named in the answer has been verified by this process.

        The answer holds its shards open, so that they stay readable if they are deleted meanwhile.

        Parameters
        ----------
        keys : ndarray of uint64 of shape (n_texts, 2)
        found : Lookup, default=None
            An earlier answer to the same keys: what is missing there is looked for and added.
        among : indices, default=all
            The keys to look for.
        max_age : float, default=0.0
            Seconds for which a listing of the folder will do: what others have written since may be missing.
        """
        if found is None:
            found = Lookup(len(keys))
        indices = np.arange(len(keys))[among]
        with self._threads:
            if len(keys) > 1:
                self.write_pending()
            elif (pending := self._pending.get(keys.tobytes())) is not None:
                vectors, truncated = pending
                row = np.zeros(1, np.int64)
                found.add(vectors.copy(), row, row, np.array([len(vectors)]), np.array([truncated]))
                return found
            self._find(keys, found, indices)
            behind = time.monotonic() - self._listed >= max_age
            if behind and (found.segment[indices] < 0).any() and self._refresh():
                self._find(keys, found, indices)
        return found

    def _find(self, keys: Keys, found: Lookup, among: NDArray[np.integer]) -> None:
        while True:
            missing = among[found.segment[among] < 0]
            shards, rows = self._index.find(keys[missing])
            if not (shards >= 0).any():
                return
            unsound = False
            for number in np.unique(shards[shards >= 0]).tolist():
                name = self._numbered[number]
                shard = self._shards[name]
                reader = self._open(name, shard)
                if reader is None:
                    unsound = True
                    continue
                shard.touch()
                here = np.flatnonzero(shards == number)
                start, end = shard.offsets[rows[here]], shard.offsets[rows[here] + 1]
                found.add(reader, missing[here], start, end - start, shard.truncated[rows[here]])
            if not unsound:  # else another shard may hold the same texts
                return

    def _open(self, name: str, shard: Shard) -> Reader | None:
        """A reader of a sound shard; None, and the shard forgotten, if it has gone or is damaged."""
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
            self._warnings.unreadable(shard.path, error)
        self._forget(name)
        return None

    def _know(self, shards: Iterable[tuple[Shard, Keys]]) -> None:
        """Take shards into the index."""
        added = []
        for shard, keys in shards:
            self._forget(shard.path.name)
            shard.number, self._next_number = self._next_number, self._next_number + 1
            self._shards[shard.path.name] = shard
            self._numbered[shard.number] = shard.path.name
            added.append((shard.number, keys))
        self._index.add(added)

    def _forget(self, name: str) -> None:
        shard = self._shards.pop(name, None)
        if shard is not None:
            del self._numbered[shard.number]
            self._index.remove(shard.number)

    def _refresh(self) -> bool:
        """Take note of shards that came and went. True where there is a new one."""
        self._listed = time.monotonic()
        try:
            names = self._place.shard_names()
        except OSError as error:
            self._warnings.unreadable(self.folder, error)
            return False
        for gone in self._shards.keys() - names:
            self._forget(gone)
        new = [known for name in sorted(names - self._shards.keys()) if (known := self._read(self.folder / name))]
        self._know(new)
        return bool(new)

    def _read(self, path: Path) -> tuple[Shard, Keys] | None:
        try:
            return Shard.read(path, self.digest)
        except Damage as damage:
            self._drop(path, damage)
        except FileNotFoundError:
            pass  # merged into another shard since the folder was listed; its texts are looked for there next time
        except OSError as error:
            self._warnings.unreadable(path, error)
        return None

    def _drop(self, path: Path, damage: Exception) -> None:
        """Remove a damaged shard, with a warning; what was in it is computed again."""
        self._damaged.add(path)
        try:
            stat = path.stat()
            identity = stat.st_ino, stat.st_mtime_ns
            if not (self._keep_damaged or self._place.is_link()):
                path.unlink()
        except OSError:  # a read-only folder, or removed already: ignored from now on
            identity = 0, 0
        self._warnings.damaged(path, identity, damage)

    # ---------------------------------------------------------------- writing

    @contextmanager
    def encoding(self, keys: Keys, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to encode texts: others wait, then find in the store what they were about to compute.

        Parameters
        ----------
        keys : ndarray of uint64 of shape (n_texts, 2)
            Of the texts. They are locked in 64 groups, see `lock_of`; texts of other groups stay free for other
            processes.
        wait : bool, default=True
            Whether to wait for other processes.

        Yields
        ------
        bool
            Whether the right is held; never False with `wait`.
        """
        names = [f"{number:02x}" for number in np.unique(lock_of(keys)).tolist()]
        held = self._acquire(names, wait=wait)
        if held is None:
            yield False
            return
        try:
            yield True
        finally:
            release(held)

    def _acquire(self, names: Sequence[str], *, wait: bool) -> list[Any] | None:
        """Locks of this namespace; none at all, and a warning, where the disk has no locks."""
        try:
            self._place.make()
            return acquire(self.folder / "locks", names, wait=wait)
        except (OSError, NotImplementedError) as error:
            if has_no_locks(error):
                self._warnings.no_locks(error)
            else:
                self._warnings.unwritable(error)
            return []

    def write(
        self, keys: Keys, values: Sequence[NDArray[Any]], truncated: Sequence[bool], *, checked: bool = False
    ) -> tuple[Any, NDArray[np.int64]]:
        """Keep the vectors of some texts as one shard.

        Parameters
        ----------
        keys : ndarray of uint64 of shape (n_texts, 2)
        values : sequence of ndarray of float16, (n_tokens of the text, n_features) each
        truncated : sequence of bool
        checked : bool, default=False
            Whether the caller knows that all values are finite in float16; otherwise they are looked at here.

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
        arrays = [np.ascontiguousarray(vectors, VALUES_DTYPE) for vectors in values]
        if len({array.shape[1:] for array in arrays}) > 1:
            raise ValueError("TokenStore needs vectors of one length. Got arrays of different widths instead.")
        offsets = np.cumsum([0, *map(len, arrays)]).astype("<i8")
        if not (checked or all(map(all_finite, arrays))):
            raise ValueError("TokenStore keeps finite float16 values only. Got inf or NaN instead.")
        try:
            with self._threads:
                self._place.make()
                shard = write_shard(self.folder, self.digest, keys, arrays, offsets, np.asarray(truncated))
                self._know([(shard, keys)])
                reader = shard.open()
        except (OSError, Damage) as error:
            self._warnings.unwritable(error)
            return np.concatenate(arrays), offsets
        self._merge_small_shards()
        return reader, offsets

    def write_later(self, key: Keys, vectors: NDArray[np.float16], truncated: bool) -> None:
        """Keep the vectors of one text in memory until there are enough for a file.

        A file a text would take time at each call, and leave many files. Other processes see the texts late, and a
        process that is killed loses them. `lookup` of several texts, `info` and `verify` write them first.

        Parameters
        ----------
        key : ndarray of uint64 of shape (1, 2)
        vectors : ndarray of float16 of shape (n_tokens, n_features)
        truncated : bool
        """
        with self._threads:
            if not self._pending:
                try:
                    self._place.make()
                except OSError as error:
                    self._warnings.unwritable(error)
            self._pending[key.tobytes()] = vectors.copy(), truncated
            if len(self._pending) >= MAX_PENDING:
                self.write_pending()

    def write_pending(self, *, at_exit: bool = False) -> None:
        """Write what `write_later` has put off; `at_exit` not if the folder has been removed, perhaps for good."""
        with self._threads:
            pending, self._pending = self._pending, {}
            if pending and (self._place.exists() or not at_exit):
                keys = np.frombuffer(b"".join(pending), "<u8").reshape(-1, 2)
                vectors, truncated = zip(*pending.values(), strict=True)
                self.write(keys, vectors, truncated)

    def _merge_small_shards(self) -> None:
        """Keep the number of files bounded when texts come a few at a time."""
        with self._threads:
            if self._listed < 0:
                self._refresh()  # a process that writes once must count what those before it left
            small = [shard for shard in self._shards.values() if shard.nbytes < SMALL_SHARD_BYTES]
            if len(small) <= MAX_SMALL_SHARDS:
                return
            held = self._acquire(["merging"], wait=False)
            if held is None:
                return  # another process is at it
            try:
                self._refresh()
                self._merge([shard for shard in self._shards.values() if shard.nbytes < SMALL_SHARD_BYTES])
            except (OSError, Damage) as error:
                self._warnings.unwritable(error)
            finally:
                release(held)

    def _merge(self, small: list[Shard]) -> None:
        sound = []
        for shard in smallest_within(small, SHARD_BYTES):  # what is merged passes through memory
            known = self._read(shard.path)  # its keys, checked again
            reader = self._open(shard.path.name, shard)
            if known is not None and reader is not None:
                sound.append((shard, known[1], reader.read_all()))
        if len(sound) < 2:
            return
        merged, keys = write_merged(self.folder, self.digest, sound)
        self._know([(merged, keys)])
        for shard, _, _ in sound:
            if shard.path != merged.path:
                shard.path.unlink(missing_ok=True)
                self._forget(shard.path.name)

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
            self.write_pending()
            self._refresh()
            shards = list(self._shards.values())
            n_distinct = self._index.n_distinct()
        return {
            "folder": str(self.folder),
            "n_texts": sum(map(len, shards)),
            "n_distinct": n_distinct,
            "n_tokens": sum(shard.n_tokens for shard in shards),
            "n_bytes": sum(shard.nbytes for shard in shards),
            "n_shards": len(shards),
        }

    def verify(self, *, dry_run: bool = False) -> int:
        """Check every shard against its checksums and drop, with a warning, those that fail.

        Parameters
        ----------
        dry_run : bool, default=False
            Warn only, and leave the files where they are.

        Returns
        -------
        int
            How many failed.
        """
        with self._threads:
            self.write_pending()
            self._damaged.clear()
            for name in list(self._shards):
                self._forget(name)
            self._keep_damaged = dry_run
            try:
                self._refresh()
                for name, shard in list(self._shards.items()):
                    self._open(name, shard)
            finally:
                self._keep_damaged = False
            return len(self._damaged)

    def clear(self) -> None:
        """Delete all shards of this namespace."""
        with self._threads:
            self._pending.clear()
            for name in list(self._shards):
                self._forget(name)
            try:
                self._place.check_no_link()
            except OSError as error:
                self._warnings.unwritable(error)
                return
            if self._place.exists():
                clear_folder(self.folder)
