"""Texts or tokens in the space of a class: the paper's own picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from skspace._model.concept_operators import Spaces
from skspace.inspection._classifier_access import check_count, check_place, check_texts_for, check_y, class_index, read
from skspace.inspection._plotting import MARKERS, MUTED, PALETTE, Fonts, new_axes

__all__ = ["ConceptSpaceDisplay"]


class ConceptSpaceDisplay:
    """Scatter plot of texts, or of their tokens, in the concept space of one class.

    Make it with `from_estimator`.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_components)
    labels : sequence of labels of length n_points, or None
        The class of each point's text.
    classes : sequence of labels
    space : label
        Whose space it is.
    axis_names : sequence of str of length n_components
    projected : bool
        Whether axes are principal components rather than the space's own, which lie in [-1, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    scatters_ : list of matplotlib PathCollection
    """

    def __init__(
        self,
        points: NDArray[np.float64],
        labels: Sequence[Any] | None,
        classes: Sequence[Any],
        space: Any,
        axis_names: Sequence[str],
        projected: bool,
    ) -> None:
        self.points, self.labels, self.classes = points, labels, classes
        self.space, self.axis_names, self.projected = space, axis_names, projected

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        texts: Any,
        y: Any = None,
        *,
        label: Any,
        member: int = 0,
        on: str = "texts",
        n_components: int = 2,
        max_points: int = 5000,
        ax: Any = None,
    ) -> ConceptSpaceDisplay:
        """Compute the points and draw them.

        Parameters
        ----------
        clf : SpaceClassifier
            Fitted on texts.
        texts : sequence of str of length n_texts
        y : array-like of shape (n_texts,), default=None
            Classes to colour by; the predicted ones where left out.
        label : label
            Whose space.
        member : int, default=0
            Of which member.
        on : {"texts", "tokens"}, default="texts"
            Draw the centroid of every text, or the context attribution of every token.
        n_components : {2, 3}, default=2
            A space with more axes is projected on its principal components, one with fewer is drawn as it is.
        max_points : int, default=5000
            Of more, so many are drawn, evenly spaced in the order of the texts.
        ax : matplotlib Axes, default=None
            A new figure where left out; with three components it must be made with ``projection="3d"``.

        Returns
        -------
        ConceptSpaceDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is no SpaceClassifier or was fitted on vectors; if `texts` are none.
        ValueError
            If there is no such class or member, a parameter is none of its choices, y has another length, a label of y
            is unknown, a text may have several labels and y is left out, or there is nothing to draw.
        sklearn.exceptions.NotFittedError
        """
        texts = check_texts_for(clf, texts)
        column = class_index(clf.classes_, label)
        member = check_place(member, "member", clf.operators_.n_members)
        if on not in ("texts", "tokens"):
            raise ValueError(f"The 'on' parameter must be 'texts' or 'tokens'. Got {on!r} instead.")
        if not isinstance(n_components, (int, np.integer)) or n_components not in (2, 3):
            raise ValueError(f"The 'n_components' parameter must be 2 or 3. Got {n_components!r} instead.")
        check_count(max_points, "max_points")
        classes = _classes_of(clf, texts, y)
        points, text = _points(clf, texts, column, member, on)
        if not len(points):
            raise ValueError(f"There is nothing to draw: the {len(texts)} texts have no tokens.")
        kept = np.unique(np.linspace(0, len(points) - 1, min(max_points, len(points))).astype(int))
        points, axis_names, projected = _projected(points, int(n_components))
        return cls(
            points[kept], [classes[i] for i in text[kept]], clf.classes_.tolist(), label, axis_names, projected
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ConceptSpaceDisplay:
        """Draw.

        Up to eight classes have a colour and a marker each; with more, the space's own class stands out from the rest.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        ConceptSpaceDisplay
            Itself.
        """
        deep = self.points.shape[1] == 3
        given, ax = ax, new_axes(self, ax, (8.0, 5.5) if deep else (7.0, 5.0), projection="3d" if deep else None)
        fonts = Fonts()
        size = float(np.clip(2e4 / max(len(self.points), 1), 6, 30))
        self.scatters_ = [
            ax.scatter(
                *self.points[mask].T,
                s=size,
                color=colour,
                marker=marker,
                alpha=0.7,
                linewidths=0,
                label=f"{fonts.shown(name)} ({mask.sum()})",
            )
            for name, mask, colour, marker in self._kinds()
        ]
        for axis, name in zip("xyz", self.axis_names, strict=False):
            getattr(ax, f"set_{axis}label")(name)
            if not self.projected and name != "":
                getattr(ax, f"set_{axis}lim")(-1.05, 1.05)
                if deep:
                    getattr(ax, f"set_{axis}ticks")([-1, 0, 1])
        if deep:
            ax.set_box_aspect(None, zoom=0.85)  # the names of the axes lie outside the box
        if self.axis_names[-1] == "":
            ax.set_yticks([])
        title = f"The space of {fonts.shown(self.space)}"
        ax.set_title(title, parse_math=False, family=fonts.families, fontsize="medium" if deep else None)
        # Beside axes in 3-D the layout leaves no room for a legend of theirs.
        outside = deep and given is None
        legend = (ax.figure if outside else ax).legend(
            self.scatters_,
            ["class"] * len(self.scatters_),  # named below: a legend leaves out what begins with _
            title="class",
            fontsize="small",
            loc="outside right upper" if outside else "upper left",
            bbox_to_anchor=None if outside else (1.0, 1.0),
            frameon=False,
        )
        for handle, name, scatter in zip(legend.legend_handles, legend.get_texts(), self.scatters_, strict=True):
            handle.set_sizes([30])
            name.set_parse_math(False)
            name.set_text(scatter.get_label())
            name.set_fontfamily(fonts.families)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _kinds(self) -> list[tuple[str, NDArray[np.bool_], str, str]]:
        """Name, points, colour and marker of whatever is drawn alike; the space's own class on top of all."""
        labels = np.empty(len(self.points), dtype=object)
        labels[:] = self.labels
        own = labels == self.space
        if len(self.classes) > len(PALETTE):
            return [("all others", ~own, MUTED, "."), (str(self.space), own, PALETTE[0], "o")]
        kinds = [
            (str(name), labels == name, PALETTE[i], MARKERS[i])
            for i, name in enumerate(self.classes)
            if (labels == name).any()
        ]
        return sorted(kinds, key=lambda kind: kind[0] == str(self.space))


