"""What one call of fit or partial_fit learns from: checked labels and weights, beside texts that are no vectors yet.

What goes into it is decided in _targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skspace._input.labels import check_labels
from skspace._input.ragged import RaggedArray
from skspace._input.targets import (
    class_weights,
    classes_and_targets,
    drop_absent,
    group_texts,
    split_groups,
    text_weights,
)
from skspace._training.labelled_batches import LabelledTexts

__all__ = ["Lesson", "read_lesson"]

_FEW_CLASSES = 20  # so many may be tried out on a text or two


@dataclass(frozen=True)
class Lesson:
    """Texts of a positive weight, and what is known of them.

    Attributes
    ----------
    X : list of str of length n_texts, or RaggedArray
    y : ndarray of shape (n_texts,) or (n_texts, n_classes)
    sample_weight : ndarray of shape (n_texts,)
    classes : ndarray of shape (n_classes,)
    targets : ndarray of int64 of shape (n_texts,) or (n_texts, n_classes)
    by_class : ndarray of shape (n_classes,)
        Weight of every class.
    """

    X: Any
    y: NDArray[Any]
    sample_weight: NDArray[np.float64]
    classes: NDArray[Any]
    targets: NDArray[np.int64]
    by_class: NDArray[np.float64]

    @property
    def multilabel(self) -> bool:
        return self.targets.ndim == 2

    def split(
        self, fraction: float, random_state: np.random.RandomState
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices to train on and to validate with; equal texts stay together."""
        return split_groups(group_texts(self.X), self.targets, fraction, random_state)

    def labelled(self, rows: RaggedArray, chosen: NDArray[np.integer], dtype: torch.dtype) -> LabelledTexts:
        """Some of the texts to train on or to validate with, given the vectors of all."""
        targets = self.targets[chosen]
        weights = text_weights(targets, self.sample_weight[chosen], self.by_class)
        return LabelledTexts(rows[chosen], torch.from_numpy(targets), torch.from_numpy(weights).to(dtype))


def read_lesson(
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    class_weight: Mapping[Any, float] | str | None,
    known: tuple[NDArray[Any], bool] | None,
    given: Any,
    stream: bool,
    estimator: str,
) -> Lesson:
    """Check labels and weights; `known`, `given` and `stream` as for `classes_and_targets`.

    Raises
    ------
    TypeError, ValueError
        If y holds no labels, lengths differ, or weights or classes are not what they must be.
    """
    y = check_labels(y, n_rows=len(X), estimator=estimator)
    X, y, sample_weight = drop_absent(X, y, sample_weight)
    classes, targets = classes_and_targets(y, known, given=given, stream=stream)
    if not stream and targets.ndim == 1:
        _check_not_swapped(X, len(classes), estimator)
    by_class = class_weights(class_weight, classes, targets, sample_weight, stream=stream)
    return Lesson(X, y, sample_weight, classes, targets, by_class)


def _check_not_swapped(X: Any, n_classes: int, estimator: str) -> None:
    """Texts in the place of labels would be a class each, and a fit of hours."""
    if isinstance(X, list) and n_classes > max(_FEW_CLASSES, n_texts := len(set(X))):
        raise ValueError(
            f"{estimator} learns labels from texts: fit(texts, labels). Got {n_texts} different texts and {n_classes} "
            "different labels instead; are X and y swapped?"
        )
