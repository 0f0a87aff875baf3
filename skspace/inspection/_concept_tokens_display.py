"""The words of a concept as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skspace.inspection._concepts import ConceptTokens, concept_tokens
from skspace.inspection._plotting import AGAINST, FOR, Fonts, height_of, new_axes
from skspace.inspection._printable import shown

__all__ = ["ConceptTokensDisplay"]


class ConceptTokensDisplay:
    """Bar chart of the words that push a class, or one axis of its space, most to either side.

    Make it with `from_estimator`, or with `from_concepts` where `concept_tokens` has run already.

    Parameters
    ----------
    words : sequence of str of length n_words
    values : sequence of float of length n_words
    counts : sequence of int of length n_words
    title : str
    value_name : str
        What the values are.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
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
            Which class.
        axis : int, default=None
            One axis of the class's space; the class's logit where left out.
        member : int, default=0
            Whose axis; of no meaning without `axis`.
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        ConceptTokensDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError, sklearn.exceptions.NotFittedError
            As `concept_tokens` and `ConceptTokens.axis`.
        """
        concepts = concept_tokens(clf, texts, top=top, min_count=min_count)
        return cls.from_concepts(concepts, label=label, axis=axis, member=member, ax=ax)

    @classmethod
    def from_concepts(
        cls, concepts: ConceptTokens, *, label: Any, axis: int | None = None, member: int = 0, ax: Any = None
    ) -> ConceptTokensDisplay:
        """Draw a class, or an axis of its space, of what `concept_tokens` returned.

        Raises
        ------
        TypeError
            If `concepts` is something else.
        ValueError
            If there is no such class, axis or member.
        """
        if not isinstance(concepts, ConceptTokens):
            raise TypeError(
                f"concepts must be what concept_tokens(clf, texts) returned. Got {type(concepts).__name__} instead; "
                "with a classifier call ConceptTokensDisplay.from_estimator."
            )
        if axis is None:
            most, least = (concepts.summary(label, end=end) for end in "+-")
            title, value_name = f"Words for and against {shown(label)}", "mean contribution to the logit"
        else:
            most, least = (concepts.axis(label, axis, member=member, end=end) for end in "+-")
            title, value_name = f"Axis {axis} of the space of {shown(label)}", "mean share in the centroid"
        words = [*most, *reversed(least)]
        return cls(
            [word.word for word in words],
            [word.value for word in words],
            [word.count for word in words],
            title,
            value_name,
        ).plot(ax=ax)

    def plot(self, ax: Any = None) -> ConceptTokensDisplay:
        """Draw, largest at the top; how often a word occurs stands beside it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        ConceptTokensDisplay
            Itself.
        """
        ax = new_axes(self, ax, (6.0, 1.0 + 0.24 * max(len(self.words), 1)))
        rows = np.arange(len(self.words))
        colours = [FOR if value > 0 else AGAINST for value in self.values]
        self.bars_ = ax.barh(rows, self.values, color=colours)
        fonts = Fonts()
        names = [f"{fonts.shown(word)} ({count})" for word, count in zip(self.words, self.counts, strict=True)]
        size = min(10.0, height_of(ax) / 1.3 / max(len(names), 1))
        ax.set_yticks(rows, names, parse_math=False, family=fonts.families, fontsize=size)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel(self.value_name)
        ax.set_title(fonts.shown(self.title, 80), parse_math=False, family=fonts.families)
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
