"""Texts as batches of packed token vectors on a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skspace._input.ragged import RaggedArray

__all__ = ["TokenBatch", "cast", "make_batch", "token_batches"]

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
        """Return itself. skorch calls this on batches of tokenizers; these hold tensors on their device already."""
        return self

    def in_parts(self, n_parts: int) -> Iterator[tuple[slice, TokenBatch]]:
        """Split into parts of nearly equal numbers of texts; yield each part's slice of the texts and the part."""
        text, token = 0, 0
        for lengths in self.lengths.tensor_split(n_parts):
            end = token + int(lengths.sum())
            yield slice(text, text + len(lengths)), TokenBatch(self.tokens[token:end], lengths)
            text, token = text + len(lengths), end


def token_batches(
    rows: RaggedArray, max_tokens: int, dtype: torch.dtype, device: torch.device | str
) -> Iterator[tuple[NDArray[np.int64], TokenBatch]]:
    """Yield all texts in order, in batches of about `max_tokens` tokens, each with the indices of its texts."""
    ends = np.cumsum(rows.lengths)
    begin = 0
    while begin < len(rows):
        spent = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, spent + max_tokens, side="right")))
        indices = np.arange(begin, min(end, len(rows)))
        yield indices, make_batch(rows[indices], dtype, device)
        begin = end


def make_batch(rows: RaggedArray, dtype: torch.dtype, device: Any, buffer: Tensor | None = None) -> TokenBatch:
    """Put texts on a device; on the processor, vectors that need a cast are written into `buffer`."""
    values = rows.values
    if not values.flags.writeable:  # such as a memory-mapped array of the user's, for which torch would warn
        values = values.copy()
    tokens = torch.from_numpy(values)
    if tokens.dtype == torch.int16:
        tokens = tokens.view(torch.bfloat16)  # see labelled_batches.in_bfloat16
    tokens = tokens.to(device)  # before the cast: float16 is half the bytes
    if tokens.dtype != dtype:
        tokens = cast(tokens, dtype, buffer)
    return TokenBatch(tokens, torch.from_numpy(rows.lengths).to(device))


def cast(tokens: Tensor, dtype: torch.dtype, buffer: Tensor | None) -> Tensor:
    """``tokens.to(dtype)``, written into `buffer` if given; float16 to bfloat16 in half of torch's time."""
    if tokens.device.type != "cpu":
        return tokens.to(dtype)
    result = torch.empty_like(tokens, dtype=dtype) if buffer is None else buffer
    if (tokens.dtype, dtype) != (torch.float16, torch.bfloat16):
        return result.copy_(tokens)
    for out, part in zip(result.split(_CAST_TOKENS), tokens.split(_CAST_TOKENS), strict=True):
        out.copy_(part.float())  # float32 of a few tokens at a time stays in the processor's cache
    return result
