"""What the logits lose without words, one at a time or one after another.

Words are left out of the pooling, in closed form, from the attention that is there; nothing is encoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skspace.inspection._reading import (
    check_texts_for,
    class_index,
    frame_of_spans,
    largest,
    read,
    tokenized,
)
from skspace.inspection._words import Span, check_spans, spans_of_tokens, word_spans

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LeftOut", "RemovalOrder", "left_out", "removal_order"]

_NOTHING_LEFT = 1e-12  # of the pooling's weights
# How much of a word's contribution goes with it out of its neighbours' vectors, which have seen it. Chosen on posts of
# HateXplain's validation split (examples/benchmarks/bench_explanations.md).
_IN_NEIGHBOURS = 0.5


@dataclass(frozen=True, repr=False, eq=False)
class LeftOut:
    """What the logits of one text lose when a word is left out of the pooling.

    The losses of the words do not add up to the logits, unlike `TokenContributions`: where two words say the same, each
    alone is missed little. The vectors of the other words stay as they are, and have seen the word.

    Attributes
    ----------
    text : str
    words : list of str of length n_words
        As they stand in the text.
    spans : list of (int, int)
        Where each stands, in characters.
    losses : ndarray of shape (n_words, n_classes)
        Logit of the text minus logit without the word: what is positive speaks for the class.
    logits : ndarray of shape (n_classes,)
        Of the whole text.
    classes : ndarray of shape (n_classes,)
    """

    text: str
    words: list[str]
    spans: list[Span]
    losses: NDArray[np.float64]
    logits: NDArray[np.float64]
    classes: NDArray[Any]

    def __repr__(self) -> str:
        return f"<LeftOut: {len(self.words)} words, {len(self.classes)} classes>"

    def top(self, label: Any, n: int = 5) -> list[tuple[str, float]]:
        """The words without which the logit of `label` loses most, with what it loses, largest first.

        Parameters
        ----------
        label : label
            One of `classes`.
        n : int, default=5
            So many at most; words without which it gains are left out.

        Raises
        ------
        ValueError
            If there is no such label, or n is no int of at least 1.
        """
        return largest(self.words, self.losses, self.classes, label, n)

    def to_frame(self) -> DataFrame:
        """A pandas data frame of the losses: a row a word, named by word, begin and end; a column a class."""
        return frame_of_spans("word", self.words, self.spans, self.losses, self.classes)


def left_out(clf: Any, texts: Any, spans: Sequence[Sequence[Span]] | None = None) -> list[LeftOut]:
    """For every word of texts, what each logit would lose if its vectors were left out of the pooling.

    Exact and without a further pass through the encoder or the operators: with the symbols of
    `skspace.ConceptOperators` the centroid without the tokens S is
    ``(mu - sum_{t in S} alpha_t C_t) / (1 - sum_{t in S} alpha_t)``. It does not replace erasing the word: the vectors
    of the other words are those of the whole text. On HateXplain its losses agreed better with those of erasing than
    contributions did (rank correlation .65 and .58), and were no better in the other measures
    (examples/benchmarks/bench_explanations.md).

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    spans : sequence of length n_texts of sequences of (int, int), default=None
        For each text the parts to leave out, one at a time, in characters; its words, as in
        `TokenContributions.words`, where left out. They must not overlap. Parts without tokens, as behind the place
        where a text was truncated, are passed over; special tokens are never left out.

    Returns
    -------
    list of LeftOut
        One a text.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier, or was fitted on vectors, which have no tokens to name; if `texts` are none.
    ValueError
        If there is not one sequence of spans a text, or a span is empty, lies outside its text or overlaps another.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.

    Examples
    --------
    >>> from skspace import SpaceClassifier
    >>> from skspace.datasets import load_support_messages
    >>> from skspace.inspection import left_out
    >>> messages, labels = load_support_messages(return_X_y=True)
    >>> clf = SpaceClassifier(random_state=0).fit(messages[:300], labels[:300])
    >>> (words,) = left_out(clf, ["where is my parcel"])
    >>> words.top("delivery", 1)[0][0]
    'parcel'
    """
    texts = check_texts_for(clf, texts)
    classes, coef = clf.classes_, clf.coef_.astype(np.float64)  # (K,), (M, K, K * m)
    result = []
    for text, words, pooled, logits in _pooled_words(clf, texts, _parts(texts, spans)):
        losses = _head(pooled.mean() - pooled.without(np.arange(len(words))), coef)  # (n_words, K)
        result.append(LeftOut(text, [text[b:e] for b, e in words], words, losses, logits, classes))
    return result


@dataclass(frozen=True, repr=False, eq=False)
class RemovalOrder:
    """The words of one text in the order in which they have to go for a label to become least likely.

    Attributes
    ----------
    text : str
    label : label
        The class that is asked about.
    words : list of str of length n_words
        The first is the one without which the label is least likely; the second the one that then takes most from it.
    spans : list of (int, int)
        Where each stands in the text, in characters.
    probabilities : ndarray of shape (n_words + 1,)
        Of the label: of the whole text, then estimated after each word that goes.
    n_to_flip : int or None
        After how many words another class is more likely, by the estimate; with several labels a text, the label is no
        longer given. 0 where it is not the answer to begin with, None where it stays.
    """

    text: str
    label: Any
    words: list[str]
    spans: list[Span]
    probabilities: NDArray[np.float64]
    n_to_flip: int | None

    def __repr__(self) -> str:
        return f"<RemovalOrder: {len(self.words)} words, label {self.label!r}>"

    def to_frame(self) -> DataFrame:
        """A pandas data frame: a row a word in this order, named by word, begin and end; the probability without it."""
        column = self.probabilities[1:, None]
        return frame_of_spans("word", self.words, self.spans, column, np.array(["probability"]))


def removal_order(
    clf: Any, texts: Any, spans: Sequence[Sequence[Span]] | None = None, *, label: Any = None
) -> list[RemovalOrder]:
    """In which order the words of texts have to go for a label to become least likely.

    Step by step that word goes which leaves the label least likely, by what the pooling makes of the words that are
    left, in closed form as in `left_out`; and with each word goes half of its contribution once more, which stands for
    what its neighbours' vectors have seen of it. The half was chosen on HateXplain; it makes the probabilities an
    estimate. Of this package's explanations its first words are those whose erasing changes HateXplain's predictions
    most (examples/benchmarks/bench_explanations.md). Nothing is encoded that is in the cache. Time grows with the
    square of the number of words, and of classes.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    spans : sequence of length n_texts of sequences of (int, int), default=None
        As in `left_out`.
    label : label, default=None
        One of ``clf.classes_``; each text's likeliest where left out.

    Returns
    -------
    list of RemovalOrder
        One a text.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As `left_out`; a ValueError too if there is no such label.

    Examples
    --------
    >>> from skspace import SpaceClassifier
    >>> from skspace.datasets import load_support_messages
    >>> from skspace.inspection import removal_order
    >>> messages, labels = load_support_messages(return_X_y=True)
    >>> clf = SpaceClassifier(random_state=0).fit(messages[:300], labels[:300])
    >>> (order,) = removal_order(clf, ["where is my parcel"])
    >>> order.label, order.words[0]
    ('delivery', 'parcel')
    """
    texts = check_texts_for(clf, texts)
    asked = None if label is None else class_index(clf.classes_, label)
    coef, intercept = clf.coef_.astype(np.float64), clf.intercept_.astype(np.float64)  # (M, K, K * m), (K,)
    result = []
    for text, words, pooled, logits in _pooled_words(clf, texts, _parts(texts, spans)):
        own = int(logits.argmax()) if asked is None else asked
        order, margins, flips = _take_out_all(pooled, coef, intercept, logits, own, several=clf._multilabel)
        spans_in_order = [words[i] for i in order]
        result.append(
            RemovalOrder(
                text,
                clf.classes_[own : own + 1].tolist()[0],
                [text[begin:end] for begin, end in spans_in_order],
                spans_in_order,
                expit(np.array(margins)),
                flips.index(True) if True in flips else None,
            )
        )
    return result


def _take_out_all(
    pooled: _Pooled,
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    logits: NDArray[np.float64],
    own: int,
    *,
    several: bool,
) -> tuple[list[int], list[float], list[bool]]:
    """Order of the words; after 0, 1, … of them the log odds of the class `own`, and whether it is not the answer."""
    n = len(pooled.part)
    elsewhere = _IN_NEIGHBOURS * _head(pooled.part, coef)  # (n_words, K)
    order: list[int] = []
    margins, flips = [float(_log_odds(logits[None], own, several=several)[0])], [_flipped(logits, own, several=several)]
    lost = np.zeros_like(intercept)
    remaining = list(range(n))
    while remaining:
        after = _head(pooled.without(remaining), coef) + intercept - lost - elsewhere[remaining]  # (n_remaining, K)
        odds = _log_odds(after, own, several=several)
        least = int(odds.argmin())
        word = remaining.pop(least)
        pooled.take_out(word)
        lost += elsewhere[word]
        order.append(word)
        margins.append(float(odds[least]))
        flips.append(_flipped(after[least], own, several=several))
    return order, margins, flips


def _head(centroids: NDArray[np.float64], coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centroids (n, M, K, m) to sums (n, K), without intercept."""
    return np.einsum("nmf,mkf->nk", centroids.reshape(len(centroids), *coef.shape[::2]), coef)


