"""Check the texts that users pass, and turn them into a list of str.

Containers of pandas, polars and pyarrow are recognised by their methods; none of these libraries is imported.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

__all__ = ["check_texts"]

_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(X: Any, *, name: str = "X") -> list[str]:
    """Turn a container of texts into a list of str.

    Parameters
    ----------
    X : list, tuple, 1-D array, (n, 1) array, Series, pyarrow array, or data frame of one column
        An empty or blank text is legal. Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
    name : str, default="X"
        Name for the error messages.

    Returns
    -------
    list of str of length n_texts

    Raises
    ------
    TypeError
        If X is not such a container or holds anything but str; the message names the first such row.
    ValueError
        If X is empty, has more than one column or a text is missing (None, NaN, NA).
    """
    if isinstance(X, (str, bytes)):
        raise TypeError(
            f"{name} must be a sequence of texts. Got a single {type(X).__name__} instead; wrap it in a list: [text]."
        )
    items = _items(X, name)
    if len(items) == 0:
        raise ValueError(f"{name} must hold at least one text. Got 0 texts (a minimum of 1 is required) instead.")
    return [_text(item, row, name) for row, item in enumerate(items)]


def _items(X: Any, name: str) -> Any:
    """The cells of a container in order."""
    if hasattr(X, "shape") and hasattr(X, "columns"):  # a data frame or table
        _check_one_column(X.shape, name)
        X = X.iloc[:, 0] if hasattr(X, "iloc") else X[:, 0] if hasattr(X, "to_series") else X.column(0)
    if hasattr(X, "to_pylist"):  # pyarrow
        return X.to_pylist()
    if hasattr(X, "to_list"):  # pandas, polars
        return X.to_list()
    if isinstance(X, np.ndarray):
        if X.ndim == 2:
            _check_one_column(X.shape, name)
            X = X[:, 0]
        if X.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional or have one column. Got shape {X.shape} instead.")
        return X.tolist()
    if getattr(X, "ndim", None) == 1 and hasattr(X, "dtype") and hasattr(X, "tolist"):  # an array of pandas
        return X.tolist()
    if isinstance(X, (list, tuple)):
        if X and all(isinstance(item, (list, tuple)) or (isinstance(item, np.ndarray) and item.ndim) for item in X):
            widths = {len(item) for item in X}
            _check_one_column((len(X), max(widths)), name)
            if widths == {1}:
                return [item[0] for item in X]
        return X
    raise TypeError(
        f"{name} must be a list, tuple, array, Series or one-column frame of texts. "
        f"Got {type(X).__name__} instead; turn it into a list first."
    )


def _check_one_column(shape: tuple[int, ...], name: str) -> None:
    if shape[1] != 1:
        raise ValueError(
            f"{name} must have one column, the texts. Got {shape[1]} columns instead; select one, for example with "
            "ColumnTransformer or X['text']."
        )


def _text(item: Any, row: int, name: str) -> str:
    if isinstance(item, str):
        text = str.__str__(item)  # not str(item), which an Enum answers with its name
        return text if text.isascii() else _SURROGATE.sub("�", text)
    if _is_missing(item):
        raise ValueError(
            f"{name} must hold texts only. Got a missing value ({item!r}) in row {row} instead; drop the row or put "
            "an empty string."
        )
    advice = "decode it, for example with .decode('utf-8')" if isinstance(item, bytes) else "convert it with str()"
    raise TypeError(
        f"{name} must hold texts only. Got {type(item).__name__} ({item!r:.60}) in row {row} instead; {advice}."
    )


def _is_missing(item: Any) -> bool:
    # pandas.NA is recognised by name: comparing it with itself gives NA, not False.
    if item is None or type(item).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(item, (float, np.floating)) and bool(np.isnan(item))
