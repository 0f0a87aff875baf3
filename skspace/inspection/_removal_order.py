"""In which order words have to go for a label to become least likely.

By the pooling without them, in closed form; or by reading the text again without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skspace.inspection._pooling import Pooled, PooledWords, head, parts_of, pooled_words
from skspace.inspection._reading import check_texts_for, class_index, frame_of_spans
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["RemovalOrder", "removal_order"]

# How much of a word's contribution goes with it out of its neighbours' vectors, which have seen it. Chosen on posts of
# HateXplain's validation split (examples/benchmarks/bench_explanations.md).
_IN_NEIGHBOURS = 0.5
_AT_ONCE = 64  # texts that are read again side by side


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
        Of the label: of the whole text, then after each word that goes.
    n_to_flip : int or None
        After how many words another class is more likely; with several labels a text, the label is no longer given. 0
        where it is not the answer to begin with, None where it stays.
    exact : bool
        Whether probabilities and `n_to_flip` are what the classifier says of the text without the words, or an
        estimate.
    """

    text: str
    label: Any
    words: list[str]
    spans: list[Span]
    probabilities: NDArray[np.float64]
    n_to_flip: int | None
    exact: bool

    def __repr__(self) -> str:
        return f"<RemovalOrder: {len(self.words)} words, label {self.label!r}>"

    def to_frame(self) -> DataFrame:
        """A pandas data frame: a row a word in this order, named by word, begin and end; the probability without it."""
        column = self.probabilities[1:, None]
        return frame_of_spans("word", self.words, self.spans, column, np.array(["probability"]))


def removal_order(
    clf: Any,
    texts: Any,
    spans: Sequence[Sequence[Span]] | None = None,
    *,
    label: Any = None,
    n_candidates: int = 0,
) -> list[RemovalOrder]:
    """In which order the words of texts have to go for a label to become least likely.

    Step by step that word goes which leaves the label least likely, by what the pooling makes of the words that are
    left, in closed form as in `left_out`; and with each word goes half of its contribution once more, which stands for
    what its neighbours' vectors have seen of it. The half was chosen on HateXplain; it makes the probabilities an
    estimate. Nothing is encoded that is in the cache. Time grows with the square of the number of words, and of
    classes.

    With `n_candidates` the text is read again at every step, without each of the words that would take most by that
    estimate, and the one goes that does take most: probabilities are the classifier's own. For each text `n_candidates`
    times its number of words are encoded, and not kept in the cache.

    Of this package's explanations its first words are those whose erasing changes HateXplain's predictions most
    (examples/benchmarks/bench_explanations.md).

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    spans : sequence of length n_texts of sequences of (int, int), default=None
        As in `left_out`.
    label : label, default=None
        One of ``clf.classes_``; each text's likeliest where left out.
    n_candidates : int, default=0
        Words to try at every step, by encoding; 0 encodes nothing. Of a text that was truncated the end that was not
        read stays out of it.

    Returns
    -------
    list of RemovalOrder
        One a text.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As `left_out`; a ValueError too if there is no such label, or `n_candidates` is no int of at least 0.

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
    >>> (order,) = removal_order(clf, ["where is my parcel"], n_candidates=2)
    >>> without = clf.predict_proba(["where is my"])[0][clf.classes_ == order.label]
    >>> bool(np.isclose(order.probabilities[1], without, atol=0.01))
    True
    """
    texts = check_texts_for(clf, texts)
    asked = None if label is None else class_index(clf.classes_, label)
    if not isinstance(n_candidates, (int, np.integer)) or n_candidates < 0:
        raise ValueError(f"n_candidates must be an int of at least 0. Got {n_candidates!r} instead.")
    whole = pooled_words(clf, texts, parts_of(texts, spans))
    if not n_candidates:
        return [_by_estimate(_Removal(clf, words, asked), words) for words in whole]
    result = []
    while some := list(islice(whole, _AT_ONCE)):
        result += _by_reading(clf, [_Removal(clf, words, asked) for words in some], some, int(n_candidates))
    return result


