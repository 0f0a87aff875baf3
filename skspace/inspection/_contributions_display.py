"""A text as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._classifier_access import check_count, class_indices
from skspace.inspection._contributions import token_contributions
from skspace.inspection._plotting import Fonts, diverging, height_of, new_axes
from skspace.inspection._printable import columns_of

__all__ = ["TokenContributionsDisplay"]

_CLASSES = 3
_ROW, _GAP = 0.75, 0.4  # heights of a class's row, and of what is free below a line; that of the words is 1


class TokenContributionsDisplay:
    """Heat map of a text: its words in lines, and under each what it contributed to the logits.

    Make it with `from_estimator`, or from a `TokenContributions` at hand.

    Parameters
    ----------
    tokens : sequence of str of length n_tokens
    contributions : ndarray of shape (n_tokens, n_labels)
    labels : sequence of labels of length n_labels
        In the order of the rows.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    colorbar_ : matplotlib Colorbar
    """

    def __init__(self, tokens: Sequence[str], contributions: NDArray[np.float64], labels: Sequence[Any]) -> None:
        self.tokens, self.contributions, self.labels = tokens, contributions, labels

    @classmethod
    def from_estimator(
        cls, clf: Any, text: str, *, labels: Sequence[Any] | None = None, words: bool = True, ax: Any = None
    ) -> TokenContributionsDisplay:
        """Explain one text and draw it.

        Parameters
        ----------
        clf : SpaceClassifier
            Fitted on texts.
        text : str
        labels : sequence of labels, default=None
            Which classes. Where left out the three with the largest logits; of two classes only the larger one, since
            what speaks for one speaks against the other.
        words : bool, default=True
            Put word pieces together.
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        TokenContributionsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is no SpaceClassifier or was fitted on vectors, or `text` is not one str.
        ValueError
            If there is no such class, or `labels` is no list of at least one.
        sklearn.exceptions.NotFittedError
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be one str. Got {type(text).__name__} instead; draw one text at a time.")
        (one,) = token_contributions(clf, [text])
        if labels is None:
            n = 1 if len(one.classes) == 2 and not one.multilabel else _CLASSES
            columns = np.argsort(-one.logits, kind="stable")[:n].tolist()
        else:
            columns = class_indices(one.classes, labels)
        one = one.words() if words else one
        return cls(one.tokens, one.contributions[:, columns], one.classes[columns].tolist()).plot(ax=ax)

    def plot(self, ax: Any = None, *, width: int = 72) -> TokenContributionsDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure where left out, as high as the text needs.
        width : int, default=72
            Characters a line.

        Returns
        -------
        TokenContributionsDisplay
            Itself.

        Raises
        ------
        ValueError
            If `width` is no int of at least 1.
        """
        check_count(width, "width")
        given, ax = ax, new_axes(self, ax, (8.5, 2.0))
        mono, fonts = Fonts("monospace"), Fonts()
        cells = list(_cells([mono.shown(token, width) for token in self.tokens], width))
        n_lines, n_labels = (cells[-1][0] + 1 if cells else 1), len(self.labels)
        height = 1 + _ROW * n_labels + _GAP  # of a line
        if given is None:
            ax.figure.set_size_inches(8.5, 1.0 + 0.26 * height * n_lines)
        scale = float(np.abs(self.contributions).max(initial=0.0)) or 1.0
        from matplotlib.collections import PolyCollection

        boxes, values = [], []
        for (line, left, right, _), row in zip(cells, self.contributions, strict=True):
            for i, value in enumerate(row):
                y0 = line * height + 1 + _ROW * i
                boxes.append([(left, y0), (right, y0), (right, y0 + _ROW), (left, y0 + _ROW)])
                values.append(value)
        heat = PolyCollection(boxes, array=np.array(values), cmap=diverging(), edgecolors="#DDDDDD", linewidths=0.5)
        heat.set_clim(-scale, scale)
        ax.add_collection(heat)
        ax.set_xlim(-0.5, width + 0.5)
        ax.set_ylim(n_lines * height, -0.2)
        ticks = [line * height + 1 + _ROW * (i + 0.5) for line in range(n_lines) for i in range(n_labels)]
        names = [fonts.shown(label) for label in self.labels] * n_lines
        ax.set_yticks(ticks, names, parse_math=False, family=fonts.families)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        inches = height_of(ax) / 72
        self.colorbar_ = ax.figure.colorbar(
            heat,
            ax=ax,
            label="contribution to the logit",
            location="bottom",
            shrink=0.5,
            aspect=30,
            fraction=min(0.3, 0.4 / inches),
            pad=min(0.1, 0.1 / inches),
        )
        ax.figure.draw_without_rendering()  # labels and colour bar take their room, and words have what is left
        size = _size_of_words(ax, width, n_lines * height + 0.2)
        ax.tick_params(labelsize=min(10.0, _ROW / 1.3 * height_of(ax) / (n_lines * height + 0.2)))
        for line, left, right, name in cells:
            place = (left + right) / 2, line * height + 0.55
            ax.text(*place, name, ha="center", va="center", family=mono.families, fontsize=size, parse_math=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _cells(words: Sequence[str], width: int) -> Any:
    """(line, left, right, word) of every word, in columns of a fixed-width font."""
    line, left = 0, 0
    for word in words:
        n = columns_of(word) + 1
        if left and left + n > width:
            line, left = line + 1, 0
        yield line, left, left + n, word
        left += n


def _size_of_words(ax: Any, width: int, height: float) -> float:
    """In points, of a font whose characters are some 0.6 of its size wide."""
    across = ax.get_position().width * ax.figure.get_size_inches()[0] * 72 / (width + 1)
    return min(11.0, across / 0.62, height_of(ax) / 1.2 / height)
