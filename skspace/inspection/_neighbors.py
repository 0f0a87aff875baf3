"""Nearest reasons: the known texts that lie closest in concept space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from skspace._input.texts import check_texts
from skspace.inspection._classifier_access import check_classifier, check_count, check_y, pandas

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Neighbors", "neighbors"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The reference texts nearest to one text, nearest first.

    Attributes
    ----------
    text : str
    predicted : label, or list of labels with several a text
    indices : ndarray of int64 of shape (n_neighbors,)
        Rows of the reference texts.
    distances : ndarray of shape (n_neighbors,)
        Between centroids, in all spaces together.
    texts : list of str of length n_neighbors
    labels : list of length n_neighbors, or None
        As they were given; with several a text the list of each text's, as in `predicted`.
    """

    text: str
    predicted: Any
    indices: NDArray[np.int64]
    distances: NDArray[np.float64]
    texts: list[str]
    labels: list[Any] | None

    def to_frame(self) -> DataFrame:
        """A pandas data frame, a row a neighbor: index, distance, text and, where known, label."""
        columns = {"index": self.indices, "distance": self.distances, "text": self.texts}
        return pandas().DataFrame(columns if self.labels is None else columns | {"label": self.labels})


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
        The training texts, say.
    y : array-like of shape (n_references,) or (n_references, n_classes), default=None
        Their labels.
    n_neighbors : int, default=5
        Fewer where there are not so many reference texts.
    metric : str, default="euclidean"
        As for `sklearn.neighbors.NearestNeighbors`.

    Returns
    -------
    list of Neighbors
        One a text.

    Raises
    ------
    TypeError
        If `clf` is no SpaceClassifier or was fitted on vectors; if the texts are none.
    ValueError
        If y has another length than the reference texts or, with several labels a text, is no such matrix, or
        n_neighbors is no int of at least 1.
    sklearn.exceptions.NotFittedError

    Notes
    -----
    Distance is that of `SpaceClassifier.transform`: of centroids in every space of every member. Neighbors are similar
    in what the model looks at; that does not make them the reason of its answer, which `token_contributions` gives. A
    text that is among the reference texts is its own nearest neighbor, at distance 0.
    """
    check_classifier(clf)
    if clf.encoder_ is None:
        raise TypeError(
            "clf must be fitted on texts. Got a classifier fitted on vectors instead; use "
            "sklearn.neighbors.NearestNeighbors on clf.transform(X)."
        )
    texts, reference_texts = check_texts(texts), check_texts(reference_texts, name="reference_texts")
    labels = None if y is None else _labels(clf, y, len(reference_texts))
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
        for text, predicted, near, far in zip(texts, _predicted(clf, texts), rows, distances, strict=True)
    ]


def _labels(clf: Any, y: Any, n_texts: int) -> list[Any]:
    if not clf._multilabel:
        return check_y(y, n_texts, "reference_texts")
    matrix = np.asarray(y)
    if matrix.shape != (n_texts, len(clf.classes_)):
        raise ValueError(
            f"y must be a matrix of zeros and ones of shape ({n_texts}, {len(clf.classes_)}), since a text may have "
            f"several labels: a row a reference text, a column a class. Got shape {matrix.shape} instead."
        )
    return [clf.classes_[row > 0].tolist() for row in matrix]


def _predicted(clf: Any, texts: list[str]) -> list[Any]:
    predicted = clf.predict(texts)
    return [clf.classes_[row > 0].tolist() for row in predicted] if clf._multilabel else predicted.tolist()
