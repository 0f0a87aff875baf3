"""Ragged token vectors to batches of texts on a device.

Floor 1: numpy's side is a RaggedArray, torch's side packed tensors. Shuffling draws from a generator of the caller,
never from torch's global one. Batches are of nearly equal size: a last batch of three texts would weigh as much as a
full one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from skspace._ragged import RaggedArray

__all__ = ["BatchIterator", "LabelledTexts", "TokenBatch", "in_bfloat16", "token_batches"]

_CAST_TOKENS = 512


class TokenBatch:
    """Some texts, packed without padding.

    Attributes
    ----------
    tokens : Tensor of shape (n_tokens, n_features)
    lengths : Tensor of int64 of shape (n_texts,)
    """

    def __init__(self, tokens: Tensor, lengths: Tensor) -> None:
        self.tokens, self.lengths = tokens, lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def convert_to_tensors(self, kind: str) -> TokenBatch:
        """Skorch asks batches of its own kind for tensors by this name; these are tensors, on their device, already."""
        return self

    def in_parts(self, n_parts: int) -> Iterator[tuple[slice, TokenBatch]]:
        """Neighbouring texts, in parts of nearly as many each, and which of the texts they are."""
        text, token = 0, 0
        for lengths in self.lengths.tensor_split(n_parts):
            end = token + int(lengths.sum())
            yield slice(text, text + len(lengths)), TokenBatch(self.tokens[token:end], lengths)
            text, token = text + len(lengths), end


@dataclass(frozen=True)
class LabelledTexts(Dataset):
    """What is learned from.

    Attributes
    ----------
    rows : RaggedArray of n_texts
    targets : Tensor of shape (n_texts,) of int64, or (n_texts, n_classes) for several labels
    weights : Tensor of shape (n_texts,)
        Of mean 1.
    cast : RaggedArray of n_texts, or None
        The rows as `in_bfloat16` gives them, for batches of that dtype.
    """

    rows: RaggedArray
    targets: Tensor
    weights: Tensor
    cast: RaggedArray | None = None


class BatchIterator:
    """Batches of labelled texts, in a new order each time where there is a generator.

    A batch's tokens are good until the next batch is asked for, which may lie in the same memory: memory that is new
    for every batch of long texts took a fifth of the time of a fit.

    Parameters
    ----------
    dataset : LabelledTexts
    batch_size : int
        Texts a batch, at most.
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
        ready = self.dataset.rows if self.dataset.cast is None else self.dataset.cast
        order = torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)
        room = torch.empty(0, self.dataset.rows.n_features, dtype=self.dtype)
        for indices in order.tensor_split(len(self)):
            rows = ready[indices.numpy()]
            n_tokens = int(rows.lengths.sum())
            if len(room) < n_tokens:
                room = room.new_empty(n_tokens + n_tokens // 8, rows.n_features)
            batch = _batch(rows, self.dtype, self.device, room[:n_tokens])
            yield (
                batch,
                {
                    "targets": self.dataset.targets[indices].to(self.device),
                    "weights": self.dataset.weights[indices].to(self.device),
                },
            )


def token_batches(
    rows: RaggedArray, max_tokens: int, dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
    """All texts in order, in batches of about `max_tokens` tokens, each with the indices of its texts."""
    ends = np.cumsum(rows.lengths)
    begin = 0
    while begin < len(rows):
        spent = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, spent + max_tokens, side="right")))
        indices = np.arange(begin, min(end, len(rows)))
        yield indices, _batch(rows[indices], dtype, device)
        begin = end


def in_bfloat16(rows: RaggedArray) -> RaggedArray:
    """The same texts in memory, cast once instead of in every epoch.

    Kept as int16, since numpy has no bfloat16; `BatchIterator` views them back.
    """
    tokens = torch.from_numpy(np.require(rows.values, requirements="W"))
    bits = _cast(tokens, torch.bfloat16, None).view(torch.int16).numpy()
    return RaggedArray.from_segments(
        [bits],
        np.zeros(len(rows), np.int32),
        rows.offsets[:-1],
        rows.lengths,
        n_features=rows.n_features,
        dtype=bits.dtype,
    )


def _batch(rows: RaggedArray, dtype: torch.dtype, device: Any, room: Tensor | None = None) -> TokenBatch:
    """Texts on a device; on the processor, vectors that have to be cast are written into `room`."""
    values = rows.values
    if not values.flags.writeable:  # a memory-mapped array of the user's, say, which torch takes with a warning only
        values = values.copy()
    tokens = torch.from_numpy(values)
    if tokens.dtype == torch.int16:
        tokens = tokens.view(torch.bfloat16)  # see in_bfloat16
    tokens = tokens.to(device)  # before it grows: float16 is half the bytes
    if tokens.dtype != dtype:
        tokens = _cast(tokens, dtype, room)
    return TokenBatch(tokens, torch.from_numpy(rows.lengths).to(device))


def _cast(tokens: Tensor, dtype: torch.dtype, room: Tensor | None) -> Tensor:
    """``tokens.to(dtype)``, into `room` if there is some; float16 to bfloat16 in half the time that torch takes."""
    if tokens.device.type != "cpu":
        return tokens.to(dtype)
    result = torch.empty_like(tokens, dtype=dtype) if room is None else room
    if (tokens.dtype, dtype) != (torch.float16, torch.bfloat16):
        return result.copy_(tokens)
    for out, part in zip(result.split(_CAST_TOKENS), tokens.split(_CAST_TOKENS), strict=True):
        out.copy_(part.float())  # float32 of some tokens only, which stay in the processor's cache
    return result
