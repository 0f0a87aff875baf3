"""Warnings that point at the line of the user's own code, however deep they arise.

Standard library only.
"""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_LIBRARIES = ("skspace", "sklearn", "joblib")  # through which a user's call passes


def warn(message: str) -> None:
    """A UserWarning at the innermost frame that belongs to none of the libraries between."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
