"""Steps of training whose gradients are summed up over parts of a batch; door to skorch, with _net and _plain_net."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet

from skspace._model.concept_operators import Spaces
from skspace._model.token_batches import TokenBatch

__all__ = ["AccumulatingNet"]

_AT_ONCE = 2**25  # numbers that the operators make of a part's tokens: 134 MB in float32, at the peak about twice


class AccumulatingNet(NeuralNet):
    """A skorch net that takes the texts of a large batch in parts, and one step for all.

    What the operators make of a batch of long texts takes a gigabyte with many classes, or more. Gradients of parts add
    up to that of the batch, to rounding, where the loss is a mean over texts; where it is not, batches stay whole.
    """

    def train_step_single(self, batch: tuple[TokenBatch, dict[str, torch.Tensor]], **fit_params: Any) -> dict[str, Any]:
        texts, y = batch
        n_parts = self._n_parts(texts)
        if n_parts <= 1:
            return super().train_step_single(batch, **fit_params)
        self._set_training(True)
        total, logits, centroids = torch.zeros(()), [], []
        for chosen, part in texts.in_parts(n_parts):
            spaces = self.infer(part, **fit_params)
            loss = self.get_loss(spaces, {name: values[chosen] for name, values in y.items()}, X=part, training=True)
            loss = loss * (len(part) / len(texts))
            loss.backward()
            total += loss.detach()
            logits.append(spaces.logits.detach())
            centroids.append(spaces.centroids.detach())
        self.criterion_.parts = {"cross_entropy": total}
        return {
            "loss": total,
            "y_pred": Spaces(torch.cat(logits), torch.cat(centroids), None, None, texts.lengths),
        }

    def _n_parts(self, texts: TokenBatch) -> int:
        if not self.criterion_.is_mean_over_texts or texts.tokens.device.type != "cpu":
            return 1
        n_numbers = len(texts.tokens) * self.module_.operators.weight.shape[1]
        return min(len(texts), round(n_numbers / _AT_ONCE))
