"""What is called in the course of a training: losses into the history, rates, the end, progress; door to skorch."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring

from skspace._runtime.progress_bar import Bar

__all__ = ["checked", "line_of_log", "ours"]

_COLOUR = re.compile(r"\x1b\[\d*m")


def checked(callbacks: Sequence[Any] | None) -> list[Any]:
    """What a user gives.

    Raises
    ------
    TypeError
        If one is no skorch callback.
    """
    for callback in callbacks or ():
        one = callback[1] if isinstance(callback, tuple) and len(callback) == 2 else callback
        if not (isinstance(one, Callback) or (isinstance(one, type) and issubclass(one, Callback))):
            raise TypeError(
                "callbacks must hold skorch callbacks, or pairs of a name and one. Got "
                f"{type(one).__name__} instead; scikit-learn's own callbacks are for set_callbacks."
            )
    return list(callbacks or ())


def ours(
    lr: float,
    lr_schedule: str,
    *,
    n_steps: int,
    terms: Sequence[str],
    patience: int | None,
    watcher: Any,
) -> list[tuple[str, Callback]]:
    """Callbacks of every training, in their order; without a validation split `patience` is None."""
    return [
        *_scores(terms, validate=patience is not None),
        *_schedule(lr, lr_schedule, n_steps),
        ("skspace_epochs", _Progress() if watcher is None else _Watched(watcher)),
        *_stopping(patience),
    ]


class _LossParts(Callback):
    """Write the terms of the loss into the history, batch by batch."""

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        prefix = "train" if training else "valid"
        for name, part in net.criterion_.parts.items():
            net.history.record_batch(f"{prefix}_{name}", part.item())


class _Watched(Callback):
    """Tell whoever watches the fit of its epochs. First of those that may end it, so that no epoch is left open."""

    def __init__(self, watcher: Any) -> None:
        self.watcher = watcher

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.watcher.begin_epoch()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self.watcher.end_epoch(net):
            raise KeyboardInterrupt


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


def line_of_log(line: str) -> None:
    """The same, for the log: in colour on a terminal only."""
    sys.stdout.write((line if sys.stdout.isatty() else _COLOUR.sub("", line)) + "\n")


def _scores(terms: Sequence[str], *, validate: bool) -> list[tuple[str, Callback]]:
    """Every term of the loss, on its own, in the history."""
    scores: list[tuple[str, Callback]] = [("skspace_loss_parts", _LossParts())]
    for name in terms:
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


def _stopping(patience: int | None) -> list[tuple[str, Callback]]:
    if patience is None:
        return []
    # The cross-entropy alone decides: the other terms say nothing about predictions.
    return [
        (
            "skspace_early_stopping",
            EarlyStopping("valid_cross_entropy", patience=patience, load_best=True, sink=_no_output),
        )
    ]
