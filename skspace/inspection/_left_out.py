"""What the logits lose without a word: left out of the pooling, in closed form, from the attention that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._reading import (
    TokenizedText,
    check_texts_for,
    frame_of_spans,
    largest,
    read,
    tokenized,
)
from skspace.inspection._words import Span, check_spans, spans_of_tokens, word_spans

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LeftOut", "left_out"]

_NOTHING_LEFT = 1e-12  # of the pooling's weights


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
    contributions did (rank correlation .67 and .60), and were no better in the other measures
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
    parts = _parts(texts, spans)
    named = tokenized(clf, texts)
    coef, classes = clf.coef_.astype(np.float64), clf.classes_  # (M, K, K * m), (K,)
    result: list[Any] = [None] * len(texts)
    for indices, spaces in read(clf, texts):
        logits = spaces.logits.mean(1).double().numpy()
        ends = np.cumsum(spaces.lengths.numpy())[:-1]
        tensors = cast(Any, (spaces.attention, spaces.concepts))  # attention is None in training only
        of_tokens = zip(*(np.split(tensor.double().numpy(), ends) for tensor in tensors), strict=True)
        centroids = spaces.centroids.double().numpy()  # (n_texts, M, K, m)
        for row, (i, (attention, concepts)) in enumerate(zip(indices.tolist(), of_tokens, strict=True)):
            result[i] = _of_text(named[i], parts[i], attention, concepts, centroids[row], coef, logits[row], classes)
    return result


def _parts(texts: list[str], spans: Any) -> list[list[Span]]:
    if spans is None:
        return [word_spans(text) for text in texts]
    if isinstance(spans, str) or not hasattr(spans, "__len__") or len(spans) != len(texts):
        raise ValueError(
            f"spans must be one sequence of (begin, end) a text, for {len(texts)} texts. Got {spans!r:.200} instead; "
            "of a single text write [spans]."
        )
    return [check_spans(of_text, len(text)) for of_text, text in zip(spans, texts, strict=True)]


def _of_text(
    named: TokenizedText,
    parts: list[Span],
    attention: NDArray[np.float64],  # (n_tokens, M, K, m) or (n_tokens, 1, 1, 1)
    concepts: NDArray[np.float64],  # (n_tokens, M, K, m)
    centroids: NDArray[np.float64],  # (M, K, m)
    coef: NDArray[np.float64],
    logits: NDArray[np.float64],
    classes: NDArray[Any],
) -> LeftOut:
    reach, owner = spans_of_tokens(named.spans, parts)
    kept = np.unique(owner[owner >= 0])
    words = [reach[i] for i in kept]
    terms = attention * concepts
    # Sums of the same float32 numbers in float64: what is left of a text whose one word has nearly all of the attention
    # is right, which 1 minus that word's share would not be.
    rest = attention.sum(0) - _sums(attention, owner, kept)
    left = terms.sum(0) - _sums(terms, owner, kept)
    # Where nothing is left the centroids are 0, and the logits the intercepts.
    without = np.where(rest > _NOTHING_LEFT, left / np.maximum(rest, _NOTHING_LEFT), 0.0)
    lost = (centroids - without).reshape(len(kept), *coef.shape[::2])  # (n_words, M, K * m)
    losses = np.einsum("wmf,mkf->wk", lost, coef)
    return LeftOut(named.text, [named.text[b:e] for b, e in words], words, losses, logits, classes)


def _sums(values: NDArray[np.float64], owner: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the tokens of each word, (n_words, …)."""
    sums = np.zeros((len(kept), *values.shape[1:]))
    np.add.at(sums, np.searchsorted(kept, owner[owner >= 0]), values[owner >= 0])
    return sums
