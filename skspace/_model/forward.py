"""What fitted operators make of texts, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from skspace._input.ragged import RaggedArray
from skspace._model.concept_operators import ConceptOperators, Spaces
from skspace._model.token_batches import token_batches
from skspace._runtime.devices import without_autocast

__all__ = ["each_batch", "probabilities"]

_PREDICT_TOKENS = 16384


def each_batch(operators: ConceptOperators, rows: RaggedArray) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """What fitted operators make of texts, some at a time, with the indices of the texts.

    A text's result does not depend on the others, to the last bit.
    """
    weight = operators.weight
    for indices, batch in token_batches(rows, _PREDICT_TOKENS, weight.dtype, weight.device):
        with torch.inference_mode(), without_autocast(weight.device):
            spaces = operators(batch.tokens, batch.lengths)
        yield indices, spaces


def probabilities(logits: NDArray[np.float64], *, multilabel: bool) -> NDArray[np.float64]:
    """What the cross-entropy takes logits (..., n_classes) for: softmax; with several labels each class by itself."""
    if multilabel:
        return 0.5 * (1 + np.tanh(logits / 2))  # the logistic function, without overflow
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
