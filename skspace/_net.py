"""The training loop: a skorch net around ConceptOperators; door to skorch, with _plain_net.

Floor 2; knows neither encoders, nor stores, nor labels as users write them. Everything random draws from generators
made from one seed. Members train side by side on the same batches, each on a loss of its own; Adam's steps do not
notice that the losses are averaged, so each trains as if alone.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring, PrintLog
from skorch.helper import predefined_split
from torch import Tensor, nn

from skspace._batches import BatchIterator, LabelledTexts, TokenBatch, token_batches
from skspace._losses import inter_space_loss, intra_space_loss
from skspace._operators import ConceptOperators, Spaces, segment_sum
from skspace._progress import Bar
from skspace._ragged import RaggedArray

__all__ = ["BatchModule", "SpaceCriterion", "each_batch", "history_rows", "train"]

_PREDICT_TOKENS = 16384
_EPOCHS, _MIN_STEPS = 10, 100  # max_epochs="auto": a few hundred texts are not enough for 10 passes to train on
_MAX_BYTES_IN_MEMORY = 2**29  # training data up to this are gathered in memory once instead of read batch by batch


class BatchModule(nn.Module):
    """ConceptOperators behind the one argument that skorch passes."""

    def __init__(self, operators: ConceptOperators) -> None:
        super().__init__()
        self.operators = operators

    def forward(self, batch: TokenBatch) -> Spaces:
        return self.operators(batch.tokens, batch.lengths)


class SpaceCriterion(nn.Module):
    """``L = CE + inter_space_weight * inter + intra_space_weight * intra``, averaged over members.

    Weights have mean 1 over the data, so a batch's loss is the plain mean of weighted losses, and the mean over an
    epoch is that of the whole data. `parts` holds the terms of the last batch, averaged over members.
    """

    def __init__(self, inter_space_weight: float, inter_space_on: str, intra_space_weight: float) -> None:
        super().__init__()
        self.inter_space_weight, self.intra_space_weight = inter_space_weight, intra_space_weight
        self.inter_space_on = inter_space_on
        self.parts: dict[str, Tensor] = {}

    def forward(self, spaces: Spaces, y: dict[str, Tensor]) -> Tensor:
        targets, weights = y["targets"], y["weights"]
        parts = {"cross_entropy": _cross_entropy(spaces.logits, targets, weights)}
        loss = parts["cross_entropy"]
        if self.inter_space_weight:
            indicator = _indicator(targets, spaces.logits.shape[2])
            centroids = (
                _members_as_axes(spaces.centroids) if self.inter_space_on == "centroids" else None
            )  # (n_texts, K, M * m)
            concepts = _members_as_axes(spaces.concepts)  # (n_tokens, K, M * m)
            parts["inter_space"] = inter_space_loss(concepts, spaces.lengths, indicator, weights, centroids=centroids)
            loss = loss + self.inter_space_weight * parts["inter_space"]
        if self.intra_space_weight:
            parts["intra_space"] = intra_space_loss(_members_as_axes(spaces.concepts), spaces.lengths, weights)
            loss = loss + self.intra_space_weight * parts["intra_space"]
        self.parts = {name: part.detach() for name, part in parts.items()}
        return loss


def _members_as_axes(values: Tensor) -> Tensor:
    """(n, M, K, m) to (n, K, M * m): the mean over latent axes is then the mean over members too."""
    return values.transpose(1, 2).flatten(2)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over texts, mean over members; of logits (n, M, K)."""
    if targets.ndim == 1:
        per_text = nn.functional.cross_entropy(
            logits.transpose(1, 2), targets[:, None].expand(-1, logits.shape[1]), reduction="none"
        )  # (n, M)
    else:
        wanted = targets.to(logits.dtype)[:, None].expand_as(logits)
        per_text = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    return (per_text.mean(1) * weights).mean()


def _indicator(targets: Tensor, n_classes: int) -> Tensor:
    return nn.functional.one_hot(targets, n_classes) if targets.ndim == 1 else targets


class _LossParts(Callback):
    """Write the terms of the loss into the history, batch by batch."""

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        prefix = "train" if training else "valid"
        for name, part in net.criterion_.parts.items():
            net.history.record_batch(f"{prefix}_{name}", part.item())


