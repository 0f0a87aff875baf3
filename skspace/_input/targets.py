"""Labels to classes, targets, weights and a validation split.

Weight 2 counts a text twice everywhere here; texts of weight 0 are dropped first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight

from skspace._input.labels import check_labels
from skspace._input.ragged import RaggedArray

__all__ = [
    "check_not_swapped",
    "class_weights",
    "classes_and_targets",
    "drop_absent",
    "group_texts",
    "split_groups",
    "text_weights",
]

_FEW_CLASSES = 20  # up to so many classes may have one text each, as in a first trial


def drop_absent(X: Any, y: NDArray[Any], sample_weight: Any) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
    """Keep the texts with a weight above 0, their labels and their weights."""
    if sample_weight is None:
        return X, y, np.ones(len(y))
    sample_weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    rows = np.flatnonzero(sample_weight > 0)
    if not len(rows):  # scikit-learn checks this itself from version 1.9 on
        raise ValueError(
            f"sample_weight must contain at least one non-zero number. Got 0 for all {len(y)} texts; omit it, or give "
            "some texts a positive weight."
        )
    X = X[rows] if isinstance(X, RaggedArray) else [X[i] for i in rows]
    return X, y[rows], sample_weight[rows]


# ---------------------------------------------------------------- classes


def classes_and_targets(
    y: NDArray[Any], known: tuple[NDArray[Any], bool] | None, *, given: Any = None, stream: bool = False
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sorted classes, and labels as indices into them; ``arange(n_classes)`` and y itself for an indicator matrix.

    Parameters
    ----------
    y : ndarray of shape (n_texts,) or (n_texts, n_classes)
        As `check_labels` returns it.
    known : (classes, multilabel) or None
        Of the training that is continued.
    given : array-like of shape (n_classes,) or None
        In a stream, all labels that will ever occur; may be None if they are known.
    stream : bool
        Classes may be absent from y.

    Raises
    ------
    ValueError
        If y has only one class, a label that is not among the known classes, or, outside a stream, other classes than
        these; if `given` is missing, is not a list of labels, or differs from the known classes.
    """
    if known is None:
        classes = _check_given(given, y) if stream else _find(y)
        return classes, _as_targets(y, classes, multilabel=y.ndim == 2)
    classes, multilabel = known
    if not stream and y.ndim == 1 and not multilabel and (found := _find(y)).tolist() != classes.tolist():
        raise ValueError(
            "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
            f"got {classes.tolist()}, `y` has {found.tolist()}. Set warm_start=False to start afresh, or use "
            "partial_fit, for which classes may be absent."
        )
    targets = _as_targets(y, classes, multilabel=multilabel)
    if given is not None and (again := _check_given(given, y)).tolist() != classes.tolist():
        raise ValueError(
            f"`classes={again.tolist()}` is not the same as on last call to partial_fit, was: {classes.tolist()}. "
            "Omit it; new classes need a new fit."
        )
    return classes, targets


def _find(y: NDArray[Any]) -> NDArray[Any]:
    if y.ndim == 2:
        return np.arange(y.shape[1])
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            "SpaceClassifier needs texts of at least two classes. Got one class only: "
            f"{classes[0]!r} (texts of sample_weight 0 do not count)."
        )
    return classes


def _check_given(classes: Any, y: NDArray[Any]) -> NDArray[Any]:
    if classes is None and y.ndim == 1:
        raise ValueError(
            "classes must be passed on the first call to partial_fit. Got None; pass all labels that will ever occur."
        )
    if classes is None:
        return np.arange(y.shape[1])
    try:
        labels = np.unique(check_labels(classes, n_rows=np.size(classes), estimator="partial_fit"))
    except ValueError as error:
        raise ValueError(f"The 'classes' argument of partial_fit must be a list of labels. {error}") from error
    if y.ndim == 2 and not np.array_equal(labels, np.arange(y.shape[1])):
        raise ValueError(
            f"With several labels per text, 'classes' must be the numbers of the {y.shape[1]} columns of y. Got "
            f"{labels.tolist()} instead; omit it."
        )
    if len(labels) < 2 and y.ndim == 1:
        raise ValueError(f"The 'classes' argument of partial_fit must name two classes or more. Got {labels.tolist()}.")
    return labels


def _as_targets(y: NDArray[Any], classes: NDArray[Any], *, multilabel: bool) -> NDArray[np.int64]:
    if (y.ndim == 2) != multilabel:
        kinds = ["one label per text", "a matrix of zeros and ones"]
        raise ValueError(f"y must be {kinds[multilabel]}, as before. Got {kinds[not multilabel]} instead.")
    if y.ndim == 2:
        if y.shape[1] != len(classes):
            raise ValueError(f"y must have {len(classes)} columns, one per class. Got {y.shape[1]} columns instead.")
        return y
    index = {label: i for i, label in enumerate(classes.tolist())}
    targets = np.array([index.get(label, -1) for label in y.tolist()], dtype=np.int64)
    if (targets < 0).any():
        unknown = y.tolist()[int(targets.argmin())]
        known = ", ".join(map(repr, classes.tolist()[:20])) + ", …" * (len(classes) > 20)
        raise ValueError(
            f"y has a label that is not among the classes: {unknown!r}. Expected one of {known}. Name "
            "all labels that will ever occur in 'classes' at the first call of partial_fit, or start afresh with fit."
        )
    return targets


