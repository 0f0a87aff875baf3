"""Token contributions: an exact decomposition of the logits into a sum over tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skspace._model.forward import probabilities
from skspace.inspection import _html, _terminal
from skspace.inspection._checks import check_count, class_index, class_indices
from skspace.inspection._classifier_access import (
    check_texts_for,
    is_multilabel,
    iter_spaces,
    linear_head,
    logit_terms,
    tokenize,
)
from skspace.inspection._tables import largest_for_class, span_frame
from skspace.inspection._words import Span, check_spans, spans_of_tokens, unread_part, word_spans

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TokenContributions", "token_contributions"]


@dataclass(frozen=True, repr=False, eq=False)
class TokenContributions:
    """The logits of one text as a sum over its tokens: ``contributions.sum(0) + bias == logits``, to rounding.

    Contributions are in units of the logit, not of probability. They belong to contextual vectors, which depend on the
    neighbouring tokens, and do not say what the model would predict without the word. With two classes,
    `SpaceClassifier.decision_function` is the second logit minus the first.

    Notebooks display it as HTML.

    Attributes
    ----------
    text : str
        The text.
    tokens : list of str of length n_tokens
        Words or word pieces as the tokenizer names them. With the default encoder ``##b`` continues the previous word,
        [CLS] and [SEP] mark begin and end, and [UNK] stands for an unknown sign. Tokens that `words` or `merge` have
        joined are written as in the text.
    spans : list of (int, int)
        Begin and end of each token, in characters; (0, 0) for special tokens.
    contributions : ndarray of shape (n_tokens, n_classes)
        Terms of the logits.
    bias : ndarray of shape (n_classes,)
        Intercepts.
    logits : ndarray of shape (n_classes,)
        Logits of the text.
    classes : ndarray of shape (n_classes,)
        Labels of the columns.
    multilabel : bool
        Whether a text may have several labels, so that each class has its own probability.
    read_to : int
        Number of characters that the model has read; smaller than the length of a truncated text (`max_length`). By
        default the end of the last span.
    """

    text: str
    tokens: list[str]
    spans: list[Span]
    contributions: NDArray[np.float64]
    bias: NDArray[np.float64]
    logits: NDArray[np.float64]
    classes: NDArray[Any]
    multilabel: bool = False
    read_to: int = -1

    def __post_init__(self) -> None:
        if self.read_to < 0:
            object.__setattr__(self, "read_to", max((end for _, end in self.spans), default=0))

    # ---------------------------------------------------------------- prediction

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probability of each class, (n_classes,), as from `SpaceClassifier.predict_proba`."""
        return probabilities(self.logits, multilabel=self.multilabel)

    @property
    def predicted(self) -> list[Any]:
        """The predicted labels, most likely first; exactly one unless a text may have several."""
        order = np.argsort(-self.logits, kind="stable")
        chosen = order[self.logits[order] > 0] if self.multilabel else order[:1]
        return self.classes[chosen].tolist()

    @property
    def special(self) -> NDArray[np.bool_]:
        """Mask of the special tokens, such as [CLS] and [SEP], (n_tokens,)."""
        return np.array([begin == end for begin, end in self.spans], bool)

    @property
    def unread(self) -> str:
        """The truncated end of the text; empty if it has only spaces, marks and control characters."""
        return unread_part(self.text, self.read_to)

    def top(self, label: Any, n: int = 5) -> list[tuple[str, float]]:
        """The tokens with the largest contributions to `label`, and these contributions, largest first.

        Parameters
        ----------
        label : label
            One of `classes`.
        n : int, default=5
            Maximum number of tokens. Only positive contributions are listed.

        Returns
        -------
        list of (str, float)

        Raises
        ------
        ValueError
            If the label is not a class, or `n` is not an int of at least 1.
        """
        return largest_for_class(self.tokens, self.contributions, self.classes, label, n)

    # ---------------------------------------------------------------- joining tokens

    def words(self) -> TokenContributions:
        """Join word pieces into words; the sum of the contributions does not change.

        A word keeps its apostrophes, and a tag or handle its sign. A run of other signs is one word, and so is each
        Chinese or Japanese character. Words that share one token stay together. Special tokens do not change. A word
        that was truncated ends at the point of truncation.

        Returns
        -------
        TokenContributions
        """
        return self._merged(word_spans(self.text))

    def merge(self, spans: Sequence[Span]) -> TokenContributions:
        """Join the tokens in each span of the text; the sum of the contributions does not change.

        Parameters
        ----------
        spans : sequence of (int, int)
            Begin and end in characters of `text`, for example of phrases or sentences. Spans must not overlap. A token
            in two spans belongs to the one with which it shares more characters. Tokens outside all spans do not
            change. Spans after the point of truncation are omitted, and a span across it ends there. Spans that share
            one token are joined.

        Returns
        -------
        TokenContributions

        Raises
        ------
        ValueError
            If a span is empty, lies outside the text or overlaps another.
        """
        return self._merged(check_spans(spans, len(self.text)))

    def _merged(self, spans: list[Span]) -> TokenContributions:
        spans, owner = spans_of_tokens(self.spans, spans)
        last = self.read_to if self.unread else len(self.text)
        row_of: dict[int, int] = {}  # of a span, or of a token without one, whose key is negative
        tokens: list[str] = []
        positions: list[Span] = []
        rows = []
        for i, span in enumerate(owner.tolist()):
            key = span if span >= 0 else -1 - i
            if key not in row_of:
                row_of[key] = len(tokens)
                begin, end = self.spans[i] if span < 0 else (spans[span][0], min(spans[span][1], last))
                tokens.append(self.tokens[i] if span < 0 else self.text[begin:end])
                positions.append((begin, end))
            rows.append(row_of[key])
        contributions = np.zeros((len(tokens), len(self.classes)))
        np.add.at(contributions, rows, self.contributions)
        return replace(self, tokens=tokens, spans=positions, contributions=contributions)

    # ---------------------------------------------------------------- output formats

    def __repr__(self) -> str:
        best = int(self.logits.argmax())
        return (
            f"<TokenContributions: {len(self.tokens)} tokens, {len(self.classes)} classes; {self.classes[best]} "
            f"{self.logits[best]:+.2f}>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, labels: Sequence[Any] | None = None) -> str:
        """An HTML fragment with the text, its tokens coloured by contribution, and a table of all numbers.

        It contains no scripts and loads nothing. Content from the text and the labels is escaped.

        Parameters
        ----------
        labels : sequence of labels, default=None
            Classes to show. None means the predicted ones and the two next. Panels of predicted classes are open.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If a label is not a class, or `labels` is not a list of at least one class.
        """
        return _html.fragment(self, self._columns(labels))

    def save_html(self, path: str | PathLike[str], labels: Sequence[Any] | None = None) -> None:
        """Write the fragment of `to_html` as a complete page, in UTF-8.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced.
        labels : sequence of labels, default=None
            As for `to_html`.

        Raises
        ------
        OSError
            If the folder does not exist or is not writable.
        """
        _html.save_page(path, self.to_html(labels))

    def to_text(self, label: Any = None, n: int = 10) -> str:
        """Lines for a terminal: the probability of a class, and the tokens with the largest contributions to it.

        Parameters
        ----------
        label : label, default=None
            The class to explain. None means the most likely one.
        n : int, default=10
            Maximum number of tokens, by absolute contribution.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If the label is not a class, or `n` is not an int of at least 1.
        """
        check_count(n, "n")
        column = int(self.logits.argmax()) if label is None else class_index(self.classes, label)
        return _terminal.lines(self, column, n)

    def to_frame(self) -> DataFrame:
        """A pandas data frame of the contributions: one row per token, one column per class.

        The index has the levels token, begin and end. If a class has one of these names, rename the levels with
        ``reset_index(names=…)``.
        """
        return span_frame("token", self.tokens, self.spans, self.contributions, self.classes)

    def to_json(self) -> str:
        """A JSON object with all attributes, `probabilities`, `predicted` and `unread`; arrays become lists.

        Non-ASCII characters, lone surrogates included, are escaped.
        """
        content = {
            "text": self.text,
            "tokens": self.tokens,
            "spans": self.spans,
            "contributions": self.contributions.tolist(),
            "bias": self.bias.tolist(),
            "logits": self.logits.tolist(),
            "classes": self.classes.tolist(),
            "multilabel": self.multilabel,
            "read_to": self.read_to,
            "probabilities": self.probabilities.tolist(),
            "predicted": self.predicted,
            "unread": self.unread,
        }
        return json.dumps(content, allow_nan=False)

    def _columns(self, labels: Sequence[Any] | None) -> list[int]:
        if labels is not None:
            return class_indices(self.classes, labels)
        order = np.argsort(-self.logits, kind="stable").tolist()
        return order[: max(1, len(self.predicted)) + (2 if len(self.classes) > 2 else 0)]


def token_contributions(clf: Any, texts: Any) -> list[TokenContributions]:
    """Decompose the logits of texts exactly into contributions of their tokens.

    This needs neither gradients nor sampling nor a second pass through the encoder.

    With the symbols of `skspace.ConceptOperators`,
    ``logit_c = b_c + sum_t sum_k sum_j A[c, (k, j)] alpha_t[k, j] C_k[t, j]``. The contribution of token t to class c
    is its term of the sum over t.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts

    Returns
    -------
    list of TokenContributions
        One per text.

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if `texts` contains anything but str.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.

    Examples
    --------
    >>> from skspace import SpaceClassifier
    >>> from skspace.datasets import load_support_messages
    >>> from skspace.inspection import token_contributions
    >>> messages, labels = load_support_messages(return_X_y=True)
    >>> clf = SpaceClassifier(random_state=0).fit(messages[:300], labels[:300])
    >>> (reasons,) = token_contributions(clf, ["where is my parcel"])
    >>> reasons.predicted
    ['delivery']
    >>> reasons.words().top("delivery", 1)[0][0]
    'parcel'
    """
    texts = check_texts_for(clf, texts)
    tokenized = tokenize(clf, texts)
    bias, multilabel = linear_head(clf).intercept, is_multilabel(clf)
    result = []
    for indices, spaces in iter_spaces(clf, texts):
        logits = spaces.logits.mean(1).numpy().astype(np.float64)
        parts = np.split(logit_terms(clf, spaces), np.cumsum(spaces.lengths.numpy())[:-1])
        for i, part, text_logits in zip(indices, parts, logits, strict=True):
            text, tokens, spans = tokenized[i]
            result.append(TokenContributions(text, tokens, spans, part, bias, text_logits, clf.classes_, multilabel))
    return result
