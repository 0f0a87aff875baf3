"""scikit-learn's own callbacks (from version 1.9 on): a fit as a task whose epochs are subtasks.

This file only reports; it knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn 1.8 has none

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in: there is nothing to support."""

    def with_callbacks(method: Any) -> Any:
        return method


__all__ = ["CallbackSupportMixin", "FitTask", "with_callbacks"]


class FitTask:
    """Report the progress of a fit to an estimator's callbacks and to those of the search around it.

    Parameters
    ----------
    estimator : estimator
        Derived from `CallbackSupportMixin`.
    X, y : the training data
    n_epochs : int
        Upper limit.
    attributes : callable
        From a snapshot of the model to the fitted attributes with which a copy of the estimator predicts as the model
        did then. Called only if a callback asks.
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, n_epochs: int, attributes: Callable[[Any], dict[str, Any]]
    ) -> None:
        self.arguments = {"estimator": estimator, "X": X, "y": y}
        self.attributes = attributes
        self.context: Any = None
        self.epoch: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=n_epochs)
            self.context.call_on_fit_task_begin(**self.arguments)

    @property
    def watched(self) -> bool:
        """Whether any callback listens."""
        return bool(getattr(self.arguments["estimator"], "_skl_callbacks", ()))

    def begin_epoch(self) -> None:
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.arguments)

    def end_epoch(self, snapshot: Callable[[], Any]) -> bool:
        """Return whether a callback asks to stop after this epoch."""
        last = self.epoch.call_on_fit_task_end(
            reconstruction_attributes=lambda: self.attributes(snapshot()), **self.arguments
        )
        return bool(last)

    def end(self) -> None:
        if self.context is not None:
            self.context.call_on_fit_task_end(reconstruction_attributes={}, **self.arguments)