def _classes_of(clf: Any, texts: list[str], y: Any) -> list[Any]:
    """One label a text."""
    if y is None:
        if clf._multilabel:
            raise ValueError(
                "y must be given for a classifier with several labels a text: one class a text to colour by. Got None."
            )
        return clf.predict(texts).tolist()
    labels = check_y(y, len(texts))
    if labels and np.ndim(labels[0]):
        raise ValueError(
            f"y must be one class a text to colour by, of {clf.classes_.tolist()}. Got {np.ndim(y)} dimensions instead."
        )
    for label in labels:
        class_index(clf.classes_, label, "y")
    return labels


def _points(clf: Any, texts: list[str], column: int, member: int, on: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Points (n_points, n_latent) in a space, and the text of each."""

    def of(spaces: Spaces) -> Any:
        return (spaces.centroids if on == "texts" else spaces.concepts)[:, member, column]

    points, text = [], []
    for indices, spaces in read(clf, texts):
        points.append(of(spaces).double().numpy())
        text.append(indices if on == "texts" else np.repeat(indices, spaces.lengths.numpy()))
    return np.concatenate(points), np.concatenate(text)


def _projected(points: NDArray[Any], n_components: int) -> tuple[NDArray[Any], list[str], bool]:
    """Points in at most so many dimensions, the names of the axes, and whether they are projections."""
    n_axes = points.shape[1]
    if n_axes == 1:  # spread out at random, so that points do not hide each other
        spread = np.random.default_rng(0).uniform(-1, 1, len(points))
        return np.column_stack([points[:, 0], spread]), ["axis 0", ""], False
    if n_axes <= n_components:
        return points, [f"axis {j}" for j in range(n_axes)], False
    if len(points) < n_components:
        return points[:, :n_components], [f"axis {j}" for j in range(n_components)], False
    pca = PCA(n_components, svd_solver="full")
    projected = pca.fit_transform(points)
    ratios = np.nan_to_num(pca.explained_variance_ratio_)
    names = [f"principal component {j + 1} ({100 * ratio:.0f}%)" for j, ratio in enumerate(ratios)]
    return projected, names, True
