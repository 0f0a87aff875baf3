"""Pooling of a text by words, from which words can be removed in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._classifier_access import iter_spaces, tokenize
from skspace.inspection._words import Span, check_spans, spans_of_tokens, word_spans

__all__ = ["Pooled", "PooledWords", "centroids", "check_parts", "pooled_words"]

_MIN_WEIGHT = 1e-12  # below it a text counts as empty


def check_parts(texts: list[str], spans: Any) -> list[list[Span]]:
    """The spans that a user passes for each text, or by default the spans of its words.

    Raises
    ------
    ValueError
        If there is not one sequence of valid spans per text.
    """
    if spans is None:
        return [word_spans(text) for text in texts]
    if isinstance(spans, str) or not hasattr(spans, "__len__") or len(spans) != len(texts) or any(map(_is_span, spans)):
        raise ValueError(
            f"spans must be one sequence of pairs (begin, end) per text, for {len(texts)} texts. Got {spans!r:.200} "
            "instead. For a single text write [spans]."
        )
    return [check_spans(text_spans, len(text)) for text_spans, text in zip(spans, texts, strict=True)]


def _is_span(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and not any(map(np.ndim, value))


class Pooled:
    """Pooling of one text, from which words can be removed.

    The float32 values are summed in float64. The remainder is then accurate even if one word had nearly all of the
    attention, which 1 minus its weight would not be.

    Attributes
    ----------
    weight : ndarray of shape (M, K, m) or (1, 1, 1)
        Sum of the attention over all tokens.
    total : ndarray of shape (M, K, m)
        Sum of attention times context attribution over all tokens.
    word_weight, word_total : ndarray of shape (n_words, …)
        The same sums over the tokens of each word.
    """

    def __init__(
        self,
        attention: NDArray[np.float64],  # (n_tokens, M, K, m) or (n_tokens, 1, 1, 1)
        concepts: NDArray[np.float64],  # (n_tokens, M, K, m)
        owner: NDArray[np.int64],  # (n_tokens,), the word of each token or -1
        kept: NDArray[np.int64],  # indices of the words that have tokens
    ) -> None:
        terms = attention * concepts
        self.weight, self.total = attention.sum(0), terms.sum(0)
        self.word_weight, self.word_total = _word_sums(attention, owner, kept), _word_sums(terms, owner, kept)

    def mean(self) -> NDArray[np.float64]:
        """Centroids of the text, (M, K, m)."""
        return centroids(self.total, self.weight)

    def without(self, words: Any) -> NDArray[np.float64]:
        """Centroids without each of these words alone, (n_words, M, K, m)."""
        return centroids(self.total - self.word_total[words], self.weight - self.word_weight[words])


def centroids(total: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted means; 0 for an empty text, whose logits are then the intercepts."""
    return np.where(weight > _MIN_WEIGHT, total / np.maximum(weight, _MIN_WEIGHT), 0.0)


class PooledWords(NamedTuple):
    """A text, the spans of its words, their pooling, and the logits of the whole text."""

    text: str
    words: list[Span]
    pooled: Pooled
    logits: NDArray[np.float64]  # (n_classes,)
    end: int  # number of characters that the model has read


def pooled_words(clf: Any, texts: list[str], parts: list[list[Span]], *, edited: bool = False) -> Iterator[PooledWords]:
    """Pool each text by its parts, in order; parts without tokens are omitted.

    With `edited`, the texts are variants that are needed only once. They bypass the cache, and all of their parts are
    kept, so that indices stay those of the original.
    """
    tokenized = tokenize(clf, texts)
    for indices, spaces in iter_spaces(clf, texts, cached=not edited):
        logits = spaces.logits.mean(1).double().numpy()
        ends = np.cumsum(spaces.lengths.numpy())[:-1]
        by_text = zip(
            *(np.split(tensor.double().numpy(), ends) for tensor in (spaces.attention, spaces.concepts)), strict=True
        )
        for row, (i, (attention, concepts)) in enumerate(zip(indices.tolist(), by_text, strict=True)):
            spans, owner = spans_of_tokens(tokenized[i].spans, parts[i])
            kept = np.arange(len(spans)) if edited else np.unique(owner[owner >= 0])
            pooled = Pooled(attention, concepts, owner, kept)
            end = max((stop for _, stop in tokenized[i].spans), default=0)
            yield PooledWords(tokenized[i].text, [spans[word] for word in kept], pooled, logits[row], end)


def _word_sums(values: NDArray[np.float64], owner: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the tokens of each word, (n_words, …)."""
    sums = np.zeros((len(kept), *values.shape[1:]))
    np.add.at(sums, np.searchsorted(kept, owner[owner >= 0]), values[owner >= 0])
    return sums
