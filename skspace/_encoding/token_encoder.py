"""TokenEncoder: texts to token embeddings, each text encoded once.

Texts become keys, which are looked up in a `TokenStore`. An `EncodingJob` encodes the texts that are not there; only
then is the model loaded.
"""

from __future__ import annotations

import os
import time
import weakref
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from skspace._encoding.encoding_job import EncodingJob, default_batch_tokens, distinct_texts
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._encoding.mean_vectors import mean_pool
from skspace._encoding.model_config import DEPTH_NAMES, WIDTH_NAMES, config_value
from skspace._encoding.model_files import DEFAULT_MODEL, ModelFiles, RememberedModel, find_model_files, find_remembered
from skspace._encoding.precompute import fill_cache
from skspace._encoding.shared_in_process import Cache, shared_cache, shared_transformer
from skspace._encoding.vector_spec import VectorSpec
from skspace._input.ragged import RaggedArray
from skspace._input.texts import check_texts
from skspace._runtime.devices import check_not_lost, pick_device, pick_dtype, precision
from skspace._runtime.messages import warn
from skspace._store.cache_folder import cache_folder, cache_limit
from skspace._store.key_index import Lookup, text_keys
from skspace._store.shard import all_finite

__all__ = ["TokenEncoder"]

_LOOKING_SECONDS = 1.0  # for single texts, how long a listing of the cache folder and of the model is reused
_FLOAT32_ONLY = {"xlnet"}  # model types whose code in transformers mixes in float32 regardless of the dtype


