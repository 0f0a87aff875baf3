"""The training loop: texts with vectors and labels in, a FittedState out.

Everything random draws from generators made from one seed. Members train side by side on the same batches, each on a
loss of its own. Adam's steps do not notice that the losses are averaged, so each member trains as if it were alone.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch.callbacks import Callback, PrintLog
from skorch.helper import predefined_split
from torch import Tensor

from skspace._model.concept_operators import ConceptOperators
from skspace._model.fitted_state import FittedState
from skspace._runtime.devices import without_autocast
from skspace._training.criterion import SpaceCriterion
from skspace._training.labelled_batches import BatchIterator, LabelledTexts, in_bfloat16
from skspace._training.skorch_callbacks import check_callbacks, print_log_line, training_callbacks
from skspace._training.skorch_net import BatchModule, CallbackStop, SpaceNet
from skspace._training.starting_operators import starting_operators
from skspace._training.training_config import TrainingConfig
from skspace._training.training_set import TrainingSet

__all__ = ["Trained", "train"]

_MAX_BYTES_IN_MEMORY = 2**29  # smaller training data are gathered in memory once; larger are read batch by batch


class Trained(NamedTuple):
    """What `train` returns."""

    state: FittedState
    history: list[dict[str, Any]]  # a dict an epoch: epoch, dur (seconds), train_loss, its terms, and valid_… of these
    callbacks: list[tuple[str, Callback]]  # the user's, as the training left them, with their names


def train(
    training_set: TrainingSet,
    config: TrainingConfig,
    start: FittedState | None = None,
    *,
    n_epochs_before: int = 0,
    watcher: Any = None,
) -> Trained:
    """Fit ConceptOperators.

    Parameters
    ----------
    training_set : TrainingSet
    config : TrainingConfig
    start : FittedState, default=None
        State of an earlier training to continue from; it is not changed.
    n_epochs_before : int, default=0
        Epochs that led to `start`. With the seed they decide the order of batches.
    watcher : object with ``begin_epoch()`` and ``end_epoch(snapshot)``, default=None
        Called with each epoch, in place of a progress bar. ``snapshot()`` gives the FittedState if training ended now;
        a true answer of ``end_epoch`` ends it.

    Returns
    -------
    Trained

    Raises
    ------
    KeyboardInterrupt
        If the user interrupts. With ``config.stream`` also if a callback stops, since half a pass does not count.
    TypeError
        If `config.callbacks` holds anything but skorch callbacks.
    ValueError
        If the training diverges.
    """
    callbacks = deepcopy(check_callbacks(config.callbacks))  # a fit does not change its parameters
    seeds = np.random.SeedSequence([config.seed, n_epochs_before]).generate_state(2).tolist()
    for_start, for_order = (torch.Generator().manual_seed(seed) for seed in seeds)
    data = training_set.train
    in_memory = data.rows.nbytes <= _MAX_BYTES_IN_MEMORY
    if in_memory:
        data = replace(data, rows=data.rows.in_memory())
    operators = starting_operators(data, training_set, config, start, for_start)
    if in_memory and training_set.product_dtype == torch.bfloat16:
        data = replace(training_set.train, cast=in_bfloat16(data.rows))
    net = _make_net(operators, training_set, config, for_order, callbacks, watcher)
    if start is not None and config.stream:
        state = dict(enumerate(deepcopy(start.moments)))
        net.optimizer_.load_state_dict({**net.optimizer_.state_dict(), "state": state})
    with without_autocast(config.device):
        _run(net, data, whole=config.stream)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in operators.parameters()):
        raise ValueError(
            f"Training diverged: parameters are infinite or undefined after {len(net.history)} epochs. Lower lr "
            f"(got {config.lr}) or weight_decay (got {config.weight_decay}), or check the scale of sample weights and "
            "vectors."
        )
    scale = operators.scale
    sign = operators.eval().to("cpu").fold(center=not training_set.multilabel)
    moments = _moments(net) if config.stream else ()
    return Trained(FittedState(operators, scale, sign, moments), _history(net), _callbacks_of_user(net))


# ---------------------------------------------------------------- the loop


def _make_net(
    operators: ConceptOperators,
    training_set: TrainingSet,
    config: TrainingConfig,
    generator: torch.Generator,
    callbacks: list[Any],
    watcher: Any,
) -> SpaceNet:
    validation, n_texts = training_set.validation, len(training_set.train.rows)
    n_epochs = config.n_epochs(n_texts)
    net = SpaceNet(
        module=BatchModule(operators),
        criterion=SpaceCriterion(
            config.inter_space_weight, config.inter_space_on, config.intra_space_weight, training_set.positive_weight
        ),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=config.weight_decay,
        optimizer__fused=config.device.type in {"cpu", "cuda"},
        optimizer__param_groups=[("*intercept", {"weight_decay": 0.0}), ("*log_slope", {"weight_decay": 0.0})],
        lr=config.lr,
        max_epochs=n_epochs,
        batch_size=config.batch_size,
        iterator_train=BatchIterator,
        iterator_train__generator=generator,
        iterator_train__dtype=training_set.product_dtype,
        iterator_train__device=config.device,
        iterator_valid=BatchIterator,
        iterator_valid__dtype=training_set.dtype,
        iterator_valid__device=config.device,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=[
            *training_callbacks(
                config,
                n_steps=n_epochs * config.n_batches(n_texts),
                validate=validation is not None,
                watcher=watcher,
                snapshot=lambda net: _snapshot(net, center=not training_set.multilabel),
            ),
            *callbacks,
        ],
        callbacks__print_log=PrintLog(sink=print_log_line) if config.verbose else None,
        device=str(config.device),
        verbose=config.verbose,
    )
    return net.initialize()


def _run(net: SpaceNet, data: LabelledTexts, *, whole: bool) -> None:
    """Train until the last epoch or a callback's stop; with `whole`, a stop discards the pass."""
    net.notify("on_train_begin", X=data, y=None)
    try:
        net.fit_loop(data)
    except CallbackStop:
        if whole:
            raise
    finally:
        net.notify("on_train_end", X=data, y=None)


# ---------------------------------------------------------------- what a training leaves behind


def _snapshot(net: SpaceNet, *, center: bool) -> FittedState:
    """The state if training ended now, for prediction only."""
    operators = deepcopy(net.module_.operators).eval().to("cpu")
    operators.fold(center=center)
    return FittedState(operators)


def _moments(net: SpaceNet) -> tuple[dict[str, Tensor], ...]:
    state = net.optimizer_.state_dict()["state"]
    return tuple({name: value.to("cpu") for name, value in state[i].items()} for i in sorted(state))


def _history(net: SpaceNet) -> list[dict[str, Any]]:
    return [
        {name: value if name == "epoch" else float(value) for name, value in row.items() if _is_figure(name)}
        for row in net.history
    ]


def _is_figure(name: str) -> bool:
    return name in {"epoch", "dur"} or (
        name.startswith(("train_", "valid_")) and not name.endswith(("_best", "_count"))
    )


def _callbacks_of_user(net: SpaceNet) -> list[tuple[str, Callback]]:
    defaults = {name for name, _ in net.get_default_callbacks()}
    return [item for item in net.callbacks_ if not item[0].startswith("skspace_") and item[0] not in defaults]
