"""Bias: words that tip a prediction between two classes, and error rates of groups of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from skspace._model.concept_operators import Spaces
from skspace.inspection._checks import check_count, check_labels, class_index
from skspace.inspection._classifier_access import check_texts_for, is_multilabel, logit_terms
from skspace.inspection._contributions import TokenContributions, token_contributions
from skspace.inspection._occurrences import find_occurrences, word_values
from skspace.inspection._tables import import_pandas

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["GroupErrors", "Polarization", "group_errors", "polarization"]


@dataclass(frozen=True, repr=False, eq=False)
class Polarization:
    """For each word, which of two classes it favours on average over its occurrences.

    Attributes
    ----------
    label, other : label
        The two classes.
    words : list of str of length n_words
        Case-folded, from those that favour `label` most to those that favour `other` most.
    counts : ndarray of int64 of shape (n_words,)
        Number of occurrences.
    contributions : ndarray of shape (n_words,)
        Mean contribution to the logit of `label` minus that to the logit of `other`. It is exact, and it decides the
        prediction.
    alignments : ndarray of shape (n_words,)
        Mean context attribution in the space of `label` minus that in the space of `other`, halved; in [-1, 1]. Axes
        speak for their own class by construction. A space learns to be positive on texts of its own class only with a
        positive ``inter_space_weight``.
    examples : list of str of length n_words
        For each word, the occurrence that favours its class most, with its context.
    """

    label: Any
    other: Any
    words: list[str]
    counts: NDArray[np.int64]
    contributions: NDArray[np.float64]
    alignments: NDArray[np.float64]
    examples: list[str]

    def __repr__(self) -> str:
        return f"<Polarization: {len(self.words)} words between {self.label!r} and {self.other!r}>"

    def to_frame(self) -> DataFrame:
        """A pandas data frame with one row per word."""
        names = ["words", "counts", "contributions", "alignments", "examples"]
        return import_pandas().DataFrame({name.removesuffix("s"): getattr(self, name) for name in names})


def polarization(clf: Any, texts: Any, label: Any, other: Any, *, min_count: int = 3) -> Polarization:
    """Find for every word which of two classes it favours.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    label, other : label
        Two different classes.
    min_count : int, default=3
        Ignore words that occur less often.

    Returns
    -------
    Polarization

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if `texts` contains anything but str.
    ValueError
        If a class does not exist, both classes are the same, `min_count` is not an int of at least 1, or no word occurs
        `min_count` times.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.
    """
    texts = check_texts_for(clf, texts)
    first, second = class_index(clf.classes_, label), class_index(clf.classes_, other, "other")
    if first == second:
        raise ValueError(f"label and other must be two different classes. Got {label!r} twice.")
    occurrences = find_occurrences(clf, texts, min_count)

    def contribution(spaces: Spaces) -> NDArray[np.float64]:
        terms = logit_terms(clf, spaces)
        return (terms[:, first] - terms[:, second])[:, None]

    def alignment(spaces: Spaces) -> NDArray[np.float64]:
        attributions = spaces.concepts.double().numpy().mean((1, 3))  # (n_tokens, K)
        return (attributions[:, first] - attributions[:, second])[:, None] / 2

    contributions = word_values(clf, occurrences, contribution, 1, mean_of_pieces=False)
    alignments = word_values(clf, occurrences, alignment, 1, mean_of_pieces=True)
    order = np.argsort(-contributions.mean[:, 0], kind="stable")
    extreme = np.where(contributions.mean[:, 0] > 0, contributions.highest[:, 0], contributions.lowest[:, 0])
    return Polarization(
        label,
        other,
        [occurrences.words[i] for i in order],
        occurrences.counts[order],
        contributions.mean[order, 0],
        alignments.mean[order, 0],
        [occurrences.example(extreme[i]) for i in order],
    )


class GroupErrors(NamedTuple):
    """Error rates of a classifier on the texts of a group.

    Attributes
    ----------
    group : str
        Name of the group; "(all)" for all texts.
    n_texts, n_negative, n_positive : int
        Number of texts, and of those whose true label is negative or positive.
    false_positive_rate : float
        Share of the negative texts that were predicted positive; NaN without negative texts.
    false_positive_interval : (float, float)
        95% Wilson confidence interval; (0, 1) without negative texts.
    false_negative_rate : float
        Share of the positive texts that were predicted negative; NaN without positive texts.
    false_negative_interval : (float, float)
        95% Wilson confidence interval; (0, 1) without positive texts.
    drivers : list of (str, float)
        The words behind the false positives. The value is a word's contribution to the logit of the predicted class
        minus that to the true class, summed over a text and averaged over the group's false positives.
    """

    group: str
    n_texts: int
    n_negative: int
    n_positive: int
    false_positive_rate: float
    false_positive_interval: tuple[float, float]
    false_negative_rate: float
    false_negative_interval: tuple[float, float]
    drivers: list[tuple[str, float]]


def group_errors(clf: Any, texts: Any, y: Any, groups: Any, *, positive: Any, top: int = 5) -> list[GroupErrors]:
    """Compare error rates between groups of texts, and name the words behind false positives.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts with one label per text.
    texts : sequence of str of length n_texts
        Held-out texts.
    y : array-like of shape (n_texts,)
        True labels.
    groups : mapping of str to array-like of bool of shape (n_texts,), or a data frame of bools
        For each group, which texts belong to it. A text may belong to several groups.
    positive : label or list of labels
        Labels that count as positive, such as ``["hatespeech", "offensive"]``. All others are negative.
    top : int, default=5
        Maximum number of words per group.

    Returns
    -------
    list of GroupErrors
        First for all texts, then for each group in the given order.

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or `groups` is not a mapping.
    ValueError
        If the length of `y` or of a group differs from the number of texts, a label is unknown, `positive` names none
        or all of the classes, `top` is not an int of at least 1, or a text may have several labels.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.

    Notes
    -----
    Rates over few texts are uncertain: read the intervals. A difference between groups may come from the annotators'
    labels as well as from the classifier.
    """
    texts = check_texts_for(clf, texts)
    if is_multilabel(clf):
        raise ValueError("group_errors needs a classifier with one label per text. Got one with several.")
    is_positive = np.zeros(len(clf.classes_), bool)
    is_positive[[class_index(clf.classes_, label, "positive") for label in _as_list(positive)]] = True
    if is_positive.all() or not is_positive.any():
        raise ValueError(
            f"positive must name some but not all of the classes {clf.classes_.tolist()}. Got {positive!r}."
        )
    check_count(top, "top")
    true = np.array([class_index(clf.classes_, label, "y") for label in check_labels(y, len(texts))])
    members = [("(all)", np.ones(len(texts), bool)), *_check_groups(groups, len(texts))]
    explanations = token_contributions(clf, texts)
    predicted = np.array([int(explanation.logits.argmax()) for explanation in explanations])
    return [_group_errors(name, mask, true, predicted, is_positive, explanations, top) for name, mask in members]


def _as_list(positive: Any) -> list[Any]:
    return [positive] if isinstance(positive, str) or not hasattr(positive, "__iter__") else list(positive)


def _check_groups(groups: Any, n_texts: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if not isinstance(groups, Mapping) and not hasattr(groups, "columns"):
        raise TypeError(
            "groups must be a mapping from names to arrays of bool, or a data frame of such columns. Got "
            f"{type(groups).__name__} instead."
        )
    names = groups.columns if hasattr(groups, "columns") else groups
    checked = []
    for name in names:
        mask = np.asarray(groups[name])
        if mask.shape != (n_texts,) or not all(isinstance(x, (int, float)) and x in (0, 1) for x in mask.tolist()):
            raise ValueError(
                f"groups[{name!r}] must be True or False for each of the {n_texts} texts. Got an array of shape "
                f"{mask.shape} and type {mask.dtype} instead."
            )
        checked.append((str(name), mask.astype(bool)))
    return checked


def _group_errors(
    name: str,
    mask: NDArray[np.bool_],
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    is_positive: NDArray[np.bool_],
    explanations: list[TokenContributions],
    top: int,
) -> GroupErrors:
    negative, positive = mask & ~is_positive[true], mask & is_positive[true]
    false_positives = np.flatnonzero(negative & is_positive[predicted])
    n_missed = int((positive & ~is_positive[predicted]).sum())
    return GroupErrors(
        name,
        int(mask.sum()),
        int(negative.sum()),
        int(positive.sum()),
        *_rate_and_interval(len(false_positives), int(negative.sum())),
        *_rate_and_interval(n_missed, int(positive.sum())),
        _drivers([explanations[i] for i in false_positives], true[false_positives], predicted[false_positives], top),
    )


def _rate_and_interval(k: int, n: int) -> tuple[float, tuple[float, float]]:
    if n == 0:
        return float("nan"), (0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return k / n, (float(interval.low), float(interval.high))


def _drivers(
    explanations: list[TokenContributions], true: NDArray[np.int64], predicted: NDArray[np.int64], top: int
) -> list[tuple[str, float]]:
    total: dict[str, float] = {}
    for explanation, right, wrong in zip(explanations, true, predicted, strict=True):
        words = explanation.words()
        surplus = words.contributions[:, wrong] - words.contributions[:, right]
        for word, (begin, end), value in zip(words.tokens, words.spans, surplus, strict=True):
            if begin < end:
                total[word.casefold()] = total.get(word.casefold(), 0.0) + float(value)
    ordered = sorted(total.items(), key=lambda pair: -pair[1])[:top]
    return [(word, value / len(explanations)) for word, value in ordered if value > 0]
