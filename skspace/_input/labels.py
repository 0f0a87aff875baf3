"""Check the labels that users pass, and turn them into an array that scikit-learn's tools agree on.

Mixed and missing labels are found before NumPy turns them into text, as ``np.asarray([1, "a"])`` does silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from skspace._runtime.messages import warn

__all__ = ["check_labels"]


def check_labels(y: Any, *, n_rows: int, estimator: str) -> NDArray[Any]:
    """Labels as a 1-D array of str, int, float or bool, or a 0/1 indicator matrix.

    Parameters
    ----------
    y : array-like of shape (n_texts,) or (n_texts, n_classes)
        A matrix of zeros and ones means several labels per text.
    n_rows : int
        Rows of X.
    estimator : str
        Name for the error messages.

    Returns
    -------
    ndarray of shape (n_texts,) or, of int64, (n_texts, n_classes)
        Objects that are all bool or all int become arrays of that type; str stay as they are.

    Raises
    ------
    ValueError
        If y is None, of another length than X, holds a missing label (the row is named), labels of mixed types, or
        continuous values.
    """
    if y is None:
        raise ValueError(f"{estimator} requires y to be passed, but the target y is None. Pass one label per text.")
    labels = _as_array(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples,), for example using ravel().",
            DataConversionWarning,
        )
        labels = labels.ravel()
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"y should be a 1d array of labels or a 2d matrix of zeros and ones. Got shape {labels.shape} instead."
        )
    if len(labels) != n_rows:
        raise ValueError(
            f"X and y must have the same length. Got inconsistent numbers of samples: {n_rows} in X and "
            f"{len(labels)} in y."
        )
    return _indicator_matrix(labels) if labels.ndim == 2 else _one_kind(labels)


def _as_array(y: Any) -> NDArray[Any]:
    if isinstance(y, np.ma.MaskedArray):
        y = np.array(y.tolist(), dtype=object)  # None where masked
    if hasattr(y, "to_numpy"):  # pandas, polars, pyarrow
        y = y.to_numpy(zero_copy_only=False) if hasattr(y, "to_pylist") else y.to_numpy()
    elif hasattr(y, "toarray"):  # a sparse indicator matrix
        y = y.toarray()
    elif hasattr(y, "__array__"):
        y = np.asarray(y)
    if isinstance(y, (str, bytes, Mapping, Set)) or not hasattr(y, "__len__"):
        raise ValueError(
            f"y should be a 1d array, got {y!r:.60} instead. Expected one label per text in a list, array or Series."
        )
    if isinstance(y, np.ndarray):
        return y.astype(object) if y.dtype.kind == "T" else y
    try:
        return np.array(list(y), dtype=object)
    except ValueError as error:
        raise ValueError("y should be a 1d array. Got rows of different length instead.") from error


def _one_kind(labels: NDArray[Any]) -> NDArray[Any]:
    if labels.dtype.kind == "O":
        for row, label in enumerate(labels):
            _refuse_missing(label, row)
        kinds = {_kind(label) for label in labels}
        if len(kinds) > 1:
            first = {_kind(label): row for row, label in reversed(list(enumerate(labels)))}
            rows = ", ".join(f"{kind} in row {row}" for kind, row in sorted(first.items(), key=lambda item: item[1]))
            raise ValueError(
                f"Labels must be all str, all int or all bool. Got {rows} instead; convert them to one type."
            )
        if kinds <= {"bool", "int", "float"}:
            try:
                labels = labels.astype(kinds.pop()) if kinds else labels
            except OverflowError as error:
                row = next(row for row, label in enumerate(labels) if not -(2**63) <= label < 2**63)
                raise ValueError(
                    f"Labels that are int must fit 64 bits. Got {labels[row]} in row {row} instead; use str labels."
                ) from error
        elif kinds == {"str"}:  # members of an Enum and NumPy's str_ become plain str too
            labels = np.array([str.__str__(label) for label in labels], dtype=object)
        else:
            raise ValueError(
                f"Unknown label type: labels must be str, int or bool. Got {kinds.pop()} in row 0 instead."
            )
    elif labels.dtype.kind not in "biufcU":
        raise ValueError(f"Unknown label type: labels must be str, int or bool. Got dtype {labels.dtype} instead.")
    elif labels.dtype.kind == "f":
        for place in np.flatnonzero(~np.isfinite(labels)):
            _refuse_missing(float(labels[place]), int(place))
    check_classification_targets(labels)
    return labels


def _kind(label: Any) -> str:
    if isinstance(label, str):
        return "str"
    if isinstance(label, (bool, np.bool_)):
        return "bool"
    if isinstance(label, (int, np.integer)):
        return "int"
    return "float" if isinstance(label, (float, np.floating)) else type(label).__name__


def _refuse_missing(label: Any, row: int) -> None:
    name = type(label).__name__
    infinite = isinstance(label, (float, np.floating)) and not np.isfinite(label)
    if label is None or infinite or name in {"NAType", "NaTType"}:
        what = "infinity" if infinite and np.isinf(label) else "NaN" if infinite else repr(label)
        raise ValueError(f"Input y contains {what}: no label in row {row}. Drop the row, or give it a label.")


def _indicator_matrix(labels: NDArray[Any]) -> NDArray[np.int64]:
    try:
        text = labels.dtype.kind not in "biufO" or any(isinstance(label, (str, bytes)) for label in labels.flat)
        numbers = np.array([[np.nan]]) if text or labels.size == 0 else labels.astype(np.float64)
    except (TypeError, ValueError):
        numbers = np.array([[np.nan]])
    if not np.isin(numbers, (0, 1)).all():
        raise ValueError(
            f"A y of two dimensions must be a matrix of zeros and ones, one column per class. Got shape {labels.shape} "
            "with other values instead. Use MultiLabelBinarizer for lists of labels, or one column for one "
            "label per text."
        )
    return numbers.astype(np.int64)
