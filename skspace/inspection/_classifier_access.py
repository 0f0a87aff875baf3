"""Access to a fitted SpaceClassifier: the one file of this room that reads its private attributes.

The class itself is not imported: the classifier is known by its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skspace._input.texts import check_texts
from skspace._model.concept_operators import Spaces
from skspace._model.forward import each_batch
from skspace.inspection._words import Span

__all__ = [
    "LinearHead",
    "TokenizedText",
    "check_classifier",
    "check_texts_for",
    "is_multilabel",
    "iter_spaces",
    "linear_head",
    "logit_terms",
    "operators_shape",
    "predicted_labels",
    "tokenize",
]


class TokenizedText(NamedTuple):
    """A text, its tokens, and the characters (begin, end) of each token."""

    text: str
    tokens: list[str]
    spans: list[Span]


class LinearHead(NamedTuple):
    """The head of a fitted classifier as sums over members, spaces and axes, in float64."""

    coef: NDArray[np.float64]  # (M, K, K * m)
    intercept: NDArray[np.float64]  # (K,)

    def apply(self, centroids: NDArray[np.float64]) -> NDArray[np.float64]:
        """Centroids (n, M, K, m) to logits (n, K) without the intercept."""
        return np.einsum("nmf,mkf->nk", centroids.reshape(len(centroids), *self.coef.shape[::2]), self.coef)


def check_classifier(clf: Any) -> None:
    """Raise an error unless `clf` is a fitted SpaceClassifier.

    Raises
    ------
    TypeError
        If `clf` is anything else. The message tells how to get the classifier out of a pipeline or a search.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.
    """
    if not hasattr(clf, "concept_operators_") and not hasattr(type(clf), "concept_operators_"):
        raise TypeError(
            f"clf must be a SpaceClassifier. Got {type(clf).__name__} instead. For a pipeline, pass pipe[-1] and the "
            "texts pipe[:-1].transform(X). For a search, pass its best_estimator_."
        )
    check_is_fitted(clf)


def check_texts_for(clf: Any, X: Any) -> list[str]:
    """Texts for a classifier that was fitted on texts.

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if `X` contains anything but texts.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.
    """
    check_classifier(clf)
    if clf.encoder_ is None:
        raise TypeError(
            "clf must be fitted on texts: with encoder='precomputed' there are no tokens to name. Got a classifier "
            "fitted on vectors instead. Fit one with a TokenEncoder."
        )
    return check_texts(X)


def is_multilabel(clf: Any) -> bool:
    """Whether a text may have several labels."""
    return bool(clf._multilabel)


def operators_shape(clf: Any) -> tuple[int, int, int]:
    """Numbers of members M, classes K and latent axes m."""
    operators = clf.operators_
    return operators.n_members, operators.n_classes, operators.n_latent


def linear_head(clf: Any) -> LinearHead:
    return LinearHead(clf.coef_.astype(np.float64), clf.intercept_.astype(np.float64))


def tokenize(clf: Any, texts: list[str]) -> list[TokenizedText]:
    tokenized = clf.encoder_.tokenize(texts)
    return [TokenizedText(text, tokens, spans) for text, (tokens, spans) in zip(texts, tokenized, strict=True)]


def iter_spaces(clf: Any, texts: list[str], *, cached: bool = True) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """Output of the operators batch by batch, with the indices of the batch's texts.

    Cached texts are not encoded again. With ``cached=False`` the cache is neither read nor written, which suits
    texts that are needed only once.
    """
    encoder = clf.encoder_
    if not cached:
        encoder = copy(encoder)
        encoder.cache_dir = None
    return each_batch(clf.operators_, encoder._embed(texts))


def logit_terms(clf: Any, spaces: Spaces) -> NDArray[np.float64]:
    """Terms of the logits, (n_tokens, n_classes): summed over a text's tokens, plus the intercept, its logits."""
    weighted = (spaces.attention * spaces.concepts).flatten(1).double().numpy()  # (n_tokens, M * K * m)
    coef = linear_head(clf).coef
    return weighted @ coef.transpose(0, 2, 1).reshape(-1, coef.shape[1])


def predicted_labels(clf: Any, texts: list[str]) -> list[Any]:
    """The predicted label of each text, or the list of its labels if a text may have several."""
    predicted = clf.predict(texts)
    return [clf.classes_[row > 0].tolist() for row in predicted] if is_multilabel(clf) else predicted.tolist()
