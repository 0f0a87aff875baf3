"""Loader of the built-in customer-support messages."""

from __future__ import annotations

import csv
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

if TYPE_CHECKING:
    from sklearn.utils import Bunch

__all__ = ["load_support_messages"]

_DATA_FILE = "support_messages.csv"
_DESCR_FILE = "support_messages.rst"
_COLUMNS = ("id", "text", "label")


@overload
def load_support_messages(*, return_X_y: Literal[False] = False, as_frame: bool = False) -> Bunch: ...


@overload
def load_support_messages(*, return_X_y: Literal[True], as_frame: bool = False) -> tuple[Any, Any]: ...


def load_support_messages(*, return_X_y: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any]:
    """Load 400 short customer-support messages in five classes.

    The messages are synthetic: they were written for this package, as people
    write to a shop that sells household electronics with an app. Every class
    (``account``, ``billing``, ``delivery``, ``fault``, ``returns``) has 80
    messages, and the rows are shuffled, so the first rows hold all classes.
    The files are part of the package; nothing is downloaded.

    Parameters
    ----------
    return_X_y : bool, default=False
        If True, return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        If True, ``data`` and ``target`` are pandas Series and ``frame`` is a
        pandas DataFrame. Needs pandas.

    Returns
    -------
    bunch : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes:

        data : ndarray of str, shape (400,), dtype object
            The messages. A Series named ``text`` if ``as_frame=True``.
        target : ndarray of str, shape (400,), dtype object
            The class label of each message. A Series named ``label`` if
            ``as_frame=True``.
        target_names : list of str, length 5
            The class labels, sorted.
        ids : ndarray of str, shape (400,), dtype object
            The identifier of each message, ``s001`` to ``s400``.
        frame : DataFrame of shape (400, 3) or None
            The columns ``id``, ``text`` and ``label`` if ``as_frame=True``,
            else None.
        DESCR : str
            The full description of the data set.
        filename : str
            The name of the data file inside the package.

    (data, target) : tuple
        Only if ``return_X_y=True``: the two attributes described above.

    Raises
    ------
    ImportError
        If ``as_frame=True`` and pandas is not installed.
    TypeError
        If ``return_X_y`` or ``as_frame`` is not a bool.

    Examples
    --------
    >>> from skspace.datasets import load_support_messages
    >>> messages = load_support_messages()
    >>> messages.data.shape
    (400,)
    >>> messages.target_names
    ['account', 'billing', 'delivery', 'fault', 'returns']
    >>> X, y = load_support_messages(return_X_y=True)
    >>> X[0]
    'Does the humidifier normally gurgle this loudly?'
    >>> y[0]
    'fault'
    """
    _check_bool("return_X_y", return_X_y)
    _check_bool("as_frame", as_frame)

    columns = _read_columns()
    ids, data, target = (columns[name] for name in _COLUMNS)
    target_names = sorted(set(target))

    frame = None
    if as_frame:
        frame = _make_frame(columns)
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
        ids=ids,
        frame=frame,
        DESCR=_package_file("descr", _DESCR_FILE).read_text(encoding="utf-8"),
        filename=_DATA_FILE,
    )


def _check_bool(name: str, value: object) -> None:
    # Other loaders know values such as as_frame="auto"; taken for truth they
    # would quietly mean something else here.
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def _package_file(folder: str, name: str) -> Any:
    # Resources, not paths from __file__: they also work from a zipped install.
    return resources.files(__package__) / folder / name


def _read_columns() -> dict[str, np.ndarray]:
    # newline="" is what the csv module needs to tell row ends from line ends in a field.
    with _package_file("data", _DATA_FILE).open("r", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # dtype=object: fixed-width numpy strings would pad every message to the longest one.
    return {name: np.array([row[name] for row in rows], dtype=object) for name in _COLUMNS}


def _make_frame(columns: dict[str, np.ndarray]) -> Any:
    try:
        # Here and not at the top: the package works without pandas.
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "load_support_messages(as_frame=True) needs pandas, which is not installed. "
            "Install it with: pip install skspace[datasets]"
        ) from error
    # dtype=object: pandas 3 would pick its own string type and pandas 2 would not.
    return pd.DataFrame(columns, dtype=object)
