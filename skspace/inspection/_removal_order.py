"""The order in which removing words makes a label least likely.

The effect of a removal is estimated in closed form from the pooling, or measured by encoding the text without the word.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skspace.inspection._checks import check_count, class_index
from skspace.inspection._classifier_access import LinearHead, check_texts_for, is_multilabel, linear_head
from skspace.inspection._pooled_words import PooledWords, centroids, check_parts, pooled_words
from skspace.inspection._tables import span_frame
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["RemovalOrder", "removal_order"]

# The vectors of a word's neighbours depend on it, so its removal costs more than its own contribution: this share of it
# once more. Chosen on HateXplain's validation split (examples/benchmarks/bench_explanations.md).
_NEIGHBOUR_SHARE = 0.5
_TEXTS_PER_BATCH = 64
_MAX_NUMBERS = 2**17  # in a padded batch of word sums, so that they fit a core's cache


@dataclass(frozen=True, repr=False, eq=False)
class RemovalOrder:
    """The words of one text in the order in which their removal makes a label least likely.

    Attributes
    ----------
    text : str
        The text.
    label : label
        The class whose probability is lowered.
    words : list of str of length n_words
        The removal of the first lowers the probability most, that of the second most after that, and so on.
    spans : list of (int, int)
        Begin and end of each word, in characters.
    probabilities : ndarray of shape (n_words + 1,)
        Probability of the label for the whole text, then after each removal.
    n_to_flip : int or None
        Number of removals after which the label is no longer predicted. 0 if it was not predicted for the whole text,
        None if it is always predicted.
    n_exact : int
        Number of removals whose probabilities the classifier computed on the text without these words. Later
        probabilities, and a later `n_to_flip`, are estimates.
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
        """A pandas data frame with one row per word, in order of removal.

        The index has the levels word, begin and end; the one column is the probability after the removal.
        """
        column = self.probabilities[1:, None]
        return span_frame("word", self.words, self.spans, column, np.array(["probability"]))


