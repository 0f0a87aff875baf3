"""Words in many texts: where each occurs, and the mean of a model's values over its occurrences.

Case is ignored. Special tokens do not count as words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from skspace._model.concept_operators import Spaces
from skspace.inspection._checks import check_count
from skspace.inspection._classifier_access import TokenizedText, iter_spaces, tokenize
from skspace.inspection._words import Span, spans_of_tokens, word_spans

__all__ = ["Occurrences", "WordValues", "find_occurrences", "word_values"]

_CONTEXT = 40  # characters on either side of a word in an example


@dataclass(frozen=True)
class Occurrences:
    """All occurrences of the words of some texts.

    Attributes
    ----------
    texts : list of str
    words : list of str of length n_words
        Case-folded.
    counts : ndarray of int64 of shape (n_words,)
        Number of occurrences of each word.
    word : ndarray of int64 of shape (n_occurrences,)
        Index of the word.
    text : ndarray of int64 of shape (n_occurrences,)
        Index of the text.
    span : ndarray of int64 of shape (n_occurrences, 2)
        Begin and end in characters of the text.
    token_occurrence : ndarray of int64 of shape (n_tokens,)
        For each token of all texts, in order, the index of its occurrence, or -1.
    """

    texts: list[str]
    words: list[str]
    counts: NDArray[np.int64]
    word: NDArray[np.int64]
    text: NDArray[np.int64]
    span: NDArray[np.int64]
    token_occurrence: NDArray[np.int64]

    def example(self, occurrence: int) -> str:
        """The marked word with its context."""
        text, (begin, end) = self.texts[self.text[occurrence]], self.span[occurrence].tolist()
        before, after = text[max(0, begin - _CONTEXT) : begin], text[end : end + _CONTEXT]
        left, right = "…" * (begin > _CONTEXT), "…" * (end + _CONTEXT < len(text))
        return " ".join(f"{left}{before}«{text[begin:end]}»{after}{right}".split())


@dataclass(frozen=True)
class WordValues:
    """Values of every word, summarised over its occurrences.

    Attributes
    ----------
    mean : ndarray of shape (n_words, n_values)
    highest, lowest : ndarray of int64 of shape (n_words, n_values)
        Indices of the occurrences with the largest and the smallest value.
    """

    mean: NDArray[np.float64]
    highest: NDArray[np.int64]
    lowest: NDArray[np.int64]


def find_occurrences(clf: Any, texts: list[str], min_count: int) -> Occurrences:
    """Find all words that occur at least `min_count` times.

    Raises
    ------
    ValueError
        If `min_count` is not an int of at least 1, or no word occurs so often.
    """
    check_count(min_count, "min_count")
    tokenized = [_words_with_tokens(text) for text in tokenize(clf, texts)]
    counts = Counter(
        text[begin:end].casefold() for text, (spans, _) in zip(texts, tokenized, strict=True) for begin, end in spans
    )
    words = sorted(word for word, count in counts.items() if count >= min_count)
    if not words:
        raise ValueError(
            f"No word occurs min_count={min_count} times in the {len(texts)} texts. Give more texts, or lower "
            "min_count."
        )
    index_of = {word: i for i, word in enumerate(words)}
    token_occurrence: list[NDArray[np.int64]] = []
    word_of: list[int] = []
    text_of: list[int] = []
    span_of: list[Span] = []
    for i, (spans, owner) in enumerate(tokenized):
        occurrence = np.full(len(spans) + 1, -1)  # the last entry is for tokens with owner -1
        for j, (begin, end) in enumerate(spans):
            if (word_index := index_of.get(texts[i][begin:end].casefold())) is not None:
                occurrence[j] = len(word_of)
                word_of.append(word_index)
                text_of.append(i)
                span_of.append((begin, end))
        token_occurrence.append(occurrence[owner])
    return Occurrences(
        texts,
        words,
        np.array([counts[word] for word in words]),
        np.array(word_of),
        np.array(text_of),
        np.array(span_of).reshape(-1, 2),
        np.concatenate(token_occurrence),
    )


def _words_with_tokens(text: TokenizedText) -> tuple[Sequence[tuple[int, int]], NDArray[np.int64]]:
    """Spans of the words that have tokens, and for each token the index of its word or -1.

    Words after the point of truncation have no tokens.
    """
    spans, owner = spans_of_tokens(text.spans, word_spans(text.text))
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
    """Summarise a model's values of each word over its occurrences.

    Parameters
    ----------
    values_of : callable
        From the operators' output for a batch to values (n_tokens, n_values).
    mean_of_pieces : bool
        Whether the value of an occurrence is the mean over its word pieces, or their sum.
    """
    shape = len(occurrences.words), n_values
    total = np.zeros(shape)
    best, where = np.full((2, *shape), -np.inf), np.zeros((2, *shape), np.int64)  # of the values and of their negatives
    for rows, values in _occurrence_values(clf, occurrences, values_of, mean_of_pieces):
        order = np.argsort(occurrences.word[rows], kind="stable")
        rows, values = rows[order], values[order]
        words, first = np.unique(occurrences.word[rows], return_index=True)
        total[words] += np.add.reduceat(values, first)
        for side, signed in enumerate((values, -values)):
            largest, position = _segment_maxima(signed, first)
            better = largest > best[side, words]
            best[side, words] = np.where(better, largest, best[side, words])
            where[side, words] = np.where(better, rows[position], where[side, words])
    return WordValues(total / occurrences.counts[:, None], *where)


def _segment_maxima(
    values: NDArray[np.float64], first: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest values (n_segments, n_values) of the segments that begin at the rows `first`, and their rows."""
    largest = np.maximum.reduceat(values, first)
    attained = values == largest.repeat(np.diff(first, append=len(values)), axis=0)
    rows = np.where(attained, np.arange(len(values))[:, None], len(values))
    return largest, np.minimum.reduceat(rows, first)


def _occurrence_values(
    clf: Any, occurrences: Occurrences, values_of: Callable[[Spaces], NDArray[Any]], mean_of_pieces: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Indices of occurrences and their values (n, n_values), batch by batch."""
    begin = 0
    for _, spaces in iter_spaces(clf, occurrences.texts):
        values = values_of(spaces)
        token_occurrence = occurrences.token_occurrence[begin : begin + len(values)]
        begin += len(values)
        tokens = np.flatnonzero(token_occurrence >= 0)
        if not len(tokens):
            continue
        rows, position = np.unique(token_occurrence[tokens], return_inverse=True)
        gather = csr_array((np.ones(len(tokens)), (position, tokens)), shape=(len(rows), len(values)))
        summed = gather @ values
        yield rows, summed / np.bincount(position)[:, None] if mean_of_pieces else summed
