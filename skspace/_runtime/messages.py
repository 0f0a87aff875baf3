"""Warnings that point at the user's own line, and other libraries' errors in one line."""

from __future__ import annotations

import sys
import warnings

__all__ = ["first_line", "warn"]

_LIBRARIES = ("skspace", "sklearn", "joblib")  # through which a user's call passes


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost frame that belongs to none of the libraries between the user and this line."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def first_line(error: Exception) -> str:
    """First line of an error's message, or the error's type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