def removal_order(
    clf: Any,
    texts: Any,
    spans: Sequence[Sequence[Span]] | None = None,
    *,
    label: Any = None,
    n_candidates: int = 0,
    n_read: int | None = None,
) -> list[RemovalOrder]:
    """Find the order in which removing words makes a label least likely.

    Each step removes the word without which the label is least likely. By default this is estimated in closed form, as
    in `left_out`, plus half of the word's contribution for its effect on the vectors of its neighbours. The factor was
    chosen on HateXplain. Cached texts are not encoded again. Time grows with the square of the number of words and of
    classes.

    With `n_candidates`, each step encodes the text without each of the words with the largest estimated effect, and
    removes the one with the largest measured effect. These probabilities are the classifier's own, and the measurements
    correct later estimates. For each text, `n_candidates` variants per step are encoded; they are not cached.

    Among this package's explanations, the first words of this order change HateXplain's predictions most when erased
    (examples/benchmarks/bench_explanations.md).

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    spans : sequence of length n_texts of sequences of (int, int), default=None
        As in `left_out`.
    label : label, default=None
        One of ``clf.classes_``. None means the most likely class of each text.
    n_candidates : int, default=0
        Number of words to try at each step by encoding the text without them. 0 encodes no variants. Variants of a
        truncated text omit the part that the model did not read.
    n_read : int, default=None
        Number of steps that encode variants; later words follow the estimates. None encodes at every step. The first
        steps matter most: on HateXplain, 3 steps reach about half of the gain of all steps, 5 steps two thirds.

    Returns
    -------
    list of RemovalOrder
        One per text.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As `left_out`. Also ValueError if the label is not a class, or if `n_candidates` or `n_read` is not an int of at
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
    target = None if label is None else class_index(clf.classes_, label)
    check_count(n_candidates, "n_candidates", 0)
    if n_read is not None:
        check_count(n_read, "n_read", 0)
    n_steps = 0 if n_candidates == 0 else sys.maxsize if n_read is None else int(n_read)
    whole_texts = pooled_words(clf, texts, check_parts(texts, spans))
    head, multilabel = linear_head(clf), is_multilabel(clf)
    result = []
    while batch := [_Removal(head, multilabel, whole, target) for whole in islice(whole_texts, _TEXTS_PER_BATCH)]:
        for _ in range(n_steps):
            if not any(removal.remaining for removal in batch):
                break
            _remove_by_encoding(clf, batch, int(n_candidates))
        _remove_by_estimate(batch)
        result += [removal.result(clf.classes_) for removal in batch]
    return result


class _Removal:
    """State of one text while its order is found.

    Attributes
    ----------
    target : int
        Index of the class whose probability is lowered.
    current : PooledWords
        The text as it was last encoded.
    remaining : list of int
        Indices of the words of `current` that are not yet removed.
    spans : list of (int, int)
        Spans of the words of `current` in the original text.
    removed : list of (int, int)
        Spans of the removed words in the original text.
    logits : list of ndarray of shape (n_classes,)
        Logits of the whole text, then after each removal.
    corrections : ndarray of shape (n_words, n_classes)
        Estimated minus measured logits, for words that were tried.
    side_effects : ndarray of shape (n_words, n_classes)
        Logits lost with each word besides those of its own vectors.
    """

    def __init__(self, head: LinearHead, multilabel: bool, whole: PooledWords, target: int | None) -> None:
        self.head, self.multilabel = head, multilabel
        self.target = int(whole.logits.argmax()) if target is None else target
        self.text, self.spans = whole.text, list(whole.words)
        self.removed, self.logits, self.n_exact = list[Span](), [whole.logits], 0
        self._update(whole._replace(text=whole.text[: whole.end]), np.zeros((len(whole.words), len(head.intercept))))

    def _update(self, current: PooledWords, corrections: NDArray[np.float64]) -> None:
        self.current, self.corrections = current, corrections
        self.remaining = list(range(len(current.words)))
        self.side_effects = _NEIGHBOUR_SHARE * self.head.apply(current.pooled.word_total) + corrections

    def estimates(self, words: Sequence[int]) -> NDArray[np.float64]:
        """Estimated logits without each of these words alone, (n_words, K)."""
        without = self.head.apply(self.current.pooled.without(words)) + self.head.intercept
        return without - self.side_effects[words]

    def odds(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log odds of the target class, (n,), from logits (n, K)."""
        return logits[:, self.target] if self.multilabel else _log_odds(logits, np.full(len(logits), self.target))

    def remove(self, word: int, logits: NDArray[np.float64]) -> None:
        self.removed.append(self.spans[word])
        self.logits.append(logits)

    def candidates(self, n: int) -> list[int]:
        """The `n` remaining words with the largest estimated effect."""
        odds = self.odds(self.estimates(self.remaining))
        return np.argsort(odds, kind="stable")[:n].tolist()

    def remove_best(self, variants: dict[int, PooledWords]) -> None:
        """Remove the word with the largest measured effect; `variants` maps words to the text without them."""
        words = list(variants)
        measured = np.stack([variant.logits for variant in variants.values()])  # (n_variants, K)
        corrections = self.corrections.copy()
        corrections[words] += self.estimates(words) - measured
        word = words[int(self.odds(measured).argmin())]
        self.remove(word, variants[word].logits)
        del self.spans[word]
        self._update(variants[word], np.delete(corrections, word, axis=0))
        self.n_exact += 1

    def result(self, classes: NDArray[Any]) -> RemovalOrder:
        logits = np.stack(self.logits)
        flipped = logits[:, self.target] <= 0 if self.multilabel else logits.argmax(1) != self.target
        return RemovalOrder(
            self.text,
            classes.tolist()[self.target],
            [self.text[begin:end] for begin, end in self.removed],
            self.removed,
            expit(self.odds(logits)),
            int(flipped.argmax()) if flipped.any() else None,
            self.n_exact,
        )


