"""Words over many texts: where each occurs, and what a model makes of it in the mean.

Words that differ in case only are one word. Special tokens are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skspace._model.concept_operators import Spaces
from skspace.inspection._classifier_access import TokenizedText, check_count, read, tokenized
from skspace.inspection._words import Span, spans_of_tokens, word_spans

__all__ = ["Occurrences", "WordValues", "find_occurrences", "word_values"]

_CONTEXT = 40  # characters on either side of a word in an example


@dataclass(frozen=True)
class Occurrences:
    """Where words stand.

    Attributes
    ----------
    texts : list of str
    words : list of str of length n_words
        Without case.
    counts : ndarray of int64 of shape (n_words,)
    word : ndarray of int64 of shape (n_occurrences,)
    text : ndarray of int64 of shape (n_occurrences,)
    span : ndarray of int64 of shape (n_occurrences, 2)
        In characters of the text.
    of_token : ndarray of int64 of shape (n_tokens,)
        For each token of all texts, in order, its occurrence; -1 for none.
    """

    texts: list[str]
    words: list[str]
    counts: NDArray[np.int64]
    word: NDArray[np.int64]
    text: NDArray[np.int64]
    span: NDArray[np.int64]
    of_token: NDArray[np.int64]

    def example(self, occurrence: int) -> str:
        """The word in its text, marked, with a little of what stands around it."""
        text, (begin, end) = self.texts[self.text[occurrence]], self.span[occurrence].tolist()
        before, after = text[max(0, begin - _CONTEXT) : begin], text[end : end + _CONTEXT]
        left, right = "…" * (begin > _CONTEXT), "…" * (end + _CONTEXT < len(text))
        return " ".join(f"{left}{before}«{text[begin:end]}»{after}{right}".split())


@dataclass(frozen=True)
class WordValues:
    """Some values of every word, over its occurrences.

    Attributes
    ----------
    mean : ndarray of shape (n_words, n_values)
    highest, lowest : ndarray of int64 of shape (n_words, n_values)
        The occurrence with the largest, and the smallest, value.
    """

    mean: NDArray[np.float64]
    highest: NDArray[np.int64]
    lowest: NDArray[np.int64]


def find_occurrences(clf: Any, texts: list[str], min_count: int) -> Occurrences:
    """All words that occur at least `min_count` times.

    Raises
    ------
    ValueError
        If min_count is no int of at least 1, or no word occurs so often.
    """
    check_count(min_count, "min_count")
    named = tokenized(clf, texts)
    units = [_words_with_tokens(one) for one in named]
    counts: dict[str, int] = {}
    for i, (spans, _) in enumerate(units):
        for begin, end in spans:
            word = texts[i][begin:end].casefold()
            counts[word] = counts.get(word, 0) + 1
    words = sorted(word for word, count in counts.items() if count >= min_count)
    if not words:
        raise ValueError(
            f"No word occurs min_count={min_count} times in the {len(texts)} texts. Give more texts, or lower "
            "min_count."
        )
    place = {word: i for i, word in enumerate(words)}
    of_token: list[NDArray[np.int64]] = []
    word_of: list[int] = []
    text_of: list[int] = []
    span_of: list[Span] = []
    for i, (spans, owner) in enumerate(units):
        numbers = np.full(len(spans) + 1, -1)  # the last is that of owner -1
        for j, (begin, end) in enumerate(spans):
            if (word_index := place.get(texts[i][begin:end].casefold())) is not None:
                numbers[j] = len(word_of)
                word_of.append(word_index)
                text_of.append(i)
                span_of.append((begin, end))
        of_token.append(numbers[owner])
    return Occurrences(
        texts,
        words,
        np.array([counts[word] for word in words]),
        np.array(word_of),
        np.array(text_of),
        np.array(span_of).reshape(-1, 2),
        np.concatenate(of_token),
    )


def _words_with_tokens(one: TokenizedText) -> tuple[Sequence[tuple[int, int]], NDArray[np.int64]]:
    """Words that have a token (one behind the place of truncation has none), and for each token its word or -1."""
    spans, owner = spans_of_tokens(one.spans, word_spans(one.text))
    used = np.unique(owner[owner >= 0])
    return [spans[i] for i in used], np.where(owner >= 0, np.searchsorted(used, owner), -1)


def word_values(
    clf: Any,
    occurrences: Occurrences,
    values_of: Callable[[Spaces], NDArray[Any]],
    n_values: int,
    *,
    mean_of_pieces: bool,
) -> WordValues:
    """What a model makes of each word in the mean.

    Parameters
    ----------
    values_of : callable
        From what the operators make of a batch to (n_tokens, n_values).
    mean_of_pieces : bool
        Whether a word's value is the mean over its pieces, or their sum.
    """
    shape = len(occurrences.words), n_values
    total = np.zeros(shape)
    best, where = np.full((2, *shape), -np.inf), np.zeros((2, *shape), np.int64)  # of the values, and of their negative
    for rows, values in _occurrence_values(clf, occurrences, values_of, mean_of_pieces):
        order = np.argsort(occurrences.word[rows], kind="stable")
        rows, values = rows[order], values[order]
        words, first = np.unique(occurrences.word[rows], return_index=True)
        total[words] += np.add.reduceat(values, first)
        for side, signed in enumerate((values, -values)):
            largest, place = _largest(signed, first)
            better = largest > best[side, words]
            best[side, words] = np.where(better, largest, best[side, words])
            where[side, words] = np.where(better, rows[place], where[side, words])
    return WordValues(total / occurrences.counts[:, None], *where)


def _largest(values: NDArray[np.float64], first: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest values (n_segments, n_values) of the segments that begin at the rows `first`, and in which rows."""
    largest = np.maximum.reduceat(values, first)
    attained = values == largest.repeat(np.diff(first, append=len(values)), axis=0)
    rows = np.where(attained, np.arange(len(values))[:, None], len(values))
    return largest, np.minimum.reduceat(rows, first)


def _occurrence_values(
    clf: Any, occurrences: Occurrences, values_of: Callable[[Spaces], NDArray[Any]], mean_of_pieces: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Batch by batch the occurrences, and their values (n, n_values)."""
    begin = 0
    for _, spaces in read(clf, occurrences.texts):
        values = values_of(spaces)
        of_token = occurrences.of_token[begin : begin + len(values)]
        begin += len(values)
        tokens = np.flatnonzero(of_token >= 0)
        if not len(tokens):
            continue
        rows, place = np.unique(of_token[tokens], return_inverse=True)
        gather = csr_array((np.ones(len(tokens)), (place, tokens)), shape=(len(rows), len(values)))
        summed = gather @ values
        yield rows, summed / np.bincount(place)[:, None] if mean_of_pieces else summed
