"""The training loop: a skorch net around ConceptOperators; door to skorch, with _accumulation and _plain_net.

Knows neither encoders, nor stores, nor labels as users write them. Everything random draws from generators
made from one seed. Members train side by side on the same batches, each on a loss of its own; Adam's steps do not
notice that the losses are averaged, so each trains as if alone.

A trained net holds folded operators only, and beside them what folding undid: the scale and the signs of axes. So
training goes on exactly where it was, without a second copy of the parameters.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import PrintLog
from skorch.helper import predefined_split
from torch import Tensor, nn

from skspace._model.concept_operators import ConceptOperators, Spaces
from skspace._model.kernels import segment_sum
from skspace._model.token_batches import TokenBatch, token_batches
from skspace._runtime.devices import without_autocast
from skspace._training.criterion import SpaceCriterion, indicator_of
from skspace._training.gradient_accumulation import AccumulatingNet
from skspace._training.labelled_batches import BatchIterator, LabelledTexts, in_bfloat16
from skspace._training.skorch_callbacks import checked, line_of_log, ours

__all__ = ["BatchModule", "folded_copy", "history_rows", "most_epochs", "train"]

_SCALE_TOKENS = 16384
_EPOCHS, _MIN_STEPS = 10, 100  # max_epochs="auto": a few hundred texts are not enough for 10 passes to train on
_LEAST_SHARE = 1e-3  # of a class, where b starts
_MAX_BYTES_IN_MEMORY = 2**29  # training data up to this are gathered in memory once instead of read batch by batch


class BatchModule(nn.Module):
    """ConceptOperators behind the one argument that skorch passes.

    `scale` is what tokens were divided by in training, `sign` what `ConceptOperators.fold` returned after it; None
    where nobody knows any more.
    """

    def __init__(self, operators: ConceptOperators, scale: float | None = None, sign: Tensor | None = None) -> None:
        super().__init__()
        self.operators, self.scale, self.sign = operators, scale, sign

    def forward(self, batch: TokenBatch) -> Spaces:
        return self.operators(batch.tokens, batch.lengths)


def train(
    data: LabelledTexts,
    validation: LabelledTexts | None,
    *,
    n_classes: int,
    n_latent: int,
    n_members: int,
    pooling: str,
    head: str,
    inter_space_weight: float,
    inter_space_on: str,
    intra_space_weight: float,
    lr: float,
    lr_schedule: str,
    max_epochs: int | None,
    batch_size: int,
    weight_decay: float,
    n_iter_no_change: int,
    callbacks: Sequence[Any] | None,
    device: torch.device,
    dtype: torch.dtype,
    products: torch.dtype,
    verbose: int,
    seed: int,
    positive_weight: Tensor | None = None,
    start: NeuralNet | None = None,
    n_epochs_before: int = 0,
    stream: bool = False,
    watcher: Any = None,
) -> NeuralNet:
    """Fit ConceptOperators; the parameters mean what `SpaceClassifier` says they mean, see there.

    Parameters
    ----------
    data : LabelledTexts
    validation : LabelledTexts or None
        Stops the training early and decides which epoch is kept.
    dtype, products : torch.dtype
        Of the parameters, and of what the products of training with token vectors are taken in.
    seed : int
        Of the start and, with `n_epochs_before`, of the order of the batches.
    positive_weight : Tensor of shape (n_classes,) or None
        See `SpaceCriterion`.
    start : skorch.NeuralNet or None
        What an earlier call returned, to go on from; it is left as it is.
    n_epochs_before : int
        Epochs that led to `start`.
    stream : bool
        One pass of many: at the rate `lr` throughout, with Adam's moments taken from `start` and kept, and with b
        starting at 0, since the first texts of a stream say little about the shares of classes in it.

    watcher : object with ``begin_epoch()`` and ``end_epoch(net)``, or None
        Called with each epoch, in place of a progress bar; a true answer of the second ends the training.

    Returns
    -------
    skorch.NeuralNet
        Fitted; ``module_.operators`` is folded, in eval mode and on the processor.
    """
    theirs = deepcopy(checked(callbacks))  # a fit does not change its parameters
    given = data.rows
    if given.nbytes <= _MAX_BYTES_IN_MEMORY:
        data = replace(data, rows=given.in_memory())
    seeds = np.random.SeedSequence([seed, n_epochs_before]).generate_state(2).tolist()
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    if start is None:
        operators = ConceptOperators(
            data.rows.n_features,
            n_classes,
            n_latent,
            n_members=n_members,
            pooling=pooling,
            head=head,
            scale=_root_mean_square(data, dtype),
            generator=generators[0],
            dtype=dtype,
        )
        if head == "linear" and not stream:
            operators.intercept.data += _log_prior(data, n_classes, positive_weight).to(dtype)
    else:
        operators = deepcopy(start.module_.operators).train()
        operators.unfold(start.module_.scale or _root_mean_square(data, dtype), start.module_.sign)
    if products == torch.bfloat16 and given.nbytes <= _MAX_BYTES_IN_MEMORY:
        data = replace(data, rows=given, cast=in_bfloat16(data.rows))
    n_batches = -(-len(data.rows) // batch_size)
    max_epochs = most_epochs(len(data.rows), max_epochs, batch_size, stream=stream)
    if stream:
        lr_schedule = "constant"
    net = AccumulatingNet(
        module=BatchModule(operators, operators.scale),
        criterion=SpaceCriterion(inter_space_weight, inter_space_on, intra_space_weight, positive_weight),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        optimizer__fused=device.type in {"cpu", "cuda"},
        optimizer__param_groups=[("*intercept", {"weight_decay": 0.0}), ("*log_slope", {"weight_decay": 0.0})],
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=BatchIterator,
        iterator_train__generator=generators[1],
        iterator_train__dtype=products,
        iterator_train__device=device,
        iterator_valid=BatchIterator,
        iterator_valid__dtype=dtype,
        iterator_valid__device=device,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=[
            *ours(
                lr,
                lr_schedule,
                n_steps=max_epochs * n_batches,
                terms=[
                    "cross_entropy",
                    *["inter_space"] * (inter_space_weight > 0),
                    *["intra_space"] * (intra_space_weight > 0),
                ],
                patience=None if validation is None else n_iter_no_change,
                watcher=watcher,
            ),
            *theirs,
        ],
        callbacks__print_log=PrintLog(sink=line_of_log) if verbose else None,
        device=str(device),
        verbose=verbose,
    )
    net.initialize()
    if start is not None and stream:
        _set_moments(net, start)
    with without_autocast(device):
        _run(net, data, whole=stream)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in operators.parameters()):
        raise ValueError(
            f"The training diverged: parameters are infinite or undefined after {len(net.history)} epochs. Lower lr "
            f"(got {lr}) or weight_decay (got {weight_decay}), or check the scale of sample weights and vectors."
        )
    net.module_.sign = operators.eval().to("cpu").fold(center=data.targets.ndim == 1)
    if not stream:
        net.optimizer_.state.clear()
    _forget_data(net)
    return net


def most_epochs(n_texts: int, max_epochs: int | None, batch_size: int, *, stream: bool = False) -> int:
    """Epochs that a training takes at most."""
    if stream:
        return 1
    return max_epochs or max(_EPOCHS, math.ceil(_MIN_STEPS / -(-n_texts // batch_size)))


def folded_copy(net: NeuralNet, *, center: bool) -> NeuralNet:
    """What `train` would return if it ended now, for predicting only."""
    now = copy(net)
    now.module_ = deepcopy(net.module_).eval().to("cpu")
    now.module_.operators.fold(center=center)
    return now


def history_rows(net: NeuralNet) -> list[dict[str, Any]]:
    """One dict an epoch: epoch, dur (seconds), train_loss and its terms, valid_… where there was a validation split."""
    return [
        {name: value if name == "epoch" else float(value) for name, value in row.items() if _is_figure(name)}
        for row in net.history
    ]


def _is_figure(name: str) -> bool:
    return name in {"epoch", "dur"} or (
        name.startswith(("train_", "valid_")) and not name.endswith(("_best", "_count"))
    )


# ---------------------------------------------------------------- what the data say before the first step


def _root_mean_square(data: LabelledTexts, dtype: torch.dtype, of_squares: torch.dtype | None = None) -> float:
    """Of the training tokens' components, texts weighted; 1 where all are 0.

    Raises
    ------
    ValueError
        If it is too large for a number of double precision.
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
            "The vectors must be of a size that can be squared. Got components whose mean square is infinite; scale "
            "them, with StandardScaler say."
        )
    return 1.0