class _Removal:
    """The order of one text while it is found, and what its head makes of what is left.

    Attributes
    ----------
    own : int
        Index of the class that is asked about.
    """

    def __init__(self, clf: Any, whole: PooledWords, asked: int | None) -> None:
        self.coef, self.intercept = clf.coef_.astype(np.float64), clf.intercept_.astype(np.float64)
        self.several, self.classes = clf._multilabel, clf.classes_
        self.own = int(whole.logits.argmax()) if asked is None else asked
        self.text, self.gone = whole.text, list[Span]()
        self.logits = [whole.logits]

    def estimated(self, pooled: Pooled, words: Sequence[int], elsewhere: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits without one of the words each, of which as much is lost `elsewhere`, (n_words, K)."""
        return head(pooled.without(words), self.coef) + self.intercept - elsewhere

    def elsewhere(self, pooled: Pooled) -> NDArray[np.float64]:
        """What the neighbours' vectors lose with every word, (n_words, K)."""
        return _IN_NEIGHBOURS * head(pooled.part, self.coef)

    def odds(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log odds of the class against all others, (n,); of logits (n, K)."""
        if self.several:
            return logits[:, self.own]
        return logits[:, self.own] - np.logaddexp.reduce(np.delete(logits, self.own, axis=1), axis=1)

    def take(self, span: Span, logits: NDArray[np.float64]) -> None:
        """A word has gone, which leaves these logits (K,)."""
        self.gone.append(span)
        self.logits.append(logits)

    def result(self, *, exact: bool) -> RemovalOrder:
        logits = np.stack(self.logits)
        flipped = logits[:, self.own] <= 0 if self.several else logits.argmax(1) != self.own
        return RemovalOrder(
            self.text,
            self.classes[self.own : self.own + 1].tolist()[0],
            [self.text[begin:end] for begin, end in self.gone],
            self.gone,
            expit(self.odds(logits)),
            int(flipped.argmax()) if flipped.any() else None,
            exact,
        )


# ---------------------------------------------------------------- in closed form


def _by_estimate(removal: _Removal, whole: PooledWords) -> RemovalOrder:
    pooled, remaining = whole.pooled, list(range(len(whole.words)))
    elsewhere = removal.elsewhere(pooled)
    lost = np.zeros_like(whole.logits)
    while remaining:
        after = removal.estimated(pooled, remaining, lost + elsewhere[remaining])
        least = int(removal.odds(after).argmin())
        word = remaining.pop(least)
        pooled.take_out(word)
        lost += elsewhere[word]
        removal.take(whole.words[word], after[least])
    return removal.result(exact=False)


# ---------------------------------------------------------------- by reading again


def _by_reading(clf: Any, removals: list[_Removal], texts: list[PooledWords], n_candidates: int) -> list[RemovalOrder]:
    """Of several texts, a step of all at a time, so that there is always much to encode."""
    remaining = [list(text.words) for text in texts]  # where they stand in the text as it was
    now = [text._replace(text=text.text[: text.end]) for text in texts]
    while any(remaining):
        tried = [
            (i, word, *_without(now[i].text, now[i].words, word))
            for i, removal in enumerate(removals)
            for word in _candidates(removal, now[i].pooled, n_candidates)
        ]
        read_again = pooled_words(clf, [text for *_, text, _ in tried], [spans for *_, spans in tried], again=True)
        least: dict[int, tuple[float, int, PooledWords]] = {}
        for (i, word, *_), read in zip(tried, read_again, strict=True):
            odds = float(removals[i].odds(read.logits[None])[0])
            if i not in least or odds < least[i][0]:
                least[i] = odds, word, read
        for i, (_, word, read) in least.items():
            removals[i].take(remaining[i].pop(word), read.logits)
            now[i] = read
    return [removal.result(exact=True) for removal in removals]


def _candidates(removal: _Removal, pooled: Pooled, n: int) -> list[int]:
    """The words without which the label is least likely by the estimate; none where none is left."""
    words = range(len(pooled.part))
    odds = removal.odds(removal.estimated(pooled, words, removal.elsewhere(pooled)))
    return np.argsort(odds, kind="stable")[:n].tolist()


def _without(text: str, spans: list[Span], word: int) -> tuple[str, list[Span]]:
    """The text without a word, and where the others then stand. Of spaces on both sides of it one goes too."""
    begin, end = spans[word]
    others = spans[:word] + spans[word + 1 :]
    before, after = text[:begin], text[end:]
    if (not before or before[-1].isspace()) and after[:1].isspace() and all(b != end for b, _ in others):
        after = after[1:]
    elif not after and before[-1:].isspace() and all(e != begin for _, e in others):
        before = before[:-1]
    shift = len(text) - len(before) - len(after)
    return before + after, [(b, e) if e <= begin else (b - shift, e - shift) for b, e in others]
