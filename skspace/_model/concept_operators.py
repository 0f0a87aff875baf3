"""ConceptOperators: the equations of the Space Model (Tytarenko and Amin 2024, arXiv 2401.16638) as a torch module.

This file and kernels.py need only torch: you can copy the two out. Notation: a text has T tokens E (T, d). There are K
classes, each with a space of m latent axes. M members are independent models trained side by side on the same tokens;
their logits are averaged.

    context attribution   C_k = tanh(E W_k)                                   (T, m)
    centroid              mu_k = sum_t alpha_t C_k[t]                         (m,)
        pooling "mean"        alpha_t = 1 / T
        pooling "attention"   alpha_t = softmax_t(E a_kj), one vector a a latent axis, so that alpha is (T, m)
    logits  head "linear"     z = A [mu_1; ...; mu_K] + b                     (K,)
            head "alignment"  z_k = s * mean_j mu_k[j], s > 0

The attention, the averaging over members and the alignment head's factor are not in the paper. The texts of a batch lie
packed one after another, without padding, so that a text's result cannot depend on the other texts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skspace._model.kernels import PooledConcepts, expand_to_tokens, matmul_rows, segment_max, segment_sum

__all__ = ["ARGUMENTS", "ConceptOperators", "Spaces"]

ARGUMENTS = ("n_features", "n_classes", "n_latent", "n_members", "pooling", "head", "dtype")

_CHOICES = {"pooling": ("attention", "mean"), "head": ("linear", "alignment")}


class Spaces(NamedTuple):
    """The output of ConceptOperators for a batch."""

    logits: Tensor  # (n_texts, M, K)
    centroids: Tensor  # (n_texts, M, K, m)
    concepts: Any  # Tensor (n_tokens, M, K, m), the context attributions; None if the batch was computed in parts
    attention: Any  # Tensor (n_tokens, M, K, m), alpha; (n_tokens, 1, 1, 1) with "mean"; None in training
    lengths: Tensor  # (n_texts,)


class ConceptOperators(nn.Module):
    """One concept operator per class, pooling over a text's tokens, and a head on the centroids.

    Parameters
    ----------
    n_features : int
        d, length of a token vector.
    n_classes : int
        K.
    n_latent : int, default=16
        m, latent axes of a space.
    n_members : int, default=1
        M, models that differ in their start only.
    pooling : {"attention", "mean"}, default="attention"
    head : {"linear", "alignment"}, default="linear"
    scale : float, default=1.0
        Root mean square of the training tokens; tokens are divided by it until `fold` takes it into the parameters.
    generator : torch.Generator, default=None
        Source of the start of W; None is torch's global one.
    dtype : torch.dtype, default=torch.float32

    Attributes
    ----------
    weight : Parameter of shape (d, M * K * m), or (d, 2 * M * K * m) with pooling "attention"
        All W, then all a, as one product with the tokens wants them.
    operators : Tensor of shape (M, K, d, m)
        W, a view of `weight`.
    queries : Tensor of shape (M, K, d, m)
        The vectors a, start 0 (= the plain mean), a view of `weight`; only with pooling "attention".
    coef : Parameter of shape (M, K, K * m)
        A, starts zero-sum with the own space positive, which ties space k to class k; only with head "linear".
    intercept : Parameter of shape (M, K)
        b; only with head "linear".
    log_slope : Parameter of shape (M,)
        log s; only with head "alignment".

    Raises
    ------
    ValueError
        If `pooling` or `head` is not one of the above.
    """

    __module__ = "skspace"  # what pickles, skops and error messages name

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_latent: int = 16,
        *,
        n_members: int = 1,
        pooling: str = "attention",
        head: str = "linear",
        scale: float = 1.0,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        for name, value in (("pooling", pooling), ("head", head)):
            if value not in _CHOICES[name]:
                expected = " or ".join(map(repr, _CHOICES[name]))
                raise ValueError(
                    f"The {name!r} parameter of ConceptOperators must be {expected}. Got {value!r} instead."
                )
        self.n_classes, self.n_latent, self.n_members = int(n_classes), int(n_latent), int(n_members)
        self.pooling, self.head, self.scale = pooling, head, float(scale)
        shape = (n_members, n_classes, n_features, n_latent)
        # Tokens of unit root mean square give projections of unit variance: tanh neither linear nor saturated.
        start = torch.randn(shape, generator=generator, dtype=torch.float64) / math.sqrt(n_features)
        weight = torch.zeros(n_features, (1 + (pooling == "attention")) * shape[0] * shape[1] * shape[3], dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.operators.copy_(start)
        if head == "linear":
            self.coef = nn.Parameter(_own_space_first(n_classes, n_latent).to(dtype).repeat(n_members, 1, 1))
            self.intercept = nn.Parameter(torch.zeros(n_members, n_classes, dtype=dtype))
        else:
            self.log_slope = nn.Parameter(torch.full((n_members,), math.log(4.0), dtype=dtype))

    @property
    def operators(self) -> Tensor:
        return self._part(0)

    @property
    def queries(self) -> Tensor:
        if self.pooling != "attention":
            raise AttributeError(
                f"Only pooling='attention' has attention queries. Got pooling={self.pooling!r} instead."
            )
        return self._part(1)

    def _part(self, i: int) -> Tensor:
        shape = self.n_members, self.n_classes, self.n_latent
        return self._halves(self.weight.detach())[i].unflatten(1, shape).permute(1, 2, 0, 3)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Spaces:
        """Logits, centroids and context attributions of a batch of texts.

        Parameters
        ----------
        tokens : Tensor of shape (n_tokens, n_features)
            Token vectors, text after text. In training mode, products with them are computed in their dtype (bfloat16,
            say) and the rest in the dtype of the parameters. Second derivatives exist in eval mode only.
        lengths : Tensor of int64 of shape (n_texts,)
            Tokens of each text; their sum is n_tokens. A text without tokens has centroid 0 and logits b.

        Returns
        -------
        Spaces

        Raises
        ------
        ValueError
            If the lengths do not add up to n_tokens.
        """
        if (total := int(lengths.sum())) != len(tokens):
            raise ValueError(
                f"The lengths of the texts must add up to the number of tokens, {len(tokens)}. Got lengths that add up "
                f"to {total} instead."
            )
        weight = self.weight if self.scale == 1.0 else self.weight / self.scale
        attended = self.pooling == "attention"
        if self.training:
            centroids, concepts = map(self._by_space, PooledConcepts.apply(tokens, weight, lengths, attended))
            attention = None
        else:  # one product for W and a: with a single text, calls cost more than arithmetic
            projected, *scores = map(self._by_space, self._halves(matmul_rows(tokens, weight)))
            concepts = torch.tanh(projected)  # (n_tokens, M, K, m)
            attention = _softmax(scores[0], lengths) if attended else _mean_over_tokens(lengths, concepts.dtype)
            centroids = segment_sum(attention * concepts, lengths)  # (n_texts, M, K, m)
        return Spaces(self._logits(centroids), centroids, concepts, attention, lengths)

    def _by_space(self, columns: Tensor) -> Tensor:
        """(n, M * K * m) to (n, M, K, m)."""
        return columns.reshape(-1, self.n_members, self.n_classes, self.n_latent)

    def _halves(self, columns: Tensor) -> list[Tensor]:
        """Columns of W, and those of a with attention."""
        return list(columns.split(self.n_members * self.n_classes * self.n_latent, dim=1))

    def _logits(self, centroids: Tensor) -> Tensor:
        """Centroids (n_texts, M, K, m) to logits (n_texts, M, K)."""
        if self.head == "alignment":
            return centroids.mean(-1) * self.log_slope.exp()[:, None]
        flat = centroids.flatten(2)  # (n_texts, M, K * m)
        if self.training:
            return torch.einsum("nmf,mkf->nmk", flat, self.coef) + self.intercept
        return matmul_rows(flat.transpose(0, 1), self.coef.transpose(1, 2)).transpose(0, 1) + self.intercept

    @torch.no_grad()
    def fold(self, *, center: bool) -> Tensor:
        """Rewrite the parameters into their one canonical form; outputs stay the same.

        The scale goes into W and a. The sign of every axis is chosen so that it speaks for its own class.

        Parameters
        ----------
        center : bool
            Centre A and b over the classes. For classes that exclude each other: it changes no probability.

        Returns
        -------
        Tensor of shape (M, K, m)
            -1 where the axis's W and its column of A changed sign, else 1. `unfold` needs it.
        """
        self.weight.div_(self.scale)
        self.scale = 1.0
        if self.head != "linear":
            return torch.ones(self.n_members, self.n_classes, self.n_latent, dtype=self.weight.dtype)
        if center:
            self.coef.sub_(self.coef.mean(1, keepdim=True))
            self.intercept.sub_(self.intercept.mean(1, keepdim=True))
        by_space = self.coef.unflatten(2, (self.n_classes, self.n_latent))  # (M, K, K, m), a view
        own = torch.diagonal(by_space, dim1=1, dim2=2).transpose(1, 2)  # (M, K, m)
        sign = torch.where(own < 0, -1.0, 1.0).to(own.dtype)
        self._flip(sign)
        return sign

    @torch.no_grad()
    def unfold(self, scale: float, sign: Tensor | None = None) -> None:
        """Undo `fold`, so that training continues as if it had never happened; outputs stay the same.

        The signs matter to the inter-space loss and to Adam. The centring is not undone: no gradient depends on it.
        """
        self.weight.mul_(scale)
        self.scale = float(scale)
        if sign is not None and self.head == "linear":
            self._flip(sign)

    def _flip(self, sign: Tensor) -> None:
        """Change the sign of axes (M, K, m) in W and in A."""
        self.operators.mul_(sign[:, :, None, :])
        self.coef.mul_(sign.flatten(1)[:, None])

    @torch.no_grad()
    def as_linear(self) -> tuple[Tensor, Tensor]:
        """The head as one sum over members, spaces and axes: ``logits = sum_M coef mu + intercept``.

        Returns
        -------
        coef : Tensor of shape (M, K, K * m)
            Contains the average over members as a factor 1 / M.
        intercept : Tensor of shape (K,)
        """
        if self.head == "linear":
            return self.coef / self.n_members, self.intercept.mean(0)
        own = torch.eye(self.n_classes, dtype=self.weight.dtype, device=self.weight.device)
        block = own.repeat_interleave(self.n_latent, 1) / (self.n_latent * self.n_members)  # (K, K * m)
        return self.log_slope.exp()[:, None, None] * block, torch.zeros_like(own[0])

    def arguments(self) -> dict[str, Any]:
        """The constructor arguments that give operators of the same shape, as plain values, named by `ARGUMENTS`."""
        return {name: getattr(self, name) for name in ARGUMENTS}

    @property
    def n_features(self) -> int:
        return self.weight.shape[0]

    @property
    def dtype(self) -> str:
        return str(self.weight.dtype).removeprefix("torch.")

    def extra_repr(self) -> str:
        M, K, d, m = self.operators.shape
        return f"n_features={d}, n_classes={K}, n_latent={m}, n_members={M}, pooling={self.pooling}, head={self.head}"


def _own_space_first(n_classes: int, n_latent: int) -> Tensor:
    """Start of A, (K, K * m): +s on the own space, -s / (K - 1) on the others."""
    s = 1.0 / math.sqrt(n_latent)
    start = torch.full((n_classes, n_classes), -s / max(1, n_classes - 1), dtype=torch.float64)
    start.fill_diagonal_(s)
    return start.repeat_interleave(n_latent, dim=1)


def _softmax(scores: Tensor, lengths: Tensor) -> Tensor:
    """Of scores (n_tokens, M, K, m) over the tokens of every text."""
    weights = torch.exp(scores - expand_to_tokens(segment_max(scores.detach(), lengths), lengths))
    return weights / expand_to_tokens(segment_sum(weights, lengths), lengths)


def _mean_over_tokens(lengths: Tensor, dtype: torch.dtype) -> Tensor:
    """1 / T for every token of a text, (n_tokens, 1, 1, 1)."""
    return (1.0 / lengths.to(dtype)).repeat_interleave(lengths).reshape(-1, 1, 1, 1)
