"""What the logits lose without a word: left out of the pooling, in closed form, from the attention that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._classifier_access import check_texts_for, frame_of_spans, largest
from skspace.inspection._pooled_words import head, parts_of, pooled_words
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["LeftOut", "left_out"]


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
    for text, words, pooled, logits, _ in pooled_words(clf, texts, parts_of(texts, spans)):
        losses = head(pooled.mean() - pooled.without(np.arange(len(words))), coef)  # (n_words, K)
        result.append(LeftOut(text, [text[b:e] for b, e in words], words, losses, logits, classes))
    return result
