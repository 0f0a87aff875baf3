"""The bias view: which words pull between two classes, and for whom a classifier errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from skspace._model.concept_operators import Spaces
from skspace.inspection._classifier_access import (
    check_count,
    check_texts_for,
    check_y,
    class_index,
    pandas,
    token_terms,
)
from skspace.inspection._contributions import TokenContributions, token_contributions
from skspace.inspection._occurrences import find_occurrences, word_values

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["GroupErrors", "Polarization", "group_errors", "polarization"]


@dataclass(frozen=True, repr=False, eq=False)
class Polarization:
    """To which of two classes each word pulls, in the mean over its occurrences.

    Attributes
    ----------
    label, other : label
    words : list of str of length n_words
        Without case; those that pull to `label` most come first.
    counts : ndarray of int64 of shape (n_words,)
    contributions : ndarray of shape (n_words,)
        Contribution to the logit of `label` minus that to `other`'s: exact, and what decides.
    alignments : ndarray of shape (n_words,)
        Mean context attribution in the space of `label` minus that in the space of `other`, halved, in [-1, 1]: the
        same token in both spaces. Axes speak for their own class by construction, but only a positive
        ``inter_space_weight`` teaches a space to be positive on its own texts.
    examples : list of str of length n_words
        The occurrence that pulls most to the side where the word stands.
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
        """A pandas data frame, a row a word."""
        names = ["words", "counts", "contributions", "alignments", "examples"]
        return pandas().DataFrame({name.removesuffix("s"): getattr(self, name) for name in names})


def polarization(clf: Any, texts: Any, label: Any, other: Any, *, min_count: int = 3) -> Polarization:
    """Tell for every word to which of two classes it pulls.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    label, other : label
        Two different classes.
    min_count : int, default=3
        Words that occur less often are left out.

    Returns
    -------
    Polarization

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier or was fitted on vectors; if `texts` are none.
    ValueError
        If there is no such class, both are the same, min_count is no int of at least 1, or no word occurs so often.
    sklearn.exceptions.NotFittedError
    """
    texts = check_texts_for(clf, texts)
    one, two = class_index(clf.classes_, label), class_index(clf.classes_, other, "other")
    if one == two:
        raise ValueError(f"label and other must be two classes. Got {label!r} twice.")
    found = find_occurrences(clf, texts, min_count)

    def pull(spaces: Spaces) -> NDArray[np.float64]:
        terms = token_terms(clf, spaces)
        return (terms[:, one] - terms[:, two])[:, None]

    def alignment(spaces: Spaces) -> NDArray[np.float64]:
        of_space = spaces.concepts.double().numpy().mean((1, 3))  # (n_tokens, K)
        return (of_space[:, one] - of_space[:, two])[:, None] / 2

    pulls = word_values(clf, found, pull, 1, mean_of_pieces=False)
    alignments = word_values(clf, found, alignment, 1, mean_of_pieces=True)
    order = np.argsort(-pulls.mean[:, 0], kind="stable")
    extreme = np.where(pulls.mean[:, 0] > 0, pulls.highest[:, 0], pulls.lowest[:, 0])
    return Polarization(
        label,
        other,
        [found.words[i] for i in order],
        found.counts[order],
        pulls.mean[order, 0],
        alignments.mean[order, 0],
        [found.example(extreme[i]) for i in order],
    )


