"""FittedState: what a trained model is, and what further training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skspace._model.concept_operators import ConceptOperators
from skspace._runtime.devices import prepare_process

__all__ = ["FittedState", "arrays_of", "operators_from_arrays"]


@dataclass(frozen=True)
class FittedState:
    """The result of one training.

    Attributes
    ----------
    operators : ConceptOperators
        Folded, in eval mode, on the processor. Prediction and explanations need nothing else.
    scale : float or None
        What tokens were divided by in training. None if unknown: then the next training measures its own texts.
    sign : Tensor of shape (M, K, m) or None
        What `ConceptOperators.fold` returned.
    moments : tuple of dict
        Adam's state of every parameter, kept between calls of partial_fit; empty after fit.
    """

    operators: ConceptOperators
    scale: float | None = None
    sign: Tensor | None = None
    moments: tuple[dict[str, Tensor], ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """The same as arrays and plain values, as pickles hold it."""
        return {
            "operators": self.operators.arguments(),
            "tensors": arrays_of(self.operators),
            "scale": self.scale,
            "sign": None if self.sign is None else self.sign.numpy().copy(),
            "moments": [{name: value.numpy().copy() for name, value in each.items()} for each in self.moments],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FittedState:
        """Undo `to_plain`; predictions are equal to the last bit."""
        return cls(
            operators_from_arrays(plain["operators"], plain["tensors"]),
            plain["scale"],
            None if plain["sign"] is None else torch.tensor(plain["sign"]),
            tuple({name: torch.tensor(value) for name, value in each.items()} for each in plain["moments"]),
        )


def arrays_of(operators: ConceptOperators) -> dict[str, Any]:
    """Copies of the parameters as NumPy arrays, by name."""
    return {name: tensor.detach().numpy().copy() for name, tensor in operators.named_parameters()}


def operators_from_arrays(arguments: Mapping[str, Any], arrays: Mapping[str, Any]) -> ConceptOperators:
    """Operators from `ConceptOperators.arguments` and `arrays_of`."""
    prepare_process()
    arguments = {**arguments, "dtype": getattr(torch, arguments["dtype"]), "generator": torch.Generator()}
    operators = ConceptOperators(**arguments).eval()
    with torch.no_grad():
        for name, parameter in operators.named_parameters():
            parameter.copy_(torch.tensor(arrays[name]))
    return operators
