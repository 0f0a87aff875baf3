"""The arithmetic of ConceptOperators: products, sums over the tokens of texts, and both in one training step.

This file needs only torch. All texts of a batch lie packed one after another, without padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["PooledConcepts", "add_products", "expand_to_tokens", "matmul_rows", "segment_max", "segment_sum"]

_ROWS = 32  # see matmul_rows; more would waste time on single texts
_COLUMNS = 16
_SUMMED_ROWS = 512  # see _product and add_products
_NUMBERS = 2**21  # of a block in training; see examples/benchmarks/bench_fit.md
_SAFE_SCORE = 40.0  # exp of it, summed over a text of any length, is far from float32's limits


def segment_sum(values: Tensor, lengths: Tensor) -> Tensor:
    """Sum over the tokens of every text: (n_tokens, ...) to (n_texts, ...)."""
    if values.device.type == "cuda":
        return _SegmentSum.apply(values, lengths)
    texts = torch.repeat_interleave(lengths)  # (n_tokens,)
    return values.new_zeros((len(lengths), *values.shape[1:])).index_add(0, texts, values)


def expand_to_tokens(per_text: Tensor, lengths: Tensor) -> Tensor:
    """The row of its text for every token: (n_texts, ...) to (n_tokens, ...), or (1, ...) for a single text."""
    if len(per_text) == 1:
        return per_text
    if per_text.device.type == "cuda":
        return _ExpandToTokens.apply(per_text, lengths)
    return per_text.repeat_interleave(lengths, dim=0)


class _SegmentSum(torch.autograd.Function):
    """CUDA's index_add adds in a random order: with it, two fits with one seed differed by up to 1.4 in a logit."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        return torch.segment_reduce(values, "sum", lengths=lengths, axis=0, unsafe=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (lengths,) = ctx.saved_tensors
        return _ExpandToTokens.apply(gradient, lengths), None


