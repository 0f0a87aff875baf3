"""Scatter plot of texts or tokens in the space of a class, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from skspace.inspection._checks import check_count, check_index, check_labels, class_index
from skspace.inspection._classifier_access import check_texts_for, is_multilabel, iter_spaces, operators_shape
from skspace.inspection._plotting import MARKERS, MUTED, PALETTE, Fonts, new_axes

__all__ = ["ConceptSpaceDisplay"]


class ConceptSpaceDisplay:
    """Scatter plot of texts, or of their tokens, in the concept space of one class.

    Create it with `from_estimator`.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_components)
        Coordinates.
    labels : sequence of labels of length n_points, or None
        The class of each point's text.
    classes : sequence of labels
        All classes of the classifier.
    space : label
        The class whose space is drawn.
    axis_names : sequence of str of length n_components
        Labels of the axes; "" for an axis without meaning.
    projected : bool
        Whether the axes are principal components. Axes of the space itself lie in [-1, 1].

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last plot.
    figure_ : matplotlib Figure
        Figure of the last plot.
    scatters_ : list of matplotlib PathCollection
        One per class that is drawn.
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
            Texts to draw.
        y : array-like of shape (n_texts,), default=None
            Classes for the colours. None means the predicted classes.
        label : label
            The class whose space is drawn.
        member : int, default=0
            Index of the member.
        on : {"texts", "tokens"}, default="texts"
            Whether to draw the centroids of texts or the context attributions of tokens.
        n_components : {2, 3}, default=2
            Dimensions of the plot. A space with more axes is projected on its principal components.
        max_points : int, default=5000
            Maximum number of points; of more points, evenly spaced ones are drawn.
        ax : matplotlib Axes, default=None
            None draws a new figure. With three components, axes must be made with ``projection="3d"``.

        Returns
        -------
        ConceptSpaceDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is not a SpaceClassifier or was fitted on vectors, or if `texts` contains anything but str.
        ValueError
            If the class or member does not exist, a parameter is outside its choices, `y` has a wrong length or an
            unknown label, `y` is None although a text may have several labels, or there are no points.
        sklearn.exceptions.NotFittedError
            If `clf` is not fitted.
        """
        texts = check_texts_for(clf, texts)
        column = class_index(clf.classes_, label)
        member = check_index(member, "member", operators_shape(clf)[0])
        if on not in ("texts", "tokens"):
            raise ValueError(f"The 'on' parameter must be 'texts' or 'tokens'. Got {on!r} instead.")
        if not isinstance(n_components, (int, np.integer)) or n_components not in (2, 3):
            raise ValueError(f"The 'n_components' parameter must be 2 or 3. Got {n_components!r} instead.")
        check_count(max_points, "max_points")
        classes = _text_classes(clf, texts, y)
        points, text = _points(clf, texts, column, member, on)
        if not len(points):
            raise ValueError(f"There is nothing to draw: the {len(texts)} texts have no tokens. Pass texts with words.")
        kept = np.unique(np.linspace(0, len(points) - 1, min(max_points, len(points))).astype(int))
        points, axis_names, projected = _projected(points, int(n_components))
        return cls(
            points[kept], [classes[i] for i in text[kept]], clf.classes_.tolist(), label, axis_names, projected
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ConceptSpaceDisplay:
        """Draw the points.

        Up to eight classes have their own colours and markers. With more classes, only the class of the space does.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        ConceptSpaceDisplay
            The display itself.
        """
        is_3d = self.points.shape[1] == 3
        given, ax = ax, new_axes(self, ax, (8.0, 5.5) if is_3d else (7.0, 5.0), projection="3d" if is_3d else None)
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
                label=f"{fonts.printable(name)} ({mask.sum()})",
            )
            for name, mask, colour, marker in self._groups()
        ]
        self._label_axes(ax, is_3d)
        title = f"The space of {fonts.printable(self.space)}"
        ax.set_title(title, parse_math=False, family=fonts.families, fontsize="medium" if is_3d else None)
        self._add_legend(ax, fonts, outside=is_3d and given is None)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label_axes(self, ax: Any, is_3d: bool) -> None:
        for axis, name in zip("xyz", self.axis_names, strict=False):
            getattr(ax, f"set_{axis}label")(name)
            if not self.projected and name != "":
                getattr(ax, f"set_{axis}lim")(-1.05, 1.05)
                if is_3d:
                    getattr(ax, f"set_{axis}ticks")([-1, 0, 1])
        if is_3d:
            ax.set_box_aspect(None, zoom=0.85)  # leaves space for the axis labels outside the box
        if self.axis_names[-1] == "":
            ax.set_yticks([])

    def _add_legend(self, ax: Any, fonts: Fonts, *, outside: bool) -> None:
        """Add a legend next to the axes, or `outside` at the figure: the layout leaves no space next to 3-D axes."""
        legend = (ax.figure if outside else ax).legend(
            self.scatters_,
            ["class"] * len(self.scatters_),  # renamed below: matplotlib hides labels that begin with _
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

    def _groups(self) -> list[tuple[str, NDArray[np.bool_], str, str]]:
        """Name, mask of points, colour and marker of each group; the class of the space comes last, on top."""
        labels = np.empty(len(self.points), dtype=object)
        labels[:] = self.labels
        own = labels == self.space
        if len(self.classes) > len(PALETTE):
            return [("all others", ~own, MUTED, "."), (str(self.space), own, PALETTE[0], "o")]
        groups = [
            (str(name), labels == name, PALETTE[i], MARKERS[i])
            for i, name in enumerate(self.classes)
            if (labels == name).any()
        ]
        return sorted(groups, key=lambda group: group[0] == str(self.space))


def _text_classes(clf: Any, texts: list[str], y: Any) -> list[Any]:
    """One class per text, for the colours."""
    if y is None:
        if is_multilabel(clf):
            raise ValueError(
                "y must be given for a classifier with several labels per text: one class per text for the colours. "
                "Got None."
            )
        return clf.predict(texts).tolist()
    labels = check_labels(y, len(texts))
    if labels and np.ndim(labels[0]):
        raise ValueError(
            f"y must be one class per text for the colours, of {clf.classes_.tolist()}. Got {np.ndim(y)} dimensions "
            "instead."
        )
    for label in labels:
        class_index(clf.classes_, label, "y")
    return labels


def _points(clf: Any, texts: list[str], column: int, member: int, on: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Points (n_points, n_latent) in a space, and the index of the text of each."""
    points, text = [], []
    for indices, spaces in iter_spaces(clf, texts):
        values = spaces.centroids if on == "texts" else spaces.concepts
        points.append(values[:, member, column].double().numpy())
        text.append(indices if on == "texts" else np.repeat(indices, spaces.lengths.numpy()))
    return np.concatenate(points), np.concatenate(text)


def _projected(points: NDArray[Any], n_components: int) -> tuple[NDArray[Any], list[str], bool]:
    """Points in at most `n_components` dimensions, the axis names, and whether the points were projected."""
    n_axes = points.shape[1]
    if n_axes == 1:  # a random second coordinate keeps points from hiding each other
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
