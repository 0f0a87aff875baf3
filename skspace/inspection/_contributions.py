"""Token contributions: the logits of a Space Model, taken apart exactly."""

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
from skspace.inspection._classifier_access import (
    check_count,
    check_texts_for,
    class_index,
    class_indices,
    frame_of_spans,
    largest,
    read,
    token_terms,
    tokenized,
)
from skspace.inspection._words import Span, check_spans, spans_of_tokens, unread, word_spans

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["TokenContributions", "token_contributions"]


@dataclass(frozen=True, repr=False, eq=False)
class TokenContributions:
    """The logits of one text as a sum over its tokens: ``contributions.sum(0) + bias == logits``, to rounding.

    In units of the logit, not of probability. A contribution is that of a token's contextual vector, which has seen its
    neighbours; it does not say what the model would answer if the word were not there. With two classes
    `SpaceClassifier.decision_function` is the second logit minus the first.

    A notebook shows it as HTML.

    Attributes
    ----------
    text : str
    tokens : list of str of length n_tokens
        As the tokenizer names them: a word or a piece of one. With the default encoder ``##b`` continues the word
        before it, [CLS] and [SEP] mark begin and end, [UNK] is a sign that the model does not know. What `words` or
        `merge` put together is as it stands in the text.
    spans : list of (int, int)
        Where each token stands in the text, in characters; (0, 0) for special tokens.
    contributions : ndarray of shape (n_tokens, n_classes)
    bias : ndarray of shape (n_classes,)
    logits : ndarray of shape (n_classes,)
    classes : ndarray of shape (n_classes,)
    multilabel : bool
        Whether a text may have several labels, so that each class has a probability of its own.
    read_to : int
        How many characters of the text the model has read: fewer than it has where it was truncated (`max_length`).
        The end of the last span where left out.
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

    # ---------------------------------------------------------------- what the model says

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of every class, (n_classes,); as `SpaceClassifier.predict_proba`."""
        return probabilities(self.logits, multilabel=self.multilabel)

    @property
    def predicted(self) -> list[Any]:
        """The predicted labels, surest first; exactly one unless a text may have several."""
        order = np.argsort(-self.logits, kind="stable")
        chosen = order[self.logits[order] > 0] if self.multilabel else order[:1]
        return self.classes[chosen].tolist()

    @property
    def special(self) -> NDArray[np.bool_]:
        """Which tokens stand for no part of the text, as [CLS] and [SEP]; (n_tokens,)."""
        return np.array([begin == end for begin, end in self.spans], bool)

    @property
    def unread(self) -> str:
        """The end of the text that the model has not read; empty where that is nothing that can be read."""
        return unread(self.text, self.read_to)

    def top(self, label: Any, n: int = 5) -> list[tuple[str, float]]:
        """The tokens that spoke most for `label`, with their contributions, largest first.

        Parameters
        ----------
        label : label
            One of `classes`.
        n : int, default=5
            So many at most; tokens that spoke against the label are left out.

        Raises
        ------
        ValueError
            If there is no such label, or n is no int of at least 1.
        """
        return largest(self.tokens, self.contributions, self.classes, label, n)

    # ---------------------------------------------------------------- pieces put together

    def words(self) -> TokenContributions:
        """The same with word pieces put together to words; the sum stays what it is.

        A word keeps its apostrophes, tags and handles their sign; other signs in a row are one unit; characters of
        Chinese and Japanese stand alone. Words that one token covers stay together. Special tokens stay as they are. A
        word within which the text was truncated ends there.
        """
        return self._merged(word_spans(self.text))

    def merge(self, spans: Sequence[Span]) -> TokenContributions:
        """The same with the tokens in each of these parts of the text put together; the sum stays what it is.

        Parameters
        ----------
        spans : sequence of (int, int)
            Begin and end in characters of `text`: phrases, sentences, words of a tokenizer of yours. They must not
            overlap. A token across two belongs to the one that it shares more with; tokens in none stay as they are. A
            span without tokens, as behind the place where the text was truncated, is left out, and one across that
            place ends there; one within a token of the span beside it is put together with that one.

        Raises
        ------
        ValueError
            If a span is empty, lies outside the text or overlaps another.
        """
        return self._merged(check_spans(spans, len(self.text)))

    def _merged(self, spans: list[Span]) -> TokenContributions:
        units: dict[Any, tuple[str, Span]] = {}
        unit_of_token = []
        spans, owner = spans_of_tokens(self.spans, spans)
        last = self.read_to if self.unread else len(self.text)
        for i, span in enumerate(owner):
            own = ("token", i) if span < 0 else ("span", int(span))
            begin, end = self.spans[i] if span < 0 else (spans[span][0], min(spans[span][1], last))
            units.setdefault(own, (self.tokens[i] if span < 0 else self.text[begin:end], (begin, end)))
            unit_of_token.append(own)
        place = {own: row for row, own in enumerate(units)}
        contributions = np.zeros((len(units), len(self.classes)))
        np.add.at(contributions, [place[own] for own in unit_of_token], self.contributions)
        tokens, positions = [name for name, _ in units.values()], [span for _, span in units.values()]
        return replace(self, tokens=tokens, spans=positions, contributions=contributions)

    # ---------------------------------------------------------------- forms to show and to keep

    def __repr__(self) -> str:
        best = int(self.logits.argmax())
        return (
            f"<TokenContributions: {len(self.tokens)} tokens, {len(self.classes)} classes; {self.classes[best]} "
            f"{self.logits[best]:+.2f}>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self, labels: Sequence[Any] | None = None) -> str:
        """A piece of HTML with the text, its tokens coloured by what they contributed, and all figures in a table.

        No script, nothing fetched; whatever comes from the text or the labels is escaped.

        Parameters
        ----------
        labels : sequence of labels, default=None
            For which classes; the predicted ones and the two next where left out, the predicted ones open.

        Raises
        ------
        ValueError
            If there is no such class, or `labels` is no list of at least one.
        """
        return _html.fragment(self, self._columns(labels))

    def save_html(self, path: str | PathLike[str], labels: Sequence[Any] | None = None) -> None:
        """Write `to_html` as a page of its own, in UTF-8.

        Parameters
        ----------
        path : str or path
            A file there is replaced.
        labels : sequence of labels, default=None
            As for `to_html`.

        Raises
        ------
        OSError
            If there is no such folder, or no right to write there.
        """
        _html.save_page(path, self.to_html(labels))

    def to_text(self, label: Any = None, n: int = 10) -> str:
        """Lines for a terminal: what was predicted, and the tokens that spoke most for a class and against it.

        Parameters
        ----------
        label : label, default=None
            The surest class where left out.
        n : int, default=10
            Tokens at most, by the size of their contribution.

        Raises
        ------
        ValueError
            If there is no such class, or n is no int of at least 1.
        """
        check_count(n, "n")
        column = int(self.logits.argmax()) if label is None else class_index(self.classes, label)
        return _terminal.lines(self, column, n)

    def to_frame(self) -> DataFrame:
        """A pandas data frame of the contributions: a row a token, named by token, begin and end; a column a class.

        Where a class has one of these three names, ``reset_index(names=…)`` gives the rows' other ones.
        """
        return frame_of_spans("token", self.tokens, self.spans, self.contributions, self.classes)

    def to_json(self) -> str:
        """All attributes, `probabilities`, `predicted` and `unread`, as a JSON object; arrays as lists.

        Lone surrogates and the like are escaped, so that any reader takes it.
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
    """Take apart the logits of texts, without gradients, sampling or a second pass through the encoder.

    With the symbols of `skspace.ConceptOperators`,
    ``logit_c = b_c + sum_t sum_k sum_j A[c, (k, j)] alpha_t[k, j] C_k[t, j]``: the contribution of token t to class c
    is its term of the sum over t.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts

    Returns
    -------
    list of TokenContributions
        One a text.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier, or was fitted on vectors, which have no tokens to name; if `texts` are none.
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
    named = tokenized(clf, texts)
    bias = clf.intercept_.astype(np.float64)
    result = []
    for indices, spaces in read(clf, texts):
        logits = spaces.logits.mean(1).numpy().astype(np.float64)
        parts = np.split(token_terms(clf, spaces), np.cumsum(spaces.lengths.numpy())[:-1])
        for i, part, text_logits in zip(indices, parts, logits, strict=True):
            text, tokens, spans = named[i]
            result.append(
                TokenContributions(text, tokens, spans, part, bias, text_logits, clf.classes_, clf._multilabel)
            )
    return result