class TokenEncoder(TransformerMixin, BaseEstimator):
    """Texts to the token embeddings of one hidden layer of a frozen transformer, computed once and cached.

    Stateless: `fit` learns nothing and `transform` may be called at once. The model is loaded at the first text that is
    not in the cache, and shared by all encoders of the process that agree on it.

    Parameters
    ----------
    model : str, default="sentence-transformers/all-MiniLM-L6-v2"
        Folder (config.json, tokenizer, model.safetensors) or hub id of an encoder that ``transformers.AutoModel``
        loads. A copy on this machine is used without asking the network; the default model also comes with the extra
        ``skspace[minilm]``.
    layer : int or float, default=0.67
        Hidden layer whose vectors are taken; the layers above it are not computed. An int counts as in
        transformers' ``hidden_states``: 0 the token embeddings, 1 the first layer, -1 the last. A float in [0, 1] is a
        fraction of the depth, rounded: 0.67 is layer 4 of 6 or 8 of 12; 1.0 is the last layer, 1 the first.
    max_length : int, default=256
        Tokens a text, special tokens included; longer texts are cut, with one warning a call. A model that takes fewer
        sets the limit itself.
    special_tokens : {"keep", "drop"}, default="keep"
        Whether the vectors of [CLS], [SEP] and their like are part of the result. The model sees them either way.
    revision : str, default=None
        Branch, tag or commit at the hub. Pin a commit if the model must not change under you. Not for a
        folder.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        What the model computes in. "auto" is bfloat16 where the hardware multiplies it faster than float32, else
        float32. Vectors are kept in float16 in any case. Where it is bfloat16, and faster, `SpaceClassifier.fit` takes
        its products with them in it too; predictions are in float32.
    device : str, default="auto"
        "auto" (CUDA if present, else the processor), or a torch device such as "cpu", "cuda:1", "mps".
    batch_tokens : int or "auto", default="auto"
        Tokens a batch, padding included; "auto" is 768 on a processor (2048 in bfloat16 and float16) and 16384
        elsewhere. On a processor as many batches are at work as torch may use threads. Bounds memory; changes results
        by rounding only.
    pooling : {None, "mean"}, default=None
        None gives a `RaggedArray`; "mean" a 2-D array, one mean vector a text, which FeatureUnion and ColumnTransformer
        can take.
    cache_dir : str, Path, "auto" or None, default="auto"
        Where embeddings are kept: "auto" is ``$SKSPACE_CACHE_DIR`` or the user's cache folder, None keeps nothing.
        The cache is private data; see `cache_info`, `clear_cache` and `skspace.cache`.
    cache_max_bytes : int, "auto" or None, default="auto"
        Size that the whole cache folder, all models together, is kept under: after a write the least recently used
        files are deleted. "auto" is ``$SKSPACE_CACHE_MAX_BYTES`` or 64 GiB, None is no limit. A process looks at the
        size every 256 MiB that it writes, or every tenth of the limit: by so much the folder can be larger meanwhile.

    See Also
    --------
    SpaceClassifier : Uses it.

    Examples
    --------
    >>> from skspace import TokenEncoder
    >>> encoder = TokenEncoder(cache_dir=None)
    >>> encoder.transform(["Hello world", ""])
    <RaggedArray: 2 texts, 6 tokens, 384 features, float16>
    """

    __module__ = "skspace"  # what pickles, skops and messages name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, os.PathLike],
        "layer": [Interval(Integral, None, None, closed="neither"), Interval(Real, 0, 1, closed="both")],
        "max_length": [Interval(Integral, 3, None, closed="left")],
        "special_tokens": [StrOptions({"keep", "drop"})],
        "revision": [str, None],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "device": [str],
        "batch_tokens": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "pooling": [StrOptions({"mean"}), None],
        "cache_dir": [str, os.PathLike, None],
        "cache_max_bytes": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
    }

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        layer: int | float = 0.67,
        max_length: int = 256,
        special_tokens: str = "keep",
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_tokens: int | str = "auto",
        pooling: str | None = None,
        cache_dir: str | os.PathLike[str] | None = "auto",
        cache_max_bytes: int | str | None = "auto",
    ) -> None:
        self.model = model
        self.layer = layer
        self.max_length = max_length
        self.special_tokens = special_tokens
        self.revision = revision
        self.dtype = dtype
        self.device = device
        self.batch_tokens = batch_tokens
        self.pooling = pooling
        self.cache_dir = cache_dir
        self.cache_max_bytes = cache_max_bytes

    # ---------------------------------------------------------------- scikit-learn

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> TokenEncoder:
        """Check the texts; nothing is learned."""
        check_texts(X)
        return self

    def transform(self, X: Any) -> Any:
        """Token embeddings of texts.

        Parameters
        ----------
        X : sequence of str of length n_texts
            List, tuple, array, Series or one-column frame; an empty text is legal.

        Returns
        -------
        RaggedArray of shape (n_texts,), or ndarray of float32 of shape (n_texts, n_features) with ``pooling="mean"``

        Raises
        ------
        TypeError, ValueError
            If X is not texts; the row is named.
        OSError
            If the model is neither a folder, nor on this machine, nor at the hub.
        """
        self._validate_params()
        texts = check_texts(X)
        rows = self._embed(texts)
        return mean_pool(rows) if self.pooling == "mean" else rows

    def _has_columns(self) -> bool:
        if self.pooling is None:
            raise AttributeError(
                "TokenEncoder has columns, and names for them, only with pooling='mean'. Got pooling=None instead."
            )
        return True

    # Absent without columns, which is what keeps set_output("pandas") from being applied to a RaggedArray.
    @available_if(_has_columns)
    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns with ``pooling="mean"``: tokenencoder0, tokenencoder1 …"""
        width = config_value(self._files().config, WIDTH_NAMES, lambda: self._files_to_load().folder)
        return np.array([f"tokenencoder{i}" for i in range(width)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        if "_remembered" in state:  # as a dict, so that pickles name no private class
            state["_remembered"] = asdict(state["_remembered"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_remembered" in state:
            state = {**state, "_remembered": RememberedModel(**state["_remembered"])}
        super().__setstate__(state)

    # ---------------------------------------------------------------- tokens and cache

    def tokenize(self, X: Any) -> list[tuple[list[str], list[tuple[int, int]]]]:
        """The tokens behind the rows of `transform`.

        Parameters
        ----------
        X : sequence of str of length n_texts

        Returns
        -------
        list of (tokens, spans)
            For each text the tokenizer's names of its tokens and where each stands in the text, as (begin, end) in
            characters; (0, 0) for special tokens.
        """
        transformer = self._transformer(self._files_to_load())
        result = []
        for tokens in transformer.tokenize(check_texts(X)):
            dropped = tokens.special if self.special_tokens == "drop" else np.zeros(len(tokens.ids), bool)
            kept = np.flatnonzero(~dropped).tolist()
            names = transformer.token_strings(tokens)
            spans = [] if tokens.spans is None else tokens.spans[kept].tolist()
            result.append(([names[i] for i in kept], [(begin, end) for begin, end in spans]))
        return result

    def cache_info(self) -> dict[str, Any] | None:
        """What the cache holds of vectors with exactly these settings; None with ``cache_dir=None``.

        Returns
        -------
        dict or None
            ``folder``, ``n_texts`` (a text that two processes encoded counts twice), ``n_distinct`` texts,
            ``n_tokens``, ``n_bytes`` of the files, ``n_shards`` (files).
        """
        cache = self._cache(self._files())
        return None if cache is None else cache.store.info()

    def clear_cache(self) -> None:
        """Delete the vectors made with exactly these settings; `skspace.cache.clear` deletes those of others too."""
        cache = self._cache(self._files())
        if cache is not None:
            cache.store.clear()

    def precompute(self, X: Any, *, n_jobs: int | None = None) -> int:
        """Encode texts into the cache, with several processes or machines side by side.

        Works through joblib: ``n_jobs`` processes, or the cluster of ``joblib.parallel_config("dask")`` or
        ``("ray")``, whose workers must see `cache_dir` under the same path. Workers get texts and give back a count.
        May be interrupted, repeated, and started several times at once: what is in the cache is not encoded again.

        Parameters
        ----------
        X : sequence of str of length n_texts
        n_jobs : int, default=None
            As everywhere in joblib. On one machine more than one process helps little, since a process uses all cores.

        Returns
        -------
        int
            Texts that were encoded by this call.

        Raises
        ------
        ValueError
            With ``cache_dir=None``.
        OSError
            If texts are missing in the cache afterwards: workers that write elsewhere, or a full disk.
        """
        self._validate_params()
        cache = self._cache(self._files_to_load())
        if cache is None:
            raise ValueError("TokenEncoder.precompute needs a cache. Got cache_dir=None instead; give it a folder.")
        distinct, inverse = distinct_texts(check_texts(X))
        n_encoded, truncated = fill_cache(self._for_workers(), distinct, cache.store, n_jobs, self._max_bytes())
        self._warn_truncated(truncated[inverse])
        return n_encoded

    def _for_workers(self) -> TokenEncoder:
        """Itself, with paths that do not depend on the folder and the environment of this process."""
        encoder = clone(self).set_params(
            cache_dir=str(cache_folder(self.cache_dir or "auto")), cache_max_bytes=self._max_bytes()
        )
        folder = Path(self.model).expanduser()
        return encoder.set_params(model=str(folder.absolute())) if folder.is_dir() else encoder

    # ---------------------------------------------------------------- texts to vectors

    def _embed(self, texts: list[str]) -> RaggedArray:
        distinct, inverse = distinct_texts(texts)
        # Checking the folders anew at each call would dominate the time of single texts.
        found, _ = self._find_or_encode(distinct, max_age=_LOOKING_SECONDS if len(distinct) == 1 else 0.0)
        self._warn_truncated(found.truncated[inverse])
        return RaggedArray.from_segments(
            found.segments,
            found.segment[inverse],
            found.start[inverse],
            found.length[inverse],
            n_features=found.segments[0].shape[1],
            dtype=found.segments[0].dtype,
        )

    def _find_or_encode(self, distinct: list[str], *, max_age: float = 0.0) -> tuple[Lookup, int]:
        """Where the vectors of distinct texts lie, and how many of them this process had to encode.

        What others have written in the last `max_age` seconds may be encoded once more.
        """
        keys = text_keys(distinct)
        cache = self._cache(self._files())
        found = Lookup(len(distinct)) if cache is None else cache.store.lookup(keys, max_age=max_age)
        if not len(found.missing):
            return found, 0
        files = self._files_to_load(max_age=max_age)
        # Vectors are stored under the identity of the loaded model, not under one from memory or from a saved folder.
        if (loaded := self._cache(files)) is not None and loaded is not cache:
            cache = loaded
            found = cache.store.lookup(keys, max_age=max_age)
            if not len(found.missing):
                return found, 0
        job = EncodingJob(
            distinct,
            keys,
            found,
            transformer=self._transformer(files),
            store=None if cache is None else cache.store,
            batch_tokens=self._batch_tokens(files),
            drop_special=self.special_tokens == "drop",
            check=self._check_finite,
            written=(lambda n_bytes: None) if cache is None else cache.limit.written,
        )
        return found, job.run()

    def _batch_tokens(self, files: ModelFiles) -> int:
        if self.batch_tokens != "auto":
            return int(self.batch_tokens)
        device = self._device()
        return default_batch_tokens(device, self._dtype(files, device))

    def _check_finite(self, vectors: NDArray[np.float16], text: str) -> None:
        if not all_finite(vectors):
            raise ValueError(
                f"The encoder {self.model} gave infinite or undefined numbers in float16 at layer={self.layer} for the "
                f"text {text!r:.60}. Choose another layer, or dtype='float32'."
            )

    def _warn_truncated(self, truncated: NDArray[np.bool_]) -> None:
        if truncated.any():
            warn(
                f"{int(truncated.sum())} of {len(truncated)} texts are longer than max_length={self.max_length} tokens "
                "(or than the model takes) and were truncated. Raise max_length, or split them."
            )

    # ---------------------------------------------------------------- model and store

    def _files(self) -> ModelFiles | RememberedModel:
        """The model's files; a fitted classifier's encoder knows enough of them to look up cached texts."""
        return vars(self).get("_remembered") or self._files_to_load()

    def _files_to_load(self, *, max_age: float = 0.0) -> ModelFiles:
        """The model's files; a fitted classifier's as they were found up to `max_age` seconds ago."""
        known: RememberedModel | None = vars(self).get("_remembered")
        asked = os.fspath(self.model), self.revision
        if known is None:
            return find_model_files(*asked)
        found = _last_found.get(self)
        if found is None or found.asked != asked or time.monotonic() - found.time >= max_age:
            found = _LastFound(asked, time.monotonic(), find_remembered(*asked, known))
            _last_found[self] = found
        return found.files

    def _remember_model(self) -> None:
        """Remember the model of now: cached texts then need no files, and another model is an error."""
        files = self._files_to_load()
        config = {DEPTH_NAMES[0]: self._depth(files), "model_type": str(files.config.get("model_type"))}
        self._remembered = RememberedModel(files.identity, files.name, files.weights, config)

    def _depth(self, files: ModelFiles | RememberedModel) -> int:
        return config_value(files.config, DEPTH_NAMES, lambda: self._files_to_load().folder)

    def _layer(self, files: ModelFiles | RememberedModel) -> int:
        depth = self._depth(files)
        if not isinstance(self.layer, Integral):
            return round(self.layer * depth)
        if not -depth - 1 <= self.layer <= depth:
            raise ValueError(
                f"The 'layer' parameter of TokenEncoder must be an int from {-depth - 1} to {depth} or a float "
                f"from 0 to 1, since {self.model} has {depth} layers. Got {self.layer} instead."
            )
        return int(self.layer) % (depth + 1)

    def _device(self) -> torch.device:
        return pick_device(self.device, estimator=type(self).__name__)

    def _dtype(self, files: ModelFiles | RememberedModel, device: torch.device) -> torch.dtype:
        if self.dtype == "auto" and files.config.get("model_type") in _FLOAT32_ONLY:
            return torch.float32
        return pick_dtype(self.dtype, device)

    def _computed(self) -> torch.dtype:
        """What the model computes vectors in, before they are kept in float16."""
        return self._dtype(self._files(), self._device())

    def _transformer(self, files: ModelFiles) -> FrozenTransformer:
        device = self._device()
        check_not_lost(device)
        return shared_transformer(files, self._layer(files), int(self.max_length), device, self._dtype(files, device))

    def _cache(self, files: ModelFiles | RememberedModel) -> Cache | None:
        if self.cache_dir is None:
            return None
        spec = self._vector_spec(files)
        return shared_cache(os.fspath(self.cache_dir), self._max_bytes(), spec, files.name)

    def _vector_spec(self, files: ModelFiles | RememberedModel | None = None) -> VectorSpec:
        """What determines the vectors of this encoder; of a fitted classifier's, with the model that it remembers."""
        files = self._files() if files is None else files
        device = self._device()
        return VectorSpec(
            model=files.identity,
            weights=files.weights,
            layer=self._layer(files),
            max_length=int(self.max_length),
            special_tokens=self.special_tokens,
            computed=precision(self._dtype(files, device), device),
            stored="float16",
        )

    def _max_bytes(self) -> int | None:
        return cache_limit(self.cache_max_bytes)


class _LastFound(NamedTuple):
    asked: tuple[str, str | None]
    time: float
    files: ModelFiles


_last_found: weakref.WeakKeyDictionary[TokenEncoder, _LastFound] = weakref.WeakKeyDictionary()
