"""DiskWarnings: what a store cannot read or write, each told once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skspace._runtime.messages import warn

__all__ = ["DiskWarnings"]


class DiskWarnings:
    """Warnings of one store; each stands once per cause."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._given: set[tuple[Any, ...]] = set()

    def damaged(self, path: Path, identity: tuple[int, ...], damage: Exception) -> None:
        self._once(
            ("damaged", path.name, *identity),
            f"The cached embeddings in {path} are damaged ({damage}); they are not used and are computed again.",
        )

    def unreadable(self, path: Path, error: OSError) -> None:
        self._once(
            ("unreadable", str(path), error.errno),
            f"The embedding cache cannot read {path} ({error}); what is in it is computed again. Check its "
            "permissions, or choose another folder with cache_dir or SKSPACE_CACHE_DIR.",
        )

    def unwritable(self, error: Exception) -> None:
        self._once(
            ("unwritable",),
            f"The embedding cache cannot write to {self.folder} ({error}). The work goes on without it, but the same "
            "texts will have to be encoded again; free some space or choose another folder with cache_dir or "
            "SKSPACE_CACHE_DIR.",
        )

    def no_locks(self, error: Exception) -> None:
        self._once(
            ("no locks",),
            f"The disk of the embedding cache {self.folder} has no file locks ({error}). The work goes on "
            "without them, but texts that several processes ask for at once may be encoded by each of them.",
        )

    def _once(self, cause: tuple[Any, ...], message: str) -> None:
        if cause not in self._given:
            self._given.add(cause)
            warn(message)