def _log_prior(data: LabelledTexts, n_classes: int, positive_weight: Tensor | None) -> Tensor:
    """Start of b: the log of the weighted share of every class; with several labels a text, its log-odds."""
    weight = data.weights.to(torch.float64)[:, None]
    indicator = indicator_of(data.targets, n_classes).to(torch.float64)
    positive, total = (indicator * weight).sum(0), weight.sum()
    if positive_weight is not None:
        total = total - positive + positive_weight * positive
        positive = positive_weight * positive
    # A class that nobody, or everybody, has. Not by the number of texts, since weight 2 is to be as a text twice.
    share = (positive / total).nan_to_num(0.5).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
    return share.log() if data.targets.ndim == 1 else share.logit()


# ---------------------------------------------------------------- the loop, and what it leaves behind


def _run(net: NeuralNet, data: LabelledTexts, *, whole: bool) -> None:
    """Train. A callback ends it with KeyboardInterrupt, as skorch's do; a user who does so means to be out of here.

    With `whole`, a pass that does not come to its end counts as none, whoever ends it.
    """
    with _noticing_interrupts() as interrupts:
        net.notify("on_train_begin", X=data, y=None)
        try:
            net.fit_loop(data)
        except KeyboardInterrupt:
            if interrupts or whole:
                raise
        finally:
            net.notify("on_train_end", X=data, y=None)


@contextmanager
def _noticing_interrupts() -> Iterator[list[int]]:
    """Tell Ctrl-C from a KeyboardInterrupt that a callback raised: a list that the signal is added to."""
    noticed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield noticed
        return

    def notice(number: int, frame: Any) -> None:
        noticed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield noticed
    finally:
        signal.signal(signal.SIGINT, before)


def _set_moments(net: NeuralNet, start: NeuralNet) -> None:
    """Adam's moments and steps go on; what the optimiser's parameters are is asked anew."""
    now = net.optimizer_.state_dict()
    net.optimizer_.load_state_dict({**now, "state": deepcopy(start.optimizer_.state_dict()["state"])})


def _forget_data(net: NeuralNet) -> None:
    """Leave nothing in the net that grows with the data or ties it to a device."""
    net.train_split = None
    net.iterator_train__generator = None
    net.iterator_train__device = net.iterator_valid__device = net.device = "cpu"
    for moments in net.optimizer_.state.values():
        moments.update({name: moment.to("cpu") for name, moment in moments.items()})
    for row in net.history:
        row.pop("batches", None)