class _Progress(Callback):
    """A bar over the epochs of a fit that takes longer than a moment."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = Bar(total=net.max_epochs, desc="Training", unit="epoch", leave=False)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.bar_.close()
        del self.bar_


def _no_output(*args: Any) -> None:
    """Take the place of print as a callback's sink."""


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
    verbose: int,
    seed: int,
) -> NeuralNet:
    """Fit ConceptOperators; the parameters mean what `SpaceClassifier` says they mean, see there.

    Parameters
    ----------
    data : LabelledTexts
    validation : LabelledTexts or None
        Stops the training early and decides which epoch is kept.
    seed : int
        Of the start and of the order of the batches.

    Returns
    -------
    skorch.NeuralNet
        Fitted; ``module_.operators`` is folded, in eval mode and on the processor.
    """
    generators = [torch.Generator().manual_seed(s) for s in np.random.SeedSequence(seed).generate_state(2).tolist()]
    operators = ConceptOperators(
        data.rows.n_features,
        n_classes,
        n_latent,
        n_members=n_members,
        pooling=pooling,
        head=head,
        scale=_root_mean_square(data),
        generator=generators[0],
        dtype=dtype,
    )
    if head == "linear":
        operators.intercept.data += _log_prior(data, n_classes).to(dtype)
    if data.rows.nbytes <= _MAX_BYTES_IN_MEMORY:
        data = replace(data, rows=data.rows.in_memory())
    n_batches = -(-len(data.rows) // batch_size)
    if max_epochs is None:
        max_epochs = max(_EPOCHS, math.ceil(_MIN_STEPS / n_batches))
    net = NeuralNet(
        module=BatchModule(operators),
        criterion=SpaceCriterion(inter_space_weight, inter_space_on, intra_space_weight),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        optimizer__param_groups=[("*intercept", {"weight_decay": 0.0}), ("*log_slope", {"weight_decay": 0.0})],
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=BatchIterator,
        iterator_train__generator=generators[1],
        iterator_train__dtype=dtype,
        iterator_train__device=device,
        iterator_valid=BatchIterator,
        iterator_valid__dtype=dtype,
        iterator_valid__device=device,
        train_split=None if validation is None else predefined_split(validation),
        callbacks=[
            *_scores(bool(inter_space_weight), bool(intra_space_weight), validation is not None),
            *_schedule(lr, lr_schedule, max_epochs * n_batches),
            *_stopping(validation is not None, n_iter_no_change),
            ("skspace_progress", _Progress()),
            *deepcopy(list(callbacks or ())),  # a fit does not change its parameters
        ],
        callbacks__print_log=PrintLog() if verbose else None,
        device=str(device),
        verbose=verbose,
    )
    _run(net, data)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in operators.parameters()):
        raise ValueError(
            f"The training diverged: parameters are infinite or undefined after {len(net.history)} epochs. Lower lr "
            f"(got {lr}) or weight_decay (got {weight_decay}), or check the scale of sample weights and vectors."
        )
    operators.eval().to("cpu").fold(center=data.targets.ndim == 1)
    _forget_data(net)
    return net


def each_batch(operators: ConceptOperators, rows: RaggedArray) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """What fitted operators make of texts, some at a time, with the indices of the texts.

    A text's result does not depend on the others, to the last bit.
    """
    weight = operators.weight
    with torch.inference_mode():
        for indices, batch in token_batches(rows, _PREDICT_TOKENS, weight.dtype, weight.device):
            yield indices, operators(batch.tokens, batch.lengths)


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


def _root_mean_square(data: LabelledTexts) -> float:
    """Of the training tokens' components, texts weighted; 1 where all are 0."""
    total, count = 0.0, 0.0
    for indices, batch in token_batches(data.rows, _PREDICT_TOKENS, torch.float64, "cpu"):
        weight = data.weights[indices].to(torch.float64)
        squares = segment_sum(batch.tokens.square().mean(1, keepdim=True), batch.lengths)[:, 0]  # (n_texts,)
        total += float((weight * squares).sum())
        count += float((weight * batch.lengths).sum())
    return math.sqrt(total / count) if total > 0 else 1.0


def _log_prior(data: LabelledTexts, n_classes: int) -> Tensor:
    """Start of b: the log of the weighted share of every class; with several labels a text, its log-odds."""
    weight = data.weights.to(torch.float64)
    share = (_indicator(data.targets, n_classes).to(torch.float64) * weight[:, None]).sum(0) / weight.sum()
    floor = 0.5 / len(weight)  # a class that nobody, or everybody, has
    share = share.clamp(floor, 1 - floor)
    return share.log() if data.targets.ndim == 1 else share.logit()


# ---------------------------------------------------------------- the parts of the net


def _scores(inter: bool, intra: bool, validate: bool) -> list[tuple[str, Callback]]:
    """Every term of the loss, on its own, in the history."""
    names = ["cross_entropy"] + ["inter_space"] * inter + ["intra_space"] * intra
    scores: list[tuple[str, Callback]] = [("skspace_loss_parts", _LossParts())]
    for name in names:
        scores.append((f"skspace_train_{name}", PassthroughScoring(f"train_{name}", on_train=True)))
        if validate:
            scores.append((f"skspace_valid_{name}", PassthroughScoring(f"valid_{name}")))
    return scores


def _schedule(lr: float, lr_schedule: str, n_steps: int) -> list[tuple[str, Callback]]:
    if lr_schedule == "constant":
        return []
    # One more than is taken: the scheduler steps once after the last batch too.
    cycle = LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr, total_steps=n_steps + 1, step_every="batch")
    return [("skspace_lr_schedule", cycle)]


def _stopping(validate: bool, patience: int) -> list[tuple[str, Callback]]:
    if not validate:
        return []
    # The cross-entropy alone decides: the other terms say nothing about predictions.
    return [
        (
            "skspace_early_stopping",
            EarlyStopping("valid_cross_entropy", patience=patience, load_best=True, sink=_no_output),
        )
    ]


def _run(net: NeuralNet, data: LabelledTexts) -> None:
    """Train. A callback ends it with KeyboardInterrupt, as skorch's do; a user who does so means to be out of here."""
    net.initialize()
    with _noticing_interrupts() as interrupts:
        net.notify("on_train_begin", X=data, y=None)
        try:
            net.fit_loop(data)
        except KeyboardInterrupt:
            if interrupts:
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


def _forget_data(net: NeuralNet) -> None:
    """Leave nothing in the net that grows with the data or ties it to a device."""
    net.train_split = None
    net.iterator_train__generator = None
    net.iterator_train__device = net.iterator_valid__device = net.device = "cpu"
    net.optimizer_.state.clear()
    for row in net.history:
        row.pop("batches", None)
