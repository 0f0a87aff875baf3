"""Line plot of the losses of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skspace.inspection._classifier_access import check_classifier
from skspace.inspection._plotting import MUTED, PALETTE, new_axes

__all__ = ["TrainingHistoryDisplay"]

_TERMS = ("cross_entropy", "inter_space", "intra_space")


class TrainingHistoryDisplay:
    """Line plot of the terms of the loss per epoch, on the training and the validation texts.

    The terms are drawn without their weights. Create it with `from_estimator`.

    Parameters
    ----------
    history : sequence of dict
        One dict per epoch, as in `SpaceClassifier.history_`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last plot.
    figure_ : matplotlib Figure
        Figure of the last plot.
    lines_ : list of matplotlib Line2D
        One line per term and part of the texts.
    """

    def __init__(self, history: Sequence[dict[str, Any]]) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, clf: Any, *, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw the history of a fitted classifier.

        Parameters
        ----------
        clf : SpaceClassifier
            Fitted.
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `clf` is not a SpaceClassifier.
        sklearn.exceptions.NotFittedError
            If `clf` is not fitted.
        """
        check_classifier(clf)
        return cls(clf.history_).plot(ax=ax)

    def plot(self, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw the lines; with validation texts, a vertical line marks the epoch with their lowest cross-entropy.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None draws a new figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display itself.
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
