"""The losses of the Space Model beside cross-entropy (arXiv 2401.16638), as pure functions.

This file and kernels.py need only torch: you can copy the two out. Concepts are the context attributions C
(n_tokens, K, m) of texts that lie packed one after another, without padding. Every text counts once, however long it
is. Own and other classes are averaged apart, so that many other classes do not drown the own one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skspace._model.kernels import expand_to_tokens, segment_sum

__all__ = ["inter_space_loss", "intra_space_loss", "label_free_inter_space_loss"]


def inter_space_loss(
    concepts: Tensor,
    lengths: Tensor,
    targets: Tensor,
    sample_weight: Tensor | None = None,
    *,
    centroids: Tensor | None = None,
) -> Tensor:
    """Push the own spaces of a text to +1 and the others to -1.

    ``½ mean(1 - C_k | k is the text's class) + ½ mean(1 + C_k | k is another class)``: per text the mean over its
    tokens, latent axes and classes, then the weighted mean over texts. It pulls tokens towards ±1 while
    `intra_space_loss` wants them spread: with both, apply this one to centroids.

    Parameters
    ----------
    concepts : Tensor of shape (n_tokens, n_classes, n_latent)
    lengths : Tensor of int64 of shape (n_texts,)
    targets : Tensor of shape (n_texts, n_classes)
        1 where the text has the class, else 0; any number of ones a row.
    sample_weight : Tensor of shape (n_texts,), default=None
    centroids : Tensor of shape (n_texts, n_classes, n_latent), default=None
        Used in place of the plain mean over the text's tokens.

    Returns
    -------
    Tensor of shape ()
        Between 0 and 2. Texts without tokens are left out; a side (own, others) that no text has contributes 0.
    """
    concepts = _at_least_float32(concepts)
    if centroids is None:
        centroids = segment_sum(concepts, lengths) / lengths.clamp(min=1)[:, None, None]
    height = _at_least_float32(centroids).mean(-1)  # (n_texts, K)
    targets = targets.to(height.dtype)
    has_tokens = (lengths > 0).to(height.dtype)
    own = _mean_over_texts(_mean_over_classes(1 - height, targets), targets, has_tokens, sample_weight)
    others = _mean_over_texts(_mean_over_classes(1 + height, 1 - targets), 1 - targets, has_tokens, sample_weight)
    return (own + others) / 2


def _mean_over_classes(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values (n, K) over the classes that are chosen, (n,); 0 where none is."""
    return (values * chosen).sum(1) / chosen.sum(1).clamp(min=1)


def _mean_over_texts(values: Tensor, chosen: Tensor, has_tokens: Tensor, sample_weight: Tensor | None) -> Tensor:
    weight = has_tokens * (chosen.sum(1) > 0)
    return _weighted_mean(values, weight if sample_weight is None else weight * sample_weight)


def intra_space_loss(
    concepts: Tensor,
    lengths: Tensor,
    sample_weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    eps: float = 1e-3,
) -> Tensor:
    """Keep a text's tokens apart in every space: ``1 / (Var_t C_k[t, j] + eps)``.

    The variance is the unbiased one over the text's own tokens. Texts of fewer than two tokens have none and are left
    out.

    Parameters
    ----------
    concepts : Tensor of shape (n_tokens, n_classes, n_latent)
    lengths : Tensor of int64 of shape (n_texts,)
    sample_weight : Tensor of shape (n_texts,), default=None
    reduction : {"mean", "sum"}, default="mean"
        Over classes and latent axes; "sum" with ``eps=1e-9`` is the original, which grows with their number.
    eps : float, default=1e-3
        Bounds the loss by 1 / eps.

    Returns
    -------
    Tensor of shape ()
        0 where no text has two tokens.
    """
    if reduction not in {"mean", "sum"}:
        raise ValueError(
            f"The 'reduction' parameter of intra_space_loss must be 'mean' or 'sum'. Got {reduction!r} instead."
        )
    concepts = _at_least_float32(concepts)
    mean = segment_sum(concepts, lengths) / lengths.clamp(min=1)[:, None, None]  # (n_texts, K, m)
    deviation = (concepts - expand_to_tokens(mean, lengths)).square()
    variance = segment_sum(deviation, lengths) / (lengths - 1).clamp(min=1)[:, None, None]
    tightness = (1 / (variance + eps)).flatten(1)
    per_text = tightness.mean(1) if reduction == "mean" else tightness.sum(1)  # (n_texts,)
    weight = (lengths >= 2).to(per_text.dtype)
    return _weighted_mean(per_text, weight if sample_weight is None else weight * sample_weight)


def label_free_inter_space_loss(centroids: Tensor, *, eps: float = 1e-9) -> Tensor:
    """Return the inter-space loss of the tables published in November 2023, which knows no labels.

    ``sum over pairs k < l of 1 / (1 - tanh(mu_k · mu_l) + eps)``, mu the batch mean of the centroids. For reproduction.

    Parameters
    ----------
    centroids : Tensor of shape (n_texts, n_classes, n_latent)
    eps : float, default=1e-9

    Returns
    -------
    Tensor of shape ()
    """
    mean = _at_least_float32(centroids).mean(0)  # (K, m)
    first, second = torch.triu_indices(len(mean), len(mean), offset=1)
    return (1 / (1 - torch.tanh((mean[first] * mean[second]).sum(1)) + eps)).sum()


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, torch.ones_like(total))
