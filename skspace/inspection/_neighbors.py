"""Nearest neighbors of texts in concept space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from skspace._input.texts import check_texts
from skspace.inspection._checks import check_count, check_labels
from skspace.inspection._classifier_access import check_classifier, is_multilabel, predicted_labels
from skspace.inspection._tables import import_pandas

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Neighbors", "neighbors"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The reference texts nearest to one text, nearest first.

    Attributes
    ----------
    text : str
        The text that was asked about.
    predicted : label or list of labels
        A list if a text may have several labels.
    indices : ndarray of int64 of shape (n_neighbors,)
        Rows of the reference texts.
    distances : ndarray of shape (n_neighbors,)
        Distances between the centroids in all spaces.
    texts : list of str of length n_neighbors
        The reference texts themselves.
    labels : list of length n_neighbors, or None
        Labels of the reference texts, as in `predicted`. None if they were not given.
    """

    text: str
    predicted: Any
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    texts: list[str]
    labels: list[Any] | None

    def to_frame(self) -> DataFrame:
        """A pandas data frame with one row per neighbor: index, distance, text and, if known, label."""
        columns = {"index": self.indices, "distance": self.distances, "text": self.texts}
        return import_pandas().DataFrame(columns if self.labels is None else columns | {"label": self.labels})


def neighbors(
    clf: Any, texts: Any, reference_texts: Any, y: Any = None, *, n_neighbors: int = 5, metric: str = "euclidean"
) -> list[Neighbors]:
    """Find the reference texts that lie closest to each text in concept space, as evidence for a prediction.

    Parameters
    ----------
    clf : SpaceClassifier
        Fitted on texts.
    texts : sequence of str of length n_texts
    reference_texts : sequence of str of length n_references
        Texts to search, for example the training texts.
    y : array-like of shape (n_references,) or (n_references, n_classes), default=None
        Labels of the reference texts.
    n_neighbors : int, default=5
        Number of neighbors, or the number of reference texts if that is smaller.
    metric : str, default="euclidean"
        Metric of `sklearn.neighbors.NearestNeighbors`.

    Returns
    -------
    list of Neighbors
        One per text.

    Raises
    ------
    TypeError
        If `clf` is not a SpaceClassifier or was fitted on vectors, or if the texts contain anything but str.
    ValueError
        If the shape of `y` does not fit the reference texts and classes, or `n_neighbors` is not an int of at least 1.
    sklearn.exceptions.NotFittedError
        If `clf` is not fitted.

    Notes
    -----
    Distances are measured between the outputs of `SpaceClassifier.transform`: the centroids in every space of every
    member. Neighbors resemble a text in the model's view; they do not explain its prediction. For that use
    `token_contributions`. A text that is among the reference texts is its own nearest neighbor, at distance 0.
    """
    check_classifier(clf)
    if clf.encoder_ is None:
        raise TypeError(
            "clf must be fitted on texts. Got a classifier fitted on vectors instead. Use "
            "sklearn.neighbors.NearestNeighbors on clf.transform(X)."
        )
    texts, reference_texts = check_texts(texts), check_texts(reference_texts, name="reference_texts")
    labels = None if y is None else _reference_labels(clf, y, len(reference_texts))
    check_count(n_neighbors, "n_neighbors")
    index = NearestNeighbors(n_neighbors=min(n_neighbors, len(reference_texts)), metric=metric)
    index.fit(clf.transform(reference_texts))
    distances, rows = index.kneighbors(clf.transform(texts))
    return [
        Neighbors(
            text,
            predicted,
            near,
            far.astype(np.float64),
            [reference_texts[i] for i in near],
            None if labels is None else [labels[i] for i in near],
        )
        for text, predicted, near, far in zip(texts, predicted_labels(clf, texts), rows, distances, strict=True)
    ]


def _reference_labels(clf: Any, y: Any, n_texts: int) -> list[Any]:
    if not is_multilabel(clf):
        return check_labels(y, n_texts, "reference_texts")
    matrix = np.asarray(y)
    if matrix.shape != (n_texts, len(clf.classes_)):
        raise ValueError(
            f"y must be a matrix of zeros and ones of shape ({n_texts}, {len(clf.classes_)}), since a text may have "
            f"several labels: one row per reference text, one column per class. Got shape {matrix.shape} instead."
        )
    return [clf.classes_[row > 0].tolist() for row in matrix]