class GroupErrors(NamedTuple):
    """How often a classifier errs on the texts of a group.

    Attributes
    ----------
    group : str
        "(all)" for all texts.
    n_texts, n_negative, n_positive : int
        How many there are, and how many of them are negative and positive in truth.
    false_positive_rate : float
        Of the negative ones, the share that was predicted positive; NaN where there is none.
    false_positive_interval : (float, float)
        95%, Wilson.
    false_negative_rate : float
    false_negative_interval : (float, float)
    drivers : list of (str, float)
        The words that made false positives: what each contributed to the predicted class's logit beyond the true
        class's, summed over the group's false positives and divided by their number.
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
    """Compare the errors of a classifier between groups of texts, and name the words behind its false alarms.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts with one label each.
    texts : sequence of str of length n_texts
        Not those of the fit.
    y : array-like of shape (n_texts,)
        True labels.
    groups : mapping of str to array-like of bool of shape (n_texts,), or a data frame of bools
        Which texts belong to which group, the people they speak of, say; a text may belong to several.
    positive : label or list of labels
        Which labels count as an alarm, ``["hatespeech", "offensive"]``. The others are negative.
    top : int, default=5
        Words that are named a group, at most.

    Returns
    -------
    list of GroupErrors
        All texts first, then the groups in their order.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier or was fitted on vectors, or `groups` is no mapping.
    ValueError
        If y or a group has another length, a label is unknown, `positive` leaves no label on either side, top is no
        int of at least 1, or a text may have several labels.
    sklearn.exceptions.NotFittedError

    Notes
    -----
    Rates over few texts say little: read the intervals. A difference between groups may lie in the annotators' labels
    as well as in the classifier.
    """
    texts = check_texts_for(clf, texts)
    if clf._multilabel:
        raise ValueError("group_errors needs a classifier with one label a text. Got one with several.")
    alarm = np.zeros(len(clf.classes_), bool)
    alarm[[class_index(clf.classes_, label, "positive") for label in _as_list(positive)]] = True
    if alarm.all() or not alarm.any():
        raise ValueError(
            f"positive must name some of the classes {clf.classes_.tolist()} and not all. Got {positive!r}."
        )
    check_count(top, "top")
    true = np.array([class_index(clf.classes_, label, "y") for label in check_y(y, len(texts))])
    members = [("(all)", np.ones(len(texts), bool)), *_check_groups(groups, len(texts))]
    explanations = token_contributions(clf, texts)
    predicted = np.array([int(one.logits.argmax()) for one in explanations])
    return [_errors_of(name, mask, true, predicted, alarm, explanations, top) for name, mask in members]


def _as_list(positive: Any) -> list[Any]:
    return [positive] if isinstance(positive, str) or not hasattr(positive, "__iter__") else list(positive)


def _check_groups(groups: Any, n_texts: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if not isinstance(groups, Mapping) and not hasattr(groups, "columns"):
        raise TypeError(
            "groups must map the names of groups to arrays of bool, or be a data frame of such columns. Got "
            f"{type(groups).__name__} instead."
        )
    names = groups.columns if hasattr(groups, "columns") else groups
    checked = []
    for name in names:
        mask = np.asarray(groups[name])
        if mask.shape != (n_texts,) or not all(isinstance(x, (int, float)) and x in (0, 1) for x in mask.tolist()):
            raise ValueError(
                f"groups[{name!r}] must say True or False for each of the {n_texts} texts. Got an array of shape "
                f"{mask.shape} and type {mask.dtype} instead."
            )
        checked.append((str(name), mask.astype(bool)))
    return checked


def _errors_of(
    name: str,
    mask: NDArray[np.bool_],
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    alarm: NDArray[np.bool_],
    explanations: list[TokenContributions],
    top: int,
) -> GroupErrors:
    negative, positive = mask & ~alarm[true], mask & alarm[true]
    false_alarms = np.flatnonzero(negative & alarm[predicted])
    n_missed = int((positive & ~alarm[predicted]).sum())
    return GroupErrors(
        name,
        int(mask.sum()),
        int(negative.sum()),
        int(positive.sum()),
        *_rate(len(false_alarms), int(negative.sum())),
        *_rate(n_missed, int(positive.sum())),
        _drivers([explanations[i] for i in false_alarms], true[false_alarms], predicted[false_alarms], top),
    )


def _rate(k: int, n: int) -> tuple[float, tuple[float, float]]:
    if n == 0:
        return float("nan"), (0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return k / n, (float(interval.low), float(interval.high))


def _drivers(
    explanations: list[TokenContributions], true: NDArray[np.int64], predicted: NDArray[np.int64], top: int
) -> list[tuple[str, float]]:
    total: dict[str, float] = {}
    for one, right, wrong in zip(explanations, true, predicted, strict=True):
        words = one.words()
        beyond = words.contributions[:, wrong] - words.contributions[:, right]
        for word, (begin, end), value in zip(words.tokens, words.spans, beyond, strict=True):
            if begin < end:
                total[word.casefold()] = total.get(word.casefold(), 0.0) + float(value)
    ordered = sorted(total.items(), key=lambda pair: -pair[1])[:top]
    return [(word, value / len(explanations)) for word, value in ordered if value > 0]
