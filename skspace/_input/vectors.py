"""Check vectors that users pass in place of texts, and turn them into a RaggedArray."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from skspace._input.ragged import RaggedArray

__all__ = ["check_vectors"]


def check_vectors(X: Any, estimator: Any, *, reset: bool) -> RaggedArray:
    """Vectors as a RaggedArray; a row of a 2-D array becomes a text of one token.

    Parameters
    ----------
    X : RaggedArray, or array-like of shape (n_texts, n_features)
    estimator : estimator
        Gets ``n_features_in_`` and the like with `reset`; otherwise they are compared with X. Arrays only.

    Raises
    ------
    ValueError
        If X is empty, holds texts, a list of 2-D arrays, or a number that is not finite, or has other columns.
    """
    if isinstance(X, RaggedArray):
        if len(X) == 0:
            raise ValueError("X must hold at least one text. Got 0 texts (a minimum of 1 is required) instead.")
        if (row := X.find_non_finite()) is not None:
            raise ValueError(f"X must hold finite numbers only. Got NaN or infinity in row {row} instead.")
        return X
    in_a_row = isinstance(X, (list, tuple)) or getattr(X, "ndim", 0) == 1
    if in_a_row and isinstance(next(iter(X), None), str):
        raise ValueError(
            "With encoder='precomputed', X must hold vectors. Got texts instead; leave encoder out to classify texts."
        )
    if isinstance(X, (list, tuple)) and len(X) and np.ndim(X[0]) == 2:
        raise ValueError(
            "With encoder='precomputed', X must be a RaggedArray or a 2-D array. Got a list of 2-D arrays instead; "
            "pack them with RaggedArray.from_rows(X)."
        )
    array = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32, np.float16])
    return RaggedArray(array, np.arange(len(array) + 1))
