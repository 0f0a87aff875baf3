"""The callbacks of every training: losses in the history, learning rate, early stopping, progress."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler, PassthroughScoring

from skspace._runtime.progress_bar import Bar
from skspace._training.training_config import TrainingConfig

__all__ = ["check_callbacks", "print_log_line", "training_callbacks"]

_COLOUR = re.compile(r"\x1b\[\d*m")


def check_callbacks(callbacks: Sequence[Any] | None) -> list[Any]:
    """The user's callbacks as a list.

    Raises
    ------
    TypeError
        If one of them is not a skorch callback.
    """
    for callback in callbacks or ():
        one = callback[1] if isinstance(callback, tuple) and len(callback) == 2 else callback
        if not (isinstance(one, Callback) or (isinstance(one, type) and issubclass(one, Callback))):
            raise TypeError(
                "callbacks must hold skorch callbacks, or pairs of a name and one. Got "
                f"{type(one).__name__} instead; scikit-learn's own callbacks are for set_callbacks."
            )
    return list(callbacks or ())


def training_callbacks(
    config: TrainingConfig, *, n_steps: int, validate: bool, watcher: Any, snapshot: Callable[[Any], Any]
) -> list[tuple[str, Callback]]:
    """Our own callbacks, in the order in which they must run; `watcher` and `snapshot` as for `train`."""
    return [
        *_scores(config.loss_terms, validate=validate),
        *_schedule(config, n_steps),
        ("skspace_epochs", _Progress() if watcher is None else _Watched(watcher, snapshot)),
        *_stopping(config.n_iter_no_change if validate else None),
    ]


class _LossParts(Callback):
    """Write the terms of the loss into the history, batch by batch."""

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        prefix = "train" if training else "valid"
        for name, part in net.criterion_.parts.items():
            net.history.record_batch(f"{prefix}_{name}", part.item())


class _Watched(Callback):
    """Report epochs to a watcher. It runs before early stopping, so that no epoch is left open."""

    def __init__(self, watcher: Any, snapshot: Callable[[Any], Any]) -> None:
        self.watcher, self.snapshot = watcher, snapshot

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.watcher.begin_epoch()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self.watcher.end_epoch(lambda: self.snapshot(net)):
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
    """Replace print as a callback's sink."""


def print_log_line(line: str) -> None:
    """Replace print as the sink of the log: colours on a terminal only."""
    sys.stdout.write((line if sys.stdout.isatty() else _COLOUR.sub("", line)) + "\n")


def _scores(terms: Sequence[str], *, validate: bool) -> list[tuple[str, Callback]]:
    """Every term of the loss in the history."""
    scores: list[tuple[str, Callback]] = [("skspace_loss_parts", _LossParts())]
    for name in terms:
        scores.append((f"skspace_train_{name}", PassthroughScoring(f"train_{name}", on_train=True)))
        if validate:
            scores.append((f"skspace_valid_{name}", PassthroughScoring(f"valid_{name}")))
    return scores


def _schedule(config: TrainingConfig, n_steps: int) -> list[tuple[str, Callback]]:
    if config.lr_schedule == "constant":
        return []
    cycle = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=config.lr,
        total_steps=n_steps + 1,  # the scheduler steps once more after the last batch
        step_every="batch",
    )
    return [("skspace_lr_schedule", cycle)]


def _stopping(patience: int | None) -> list[tuple[str, Callback]]:
    if patience is None:
        return []
    # Only the cross-entropy decides: the other terms say nothing about predictions.
    return [
        (
            "skspace_early_stopping",
            EarlyStopping("valid_cross_entropy", patience=patience, load_best=True, sink=_no_output),
        )
    ]
