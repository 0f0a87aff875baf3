"""TokenStore: token vectors of texts, computed once and kept on disk.

Knows nothing of models or torch. A *namespace* is one way of encoding (model, layer,
length …) and one folder::

    <cache_dir>/v1/<readable name>-<digest of the namespace>/
        namespace.json          the namespace, for people
        <digest>.safetensors    a shard, see _shard.py
        locks/00 … 3f           held while the texts whose key begins so are encoded; reading needs no lock

Shards are written beside and renamed, and never change. Each is verified the first time this process reads from it. One
that fails is dropped with a warning and its texts count as missing, so that the caller computes them again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace._files.atomic_write import write_beside
from skspace._files.safetensors_format import Damage
from skspace._input.ragged import RaggedArray
from skspace._store.key_index import KeyIndex, Lookup, lock_of
from skspace._store.process_locks import acquire, has_no_locks, release
from skspace._store.shard import (
    FORMAT,
    SHARD_NAME,
    TEMPORARY_NAME,
    VALUES_DTYPE,
    Keys,
    Reader,
    Shard,
    all_finite,
    write_shard,
)

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
        self.namespace = dict(namespace)
        canonical = json.dumps({"format": FORMAT, **self.namespace}, sort_keys=True)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
        parent = Path(cache_dir).expanduser().absolute() / f"v{FORMAT}"
        # Found by the digest: the readable part is for people, and may change from one version to the next.
        here = f"{readable}-{self.digest[:24]}"
        try:
            self.folder = next((f for f in parent.glob(f"*-{self.digest[:24]}") if f.is_dir()), parent / here)
        except OSError:  # not to be listed, as whoever reads or writes will be told
            self.folder = parent / here
        self._forget_all()
        self._warned: set[tuple[Any, ...]] = set()
        self._keep_damaged = False
        self._damaged: set[Path] = set()  # found so, since somebody last asked
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

        The answer holds its shards open, so that nobody can take them away while it is in use.

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
        names = self._names()
        if names is None:
            return False
        for gone in self._shards.keys() - names:
            self._forget(gone)
        new = [known for name in sorted(names - self._shards.keys()) if (known := self._read(self.folder / name))]
        self._know(new)
        return bool(new)

    def _names(self) -> set[str] | None:
        """Names of the shards; None, and a warning, where the folder cannot be listed."""
        try:
            return {entry.name for entry in os.scandir(self.folder) if SHARD_NAME.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            self._warn_unreadable(self.folder, error)
            return None

    def _read(self, path: Path) -> tuple[Shard, Keys] | None:
        try:
            return Shard.read(path, self.digest)
        except Damage as damage:
            self._drop(path, damage)
        except FileNotFoundError:
            pass  # merged into another shard since the folder was listed; its texts are looked for there next time
        except OSError as error:
            self._warn_unreadable(path, error)
        return None

    def _drop(self, path: Path, damage: Exception) -> None:
        """Remove a damaged shard, with a warning; what was in it is computed again."""
        self._damaged.add(path)
        try:
            stat = path.stat()
            identity = (path.name, stat.st_ino, stat.st_mtime_ns)
            if not (self._keep_damaged or self._leads_elsewhere()):
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
    def encoding(self, keys: Keys, *, wait: bool = True) -> Iterator[bool]:
        """Hold the right to encode texts: others wait, then find in the store what they were about to compute.

        Parameters
        ----------
        keys : ndarray of uint64 of shape (n_texts, 2)
            Of the texts. They are guarded in 64 groups, see `lock_of`: who claims texts of few groups at a time leaves
            the others to processes beside it.
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
            self._make_folder()
            return acquire(self.folder / "locks", names, wait=wait)
        except (OSError, NotImplementedError) as error:
            if has_no_locks(error):
                self._warn_once(
                    ("no locks",),
                    f"The disk of the embedding cache {self.folder} has no file locks ({error}). The work goes on "
                    "without them, but texts that several processes ask for at once may be encoded by each of them.",
                )
            else:
                self._warn_unwritable(error)
            return []

    def _leads_elsewhere(self) -> bool:
        """Whoever made the cache folder must not choose where else is written or deleted."""
        return self.folder.is_symlink() or self.folder.parent.is_symlink()

    def _make_folder(self) -> None:
        if self._leads_elsewhere():
            raise OSError(errno.ELOOP, "A link instead of a folder", str(self.folder))
        description = self.folder / "namespace.json"
        if description.exists():
            return
        self.folder.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.parent.mkdir(exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        text = json.dumps({"format": FORMAT, **self.namespace}, indent=2, sort_keys=True)
        write_beside(description, text.encode())

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
                self._make_folder()
                shard = write_shard(self.folder, self.digest, keys, arrays, offsets, np.asarray(truncated))
                self._know([(shard, keys)])
                reader = shard.open()
        except (OSError, Damage) as error:
            self._warn_unwritable(error)
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
                    self._make_folder()
                except OSError as error:
                    self._warn_unwritable(error)
            self._pending[key.tobytes()] = vectors.copy(), truncated
            if len(self._pending) >= MAX_PENDING:
                self.write_pending()

    def write_pending(self, *, at_exit: bool = False) -> None:
        """Write what `write_later` has put off; `at_exit` not if the folder has been removed, perhaps for good."""
        with self._threads:
            pending, self._pending = self._pending, {}
            if pending and (self._exists() or not at_exit):
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
                self._warn_unwritable(error)
            finally:
                release(held)

    def _merge(self, small: list[Shard]) -> None:
        # The smallest first, and no more than makes a full shard: what is merged passes through memory.
        small = sorted(small, key=lambda shard: shard.nbytes)
        fit = np.cumsum([shard.nbytes for shard in small]) <= SHARD_BYTES
        sound = []
        for shard in (shard for shard, fits in zip(small, fit, strict=True) if fits):
            known = self._read(shard.path)  # its keys, checked again
            reader = self._open(shard.path.name, shard)
            if known is not None and reader is not None:
                sound.append((shard, known[1], reader.read_all()))
        if len(sound) < 2:
            return
        merged, keys = self._write_merged(sound)
        self._know([(merged, keys)])
        for shard, _, _ in sound:
            if shard.path != merged.path:
                shard.path.unlink(missing_ok=True)
                self._forget(shard.path.name)

    def _write_merged(self, parts: list[tuple[Shard, Keys, NDArray[Any]]]) -> tuple[Shard, Keys]:
        """One shard of several, each text once: a process killed while it merged has left some of them twice."""
        rows = RaggedArray(
            np.concatenate([values for _, _, values in parts]),
            np.cumsum(np.concatenate([[0], *(np.diff(shard.offsets) for shard, _, _ in parts)])),
        )
        keys = np.concatenate([keys for _, keys, _ in parts])
        truncated = np.concatenate([shard.truncated for shard, _, _ in parts])
        _, first = np.unique(keys, axis=0, return_index=True)
        if len(first) < len(keys):
            first.sort()
            rows, keys, truncated = rows[first], keys[first], truncated[first]
        return write_shard(self.folder, self.digest, keys, [rows.values], rows.offsets, truncated), keys

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
            if self._leads_elsewhere():
                self._warn_unwritable(OSError(errno.ELOOP, "A link instead of a folder", str(self.folder)))
            elif self._exists():
                self.clear_folder(self.folder)

    @staticmethod
    def clear_folder(folder: Path) -> None:
        """Delete all shards in the folder of a namespace, and nothing else."""
        for entry in list(os.scandir(folder)):
            ours = SHARD_NAME.fullmatch(entry.name) or TEMPORARY_NAME.fullmatch(entry.name)
            if ours and not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)

    def _exists(self) -> bool:
        return self.folder.is_dir()
