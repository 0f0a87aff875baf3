"""A fitted net as arrays and plain values, and back: what a pickle and a saved folder hold of it.

Door to skorch, with _net. The net is not pickled as skorch would: the weights twice, as a pickle within the
pickle, which loads nowhere without its classes.
"""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.history import History

from skspace._model.concept_operators import ConceptOperators
from skspace._training.criterion import SpaceCriterion
from skspace._training.labelled_batches import BatchIterator
from skspace._training.train import BatchModule, history_rows

__all__ = ["net_from_plain", "net_to_plain"]

_OPERATORS = ("n_classes", "n_latent", "n_members", "pooling", "head")
_CRITERION = ("inter_space_weight", "inter_space_on", "intra_space_weight")
_SKORCHS = {"epoch_timer", "train_loss", "valid_loss", "print_log"}  # callbacks that every net of skorch has


def net_to_plain(net: NeuralNet) -> dict[str, Any]:
    """All that is left of a fitted net, as arrays and plain values, and the copies of the user's callbacks."""
    operators, criterion = net.module_.operators, net.criterion_
    return {
        "operators": {
            "n_features": operators.weight.shape[0],
            **{name: getattr(operators, name) for name in _OPERATORS},
            "dtype": str(operators.weight.dtype).removeprefix("torch."),
        },
        "tensors": {name: tensor.detach().numpy().copy() for name, tensor in operators.named_parameters()},
        "training": {
            **{name: getattr(net, name) for name in ("lr", "max_epochs", "batch_size")},
            "weight_decay": net.optimizer__weight_decay,
            **{name: getattr(criterion, name) for name in _CRITERION},
        },
        "going_on": _going_on(net),
        "history": history_rows(net),
        "callbacks": [
            item for item in net.callbacks_ if not item[0].startswith("skspace_") and item[0] not in _SKORCHS
        ],
    }


def _going_on(net: NeuralNet) -> dict[str, Any]:
    """What further training begins with: see `BatchModule`, and in a stream Adam's moments."""
    sign, state = net.module_.sign, net.optimizer_.state_dict()["state"]
    return {
        "scale": net.module_.scale,
        "sign": None if sign is None else sign.numpy().copy(),
        "moments": [{name: value.numpy().copy() for name, value in state[i].items()} for i in sorted(state)],
    }


def net_from_plain(plain: dict[str, Any]) -> NeuralNet:
    """The net of `net_to_plain`: it predicts to the last bit as before, and has no optimizer.

    Without "going_on", further training takes the scale from its own texts and begins with new moments.
    """
    arguments = dict(plain["operators"])
    dtype = getattr(torch, arguments.pop("dtype"))
    operators = ConceptOperators(**arguments, generator=torch.Generator(), dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in operators.named_parameters():
            parameter.copy_(torch.tensor(plain["tensors"][name]))
    training = plain["training"]
    going_on = plain.get("going_on") or {"scale": None, "sign": None, "moments": []}
    sign = None if going_on["sign"] is None else torch.tensor(going_on["sign"])
    net = NeuralNet(
        module=BatchModule(operators, going_on["scale"], sign).eval(),
        criterion=SpaceCriterion(*(training[name] for name in _CRITERION)),
        optimizer=_NoOptimizer,
        lr=training["lr"],
        max_epochs=training["max_epochs"],
        batch_size=training["batch_size"],
        iterator_train=BatchIterator,
        iterator_train__dtype=dtype,
        iterator_valid=BatchIterator,
        iterator_valid__dtype=dtype,
        train_split=None,
        callbacks__print_log=None,
        verbose=0,
        device="cpu",
    ).initialize()
    net.optimizer_.moments = [
        {name: torch.tensor(value) for name, value in moments.items()} for moments in going_on["moments"]
    ]
    net.callbacks_ += plain["callbacks"]  # only now: initialize would make them forget what they have seen
    net.optimizer__weight_decay = training["weight_decay"]  # to be written down again; skorch has no use for it here
    net.history_ = History(dict(row) for row in plain["history"])
    return net


class _NoOptimizer:
    """In the place of a restored net's optimizer, whose making takes torch a second: holds a stream's moments only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.moments: list[dict[str, torch.Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"state": dict(enumerate(self.moments))}
