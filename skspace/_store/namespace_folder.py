"""NamespaceFolder: where the shards of one namespace lie, and how the folder is made and emptied."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skspace._files.atomic_write import write_beside
from skspace._store.shard import FORMAT, SHARD_NAME, TEMPORARY_NAME

__all__ = ["NamespaceFolder", "clear_folder"]


class NamespaceFolder:
    """The folder of a namespace; made when first written to.

    Parameters
    ----------
    cache_dir : str or Path
    namespace : mapping of str to JSON values
    name : str
        Readable part of the folder's name. An existing folder is found by the digest alone, so that the readable part
        may change from one version to the next.
    """

    def __init__(self, cache_dir: str | Path, namespace: Mapping[str, Any], name: str) -> None:
        self.namespace = dict(namespace)
        canonical = json.dumps({"format": FORMAT, **self.namespace}, sort_keys=True)
        self.digest = hashlib.sha256(canonical.encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:]
        parent = Path(cache_dir).expanduser().absolute() / f"v{FORMAT}"
        default = parent / f"{readable}-{self.digest[:24]}"
        try:
            self.path = next((f for f in parent.glob(f"*-{self.digest[:24]}") if f.is_dir()), default)
        except OSError:  # cannot be listed; reading and writing report it
            self.path = default

    def make(self) -> None:
        """Make the folder, with its description, unless it is there.

        Raises
        ------
        OSError
            If it cannot be made, or is a link.
        """
        self.check_no_link()
        description = self.path / "namespace.json"
        if description.exists():
            return
        self.path.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.parent.mkdir(exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o700)
        text = json.dumps({"format": FORMAT, **self.namespace}, indent=2, sort_keys=True)
        write_beside(description, text.encode())

    def exists(self) -> bool:
        return self.path.is_dir()

    def shard_names(self) -> set[str]:
        """Names of the shards; empty if there is no folder."""
        try:
            return {entry.name for entry in os.scandir(self.path) if SHARD_NAME.fullmatch(entry.name)}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def is_link(self) -> bool:
        """Whether a link leads out of the cache: a stranger could choose with it what is written or deleted."""
        return self.path.is_symlink() or self.path.parent.is_symlink()

    def check_no_link(self) -> None:
        if self.is_link():
            raise OSError(errno.ELOOP, "A link instead of a folder", str(self.path))


def clear_folder(folder: Path) -> None:
    """Delete all shards in the folder of a namespace, and nothing else."""
    for entry in list(os.scandir(folder)):
        is_shard = SHARD_NAME.fullmatch(entry.name) or TEMPORARY_NAME.fullmatch(entry.name)
        if is_shard and not entry.is_dir(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)
