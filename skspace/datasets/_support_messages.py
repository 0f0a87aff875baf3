"""Loader of the built-in customer-support messages."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from skspace.datasets._bunch import check_bool, make_bunch, package_file

if TYPE_CHECKING:
    from sklearn.utils import Bunch

__all__ = ["load_support_messages"]

_DATA_FILE = "support_messages.csv"
_COLUMNS = ("id", "text", "label")


@overload
def load_support_messages(*, return_X_y: Literal[False] = False, as_frame: bool = False) -> Bunch: ...


@overload
def load_support_messages(*, return_X_y: Literal[True], as_frame: bool = False) -> tuple[Any, Any]: ...


def load_support_messages(*, return_X_y: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any]:
    """Load 400 short customer-support messages in five classes.

    The messages are synthetic: they were written for this package, in the style
    of mail to a shop that sells household electronics with an app. Every class
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
    check_bool("return_X_y", return_X_y)
    check_bool("as_frame", as_frame)

    columns = _read_columns()
    return make_bunch(
        columns,
        caller="load_support_messages",
        descr="support_messages.rst",
        target_names=sorted(set(columns["label"])),
        return_X_y=return_X_y,
        as_frame=as_frame,
        filename=_DATA_FILE,
    )


def _read_columns() -> dict[str, np.ndarray]:
    # The csv module needs newline="" to distinguish row ends from newlines in a field.
    with package_file("data", _DATA_FILE).open("r", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # dtype=object: fixed-width numpy strings would pad every message to the longest one.
    return {name: np.array([row[name] for row in rows], dtype=object) for name in _COLUMNS}
