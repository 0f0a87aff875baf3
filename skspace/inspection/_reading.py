"""What a fitted SpaceClassifier makes of texts, token by token: what all of this room reads.

The classifier is read by its attributes; its class is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skspace._net import each_batch
from skspace._operators import Spaces
from skspace._texts import check_texts
from skspace.inspection._words import Span

__all__ = ["TokenizedText", "check_classifier", "check_texts_for", "class_index", "read", "token_terms", "tokenized"]


class TokenizedText(NamedTuple):
    text: str
    tokens: list[str]
    spans: list[Span]


def check_classifier(clf: Any) -> None:
    """Refuse what is no fitted SpaceClassifier.

    Raises
    ------
    TypeError
        If `clf` is something else; a pipeline or search is told how to reach it.
    sklearn.exceptions.NotFittedError
    """
    if not hasattr(clf, "concept_operators_") and not hasattr(type(clf), "concept_operators_"):
        raise TypeError(
            f"clf must be a SpaceClassifier. Got {type(clf).__name__} instead; of a pipeline pass pipe[-1] and the "
            "texts that reach it, pipe[:-1].transform(X), of a search its best_estimator_."
        )
    check_is_fitted(clf)


def check_texts_for(clf: Any, X: Any) -> list[str]:
    """Texts for a classifier that knows tokens.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier, was fitted on vectors, which have no tokens to name, or X holds no texts.
    sklearn.exceptions.NotFittedError
    """
    check_classifier(clf)
    if clf.encoder_ is None:
        raise TypeError(
            "clf must be fitted on texts: with encoder='precomputed' there are no tokens to name. Got a classifier "
            "fitted on vectors instead."
        )
    return check_texts(X)


def tokenized(clf: Any, texts: list[str]) -> list[TokenizedText]:
    named = clf.encoder_.tokenize(texts)
    return [TokenizedText(text, tokens, spans) for text, (tokens, spans) in zip(texts, named, strict=True)]


def read(clf: Any, texts: list[str]) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """Some texts at a time, with their indices; nothing is encoded that is in the cache."""
    return each_batch(clf.net_.module_.operators, clf.encoder_.transform(texts))


def token_terms(clf: Any, spaces: Spaces) -> NDArray[np.float64]:
    """Terms of the logits, (n_tokens, n_classes): the sum over a text's tokens and the intercept are its logits."""
    attention = cast(Any, spaces.attention)  # (n_tokens, M, K, m), or (n_tokens, 1, 1, 1); None in training only
    weighted = (attention * spaces.concepts).flatten(1).double().numpy()  # (n_tokens, M * K * m)
    coef = clf.coef_.astype(np.float64)  # (M, K, K * m)
    return weighted @ coef.transpose(0, 2, 1).reshape(-1, coef.shape[1])


def class_index(classes: NDArray[Any], label: Any, name: str = "label") -> int:
    """Where a label stands among the classes.

    Raises
    ------
    ValueError
        If there is no such class; those that there are, are named.
    """
    known = classes.tolist()
    for i, other in enumerate(known):
        if other == label:
            return i
    raise ValueError(f"There is no class {label!r}. The {name!r} parameter must be one of {known}.")
