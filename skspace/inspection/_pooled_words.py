"""The pooling of a text over its words, from which words can be taken out in closed form.

Nothing is encoded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._classifier_access import read, tokenized
from skspace.inspection._words import Span, check_spans, spans_of_tokens, word_spans

__all__ = ["Pooled", "PooledWords", "centroids", "head", "parts_of", "pooled_words"]

_NOTHING_LEFT = 1e-12  # of the pooling's weights


def head(centroids: NDArray[np.float64], coef: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centroids (n, M, K, m) to sums (n, K), without intercept."""
    return np.einsum("nmf,mkf->nk", centroids.reshape(len(centroids), *coef.shape[::2]), coef)


def parts_of(texts: list[str], spans: Any) -> list[list[Span]]:
    if spans is None:
        return [word_spans(text) for text in texts]
    if isinstance(spans, str) or not hasattr(spans, "__len__") or len(spans) != len(texts) or any(map(_is_span, spans)):
        raise ValueError(
            f"spans must be one sequence of (begin, end) a text, for {len(texts)} texts. Got {spans!r:.200} instead; "
            "of a single text write [spans]."
        )
    return [check_spans(of_text, len(text)) for of_text, text in zip(spans, texts, strict=True)]


def _is_span(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and not any(map(np.ndim, value))


class Pooled:
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
        return centroids(self.left, self.rest)

    def without(self, words: Any) -> NDArray[np.float64]:
        """The same without one word each, (n_words, M, K, m)."""
        return centroids(self.left - self.part[words], self.rest - self.share[words])


def centroids(left: NDArray[np.float64], rest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where nothing is left the centroids are 0, and the logits the intercepts."""
    return np.where(rest > _NOTHING_LEFT, left / np.maximum(rest, _NOTHING_LEFT), 0.0)


class PooledWords(NamedTuple):
    """A text, where its words stand, their pooling, the logits of the whole, and where what was read of it ends."""

    text: str
    words: list[Span]
    pooled: Pooled
    logits: NDArray[np.float64]  # (n_classes,)
    end: int


def pooled_words(clf: Any, texts: list[str], parts: list[list[Span]], *, again: bool = False) -> Iterator[PooledWords]:
    """Each text with those of its parts that have tokens; in order.

    With `again` texts are read that nobody asks about twice: they are not kept, nor are parts without tokens left out.
    """
    named = tokenized(clf, texts)
    for indices, spaces in read(clf, texts, keep=not again):
        logits = spaces.logits.mean(1).double().numpy()
        ends = np.cumsum(spaces.lengths.numpy())[:-1]
        of_tokens = zip(
            *(np.split(tensor.double().numpy(), ends) for tensor in (spaces.attention, spaces.concepts)), strict=True
        )
        for row, (i, (attention, concepts)) in enumerate(zip(indices.tolist(), of_tokens, strict=True)):
            reach, owner = spans_of_tokens(named[i].spans, parts[i])
            kept = np.arange(len(reach)) if again else np.unique(owner[owner >= 0])
            pooled = Pooled(attention, concepts, owner, kept)
            end = max((stop for _, stop in named[i].spans), default=0)
            yield PooledWords(named[i].text, [reach[word] for word in kept], pooled, logits[row], end)


def _sums(values: NDArray[np.float64], owner: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the tokens of each word, (n_words, …)."""
    sums = np.zeros((len(kept), *values.shape[1:]))
    np.add.at(sums, np.searchsorted(kept, owner[owner >= 0]), values[owner >= 0])
    return sums
