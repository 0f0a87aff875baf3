"""In which order words have to go for a label to become least likely.

By the pooling without them, in closed form; or by reading the text again without them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skspace.inspection._classifier_access import check_texts_for, class_index, frame_of_spans
from skspace.inspection._pooled_words import PooledWords, centroids, head, parts_of, pooled_words
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["RemovalOrder", "removal_order"]

# How much of a word's contribution goes with it out of its neighbours' vectors, which have seen it. Chosen on posts of
# HateXplain's validation split (examples/benchmarks/bench_explanations.md).
_IN_NEIGHBOURS = 0.5
_AT_ONCE = 64  # texts that are read again side by side
_NUMBERS_AT_ONCE = 2**17  # of their words' shares of the centroids: what a core keeps close to itself


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
    n_exact : int
        Up to how many words gone the probabilities are what the classifier says of the text without them; those after
        that, and an `n_to_flip` after that, are estimates.
    """

    text: str
    label: Any
    words: list[str]
    spans: list[Span]
    probabilities: NDArray[np.float64]
    n_to_flip: int | None
    n_exact: int

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
    n_read: int | None = None,
) -> list[RemovalOrder]:
    """In which order the words of texts have to go for a label to become least likely.

    Step by step that word goes which leaves the label least likely, by what the pooling makes of the words that are
    left, in closed form as in `left_out`; and with each word goes half of its contribution once more, which stands for
    what its neighbours' vectors have seen of it. The half was chosen on HateXplain; it makes the probabilities an
    estimate. Nothing is encoded that is in the cache. Time grows with the square of the number of words, and of
    classes.

    With `n_candidates` the text is read again at every step, without each of the words that would take most by that
    estimate, and the one goes that does take most: probabilities are the classifier's own. What reading has shown of
    the other words corrects their estimates. For each text `n_candidates` times its number of words are encoded, or
    times `n_read`, and not kept in the cache.

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
    n_read : int, default=None
        Steps at which the text is read again; the words after those follow by the estimate. None reads at every step.
        Most is lost with the first words: of what reading at every step gains on HateXplain, 3 steps give about half
        and 5 steps two thirds.

    Returns
    -------
    list of RemovalOrder
        One a text.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As `left_out`; a ValueError too if there is no such label, or one of `n_candidates` and `n_read` is no int of at
        least 0.

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
    _check_number("n_candidates", n_candidates)
    if n_read is not None:
        _check_number("n_read", n_read)
    n_steps = 0 if n_candidates == 0 else sys.maxsize if n_read is None else int(n_read)
    whole = pooled_words(clf, texts, parts_of(texts, spans))
    result = []
    answers = _Answers.of(clf)
    while some := [_Removal(answers, words, asked) for words in islice(whole, _AT_ONCE)]:
        for _ in range(n_steps):
            if not any(removal.remaining for removal in some):
                break
            _read_again(clf, some, int(n_candidates))
        _follow_estimates(some)
        result += [removal.result() for removal in some]
    return result


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{name} must be an int of at least 0. Got {value!r} instead.")


class _Answers(NamedTuple):
    """What the classifier makes of centroids."""

    coef: NDArray[np.float64]  # (M, K, K * m)
    intercept: NDArray[np.float64]  # (K,)
    classes: NDArray[Any]
    several: bool  # labels a text

    @classmethod
    def of(cls, clf: Any) -> _Answers:
        return cls(clf.coef_.astype(np.float64), clf.intercept_.astype(np.float64), clf.classes_, clf._multilabel)


class _Removal:
    """The order of one text while it is found.

    Attributes
    ----------
    own : int
        Index of the class that is asked about.
    now : PooledWords
        The text as it was read last.
    remaining : list of int
        Of the words of `now`, those that are still there.
    spans : list of (int, int)
        Where the words of `now` stand in the text as it was.
    gone, logits : lists of (int, int), and of ndarray of shape (n_classes,)
        Where the words stood that have gone; logits of the whole text, and after each of them.
    """

    def __init__(self, answers: _Answers, whole: PooledWords, asked: int | None) -> None:
        self.coef, self.intercept, self.classes, self.several = answers
        self.own = int(whole.logits.argmax()) if asked is None else asked
        self.text, self.spans = whole.text, list(whole.words)
        self.gone, self.logits, self.n_exact = list[Span](), [whole.logits], 0
        self._take_in(whole._replace(text=whole.text[: whole.end]), np.zeros((len(whole.words), len(self.intercept))))

    def _take_in(self, read: PooledWords, corrections: NDArray[np.float64]) -> None:
        self.now, self.corrections = read, corrections  # (n_words, K)
        self.remaining = list(range(len(read.words)))
        # What is lost with every word besides its own vectors, (n_words, K).
        self.elsewhere = _IN_NEIGHBOURS * head(read.pooled.part, self.coef) + corrections

    # ---------------------------------------------------------------- in closed form

    def estimates(self, words: Sequence[int]) -> NDArray[np.float64]:
        """Logits without one of the words each, (n_words, K)."""
        without = head(self.now.pooled.without(words), self.coef) + self.intercept
        return without - self.elsewhere[words]

    def odds(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log odds of the class against all others, (n,); of logits (n, K)."""
        return logits[:, self.own] if self.several else _log_odds(logits, np.full(len(logits), self.own))

    def let_go(self, word: int, logits: NDArray[np.float64]) -> None:
        self.gone.append(self.spans[word])
        self.logits.append(logits)

    # ---------------------------------------------------------------- by reading again

    def candidates(self, n: int) -> list[int]:
        """The words without which the label is least likely by the estimate; none where none is left."""
        odds = self.odds(self.estimates(self.remaining))
        return np.argsort(odds, kind="stable")[:n].tolist()

    def take_best(self, tried: dict[int, PooledWords]) -> None:
        """Of what was read without a word each, take that which leaves the label least likely."""
        found = np.stack([read.logits for read in tried.values()])  # (n_tried, K)
        corrections = self.corrections.copy()
        corrections[list(tried)] += self.estimates(list(tried)) - found
        word, read = list(tried.items())[int(self.odds(found).argmin())]
        self.let_go(word, read.logits)
        del self.spans[word]
        self._take_in(read, np.delete(corrections, word, axis=0))
        self.n_exact += 1

    def result(self) -> RemovalOrder:
        logits = np.stack(self.logits)
        flipped = logits[:, self.own] <= 0 if self.several else logits.argmax(1) != self.own
        return RemovalOrder(
            self.text,
            self.classes[self.own : self.own + 1].tolist()[0],
            [self.text[begin:end] for begin, end in self.gone],
            self.gone,
            expit(self.odds(logits)),
            int(flipped.argmax()) if flipped.any() else None,
            self.n_exact,
        )


