"""Models and stores that encoders with the same settings share in a process."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any, NamedTuple

import torch

from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._encoding.model_files import ModelFiles
from skspace._encoding.vector_spec import VectorSpec
from skspace._store.cache_folder import CacheLimit, cache_folder
from skspace._store.token_store import TokenStore

__all__ = ["Cache", "shared_cache", "shared_transformer"]


class Cache(NamedTuple):
    store: TokenStore
    limit: CacheLimit


# A grid search clones its encoder for every candidate: the clones share one loaded model and one store. The lock also
# keeps two threads from loading the same weights at once.
_sharing = threading.RLock()
_transformers: dict[Any, FrozenTransformer] = {}
_caches: dict[Any, Cache] = {}
_MAX_TRANSFORMERS = 2


def shared_transformer(
    files: ModelFiles, layer: int, max_length: int, device: torch.device, dtype: torch.dtype
) -> FrozenTransformer:
    key = (files.folder, files.identity, layer, max_length, device, dtype)
    with _sharing:
        if key not in _transformers:
            while len(_transformers) >= _MAX_TRANSFORMERS:
                del _transformers[next(iter(_transformers))]
            files.check()
            transformer = FrozenTransformer(
                files.folder, layer=layer, max_length=max_length, device=device, dtype=dtype
            )
            files.check_unchanged()
            _transformers[key] = transformer
        return _transformers[key]


def _write_pending() -> None:
    for cache in _caches.values():
        cache.store.write_pending(at_exit=True)


def _after_fork() -> None:
    """In a child: another thread of its parent may have held the lock, and what is pending is its parent's to write."""
    global _sharing
    _sharing = threading.RLock()
    for cache in _caches.values():
        cache.store.after_fork()


atexit.register(_write_pending)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_cache(cache_dir: str, max_bytes: int | None, spec: VectorSpec, model_name: str) -> Cache:
    folder = cache_folder(cache_dir)
    namespace = spec.namespace()
    key = (folder, max_bytes, *namespace.items())
    with _sharing:
        if key not in _caches:
            store = TokenStore(folder, namespace, f"{model_name}-layer{spec.layer}")
            _caches[key] = Cache(store, CacheLimit(folder, max_bytes))
        return _caches[key]