def _log_odds(logits: NDArray[np.float64], own: int, *, several: bool) -> NDArray[np.float64]:
    """Of the class `own` against all others, (n,); of logits (n, K)."""
    if several:
        return logits[:, own]
    return logits[:, own] - np.logaddexp.reduce(np.delete(logits, own, axis=1), axis=1)


def _flipped(logits: NDArray[np.float64], own: int, *, several: bool) -> bool:
    return bool(logits[own] <= 0) if several else int(logits.argmax()) != own


def _parts(texts: list[str], spans: Any) -> list[list[Span]]:
    if spans is None:
        return [word_spans(text) for text in texts]
    if isinstance(spans, str) or not hasattr(spans, "__len__") or len(spans) != len(texts):
        raise ValueError(
            f"spans must be one sequence of (begin, end) a text, for {len(texts)} texts. Got {spans!r:.200} instead; "
            "of a single text write [spans]."
        )
    return [check_spans(of_text, len(text)) for of_text, text in zip(spans, texts, strict=True)]


class _Pooled:
    """The pooling of one text, from which words can be taken out.

    Sums are those of the same float32 numbers in float64: what is left of a text whose one word has nearly all of the
    attention is right, which 1 minus that word's share would not be.
    """

    def __init__(
        self,
        attention: NDArray[np.float64],  # (n_tokens, M, K, m) or (n_tokens, 1, 1, 1)
        concepts: NDArray[np.float64],  # (n_tokens, M, K, m)
        owner: NDArray[np.int64],  # (n_tokens,), the word of each token, or -1
        kept: NDArray[np.int64],  # the words that have tokens
    ) -> None:
        terms = attention * concepts
        self.rest, self.left = attention.sum(0), terms.sum(0)
        self.share, self.part = _sums(attention, owner, kept), _sums(terms, owner, kept)  # (n_words, …)

    def mean(self) -> NDArray[np.float64]:
        """Centroids of what is left, (M, K, m)."""
        return _mean(self.left, self.rest)

    def without(self, words: Any) -> NDArray[np.float64]:
        """The same without one word each, (n_words, M, K, m)."""
        return _mean(self.left - self.part[words], self.rest - self.share[words])

    def take_out(self, word: int) -> None:
        self.rest, self.left = self.rest - self.share[word], self.left - self.part[word]