def _log_odds(logits: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of a class each against all others, (n,); of logits (n, K)."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, own] = -np.inf
    return logits[rows, own] - np.logaddexp.reduce(others, axis=1)


# ---------------------------------------------------------------- several texts side by side


def _follow_estimates(removals: list[_Removal]) -> None:
    """Let all words go that are left.

    As many texts at a time as keep a core busy with numbers rather than with Python, and no more than lie close to it.
    """
    waiting = sorted((removal for removal in removals if removal.remaining), key=lambda one: len(one.remaining))
    while waiting:
        longest = waiting[-1]
        n = max(1, _NUMBERS_AT_ONCE // (len(longest.remaining) * longest.now.pooled.left.size))
        _follow_side_by_side(waiting[: -n - 1 : -1])
        del waiting[-n:]


def _follow_side_by_side(some: list[_Removal]) -> None:
    """The same of texts whose numbers of words fall. A word that goes leaves its place to the last of its text."""
    coef, intercept, several = some[0].coef, some[0].intercept, some[0].several
    own = np.array([removal.own for removal in some])
    n_words = np.array([len(removal.remaining) for removal in some])
    words = _padded([np.array(removal.remaining) for removal in some])  # (n, W)
    part, share = (
        _padded([getattr(removal.now.pooled, name)[removal.remaining] for removal in some])
        for name in ("part", "share")
    )  # (n, W, M, K, m) both, or the second (n, W, 1, 1, 1)
    elsewhere = _padded([removal.elsewhere[removal.remaining] for removal in some])  # (n, W, K)
    left, rest = (np.stack([getattr(removal.now.pooled, name) for removal in some]) for name in ("left", "rest"))
    lost = np.zeros((len(some), len(intercept)))  # with the words that have gone, besides their own vectors
    for step in range(n_words[0]):
        n, width = np.count_nonzero(n_words > step), n_words[0] - step
        rows, last = np.arange(n), n_words[:n] - step - 1
        without = centroids(left[:n, None] - part[:n, :width], rest[:n, None] - share[:n, :width])
        after = head(without.reshape(n * width, *without.shape[2:]), coef).reshape(n, width, -1)
        after += intercept - lost[:n, None] - elsewhere[:n, :width]
        if several:
            odds = after[rows, :, own[:n]]  # (n, width)
        else:
            odds = _log_odds(after.reshape(n * width, -1), np.repeat(own[:n], width)).reshape(n, width)
        odds[np.arange(width) > last[:, None]] = np.inf
        least = odds.argmin(1)
        # Copies, since a view would keep what all the other words have left alive for as long as the text.
        for removal, word, logits in zip(some, words[rows, least].tolist(), after[rows, least], strict=False):
            removal.let_go(word, logits)
        left[:n] -= part[rows, least]
        rest[:n] -= share[rows, least]
        lost[:n] += elsewhere[rows, least]
        for array in (words, part, share, elsewhere):
            array[rows, least] = array[rows, last]


def _padded(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays (n_words, …) of texts one above the other, (n, the most words, …); the first is the longest."""
    padded = np.zeros((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def _read_again(clf: Any, removals: list[_Removal], n_candidates: int) -> None:
    """One step of several texts, so that there is always much to encode."""
    tried = [
        (removal, word, *_without(removal.now.text, removal.now.words, word))
        for removal in removals
        if removal.remaining
        for word in removal.candidates(n_candidates)
    ]
    read = pooled_words(clf, [text for *_, text, _ in tried], [spans for *_, spans in tried], again=True)
    found: dict[int, dict[int, PooledWords]] = {}
    for (removal, word, *_), without in zip(tried, read, strict=True):
        found.setdefault(id(removal), {})[word] = without
    for removal in removals:
        if id(removal) in found:
            removal.take_best(found[id(removal)])


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
