"""The losses of a fit over its epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skspace.inspection._classifier_access import check_classifier
from skspace.inspection._plotting import MUTED, PALETTE, new_axes

__all__ = ["TrainingHistoryDisplay"]

_TERMS = ("cross_entropy", "inter_space", "intra_space")


class TrainingHistoryDisplay:
    """Line plot of the terms of the loss, epoch by epoch, on the training and the validation texts.

    Terms are drawn without their weights. Make it with `from_estimator`.

    Parameters
    ----------
    history : sequence of dict
        As `SpaceClassifier.history_`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
    """

    def __init__(self, history: Sequence[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, clf: Any, *, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw the history of a fitted classifier.

        Parameters
        ----------
        clf : SpaceClassifier
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is no SpaceClassifier.
        sklearn.exceptions.NotFittedError
        """
        check_classifier(clf)
        return cls(clf.history_).plot(ax=ax)

    def plot(self, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw; with validation texts, a line marks the epoch with the lowest cross-entropy on them.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure where left out.

        Returns
        -------
        TrainingHistoryDisplay
            Itself.
        """
        ax = new_axes(self, ax, (7.5, 4.0))
        epochs = [row["epoch"] for row in self.history]
        self.lines_ = []
        for colour, term in zip(PALETTE, _TERMS, strict=False):
            for part, style in (("train", "-"), ("valid", "--")):
                values = [row.get(f"{part}_{term}") for row in self.history]
                if any(value is not None for value in values):
                    (line,) = ax.plot(
                        epochs,
                        [float("nan") if value is None else value for value in values],
                        style,
                        color=colour,
                        marker="o",
                        markersize=3,
                        label=f"{term.replace('_', '-')}, {'training' if part == 'train' else 'validation'}",
                    )
                    self.lines_.append(line)
        validated = [(row["valid_cross_entropy"], row["epoch"]) for row in self.history if "valid_cross_entropy" in row]
        if validated:
            ax.axvline(min(validated)[1], color=MUTED, linewidth=1, linestyle=":", label="lowest on validation")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
