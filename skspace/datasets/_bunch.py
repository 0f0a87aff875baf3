"""What every loader returns: a Bunch, or a pair, of arrays or of pandas objects."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

__all__ = ["check_bool", "make_bunch", "package_file"]


def check_bool(name: str, value: object) -> None:
    # Other loaders know values such as as_frame="auto"; taken for truth they
    # would quietly mean something else here.
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def package_file(folder: str, name: str) -> Any:
    # Resources, not paths from __file__: they also work from a zipped install.
    return resources.files(__package__) / folder / name


def make_bunch(
    columns: dict[str, np.ndarray],
    *,
    caller: str,
    descr: str,
    target_names: list[str],
    return_X_y: bool,
    as_frame: bool,
    **more: Any,
) -> Any:
    """What a loader returns, made of its columns.

    Parameters
    ----------
    columns : dict of ndarray, each of shape (n_rows,)
        ``id``, ``text``, ``label``, and whatever else the set has.
    caller : str
        The public function, for messages.
    descr : str
        The file in ``descr/`` that describes the set.
    target_names : list of str
        The class labels.
    return_X_y, as_frame : bool
        As the loaders' parameters.
    **more
        Further entries of the Bunch.

    Returns
    -------
    Bunch or (data, target)

    Raises
    ------
    ImportError
        If ``as_frame`` and pandas is not installed.
    """
    data, target = columns["text"], columns["label"]
    frame = None
    if as_frame:
        frame = _make_frame(columns, caller)
        data, target = frame["text"], frame["label"]

    if return_X_y:
        return data, target

    # Here and not at the top: scikit-learn imports pandas wherever it is installed,
    # and importing this module should cost neither.
    from sklearn.utils import Bunch

    return Bunch(
        data=data,
        target=target,
        target_names=target_names,
        ids=columns["id"],
        frame=frame,
        DESCR=package_file("descr", descr).read_text(encoding="utf-8"),
        **more,
    )


def _make_frame(columns: dict[str, np.ndarray], caller: str) -> Any:
    try:
        # Here and not at the top: the package works without pandas.
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"{caller}(as_frame=True) needs pandas, which is not installed. "
            "Install it with: pip install 'skspace[datasets]'"
        ) from error
    # dtype: of strings pandas 3 would make its own type and pandas 2 would not.
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
