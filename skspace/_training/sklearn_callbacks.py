"""scikit-learn's own callbacks (from version 1.9 on): a fit as a task whose epochs are subtasks.

Only door to sklearn.callback. Nothing here knows what an epoch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn 1.8 has none

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Take the place of the real one: there is nothing to support."""

    def with_callbacks(method: Any) -> Any:
        return method


__all__ = ["CallbackSupportMixin", "FitTask", "with_callbacks"]


class FitTask:
    """Tell an estimator's callbacks, and those of the search around it, what its fit is at.

    Parameters
    ----------
    estimator : estimator
        Derived from `CallbackSupportMixin`.
    X, y : what is learned from
    n_epochs : int
        At most; may end earlier.
    attributes : callable
        From what `end_epoch` is called with to the attributes that make a copy of the estimator predict as of then.
        Called only if a callback asks.
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, n_epochs: int, attributes: Callable[[Any], dict[str, Any]]
    ) -> None:
        self.said = {"estimator": estimator, "X": X, "y": y}
        self.attributes = attributes
        self.context: Any = None
        self.epoch: Any = None
        if hasattr(estimator, "_init_callback_context"):
            self.context = estimator._init_callback_context(max_subtasks=n_epochs)
            self.context.call_on_fit_task_begin(**self.said)

    @property
    def watched(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(getattr(self.said["estimator"], "_skl_callbacks", ()))

    def begin_epoch(self) -> None:
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.said)

    def end_epoch(self, state: Any) -> bool:
        """Return whether a callback wants this epoch to be the last."""
        return bool(
            self.epoch.call_on_fit_task_end(reconstruction_attributes=lambda: self.attributes(state), **self.said)
        )

    def end(self) -> None:
        if self.context is not None:
            self.context.call_on_fit_task_end(reconstruction_attributes={}, **self.said)
