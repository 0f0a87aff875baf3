"""Heat map of the token contributions of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._checks import check_count, class_indices
from skspace.inspection._contributions import token_contributions
from skspace.inspection._plotting import Fonts, diverging, height_of, new_axes
from skspace.inspection._printable import columns_of

__all__ = ["TokenContributionsDisplay"]

_MAX_CLASSES = 3
_ROW, _GAP = 0.75, 0.4  # heights of a class's row and of the space below a line, relative to the height of the words


class _Cell(NamedTuple):
    line: int
    left: int
    right: int
    word: str


class TokenContributionsDisplay:
    """Heat map of a text: its words in lines, and below each word its contributions to the logits.

    Create it with `from_estimator`, or from the attributes of a `TokenContributions`.

    Parameters
    ----------
    tokens : sequence of str of length n_tokens
        Tokens or words of the text, in order.
    contributions : ndarray of shape (n_tokens, n_labels)
        Contributions to the logits.
    labels : sequence of labels of length n_labels
        Classes of the columns, drawn as rows from top to bottom.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last plot.
    figure_ : matplotlib Figure
        Figure of the last plot.
    colorbar_ : matplotlib Colorbar
        The colour bar.
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
            The text to explain.
        labels : sequence of labels, default=None
            Classes to show. None means the three with the largest logits. With two classes only the predicted one is
            shown, since words for one class are words against the other.
        words : bool, default=True
            Whether to join word pieces into words.
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        TokenContributionsDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is not a SpaceClassifier or was fitted on vectors, or `text` is not a str.
        ValueError
            If a label is not a class, or `labels` is not a list of at least one class.
        sklearn.exceptions.NotFittedError
            If `clf` is not fitted.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be one str. Got {type(text).__name__} instead. Draw one text at a time.")
        (explanation,) = token_contributions(clf, [text])
        if labels is None:
            n = 1 if len(explanation.classes) == 2 and not explanation.multilabel else _MAX_CLASSES
            columns = np.argsort(-explanation.logits, kind="stable")[:n].tolist()
        else:
            columns = class_indices(explanation.classes, labels)
        classes = explanation.classes[columns].tolist()
        explanation = explanation.words() if words else explanation
        return cls(explanation.tokens, explanation.contributions[:, columns], classes).plot(ax=ax)

    def plot(self, ax: Any = None, *, width: int = 72) -> TokenContributionsDisplay:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws a new figure, as high as the text needs.
        width : int, default=72
            Characters per line.

        Returns
        -------
        TokenContributionsDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `width` is not an int of at least 1.
        """
        check_count(width, "width")
        given, ax = ax, new_axes(self, ax, (8.5, 2.0))
        mono, fonts = Fonts("monospace"), Fonts()
        cells = list(_cells([mono.printable(token, width) for token in self.tokens], width))
        n_lines, n_labels = (cells[-1][0] + 1 if cells else 1), len(self.labels)
        height = 1 + _ROW * n_labels + _GAP  # of a line
        if given is None:
            ax.figure.set_size_inches(8.5, 1.0 + 0.26 * height * n_lines)
        heat = self._heat(cells, height)
        ax.add_collection(heat)
        ax.set_xlim(-0.5, width + 0.5)
        ax.set_ylim(n_lines * height, -0.2)
        ticks = [line * height + 1 + _ROW * (i + 0.5) for line in range(n_lines) for i in range(n_labels)]
        names = [fonts.printable(label) for label in self.labels] * n_lines
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
        ax.figure.draw_without_rendering()  # lays out labels and colour bar first; the words use the remaining space
        size = _size_of_words(ax, width, n_lines * height + 0.2)
        ax.tick_params(labelsize=min(10.0, _ROW / 1.3 * height_of(ax) / (n_lines * height + 0.2)))
        for line, left, right, name in cells:
            place = (left + right) / 2, line * height + 0.55
            ax.text(*place, name, ha="center", va="center", family=mono.families, fontsize=size, parse_math=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _heat(self, cells: list[_Cell], height: float) -> Any:
        """Coloured boxes below the words, one row per class."""
        from matplotlib.collections import PolyCollection

        boxes = []
        for line, left, right, _ in cells:
            for i in range(len(self.labels)):
                top = line * height + 1 + _ROW * i
                boxes.append([(left, top), (right, top), (right, top + _ROW), (left, top + _ROW)])
        values = np.ravel(self.contributions)
        heat = PolyCollection(boxes, array=values, cmap=diverging(), edgecolors="#DDDDDD", linewidths=0.5)
        scale = float(np.abs(values).max(initial=0.0)) or 1.0
        heat.set_clim(-scale, scale)
        return heat


def _cells(words: Sequence[str], width: int) -> Iterator[_Cell]:
    """Positions of words in lines of `width` columns of a fixed-width font."""
    line, left = 0, 0
    for word in words:
        n = columns_of(word) + 1
        if left and left + n > width:
            line, left = line + 1, 0
        yield _Cell(line, left, left + n, word)
        left += n


def _size_of_words(ax: Any, width: int, height: float) -> float:
    """Font size in points that fits the width and height; characters are about 0.6 of the size wide."""
    across = ax.get_position().width * ax.figure.get_size_inches()[0] * 72 / (width + 1)
    return min(11.0, across / 0.62, height_of(ax) / 1.2 / height)