class _ExpandToTokens(torch.autograd.Function):
    """The transpose of `_SegmentSum`, as that is of this."""

    @staticmethod
    def forward(ctx: Any, per_text: Tensor, lengths: Tensor) -> Tensor:
        ctx.save_for_backward(lengths)
        return per_text.repeat_interleave(lengths, dim=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (lengths,) = ctx.saved_tensors
        return _SegmentSum.apply(gradient, lengths), None


def segment_max(scores: Tensor, lengths: Tensor) -> Tensor:
    """The largest score (n_tokens, ...) of every text, (n_texts, ...); a text without tokens has -inf."""
    if len(lengths) == 1 and len(scores):
        return scores.amax(0, keepdim=True)
    return torch.segment_reduce(scores, "max", lengths=lengths, axis=0, unsafe=True)


def matmul_rows(rows: Tensor, weight: Tensor) -> Tensor:
    """``rows @ weight``, in which a row's result does not depend on the other rows, to the last bit.

    BLAS chooses its kernel, and with it the order of a sum, by the shape of a product. Blocks of one fixed shape leave
    it no choice, and in one call take half the time of as many. A single block would go to another function, which
    divides a long sum among threads: it goes twice.

    Parameters
    ----------
    rows : Tensor of shape (n, d) or (M, n, d)
    weight : Tensor of shape (d, width) or (M, d, width)
    """
    n, width = rows.shape[-2], weight.shape[-1]
    if width % _COLUMNS:
        weight = nn.functional.pad(weight, (0, -width % _COLUMNS))
    if n % _ROWS:
        rows = nn.functional.pad(rows, (0, 0, 0, -n % _ROWS))
    n_blocks = rows.shape[-2] // _ROWS
    blocks = rows.reshape(-1, _ROWS, rows.shape[-1])  # ([M *] n_blocks, _ROWS, d)
    weights = weight.unsqueeze(-3).expand(*weight.shape[:-2], n_blocks, -1, -1).reshape(-1, *weight.shape[-2:])
    n_products = len(blocks)
    if n_products == 1:
        blocks, weights = blocks.expand(2, -1, -1), weights.expand(2, -1, -1)
    products = torch.bmm(blocks, weights)[:n_products]
    return products.reshape(*rows.shape[:-1], weight.shape[-1])[..., :n, :width]


# ---------------------------------------------------------------- in training


class PooledConcepts(torch.autograd.Function):
    """``tanh(E W)`` and its means over the tokens of every text, as one step of training: faster than its parts.

    Arguments of `apply`: tokens E (n_tokens, d); weight W (d, w), or W and a, (d, 2 w), with `attention`; lengths
    (n_texts,); attention, bool. Gives the means (n_texts, w), weighted by ``softmax_t(E a)`` with `attention`, and the
    concepts (n_tokens, w). Products are taken in the dtype of the tokens, both ways, the rest in that of the weight.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, lengths: Tensor, attention: bool) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        columns, text = weight.to(tokens.dtype), torch.repeat_interleave(lengths)
        width = weight.shape[1] // (1 + attention)
        concepts = weight.new_empty(len(tokens), width)
        alpha = torch.empty_like(concepts) if attention else None  # the scores first, then exp of them
        for block, _, products in _blocks(tokens, columns, concepts):
            _product(tokens[block], columns, out=products)
            concepts[block].copy_(products[:, :width]).tanh_()
            if alpha is not None:
                alpha[block].copy_(products[:, width:])
        if alpha is None:
            sums, total = segment_sum(concepts, lengths), lengths.to(weight.dtype)[:, None]
        else:
            if len(alpha) and not max(bound.abs() for bound in torch.aminmax(alpha)) <= _SAFE_SCORE:
                alpha -= expand_to_tokens(segment_max(alpha, lengths), lengths)
            alpha.exp_()
            total, sums = segment_sum(alpha, lengths), weight.new_zeros(len(lengths), width)
            for block, (product, *_), _ in _blocks(tokens, columns, concepts):
                weighted = torch.mul(alpha[block], concepts[block], out=product)
                if weighted.device.type == "cuda":  # all texts are in this block, see segment_sum
                    sums += segment_sum(weighted, lengths)
                else:
                    sums.index_add_(0, text[block], weighted)
        total = total.clamp(min=torch.finfo(total.dtype).tiny)  # 0 for a text without tokens
        means = sums.div_(total)
        ctx.save_for_backward(tokens, columns, text, concepts, alpha, means, total)
        return means, concepts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means: Tensor | None, grad_concepts: Tensor | None) -> tuple[Tensor | None, ...]:
        tokens, columns, text, concepts, alpha, means, total = ctx.saved_tensors
        width = concepts.shape[1]
        grad_sums = torch.zeros_like(means) if grad_means is None else grad_means / total
        grad_total = grad_sums * means
        grad_weight = concepts.new_zeros(columns.shape[1], columns.shape[0])
        grad_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        for block, (grad_concept, product, grad_score), grad_products in _blocks(tokens, columns, concepts):
            concept, of_text = concepts[block], text[block]  # (n, w), (n,)
            torch.index_select(grad_sums, 0, of_text, out=grad_concept)
            if alpha is not None:
                torch.mul(grad_concept.mul_(alpha[block]), concept, out=product)
                torch.index_select(grad_total, 0, of_text, out=grad_score)
                grad_products[:, width:] = torch.addcmul(product, grad_score, alpha[block], value=-1, out=grad_score)
            if grad_concepts is not None:
                grad_concept += grad_concepts[block]
            if alpha is None or grad_concepts is not None:
                torch.mul(grad_concept, concept, out=product)
            grad_products[:, :width] = grad_concept.addcmul_(product, concept, value=-1)  # tanh' = 1 - tanh^2
            add_products(grad_weight, grad_products, tokens[block])
            if grad_tokens is not None:
                torch.mm(grad_products, columns.T, out=grad_tokens[block])
        return grad_tokens, grad_weight.T, None, None


def _blocks(tokens: Tensor, columns: Tensor, concepts: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Blocks of rows, and room for three times the concepts of one and for its products.

    The room is small and the same for all: memory that is new for every pass would take as long as the pass.
    """
    n, width = len(tokens), columns.shape[1]
    step = n
    if tokens.device.type == "cpu":
        step = min(n, max(1, _NUMBERS // width // _SUMMED_ROWS) * _SUMMED_ROWS)
    room, products = concepts.new_empty(3, step, concepts.shape[1]), tokens.new_empty(step, width)
    for begin in range(0, n, max(1, step)):
        end = min(n, begin + step)
        yield slice(begin, end), room[:, : end - begin], products[: end - begin]


def _product(tokens: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """``tokens @ weight`` in few shapes: oneDNN keeps a kernel for each of the last 1,024, over a megabyte each."""
    n = len(tokens)
    whole = n - n % _SUMMED_ROWS
    torch.mm(tokens[:whole], weight, out=out[:whole])
    if whole < n:
        rest = nn.functional.pad(tokens[whole:], (0, 0, 0, _SUMMED_ROWS - (n - whole)))
        out[whole:] = (rest @ weight)[: n - whole]
    return out


def add_products(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left.T @ right``, whose last bits do not depend on the number of threads.

    BLAS divides a long sum among its threads. Separate sums over blocks of one size have one order.

    Parameters
    ----------
    total : Tensor of shape (w, d)
    left : Tensor of shape (n, w)
    right : Tensor of shape (n, d)
    """
    whole = len(left) - len(left) % _SUMMED_ROWS
    padding = (0, 0, 0, _SUMMED_ROWS - (len(left) - whole))
    for products in _blocks_of_sums(left[:whole], right[:whole]):
        total += products
    if whole < len(left):
        pad = nn.functional.pad
        total += _blocks_of_sums(pad(left[whole:], padding), pad(right[whole:], padding))[0]


def _blocks_of_sums(left: Tensor, right: Tensor) -> Tensor:
    left, right = left.unflatten(0, (-1, _SUMMED_ROWS)), right.unflatten(0, (-1, _SUMMED_ROWS))
    return torch.bmm(left.transpose(1, 2), right)  # (n / _SUMMED_ROWS, w, d)
