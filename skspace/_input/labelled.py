"""Labelled: checked texts with their labels, weights and validation split, before anything is encoded.

Everything that can be wrong with labels and weights is found here, before the encoder has worked for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skspace._input.labels import check_labels
from skspace._input.targets import (
    check_not_swapped,
    class_weights,
    classes_and_targets,
    drop_absent,
    group_texts,
    split_groups,
    text_weights,
)

__all__ = ["Labelled", "Subset", "check_labelled"]


class Subset(NamedTuple):
    """Some of the texts."""

    rows: NDArray[np.int64]  # (n,), indices into all texts
    targets: NDArray[np.int64]  # (n,) or (n, n_classes)
    weights: NDArray[np.float64]  # (n,), with mean 1


@dataclass(frozen=True)
class Labelled:
    """Texts of positive weight, and all that is known of them.

    Attributes
    ----------
    X : list of str of length n_texts, or RaggedArray
    y : ndarray of shape (n_texts,) or (n_texts, n_classes)
    classes : ndarray of shape (n_classes,)
    multilabel : bool
    positive_weight : ndarray of shape (n_classes,) or None
        With several labels per text and class weights: factor on a class's cross-entropy where a text has the class.
    train : Subset
    validation : Subset or None
    """

    X: Any
    y: NDArray[Any]
    classes: NDArray[Any]
    multilabel: bool
    positive_weight: NDArray[np.float64] | None
    train: Subset
    validation: Subset | None


def check_labelled(
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    class_weight: Mapping[Any, float] | str | None,
    known: tuple[NDArray[Any], bool] | None,
    given: Any,
    stream: bool,
    validation_fraction: float | None,
    random_state: np.random.RandomState,
    estimator: str,
) -> Labelled:
    """Check labels and weights, and split the texts.

    Parameters
    ----------
    X : list of str or RaggedArray
        Checked already.
    y, sample_weight, class_weight : as users pass them
    known, given, stream : see `classes_and_targets`
    validation_fraction : float or None
        Share of the distinct texts to hold out; equal texts stay together. None holds out none.
    random_state : RandomState
        Draws the split.
    estimator : str
        Name for the error messages.

    Raises
    ------
    TypeError, ValueError
        If y holds no labels, lengths differ, or weights or classes are invalid.
    """
    y = check_labels(y, n_rows=len(X), estimator=estimator)
    X, y, sample_weight = drop_absent(X, y, sample_weight)
    classes, targets = classes_and_targets(y, known, given=given, stream=stream)
    multilabel = targets.ndim == 2
    if not stream and not multilabel:
        check_not_swapped(X, len(classes), estimator)
    by_class = class_weights(class_weight, classes, targets, sample_weight, stream=stream)

    def subset(rows: NDArray[np.int64]) -> Subset:
        return Subset(rows, targets[rows], text_weights(targets[rows], sample_weight[rows], by_class))

    train, validation = np.arange(len(y)), None
    if validation_fraction is not None:
        train, validation = split_groups(group_texts(X), targets, validation_fraction, random_state)
    return Labelled(
        X,
        y,
        classes,
        multilabel,
        by_class if multilabel and class_weight is not None else None,
        subset(train),
        None if validation is None else subset(validation),
    )
