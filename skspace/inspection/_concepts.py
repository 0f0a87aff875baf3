"""Concepts named: the words that push the axes of the spaces, and how the spaces lie to each other."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skspace._model.concept_operators import Spaces
from skspace.inspection._classifier_access import (
    check_count,
    check_place,
    check_texts_for,
    class_index,
    pandas,
    read,
    token_terms,
)
from skspace.inspection._occurrences import Occurrences, WordValues, find_occurrences, word_values

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ConceptTokens", "ConceptWord", "SpaceGeometry", "concept_tokens", "space_geometry"]


@dataclass(frozen=True)
class ConceptWord:
    """A word and what it does.

    Attributes
    ----------
    word : str
        Without case.
    count : int
        How often it occurs.
    value : float
        What it adds in the mean over its occurrences: for an axis to the text's centroid there, its activation times
        its attention; for a class to the class's logit.
    example : str
        The occurrence that adds most, marked «so», with what stands around it.
    activation : float or None
        For an axis its mean activation, in [-1, 1]; None for a class. Near 1 for many words, of which few have the
        attention.
    """

    word: str
    count: int
    value: float
    example: str
    activation: float | None


@dataclass(frozen=True, repr=False, eq=False)
class ConceptTokens:
    """The words that push each axis of each space, and each class, most.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    n_latent, n_members, n_texts : int
    weights : ndarray of shape (n_members, n_classes, n_latent)
        What an axis at 1 throughout adds to its own class's logit. An axis of little weight means little, whatever its
        words.
    top : int
        Words kept a list, at most.
    """

    classes: NDArray[Any]
    n_latent: int
    n_members: int
    n_texts: int
    weights: NDArray[np.float64]
    top: int
    _of_axis: dict[tuple[int, int, int, str], list[ConceptWord]]
    _of_class: dict[tuple[int, str], list[ConceptWord]]

    def __repr__(self) -> str:
        return (
            f"<ConceptTokens: {len(self.classes)} classes, {self.n_members} members, {self.n_latent} axes each; from "
            f"{self.n_texts} texts>"
        )

    def axis(self, label: Any, axis: int = 0, *, member: int = 0, end: str = "+") -> list[ConceptWord]:
        """The words that push an axis most to one end, first the one that does most.

        Parameters
        ----------
        label : label
            Whose space.
        axis : int, default=0
        member : int, default=0
        end : {"+", "-"}, default="+"
            The axis speaks for its own class at "+" (where the head is linear, by `weights`).

        Raises
        ------
        ValueError
            If there is no such class, axis, member or end.
        """
        column = class_index(self.classes, label)
        axis, member = check_place(axis, "axis", self.n_latent), check_place(member, "member", self.n_members)
        return self._of_axis[member, column, axis, _end(end)]

    def summary(self, label: Any, *, end: str = "+") -> list[ConceptWord]:
        """The words that speak most for a class ("+") or against it ("-"), all members, spaces and axes together."""
        return self._of_class[class_index(self.classes, label), _end(end)]

    def to_frame(self) -> DataFrame:
        """A pandas data frame, a row a word of a list.

        Columns: class, member, axis (both -1 for the class's own summary), weight, end, rank, word, count, value,
        example, activation.
        """
        rows = [
            (self.classes[column], -1, -1, float("nan"), end, rank, *astuple(word))
            for (column, end), words in self._of_class.items()
            for rank, word in enumerate(words)
        ]
        rows += [
            (self.classes[column], member, axis, self.weights[member, column, axis], end, rank, *astuple(word))
            for (member, column, axis, end), words in self._of_axis.items()
            for rank, word in enumerate(words)
        ]
        names = ["class", "member", "axis", "weight", "end", "rank", "word", "count", "value", "example"]
        return pandas().DataFrame(rows, columns=[*names, "activation"])


def concept_tokens(clf: Any, texts: Any, *, top: int = 10, min_count: int = 3) -> ConceptTokens:
    """Name the concepts: for every space and latent axis the words that push it most.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
        Where to look for words; the training texts, say.
    top : int, default=10
        Words a list, at most.
    min_count : int, default=3
        Words that occur less often are left out: of the many rare ones, some always lie at an end by chance.

    Returns
    -------
    ConceptTokens

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier or was fitted on vectors; if `texts` are none.
    ValueError
        If top or min_count is no int of at least 1, or no word occurs so often.
    sklearn.exceptions.NotFittedError

    Notes
    -----
    The activation of a word on axis j of space k is its context attribution ``C_k[t, j]`` (`skspace.ConceptOperators`),
    averaged over its pieces and occurrences. What it adds to the centroid is ``alpha_t[k, j] C_k[t, j]``, and to a
    class its contribution; both are summed over its pieces, and averaged over its occurrences. Members learn their axes
    independently: axis 0 of one has nothing to do with axis 0 of another.
    """
    texts = check_texts_for(clf, texts)
    check_count(top, "top")
    found = find_occurrences(clf, texts, min_count)
    operators = clf.operators_
    shape = operators.n_members, operators.n_classes, operators.n_latent
    n_axes = math.prod(shape)
    activations = word_values(clf, found, _activations, n_axes, mean_of_pieces=True)
    # To the axes, then to the classes: one pass over the texts for both.
    added = word_values(clf, found, partial(_added, clf), n_axes + shape[1], mean_of_pieces=False)
    of_axis = {
        (*place, end): _farthest(found, added, column, end, top, activations)
        for column, place in enumerate(np.ndindex(shape))
        for end in "+-"
    }
    of_class = {
        (column, end): _farthest(found, added, n_axes + column, end, top) for column in range(shape[1]) for end in "+-"
    }
    own = np.arange(shape[1])
    weights = clf.coef_.astype(np.float64).reshape(*shape[:2], *shape[1:])[:, own, own]  # (M, K, m)
    return ConceptTokens(clf.classes_, shape[2], shape[0], len(texts), weights, int(top), of_axis, of_class)


def _activations(spaces: Spaces) -> NDArray[Any]:
    return spaces.concepts.flatten(1).numpy()


def _added(clf: Any, spaces: Spaces) -> NDArray[Any]:
    return np.hstack([(spaces.attention * spaces.concepts).flatten(1).numpy(), token_terms(clf, spaces)])


def _farthest(
    found: Occurrences,
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
            found.words[i],
            int(found.counts[i]),
            float(mean[i]),
            found.example(extreme[i, column]),
            None if activations is None else float(activations.mean[i, column]),
        )
        for i in order
        if sign * mean[i] > 0
    ]


def _end(end: str) -> str:
    if not isinstance(end, str) or end not in ("+", "-"):
        raise ValueError(f"The 'end' parameter must be '+' or '-'. Got {end!r} instead.")
    return end


# ---------------------------------------------------------------- spaces beside each other


@dataclass(frozen=True, repr=False, eq=False)
class SpaceGeometry:
    """How the spaces of a classifier lie to each other on some texts.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    distances : ndarray of shape (n_classes, n_classes)
        From 0 (two spaces order the tokens alike, but for rotation and size) to 1 (what one says tells nothing of the
        other): one minus the linear centred kernel alignment of Kornblith et al. (2019) of their context attributions,
        averaged over the members.
    effective_ranks : ndarray of shape (n_classes,)
        How many axes of a space are in use, from 1 (all say the same) to n_latent (each says its own, equally loud):
        the effective rank of Roy and Vetterli (2007) of the centred context attributions, averaged over the members;
        0 where nothing varies.
    """

    classes: NDArray[Any]
    distances: NDArray[np.float64]
    effective_ranks: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"<SpaceGeometry: {len(self.classes)} spaces, effective ranks around {self.effective_ranks.mean():.1f}>"

    def to_frame(self) -> DataFrame:
        """A pandas data frame: a row a class, its effective rank and its distances."""
        labels = self.classes.tolist()
        frame = pandas().DataFrame(self.distances, index=labels, columns=labels)
        frame.insert(0, "effective rank", self.effective_ranks, allow_duplicates=True)  # a class may be named so
        return frame


def space_geometry(clf: Any, texts: Any) -> SpaceGeometry:
    """Tell whether concepts are disjoint: distances between spaces, and how many axes of each are in use.

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
        If `clf` is no SpaceClassifier or was fitted on vectors; if `texts` are none.
    sklearn.exceptions.NotFittedError
    """
    texts = check_texts_for(clf, texts)
    covariance = _covariance(clf, texts)  # (M, K, m, K, m)
    cross = np.square(covariance).sum((2, 4))  # (M, K, K), squared Frobenius norms
    own = np.sqrt(np.einsum("mkk->mk", cross))
    with np.errstate(invalid="ignore"):
        alignment = cross / (own[:, :, None] * own[:, None, :])
    blocks = np.einsum("mkikj->mkij", covariance)
    ranks = [[_effective_rank(block) for block in member] for member in blocks]
    distances = np.clip(1 - np.nan_to_num(alignment), 0, 1).mean(0)
    np.fill_diagonal(distances, 0.0)
    return SpaceGeometry(clf.classes_, distances, np.mean(ranks, axis=0))


def _covariance(clf: Any, texts: list[str]) -> NDArray[np.float64]:
    """Of the context attributions over all tokens, (M, K, m, K, m)."""
    operators = clf.operators_
    M, K, m = operators.n_members, operators.n_classes, operators.n_latent
    total, products, n = np.zeros((M, K * m)), np.zeros((M, K * m, K * m)), 0
    for _, spaces in read(clf, texts):
        concepts = spaces.concepts.flatten(2).double().numpy()  # (n_tokens, M, K * m)
        total += concepts.sum(0)
        products += np.einsum("tmi,tmj->mij", concepts, concepts, optimize=True)
        n += len(concepts)
    mean = total / max(n, 1)
    return (products / max(n, 1) - mean[:, :, None] * mean[:, None, :]).reshape(M, K, m, K, m)


def _effective_rank(covariance: NDArray[np.float64]) -> float:
    """Perplexity of the singular values, taken as shares of their sum."""
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 0, None))
    if singular.sum() < 1e-9:
        return 0.0
    share = singular[singular > 0] / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
