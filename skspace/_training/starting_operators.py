"""The operators before the first step: their scale, the start of b, or an earlier training to continue."""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor

from skspace._model.concept_operators import ConceptOperators
from skspace._model.fitted_state import FittedState
from skspace._model.kernels import segment_sum
from skspace._model.token_batches import token_batches
from skspace._training.criterion import indicator_of
from skspace._training.labelled_batches import LabelledTexts
from skspace._training.training_config import TrainingConfig
from skspace._training.training_set import TrainingSet

__all__ = ["starting_operators"]

_SCALE_TOKENS = 16384  # tokens a batch
_MIN_SHARE = 1e-3  # of a class, for the start of b


def starting_operators(
    data: LabelledTexts,
    training_set: TrainingSet,
    config: TrainingConfig,
    start: FittedState | None,
    generator: torch.Generator,
) -> ConceptOperators:
    """New operators, or those of an earlier training as they were before folding.

    Parameters
    ----------
    data : LabelledTexts
        The training part of `training_set`, perhaps gathered in memory.
    start : FittedState or None
        It is not changed.
    generator : torch.Generator
        Source of new operators.
    """
    scale = (start and start.scale) or _root_mean_square(data, training_set.dtype)
    if start is not None:
        operators = deepcopy(start.operators).train()
        operators.unfold(scale, start.sign)
        return operators
    operators = ConceptOperators(
        data.rows.n_features,
        training_set.n_classes,
        config.n_latent,
        n_members=config.n_members,
        pooling=config.pooling,
        head=config.head,
        scale=scale,
        generator=generator,
        dtype=training_set.dtype,
    )
    if config.head == "linear" and not config.stream:
        prior = _log_prior(data, training_set.n_classes, training_set.positive_weight)
        operators.intercept.data += prior.to(training_set.dtype)
    return operators


def _root_mean_square(data: LabelledTexts, dtype: torch.dtype, of_squares: torch.dtype | None = None) -> float:
    """Root mean square of the components of the training tokens, texts weighted; 1 if all are 0.

    Raises
    ------
    ValueError
        If it overflows double precision.
    """
    total, count = 0.0, 0.0
    for indices, batch in token_batches(data.rows, _SCALE_TOKENS, dtype, "cpu"):
        weight = data.weights[indices].to(torch.float64)
        norm = torch.linalg.vector_norm(batch.tokens, dim=1, keepdim=True, dtype=of_squares)
        length = norm.to(torch.float64)
        squares = segment_sum(length.square() / batch.tokens.shape[1], batch.lengths)[:, 0]  # (n_texts,)
        total += float((weight * squares).sum())
        count += float((weight * batch.lengths).sum())
    if total > 0 and math.isfinite(total):
        return math.sqrt(total / count)
    if of_squares is None and dtype != torch.float64:  # squares beyond the range of float32
        return _root_mean_square(data, dtype, torch.float64)
    if total > 0:
        raise ValueError(
            "Vector values overflow when squared. Expected a finite mean square, got infinity. Rescale X, for example "
            "with StandardScaler."
        )
    return 1.0


def _log_prior(data: LabelledTexts, n_classes: int, positive_weight: Tensor | None) -> Tensor:
    """Start of b: the log of every class's weighted share, or with several labels per text its log-odds."""
    weight = data.weights.to(torch.float64)[:, None]
    indicator = indicator_of(data.targets, n_classes).to(torch.float64)
    positive, total = (indicator * weight).sum(0), weight.sum()
    if positive_weight is not None:
        total = total - positive + positive_weight * positive
        positive = positive_weight * positive
    # For classes that no text has, or every text. A share, not a count: weight 2 must equal the text twice.
    share = (positive / total).nan_to_num(0.5).clamp(_MIN_SHARE, 1 - _MIN_SHARE)
    return share.log() if data.targets.ndim == 1 else share.logit()
