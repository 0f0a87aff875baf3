"""Fill the cache with several processes or machines, through joblib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from skspace._encoding.encoding_job import divide
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore

__all__ = ["fill_cache"]

_PARTS_A_WORKER, _PART_TEXTS = 4, 4096  # enough tasks that no worker is idle for long at the end


def fill_cache(
    encoder: Any, distinct: Sequence[str], store: TokenStore, n_jobs: int | None, max_bytes: int | None
) -> tuple[int, NDArray[np.bool_]]:
    """Encode the texts that are not in the store.

    Parameters
    ----------
    encoder : TokenEncoder
        What each worker gets a copy of.
    distinct : sequence of str
    store : TokenStore
        The encoder's, as this process sees it.
    n_jobs : int or None
    max_bytes : int or None
        Limit of the cache, for a message.

    Returns
    -------
    n_encoded : int
        Texts that were encoded now.
    truncated : ndarray of bool of shape (n_texts,)

    Raises
    ------
    OSError
        If texts are missing in the store afterwards.
    """
    keys = text_keys(distinct)
    missing = store.lookup(keys).missing
    n_encoded = 0
    if len(missing):
        parts = divide(keys[missing], max(_PARTS_A_WORKER * effective_n_jobs(n_jobs), len(missing) // _PART_TEXTS))
        n_encoded = sum(
            Parallel(n_jobs)(delayed(_encode_part)(encoder, [distinct[i] for i in missing[part]]) for part in parts)
        )
    found = store.lookup(keys)
    if len(found.missing):
        raise OSError(
            f"{len(found.missing)} of {len(distinct)} texts are not in the cache {store.folder} after precompute: "
            "the workers could not write to it, see another folder under this path, or have evicted them again "
            f"since they take more than its limit of {max_bytes} bytes. Give a cache_dir that all of them "
            "share, and check its free space, its permissions and cache_max_bytes."
        )
    return n_encoded, found.truncated


def _encode_part(encoder: Any, texts: list[str]) -> int:
    """The task of a worker."""
    _, n_encoded = encoder._find_or_encode(texts)
    cache = encoder._cache(encoder._files())
    if cache is not None:
        cache.store.write_pending()  # a part may be a single text, and other processes look for it now
    return int(n_encoded)
