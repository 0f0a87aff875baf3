"""TrainingConfig: everything that training takes besides the training set and the state it starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["TrainingConfig"]

_EPOCHS, _MIN_STEPS = 10, 100  # max_epochs=None: 10 passes over a few hundred texts would be too few steps


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training. Those without a description mean what they mean in `SpaceClassifier`.

    Attributes
    ----------
    max_epochs : int or None
        None is "auto": 10 epochs, or as many as give 100 steps.
    device : torch.device
        Where the operators are trained.
    seed : int
        Of the start and of the order of batches.
    stream : bool
        One pass of many, as partial_fit makes it: Adam's moments continue, and b starts at 0, since the first texts of
        a stream say little about how frequent the classes are in it.
    """

    n_latent: int
    n_members: int
    pooling: str
    head: str
    inter_space_weight: float
    inter_space_on: str
    intra_space_weight: float
    lr: float
    lr_schedule: str
    max_epochs: int | None
    batch_size: int
    weight_decay: float
    n_iter_no_change: int
    callbacks: Sequence[Any] | None
    verbose: int
    device: torch.device
    seed: int
    stream: bool = False

    def n_batches(self, n_texts: int) -> int:
        """Batches an epoch."""
        return -(-n_texts // self.batch_size)

    def n_epochs(self, n_texts: int) -> int:
        """Epochs that a training takes at most."""
        if self.stream:
            return 1
        return self.max_epochs or max(_EPOCHS, math.ceil(_MIN_STEPS / self.n_batches(n_texts)))

    @property
    def loss_terms(self) -> list[str]:
        """Names of the terms of the loss that have a weight."""
        weights = {"cross_entropy": 1.0, "inter_space": self.inter_space_weight, "intra_space": self.intra_space_weight}
        return [name for name, weight in weights.items() if weight > 0]
