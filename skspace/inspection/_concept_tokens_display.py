"""Bar chart of the words of a concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skspace.inspection._concepts import ConceptTokens, concept_tokens
from skspace.inspection._plotting import AGAINST, FOR, Fonts, height_of, new_axes
from skspace.inspection._printable import one_line

__all__ = ["ConceptTokensDisplay"]


class ConceptTokensDisplay:
    """Bar chart of the words with the largest effect, of either sign, on a class or on one axis of its space.

    Create it with `from_estimator`, or with `from_concepts` from the result of `concept_tokens`.

    Parameters
    ----------
    words : sequence of str of length n_words
        Names of the bars, from top to bottom.
    values : sequence of float of length n_words
        Lengths of the bars.
    counts : sequence of int of length n_words
        Number of occurrences of each word.
    title : str
        Title of the plot.
    value_name : str
        Label of the value axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last plot.
    figure_ : matplotlib Figure
        Figure of the last plot.
    bars_ : matplotlib BarContainer
        The bars.
    """

    def __init__(
        self, words: Sequence[str], values: Sequence[float], counts: Sequence[int], title: str, value_name: str
    ) -> None:
        self.words, self.values, self.counts = words, values, counts
        self.title, self.value_name = title, value_name

    @classmethod
    def from_estimator(
        cls,
        clf: Any,
        texts: Any,
        *,
        label: Any,
        axis: int | None = None,
        member: int = 0,
        top: int = 10,
        min_count: int = 3,
        ax: Any = None,
    ) -> ConceptTokensDisplay:
        """Find the words and draw them.

        Parameters
        ----------
        clf, texts, top, min_count
            As for `concept_tokens`.
        label : label
            The class.
        axis : int, default=None
            Index of an axis of the class's space. None shows the class's logit.
        member : int, default=0
            Index of the member whose axis is meant; ignored without `axis`.
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        ConceptTokensDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError, sklearn.exceptions.NotFittedError
            As for `concept_tokens` and `ConceptTokens.axis`.
        """
        concepts = concept_tokens(clf, texts, top=top, min_count=min_count)
        return cls.from_concepts(concepts, label=label, axis=axis, member=member, ax=ax)

    @classmethod
    def from_concepts(
        cls, concepts: ConceptTokens, *, label: Any, axis: int | None = None, member: int = 0, ax: Any = None
    ) -> ConceptTokensDisplay:
        """Draw a class, or an axis of its space, from the result of `concept_tokens`.

        Parameters
        ----------
        concepts : ConceptTokens
            Result of `concept_tokens`.
        label, axis, member, ax
            As for `from_estimator`.

        Returns
        -------
        ConceptTokensDisplay

        Raises
        ------
        TypeError
            If `concepts` is not a ConceptTokens.
        ValueError
            If the class, axis or member does not exist.
        """
        if not isinstance(concepts, ConceptTokens):
            raise TypeError(
                f"concepts must be the result of concept_tokens(clf, texts). Got {type(concepts).__name__} instead. "
                "For a classifier call ConceptTokensDisplay.from_estimator."
            )
        if axis is None:
            most, least = (concepts.summary(label, end=end) for end in "+-")
            title, value_name = f"Words for and against {one_line(label)}", "mean contribution to the logit"
        else:
            most, least = (concepts.axis(label, axis, member=member, end=end) for end in "+-")
            title, value_name = f"Axis {axis} of the space of {one_line(label)}", "mean share in the centroid"
        words = [*most, *reversed(least)]
        return cls(
            [word.word for word in words],
            [word.value for word in words],
            [word.count for word in words],
            title,
            value_name,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ConceptTokensDisplay:
        """Draw the bars, largest value at the top; each word is followed by its count.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        ConceptTokensDisplay
            The display itself.
        """
        ax = new_axes(self, ax, (6.0, 1.0 + 0.24 * max(len(self.words), 1)))
        rows = np.arange(len(self.words))
        colours = [FOR if value > 0 else AGAINST for value in self.values]
        self.bars_ = ax.barh(rows, self.values, color=colours)
        fonts = Fonts()
        names = [f"{fonts.printable(word)} ({count})" for word, count in zip(self.words, self.counts, strict=True)]
        size = min(10.0, height_of(ax) / 1.3 / max(len(names), 1))
        ax.set_yticks(rows, names, parse_math=False, family=fonts.families, fontsize=size)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel(self.value_name)
        ax.set_title(fonts.printable(self.title, 80), parse_math=False, family=fonts.families)
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
