"""Return values of the loaders: a Bunch, or a pair (data, target), of arrays or pandas objects."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

__all__ = ["check_bool", "make_bunch", "package_file"]


def check_bool(name: str, value: object) -> None:
    # Other loaders accept values such as as_frame="auto", which would silently count as True here.
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def package_file(folder: str, name: str) -> Any:
    # Unlike paths from __file__, resources also work in a zipped install.
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
    """Make the return value of a loader from its columns.

    Parameters
    ----------
    columns : dict of ndarray, each of shape (n_rows,)
        ``id``, ``text``, ``label`` and any further columns.
    caller : str
        Name of the public function, for messages.
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

    # Imported here to keep the import of this module fast: scikit-learn also imports pandas if it is installed.
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
        # Imported here, since pandas is optional.
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"{caller}(as_frame=True) needs pandas, which is not installed. "
            "Install it with: pip install 'skspace[datasets]'"
        ) from error
    # dtype: pandas 3 would convert strings to its own type, pandas 2 would not.
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
