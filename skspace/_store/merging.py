"""Several small shards made into one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace._input.ragged import RaggedArray
from skspace._store.key_index import Keys
from skspace._store.shard import Shard, write_shard

__all__ = ["smallest_within", "write_merged"]


def smallest_within(shards: Iterable[Shard], n_bytes: int) -> list[Shard]:
    """As many shards, the smallest first, as together take no more than `n_bytes`."""
    by_size = sorted(shards, key=lambda shard: shard.nbytes)
    n_fit = np.searchsorted(np.cumsum([shard.nbytes for shard in by_size]), n_bytes, side="right")
    return by_size[:n_fit]


def write_merged(folder: Path, namespace: str, parts: Sequence[tuple[Shard, Keys, NDArray[Any]]]) -> tuple[Shard, Keys]:
    """Write one shard of several, given as (shard, its keys, its values).

    Each text is written once: a process that was killed while it merged has left some of them twice.
    """
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
    return write_shard(folder, namespace, keys, [rows.values], rows.offsets, truncated), keys
