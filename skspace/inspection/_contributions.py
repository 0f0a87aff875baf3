"""Token contributions: the logits of a Space Model, taken apart exactly.

Floor 7; reads a fitted classifier's attributes and does not import its class. Left out so far: words merged from their
pieces, HTML and pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skspace._net import each_batch
from skspace._operators import ConceptOperators, Spaces
from skspace._texts import check_texts

__all__ = ["TokenContributions", "token_contributions"]


@dataclass(frozen=True, repr=False)
class TokenContributions:
    """The logits of one text as a sum over its tokens: ``contributions.sum(0) + bias == logits``, to rounding.

    In units of the logit, not of probability. A contribution is that of a token's contextual vector, which has seen its
    neighbours; it does not say what the model would answer if the word were not there. With two classes
    `SpaceClassifier.decision_function` is the second logit minus the first.

    Attributes
    ----------
    tokens : list of str of length n_tokens
        As the tokenizer names them: a word or a piece of one. With the default encoder ``##b`` continues the word
        before it, [CLS] and [SEP] mark begin and end, [UNK] is a sign that the model does not know.
    spans : list of (int, int)
        Where each token stands in the text, in characters; (0, 0) for special tokens.
    contributions : ndarray of shape (n_tokens, n_classes)
    bias : ndarray of shape (n_classes,)
    logits : ndarray of shape (n_classes,)
    classes : ndarray of shape (n_classes,)
    """

    tokens: list[str]
    spans: list[tuple[int, int]]
    contributions: NDArray[np.float64]
    bias: NDArray[np.float64]
    logits: NDArray[np.float64]
    classes: NDArray[Any]

    def __repr__(self) -> str:
        best = int(self.logits.argmax())
        return (
            f"<TokenContributions: {len(self.tokens)} tokens, {len(self.classes)} classes; {self.classes[best]} "
            f"{self.logits[best]:+.2f}>"
        )

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
            If there is no such label, or n is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1. Got {n!r} instead.")
        columns = np.flatnonzero(self.classes == label)
        if not len(columns):
            raise ValueError(f"There is no class {label!r}. Expected one of {self.classes.tolist()}.")
        values = self.contributions[:, columns[0]]
        order = np.argsort(-values, kind="stable")[:n]
        return [(self.tokens[i], float(values[i])) for i in order if values[i] > 0]


def token_contributions(clf: Any, X: Any) -> list[TokenContributions]:
    """Take apart the logits of texts, without gradients, sampling or a second pass through the encoder.

    With the symbols of `skspace.ConceptOperators`,
    ``logit_c = b_c + sum_t sum_k sum_j A[c, (k, j)] alpha_t[k, j] C_k[t, j]``: the contribution of token t to class c
    is its term of the sum over t.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    X : sequence of str of length n_texts

    Returns
    -------
    list of TokenContributions
        One a text.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier, or was fitted on vectors, which have no tokens to name.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.
    """
    if not hasattr(clf, "concept_operators_") and not hasattr(type(clf), "concept_operators_"):
        raise TypeError(
            f"clf must be a SpaceClassifier. Got {type(clf).__name__} instead; of a pipeline pass pipe[-1] and the "
            "texts that reach it, pipe[:-1].transform(X), of a search its best_estimator_."
        )
    check_is_fitted(clf)
    if clf.encoder_ is None:
        raise TypeError(
            "clf must be fitted on texts: with encoder='precomputed' there are no tokens to name. Got a classifier "
            "fitted on vectors instead."
        )
    texts = check_texts(X)
    named = clf.encoder_.tokenize(texts)
    operators, bias = clf.net_.module_.operators, clf.intercept_.astype(np.float64)
    result = []
    for indices, spaces in each_batch(operators, clf.encoder_.transform(texts)):
        contributions = _contributions(operators, spaces)
        logits = spaces.logits.mean(1).numpy().astype(np.float64)
        parts = np.split(contributions, np.cumsum(spaces.lengths.numpy())[:-1])
        for i, part, text_logits in zip(indices, parts, logits, strict=True):
            tokens, spans = named[i]
            result.append(TokenContributions(tokens, spans, part, bias, text_logits, clf.classes_))
    return result


def _contributions(operators: ConceptOperators, spaces: Spaces) -> NDArray[np.float64]:
    """Terms of the logits, (n_tokens, n_classes)."""
    coef, _ = operators.as_linear()  # (M, K, K * m)
    attention = cast(Any, spaces.attention)  # None in training only
    weighted = (attention * spaces.concepts).flatten(1).double()  # (n_tokens, M * K * m)
    return (weighted @ coef.permute(0, 2, 1).flatten(0, 1).double()).numpy()
