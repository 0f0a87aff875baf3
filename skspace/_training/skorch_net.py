"""SpaceNet: the skorch net that trains ConceptOperators.

It differs from skorch's in two ways: large batches are computed in parts, and an interrupt is never taken for a
callback's own stop.
"""

from __future__ import annotations

import dis
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from skspace._model.concept_operators import ConceptOperators, Spaces
from skspace._model.token_batches import TokenBatch

__all__ = ["BatchModule", "CallbackStop", "SpaceNet"]

_NUMBERS_AT_ONCE = 2**25  # of a part's concepts: 134 MB in float32, and about twice that at the peak


class BatchModule(nn.Module):
    """ConceptOperators behind the one argument that skorch passes."""

    def __init__(self, operators: ConceptOperators) -> None:
        super().__init__()
        self.operators = operators

    def forward(self, batch: TokenBatch) -> Spaces:
        return self.operators(batch.tokens, batch.lengths)


class CallbackStop(KeyboardInterrupt):
    """A callback has ended the training, which skorch's callbacks do by raising KeyboardInterrupt."""


class SpaceNet(NeuralNet):
    """A skorch net of `BatchModule` and `SpaceCriterion`."""

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as interrupt:
            if _is_stop_of(interrupt, [callback for _, callback in self.callbacks_]):
                raise CallbackStop from interrupt
            raise

    def train_step_single(self, batch: tuple[TokenBatch, dict[str, torch.Tensor]], **fit_params: Any) -> dict[str, Any]:
        """Compute the gradients of a batch, in parts if it is large; one step of the optimizer follows for all.

        The concepts of a batch of long texts can take gigabytes. Where the loss is a mean over texts, the gradients of
        parts add up to the gradient of the batch, to rounding; other losses need the whole batch.
        """
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
        return min(len(texts), round(n_numbers / _NUMBERS_AT_ONCE))


def _is_stop_of(interrupt: KeyboardInterrupt, callbacks: list[Callback]) -> bool:
    """Whether a `raise` statement in a method of one of the callbacks raised this, rather than a signal.

    Ctrl-C during a callback raises KeyboardInterrupt in the callback's frame too, but not at a `raise` instruction;
    a signal handler written in Python raises it in the handler's own frame.
    """
    place = interrupt.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return False
    code = place.tb_frame.f_code
    first = place.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    in_callback = any(first is callback for callback in callbacks)
    return in_callback and dis.opname[code.co_code[place.tb_lasti]] == "RAISE_VARARGS"
