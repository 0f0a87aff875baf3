"""Concepts in words: which words push the axes of each space, and how far the spaces lie apart."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skspace._model.concept_operators import Spaces
from skspace.inspection._checks import check_count, check_index, class_index
from skspace.inspection._classifier_access import (
    check_texts_for,
    iter_spaces,
    linear_head,
    logit_terms,
    operators_shape,
)
from skspace.inspection._occurrences import Occurrences, WordValues, find_occurrences, word_values
from skspace.inspection._tables import import_pandas

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ConceptTokens", "ConceptWord", "SpaceGeometry", "concept_tokens", "space_geometry"]


@dataclass(frozen=True)
class ConceptWord:
    """A word and its effect on an axis or a class.

    Attributes
    ----------
    word : str
        Case-folded.
    count : int
        Number of occurrences.
    value : float
        Mean contribution over the occurrences. For an axis it is a share of the text's centroid: activation times
        attention. For a class it is a part of the logit.
    example : str
        The occurrence that contributes most, marked «so», with its context.
    activation : float or None
        For an axis the mean activation, in [-1, 1]; for a class None. Many words have an activation near 1, but few of
        them receive attention.
    """

    word: str
    count: int
    value: float
    example: str
    activation: float | None


@dataclass(frozen=True, repr=False, eq=False)
class ConceptTokens:
    """The words with the largest effect on each axis of each space, and on each class.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    n_latent : int
        Latent axes of a space.
    n_members : int
        Models that are averaged.
    n_texts : int
        Texts that were searched for words.
    weights : ndarray of shape (n_members, n_classes, n_latent)
        What an axis adds to the logit of its own class if every token has the value 1 there. An axis of small weight
        matters little, whatever its words.
    top : int
        Maximum number of words per list.
    """

    classes: NDArray[Any]
    n_latent: int
    n_members: int
    n_texts: int
    weights: NDArray[np.float64]
    top: int
    _axis_words: dict[tuple[int, int, int, str], list[ConceptWord]]
    _class_words: dict[tuple[int, str], list[ConceptWord]]

    def __repr__(self) -> str:
        return (
            f"<ConceptTokens: {len(self.classes)} classes, {self.n_members} members, {self.n_latent} axes each; from "
            f"{self.n_texts} texts>"
        )

    def axis(self, label: Any, axis: int = 0, *, member: int = 0, end: str = "+") -> list[ConceptWord]:
        """The words that push an axis most towards one end, strongest first.

        Parameters
        ----------
        label : label
            The class whose space is meant.
        axis : int, default=0
            Index of the latent axis.
        member : int, default=0
            Index of the member.
        end : {"+", "-"}, default="+"
            At "+" the axis speaks for its own class; with a linear head `weights` says how much.

        Returns
        -------
        list of ConceptWord

        Raises
        ------
        ValueError
            If the class, axis, member or end does not exist.
        """
        column = class_index(self.classes, label)
        axis, member = check_index(axis, "axis", self.n_latent), check_index(member, "member", self.n_members)
        return self._axis_words[member, column, axis, _end(end)]

    def summary(self, label: Any, *, end: str = "+") -> list[ConceptWord]:
        """The words that speak most for a class ("+") or against it ("-"), summed over members, spaces and axes."""
        return self._class_words[class_index(self.classes, label), _end(end)]

    def to_frame(self) -> DataFrame:
        """A pandas data frame with one row per word and list.

        Columns: class, member, axis (both -1 in the summary of a class), weight, end, rank, word, count, value,
        example, activation.
        """
        rows = [
            (self.classes[column], -1, -1, float("nan"), end, rank, *astuple(word))
            for (column, end), words in self._class_words.items()
            for rank, word in enumerate(words)
        ]
        rows += [
            (self.classes[column], member, axis, self.weights[member, column, axis], end, rank, *astuple(word))
            for (member, column, axis, end), words in self._axis_words.items()
            for rank, word in enumerate(words)
        ]
        names = ["class", "member", "axis", "weight", "end", "rank", "word", "count", "value", "example"]
        return import_pandas().DataFrame(rows, columns=[*names, "activation"])


def concept_tokens(clf: Any, texts: Any, *, top: int = 10, min_count: int = 3) -> ConceptTokens:
    """Name the concepts: find the words that push each latent axis of each space most.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
        Texts to search for words, for example the training texts.
    top : int, default=10
        Maximum number of words per list.
    min_count : int, default=3
        Ignore words that occur less often: among many rare words, some are extreme by chance.

    Returns
    -------
    ConceptTokens

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if `texts` contains anything but str.
    ValueError
        If `top` or `min_count` is not an int of at least 1, or no word occurs `min_count` times.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.

    Notes
    -----
    The activation of a word on axis j of space k is its context attribution ``C_k[t, j]`` (`skspace.ConceptOperators`),
    averaged over its pieces and occurrences. Its share of the centroid is ``alpha_t[k, j] C_k[t, j]``. This share, and
    its contribution to a class, are summed over its pieces and averaged over its occurrences. Members learn their axes
    independently: axis 0 of one member is unrelated to axis 0 of another.
    """
    texts = check_texts_for(clf, texts)
    check_count(top, "top")
    occurrences = find_occurrences(clf, texts, min_count)
    M, K, m = operators_shape(clf)
    n_axes = M * K * m

    def activation(spaces: Spaces) -> NDArray[Any]:
        return spaces.concepts.flatten(1).numpy()

    def contribution(spaces: Spaces) -> NDArray[Any]:
        # To the axes, then to the classes: one pass over the texts for both.
        return np.hstack([(spaces.attention * spaces.concepts).flatten(1).numpy(), logit_terms(clf, spaces)])

    activations = word_values(clf, occurrences, activation, n_axes, mean_of_pieces=True)
    contributions = word_values(clf, occurrences, contribution, n_axes + K, mean_of_pieces=False)
    axis_words = {
        (*index, end): _extreme_words(occurrences, contributions, column, end, top, activations)
        for column, index in enumerate(np.ndindex(M, K, m))
        for end in "+-"
    }
    class_words = {
        (k, end): _extreme_words(occurrences, contributions, n_axes + k, end, top) for k in range(K) for end in "+-"
    }
    diagonal = np.arange(K)
    weights = linear_head(clf).coef.reshape(M, K, K, m)[:, diagonal, diagonal]  # (M, K, m)
    return ConceptTokens(clf.classes_, m, M, len(texts), weights, int(top), axis_words, class_words)


def _extreme_words(
    occurrences: Occurrences,
    values: WordValues,
    column: int,
    end: str,
    top: int,
    activations: WordValues | None = None,
) -> list[ConceptWord]:
    sign, extreme = (1, values.highest) if end == "+" else (-1, values.lowest)
    mean = values.mean[:, column]
    order = np.argsort(-sign * mean, kind="stable")[:top]
    return [
        ConceptWord(
            occurrences.words[i],
            int(occurrences.counts[i]),
            float(mean[i]),
            occurrences.example(extreme[i, column]),
            None if activations is None else float(activations.mean[i, column]),
        )
        for i in order
        if sign * mean[i] > 0
    ]


def _end(end: str) -> str:
    if not isinstance(end, str) or end not in ("+", "-"):
        raise ValueError(f"The 'end' parameter must be '+' or '-'. Got {end!r} instead.")
    return end


# ---------------------------------------------------------------- geometry of the spaces


@dataclass(frozen=True, repr=False, eq=False)
class SpaceGeometry:
    """Distances between the spaces of a classifier, and their effective ranks, on some texts.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    distances : ndarray of shape (n_classes, n_classes)
        In [0, 1]. At 0 two spaces arrange the tokens alike, up to rotation and scale; at 1 they are unrelated. Computed
        as one minus the linear centred kernel alignment (Kornblith et al. 2019) of the context attributions, averaged
        over the members.
    effective_ranks : ndarray of shape (n_classes,)
        Number of axes in use, from 1 (all axes agree) to n_latent (all axes are uncorrelated and vary equally). This is
        the effective rank (Roy and Vetterli 2007) of the centred context attributions, averaged over the members. It is
        0 if nothing varies.
    """

    classes: NDArray[Any]
    distances: NDArray[np.float64]
    effective_ranks: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"<SpaceGeometry: {len(self.classes)} spaces, effective ranks around {self.effective_ranks.mean():.1f}>"

    def to_frame(self) -> DataFrame:
        """A pandas data frame with one row per class: its effective rank and its distances."""
        labels = self.classes.tolist()
        frame = import_pandas().DataFrame(self.distances, index=labels, columns=labels)
        frame.insert(0, "effective rank", self.effective_ranks, allow_duplicates=True)  # a class may have this name
        return frame


def space_geometry(clf: Any, texts: Any) -> SpaceGeometry:
    """Measure whether concepts are disjoint: distances between spaces, and the number of axes in use.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts

    Returns
    -------
    SpaceGeometry

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if `texts` contains anything but str.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.
    """
    texts = check_texts_for(clf, texts)
    covariance = _covariance(clf, texts)  # (M, K, m, K, m)
    cross = np.square(covariance).sum((2, 4))  # (M, K, K), squared Frobenius norms
    norms = np.sqrt(np.einsum("mkk->mk", cross))
    with np.errstate(invalid="ignore"):
        alignment = cross / (norms[:, :, None] * norms[:, None, :])
    blocks = np.einsum("mkikj->mkij", covariance)
    ranks = [[_effective_rank(block) for block in member] for member in blocks]
    distances = np.clip(1 - np.nan_to_num(alignment), 0, 1).mean(0)
    np.fill_diagonal(distances, 0.0)
    return SpaceGeometry(clf.classes_, distances, np.mean(ranks, axis=0))


def _covariance(clf: Any, texts: list[str]) -> NDArray[np.float64]:
    """Covariance of the context attributions over all tokens, (M, K, m, K, m)."""
    M, K, m = operators_shape(clf)
    total, products, n = np.zeros((M, K * m)), np.zeros((M, K * m, K * m)), 0
    for _, spaces in iter_spaces(clf, texts):
        concepts = spaces.concepts.flatten(2).double().numpy()  # (n_tokens, M, K * m)
        total += concepts.sum(0)
        products += np.einsum("tmi,tmj->mij", concepts, concepts, optimize=True)
        n += len(concepts)
    mean = total / max(n, 1)
    return (products / max(n, 1) - mean[:, :, None] * mean[:, None, :]).reshape(M, K, m, K, m)


def _effective_rank(covariance: NDArray[np.float64]) -> float:
    """Perplexity of the singular values, normalised to sum to 1."""
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 0, None))
    if singular.sum() < 1e-9:
        return 0.0
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
