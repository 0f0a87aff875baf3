"""Labelled texts in batches, for training.

Shuffling draws from a generator of the caller, never from torch's global one. Batches have nearly equal numbers of
texts: a last batch of three texts would weigh as much as a full one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from skspace._input.ragged import RaggedArray
from skspace._model.token_batches import TokenBatch, cast, make_batch

__all__ = ["BatchIterator", "LabelledTexts", "in_bfloat16"]


@dataclass(frozen=True)
class LabelledTexts(Dataset):
    """Token vectors, targets and weights of some texts.

    Attributes
    ----------
    rows : RaggedArray of n_texts
    targets : Tensor of shape (n_texts,) of int64, or (n_texts, n_classes) for several labels
    weights : Tensor of shape (n_texts,)
        Of mean 1.
    cast : RaggedArray of n_texts, or None
        The rows as `in_bfloat16` returns them, for batches of that dtype.
    """

    rows: RaggedArray
    targets: Tensor
    weights: Tensor
    cast: RaggedArray | None = None


class BatchIterator:
    """Batches of labelled texts, with a generator in a new order each time.

    A batch's tokens are valid until the next batch, which reuses their memory: allocating anew for every batch of long
    texts took a fifth of the time of a fit.

    Parameters
    ----------
    dataset : LabelledTexts
    batch_size : int
        Most texts in a batch.
    generator : torch.Generator, default=None
        None keeps the order of the data.
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(
        self,
        dataset: LabelledTexts,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset, self.batch_size, self.generator = dataset, batch_size, generator
        self.dtype, self.device = dtype, device

    def __len__(self) -> int:
        return -(-len(self.dataset.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[TokenBatch, dict[str, Tensor]]]:
        n = len(self.dataset.rows)
        rows_to_read = self.dataset.rows if self.dataset.cast is None else self.dataset.cast
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        buffer = torch.empty(0, self.dataset.rows.n_features, dtype=self.dtype)
        for indices in order.tensor_split(len(self)):
            rows = rows_to_read[indices.numpy()]
            n_tokens = int(rows.lengths.sum())
            if len(buffer) < n_tokens:
                buffer = buffer.new_empty(n_tokens + n_tokens // 8, rows.n_features)
            batch = make_batch(rows, self.dtype, self.device, buffer[:n_tokens])
            yield (
                batch,
                {
                    "targets": self.dataset.targets[indices].to(self.device),
                    "weights": self.dataset.weights[indices].to(self.device),
                },
            )


def in_bfloat16(rows: RaggedArray) -> RaggedArray:
    """The same texts in memory, cast once instead of in every epoch.

    NumPy has no bfloat16, so the bits are kept as int16; `make_batch` views them as bfloat16 again.
    """
    tokens = torch.from_numpy(np.require(rows.values, requirements="W"))
    bits = cast(tokens, torch.bfloat16, None).view(torch.int16).numpy()
    return RaggedArray.from_segments(
        [bits],
        np.zeros(len(rows), np.int32),
        rows.offsets[:-1],
        rows.lengths,
        n_features=rows.n_features,
        dtype=bits.dtype,
    )