def _mean(left: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where nothing is left the centroids are 0, and the logits the intercepts."""
    return np.where(rest > _NOTHING_LEFT, left / np.maximum(rest, _NOTHING_LEFT), 0.0)


def _pooled_words(
    clf: Any, texts: list[str], parts: list[list[Span]]
) -> Iterator[tuple[str, list[Span], _Pooled, NDArray[np.float64]]]:
    """Each text with its words that have tokens, their pooling, and the logits of the whole."""
    named = tokenized(clf, texts)
    for indices, spaces in read(clf, texts):
        logits = spaces.logits.mean(1).double().numpy()
        ends = np.cumsum(spaces.lengths.numpy())[:-1]
        tensors = cast(Any, (spaces.attention, spaces.concepts))  # attention is None in training only
        of_tokens = zip(*(np.split(tensor.double().numpy(), ends) for tensor in tensors), strict=True)
        for row, (i, (attention, concepts)) in enumerate(zip(indices.tolist(), of_tokens, strict=True)):
            reach, owner = spans_of_tokens(named[i].spans, parts[i])
            kept = np.unique(owner[owner >= 0])
            words = [reach[word] for word in kept]
            yield named[i].text, words, _Pooled(attention, concepts, owner, kept), logits[row]


def _sums(values: NDArray[np.float64], owner: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the tokens of each word, (n_words, …)."""
    sums = np.zeros((len(kept), *values.shape[1:]))
    np.add.at(sums, np.searchsorted(kept, owner[owner >= 0]), values[owner >= 0])
    return sums
