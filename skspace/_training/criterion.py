"""The training loss: cross-entropy and the two losses of the spaces, weighted."""

from __future__ import annotations

from torch import Tensor, nn

from skspace._model.concept_operators import Spaces
from skspace._model.losses import inter_space_loss, intra_space_loss

__all__ = ["SpaceCriterion", "indicator_of"]


class SpaceCriterion(nn.Module):
    """``L = CE + inter_space_weight * inter + intra_space_weight * intra``, averaged over members.

    Weights have mean 1 over the data. So a batch's loss is the plain mean of weighted losses, an epoch's mean loss is
    the loss of the whole data, and a text of weight 2 equals the text twice.

    `positive_weight` (K,), for several labels per text, multiplies a class's cross-entropy where a text has the class.
    `parts` holds the terms of the last batch, averaged over members.
    """

    positive_weight: Tensor | None

    def __init__(
        self,
        inter_space_weight: float,
        inter_space_on: str,
        intra_space_weight: float,
        positive_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("positive_weight", positive_weight)  # a buffer moves to the device with the rest
        self.inter_space_weight, self.intra_space_weight = inter_space_weight, intra_space_weight
        self.inter_space_on = inter_space_on
        self.parts: dict[str, Tensor] = {}

    @property
    def is_mean_over_texts(self) -> bool:
        """Whether losses of parts of a batch add up to the batch's. The spaces' losses do not, for they skip texts."""
        return not (self.inter_space_weight or self.intra_space_weight)

    def forward(self, spaces: Spaces, y: dict[str, Tensor]) -> Tensor:
        targets, weights = y["targets"], y["weights"]
        parts = {"cross_entropy": _cross_entropy(spaces.logits, targets, weights, self.positive_weight)}
        loss = parts["cross_entropy"]
        if self.inter_space_weight:
            indicator = indicator_of(targets, spaces.logits.shape[2])
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
    """(n, M, K, m) to (n, K, M * m), so that a mean over latent axes is a mean over members too."""
    return values.transpose(1, 2).flatten(2)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, positive_weight: Tensor | None) -> Tensor:
    """Weighted mean over texts and mean over members of the cross-entropy of logits (n, M, K)."""
    if targets.ndim == 1:
        per_text = nn.functional.cross_entropy(
            logits.transpose(1, 2), targets[:, None].expand(-1, logits.shape[1]), reduction="none"
        )  # (n, M)
    else:
        expected = targets.to(logits.dtype)[:, None].expand_as(logits)
        per_text = nn.functional.binary_cross_entropy_with_logits(
            logits, expected, reduction="none", pos_weight=positive_weight
        ).sum(-1)
    return (per_text.mean(1) * weights).mean()


def indicator_of(targets: Tensor, n_classes: int) -> Tensor:
    """Targets as zeros and ones, (n_texts, n_classes)."""
    return nn.functional.one_hot(targets, n_classes) if targets.ndim == 1 else targets