def check_not_swapped(X: Any, n_classes: int, estimator: str) -> None:
    """Refuse texts in the place of labels: each would be a class, and the fit would take hours."""
    if isinstance(X, list) and n_classes > max(_FEW_CLASSES, n_texts := len(set(X))):
        raise ValueError(
            f"{estimator} learns labels from texts: fit(texts, labels). Got {n_texts} different texts and {n_classes} "
            "different labels instead; are X and y swapped?"
        )


# ---------------------------------------------------------------- weights


def class_weights(
    class_weight: Mapping[Any, float] | str | None,
    classes: NDArray[Any],
    targets: NDArray[np.int64],
    sample_weight: NDArray[np.float64],
    *,
    stream: bool,
) -> NDArray[np.float64]:
    """Weight of every class, (n_classes,).

    With one label per text, "balanced" is scikit-learn's. The weights' mean over the texts is 1; in a stream their mean
    over the classes, since a text's weight must not depend on the other texts of the call. With several labels per
    text, "balanced" gives the texts that have a class the same total weight as those that lack it (1 if all or none
    have it), and the mean is not normalised.

    Raises
    ------
    ValueError
        If a dict lacks a class and has keys that are not classes, or a weight is negative or not finite, or all are 0.
        A dict may omit classes: their weight is 1.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, Mapping):
        labels = classes.tolist()
        missing = [label for label in labels if label not in class_weight]
        if missing and len(labels) - len(missing) != len(class_weight):
            raise ValueError(
                f"The classes, {missing}, are not in class_weight. Got keys {list(class_weight)}, which are not all "
                "classes. Correct them; omitted classes have weight 1."
            )
        by_class = np.array([class_weight.get(label, 1.0) for label in labels], dtype=np.float64)
    else:
        by_class = _balanced(targets, len(classes), _mean_one(sample_weight))
    if not (np.isfinite(by_class).all() and (by_class >= 0).all() and (by_class > 0).any()):
        raise ValueError(
            "The 'class_weight' parameter of SpaceClassifier must give finite, non-negative weights, and "
            f"at least one positive weight. Got {class_weight!r} instead."
        )
    if targets.ndim == 2:
        return by_class
    by_class = by_class / by_class.max()
    return by_class / (by_class.mean() if stream else np.average(by_class[targets], weights=_mean_one(sample_weight)))


def _balanced(targets: NDArray[np.int64], n_classes: int, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    if targets.ndim == 1:
        return weight.sum() / (n_classes * np.bincount(targets, weight, n_classes))
    having = weight @ targets
    lacking = weight @ (1 - targets)
    return np.divide(lacking, having, out=np.ones(n_classes), where=(having > 0) & (lacking > 0))


def text_weights(
    targets: NDArray[np.int64], sample_weight: NDArray[np.float64], by_class: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weight of every text: its own, of mean 1 over these texts, times that of its class if it has one class."""
    weights = _mean_one(sample_weight)
    if targets.ndim == 1:
        weights = weights * by_class[targets]
    if not weights.any():
        raise ValueError(
            "Some text must have a positive weight. Got texts only of classes that have weight 0 in class_weight; "
            "omit them, or raise a class's weight."
        )
    return weights


def _mean_one(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = weights / weights.max()  # the mean cannot overflow then
    return weights / weights.mean()


# ---------------------------------------------------------------- what is held out


def group_texts(X: Any) -> NDArray[np.int64]:
    """A number for every text, equal for equal texts or vectors."""
    keys = (hashlib.sha256(row.tobytes()).digest() for row in X) if isinstance(X, RaggedArray) else X
    index: dict[Any, int] = {}
    return np.array([index.setdefault(key, len(index)) for key in keys])


def split_groups(
    groups: NDArray[np.int64], targets: NDArray[np.int64], fraction: float, random_state: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to train on and to validate with: by group, and by class where that gives each a share."""
    _, first = np.unique(groups, return_index=True)  # groups are numbered 0, 1, … in order
    candidates = np.arange(len(first))
    strata = None
    if targets.ndim == 1:
        counts = np.bincount(targets[first])
        candidates = candidates[counts[targets[first]] > 1]  # a class with one text needs it for training
        strata = targets[first][candidates]
    n_held_out = max(1, round(fraction * len(first)))
    if len(candidates) <= n_held_out:
        raise ValueError(
            f"early_stopping needs texts to train on and to validate with. Got {len(candidates)} distinct texts of "
            f"classes with more than one, and {n_held_out} to hold out (validation_fraction={fraction})."
        )
    if strata is not None and min(n_held_out, len(candidates) - n_held_out) < len(np.unique(strata)):
        strata = None  # too few texts for a share of each class
    _, held_out = train_test_split(candidates, test_size=n_held_out, stratify=strata, random_state=random_state)
    chosen = np.isin(groups, held_out)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