def _log_odds(logits: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log odds of one class per row, (n,), from logits (n, K)."""
    rows = np.arange(len(logits))
    others = logits.copy()
    others[rows, targets] = -np.inf
    return logits[rows, targets] - np.logaddexp.reduce(others, axis=1)


# ---------------------------------------------------------------- batches of texts


def _remove_by_estimate(removals: list[_Removal]) -> None:
    """Remove all remaining words, with several texts of similar length in one batch."""
    waiting = sorted((removal for removal in removals if removal.remaining), key=lambda removal: len(removal.remaining))
    while waiting:
        longest = waiting[-1]
        n = max(1, _MAX_NUMBERS // (len(longest.remaining) * longest.current.pooled.total.size))
        _remove_in_batch(waiting[: -n - 1 : -1])
        del waiting[-n:]


def _remove_in_batch(batch: list[_Removal]) -> None:
    """Remove all remaining words of texts that are sorted from many words to few.

    The last word of a text moves to the position of the removed one, so that the remaining words lie side by side.
    """
    head, multilabel = batch[0].head, batch[0].multilabel
    targets = np.array([removal.target for removal in batch])
    n_words = np.array([len(removal.remaining) for removal in batch])
    words = _padded([np.array(removal.remaining) for removal in batch])  # (n, W)
    word_total, word_weight = (
        _padded([getattr(removal.current.pooled, name)[removal.remaining] for removal in batch])
        for name in ("word_total", "word_weight")
    )  # (n, W, M, K, m) both, or the second (n, W, 1, 1, 1)
    side_effects = _padded([removal.side_effects[removal.remaining] for removal in batch])  # (n, W, K)
    total, weight = (
        np.stack([getattr(removal.current.pooled, name) for removal in batch]) for name in ("total", "weight")
    )
    lost = np.zeros((len(batch), len(head.intercept)))  # sum of the side effects of the removed words
    for step in range(n_words[0]):
        n, width = np.count_nonzero(n_words > step), n_words[0] - step
        rows, last = np.arange(n), n_words[:n] - step - 1
        without = centroids(total[:n, None] - word_total[:n, :width], weight[:n, None] - word_weight[:n, :width])
        logits = head.apply(without.reshape(n * width, *without.shape[2:])).reshape(n, width, -1)
        logits += head.intercept - lost[:n, None] - side_effects[:n, :width]
        if multilabel:
            odds = logits[rows, :, targets[:n]]  # (n, width)
        else:
            odds = _log_odds(logits.reshape(n * width, -1), np.repeat(targets[:n], width)).reshape(n, width)
        odds[np.arange(width) > last[:, None]] = np.inf
        least = odds.argmin(1)
        # Fancy indexing copies: a view would keep the logits of all other words in memory.
        for removal, word, text_logits in zip(batch, words[rows, least].tolist(), logits[rows, least], strict=False):
            removal.remove(word, text_logits)
        total[:n] -= word_total[rows, least]
        weight[:n] -= word_weight[rows, least]
        lost[:n] += side_effects[rows, least]
        for array in (words, word_total, word_weight, side_effects):
            array[rows, least] = array[rows, last]


def _padded(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays (n_words, …) stacked to (n, W, …) with zeros at the end; the first array is the longest."""
    padded = np.zeros((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


def _remove_by_encoding(clf: Any, removals: list[_Removal], n_candidates: int) -> None:
    """Remove one word from each text; the variants of all texts are encoded together."""
    tried = [
        (removal, word, *_without_word(removal.current.text, removal.current.words, word))
        for removal in removals
        if removal.remaining
        for word in removal.candidates(n_candidates)
    ]
    encoded = pooled_words(clf, [text for *_, text, _ in tried], [spans for *_, spans in tried], edited=True)
    variants: dict[_Removal, dict[int, PooledWords]] = {}
    for (removal, word, *_), variant in zip(tried, encoded, strict=True):
        variants.setdefault(removal, {})[word] = variant
    for removal, text_variants in variants.items():
        removal.remove_best(text_variants)


def _without_word(text: str, spans: list[Span], word: int) -> tuple[str, list[Span]]:
    """The text without a word, and the spans of the others in it; of spaces on both sides, one is removed too."""
    begin, end = spans[word]
    others = spans[:word] + spans[word + 1 :]
    before, after = text[:begin], text[end:]
    if (not before or before[-1].isspace()) and after[:1].isspace() and all(other != end for other, _ in others):
        after = after[1:]
    elif not after and before[-1:].isspace() and all(other != begin for _, other in others):
        before = before[:-1]
    shift = len(text) - len(before) - len(after)
    return before + after, [(b, e) if e <= begin else (b - shift, e - shift) for b, e in others]
