"""Checks of what users pass: counts, indices, classes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_count", "check_index", "check_labels", "class_index", "class_indices"]


def class_index(classes: NDArray[Any], label: Any, name: str = "label") -> int:
    """Position of a label among the classes.

    Raises
    ------
    ValueError
        If the label is not a class. The message lists the classes.
    """
    known = classes.tolist()
    for i, other in enumerate(known):
        if np.ndim(label) == 0 and other == label:
            return i
    raise ValueError(f"There is no class {label!r}. The {name!r} parameter must be one of {known}.")


def class_indices(classes: NDArray[Any], labels: Sequence[Any]) -> list[int]:
    """Positions of several labels among the classes.

    Raises
    ------
    ValueError
        If `labels` is not a list of at least one class.
    """
    if isinstance(labels, str) or np.ndim(labels) != 1 or not len(labels):
        raise ValueError(
            f"labels must be a list of at least one class. Got {labels!r} instead. Put a single class into a list: "
            "[label]."
        )
    return [class_index(classes, label, "labels") for label in labels]


def check_labels(y: Any, n_texts: int, what: str = "texts") -> list[Any]:
    """Labels in any container as a list with one label per text.

    Raises
    ------
    ValueError
        If y is not a container of labels, or its length differs from the number of texts.
    """
    labels = y.to_list() if hasattr(y, "to_list") else np.asarray(y).tolist()
    if not isinstance(labels, list):
        raise ValueError(f"y must be a list, array or Series of labels. Got {y!r:.60} instead.")
    if len(labels) != n_texts:
        raise ValueError(f"y must have a label for each of the {n_texts} {what}. Got {len(labels)} instead.")
    return labels


def check_count(value: Any, name: str, minimum: int = 1) -> None:
    """Raise ValueError unless the value is an int of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise ValueError(f"{name} must be an int of at least {minimum}. Got {value!r} instead.")


def check_index(value: Any, name: str, n: int) -> int:
    """The value as an int, if it is an index below `n`; else ValueError."""
    if not isinstance(value, (int, np.integer)) or not 0 <= value < n:
        raise ValueError(f"The {name!r} parameter must be an int from 0 to {n - 1}. Got {value!r} instead.")
    return int(value)
