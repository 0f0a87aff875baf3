"""What a fitted SpaceClassifier makes of texts, token by token: what all of this room reads.

The classifier is read by its attributes; its class is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skspace._input.texts import check_texts
from skspace._model.concept_operators import Spaces
from skspace._model.forward import each_batch
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "TokenizedText",
    "check_classifier",
    "check_count",
    "check_place",
    "check_texts_for",
    "check_y",
    "class_index",
    "class_indices",
    "frame_of_spans",
    "largest",
    "pandas",
    "read",
    "token_terms",
    "tokenized",
]


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


def read(clf: Any, texts: list[str], *, keep: bool = True) -> Iterator[tuple[NDArray[np.int64], Spaces]]:
    """Some texts at a time, with their indices; nothing is encoded that is in the cache.

    Without `keep`, of texts that nobody will ask about again, the cache is left alone.
    """
    encoder = clf.encoder_
    if not keep:
        encoder = copy(encoder)
        encoder.cache_dir = None
    return each_batch(clf.operators_, encoder._embed(texts))


def token_terms(clf: Any, spaces: Spaces) -> NDArray[np.float64]:
    """Terms of the logits, (n_tokens, n_classes): the sum over a text's tokens and the intercept are its logits."""
    weighted = (spaces.attention * spaces.concepts).flatten(1).double().numpy()  # (n_tokens, M * K * m)
    coef = clf.coef_.astype(np.float64)  # (M, K, K * m)
    return weighted @ coef.transpose(0, 2, 1).reshape(-1, coef.shape[1])


def largest(names: Sequence[str], values: NDArray[Any], classes: NDArray[Any], label: Any, n: Any) -> list[Any]:
    """The `n` names with the largest values (n_names, n_classes) for `label`, positive ones only, with the values."""
    check_count(n, "n")
    of_label = values[:, class_index(classes, label)]
    order = np.argsort(-of_label, kind="stable")[:n]
    return [(names[i], float(of_label[i])) for i in order if of_label[i] > 0]


def pandas() -> Any:
    """The module, which is imported when somebody wants a data frame.

    Raises
    ------
    ImportError
        If it is missing; how to install it is said.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_frame needs pandas, which is not installed. Install it with pip install pandas."
        ) from error
    return pd


def frame_of_spans(
    kind: str, names: Sequence[str], spans: Sequence[Span], values: NDArray[Any], classes: NDArray[Any]
) -> DataFrame:
    """A pandas data frame of values (n_names, n_classes): a row a name, called `kind`, with begin and end."""
    pd = pandas()
    begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
    index = pd.MultiIndex.from_arrays([names, begins, ends], names=[kind, "begin", "end"])
    return pd.DataFrame(values, index=index, columns=classes.tolist())


def class_index(classes: NDArray[Any], label: Any, name: str = "label") -> int:
    """Where a label stands among the classes.

    Raises
    ------
    ValueError
        If there is no such class; those that there are, are named.
    """
    known = classes.tolist()
    for i, other in enumerate(known):
        if np.ndim(label) == 0 and other == label:
            return i
    raise ValueError(f"There is no class {label!r}. The {name!r} parameter must be one of {known}.")


def class_indices(classes: NDArray[Any], labels: Sequence[Any]) -> list[int]:
    """Where each of several labels stands among the classes.

    Raises
    ------
    ValueError
        If `labels` is no list of at least one, or there is no such class.
    """
    if isinstance(labels, str) or np.ndim(labels) != 1 or not len(labels):
        raise ValueError(
            f"labels must be a list of at least one class. Got {labels!r} instead; one goes into a list: [label]."
        )
    return [class_index(classes, label, "labels") for label in labels]


def check_y(y: Any, n_texts: int, what: str = "texts") -> list[Any]:
    """Labels of any container as a list, one a text.

    Raises
    ------
    ValueError
        If y is no such container, or of another length.
    """
    labels = y.to_list() if hasattr(y, "to_list") else np.asarray(y).tolist()
    if not isinstance(labels, list):
        raise ValueError(f"y must be a list, array or Series of labels. Got {y!r:.60} instead.")
    if len(labels) != n_texts:
        raise ValueError(f"y must have a label for each of the {n_texts} {what}. Got {len(labels)} instead.")
    return labels


def check_count(value: Any, name: str) -> None:
    """Refuse what is no int of at least 1."""
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1. Got {value!r} instead.")


def check_place(value: Any, name: str, n: int) -> int:
    """A place among `n`."""
    if not isinstance(value, (int, np.integer)) or not 0 <= value < n:
        raise ValueError(f"The {name!r} parameter must be an int from 0 to {n - 1}. Got {value!r} instead.")
    return int(value)
