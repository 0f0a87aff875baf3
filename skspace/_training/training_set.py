"""TrainingSet: token vectors with targets and weights, ready to train on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skspace._input.labelled import Labelled, Subset
from skspace._input.ragged import RaggedArray
from skspace._training.labelled_batches import LabelledTexts

__all__ = ["TrainingSet", "make_training_set"]


@dataclass(frozen=True)
class TrainingSet:
    """What one training learns from.

    Attributes
    ----------
    train : LabelledTexts
    validation : LabelledTexts or None
        Stops the training early and decides which epoch is kept.
    n_classes : int
    multilabel : bool
    positive_weight : Tensor of shape (n_classes,) or None
        See `SpaceCriterion`.
    dtype, product_dtype : torch.dtype
        Of the parameters, and of the products with token vectors in training.
    """

    train: LabelledTexts
    validation: LabelledTexts | None
    n_classes: int
    multilabel: bool
    positive_weight: Tensor | None
    dtype: torch.dtype
    product_dtype: torch.dtype


def make_training_set(
    labelled: Labelled,
    rows: RaggedArray,
    *,
    dtype: torch.dtype | None = None,
    product_dtype: torch.dtype | None = None,
) -> TrainingSet:
    """Join labels and vectors.

    Parameters
    ----------
    labelled : Labelled
    rows : RaggedArray
        The vectors of all its texts, in the same order.
    dtype : torch.dtype, default=None
        Of the parameters. None is float64 for vectors in float64, else float32.
    product_dtype : torch.dtype, default=None
        None is `dtype`.
    """
    if dtype is None:
        dtype = torch.float64 if rows.dtype == np.float64 else torch.float32

    def join(subset: Subset) -> LabelledTexts:
        weights = torch.from_numpy(subset.weights).to(dtype)
        return LabelledTexts(rows[subset.rows], torch.from_numpy(subset.targets), weights)

    positive_weight = labelled.positive_weight
    return TrainingSet(
        train=join(labelled.train),
        validation=None if labelled.validation is None else join(labelled.validation),
        n_classes=len(labelled.classes),
        multilabel=labelled.multilabel,
        positive_weight=None if positive_weight is None else torch.from_numpy(positive_weight).to(dtype),
        dtype=dtype,
        product_dtype=product_dtype or dtype,
    )
