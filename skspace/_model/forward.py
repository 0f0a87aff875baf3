"""Predict with fitted operators, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax

from skspace._input.ragged import RaggedArray
from skspace._model.concept_operators import ConceptOperators, Spaces
from skspace._model.token_batches import token_batches
from skspace._runtime.devices import prepare_process, without_autocast

__all__ = ["each_batch", "log_probabilities", "probabilities"]

_PREDICT_TOKENS = 16384


def each_batch(operators: ConceptOperators, rows: RaggedArray) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """Yield the indices of some texts and the output of fitted operators for them, until all texts are done.

    A text's result does not depend on the other texts, to the last bit.
    """
    prepare_process()
    weight = operators.weight
    for indices, batch in token_batches(rows, _PREDICT_TOKENS, weight.dtype, weight.device):
        with torch.inference_mode(), without_autocast(weight.device):
            spaces = operators(batch.tokens, batch.lengths)
        yield indices, spaces


def probabilities(logits: NDArray[np.float64], *, multilabel: bool) -> NDArray[np.float64]:
    """Probabilities from logits (..., n_classes): softmax, or with `multilabel` the logistic function of each."""
    return expit(logits) if multilabel else softmax(logits, axis=-1)


def log_probabilities(logits: NDArray[np.float64], *, multilabel: bool) -> NDArray[np.float64]:
    """Logarithms of `probabilities`, finite where those round to 0."""
    return log_expit(logits) if multilabel else log_softmax(logits, axis=-1)
