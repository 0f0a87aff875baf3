"""What the displays share: the way to matplotlib, colours, axes.

matplotlib is imported when something is drawn, and by this file only. Colours are Okabe and Ito's, which colour-blind
readers tell apart; classes differ in their markers too.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from skspace.inspection._html import visible

__all__ = ["AGAINST", "FOR", "MARKERS", "MUTED", "PALETTE", "columns_of", "diverging", "new_axes", "shown"]

FOR, AGAINST, MUTED = "#0072B2", "#D55E00", "#999999"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8A6D00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def _pyplot(display: str) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            f"{display}.plot needs matplotlib, which is not installed. Install it with pip install 'skspace[plot]'."
        ) from error
    return pyplot


def new_axes(display: Any, ax: Any, size: tuple[float, float], *, projection: str | None = None) -> Any:
    """The axes that were given, or those of a new figure of that size in inches.

    Raises
    ------
    ImportError
        If matplotlib is missing; the extra that brings it is named.
    TypeError
        If `ax` is no matplotlib axes, or is flat where something is drawn in 3-D.
    """
    name = type(display).__name__
    pyplot = _pyplot(name)
    if ax is None:
        return pyplot.figure(figsize=size, layout="constrained").add_subplot(projection=projection)
    if not hasattr(ax, "figure") or not hasattr(ax, "plot"):
        raise TypeError(f"ax must be a matplotlib axes or None. Got {type(ax).__name__} instead.")
    if projection == "3d" and getattr(ax, "name", None) != "3d":
        raise TypeError(
            f"{name} with three components needs axes made with projection='3d'. Got flat ones instead; leave ax out, "
            "or use n_components=2."
        )
    return ax


def diverging() -> Any:
    """Orange for against, white for nothing, blue for."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("skspace", [AGAINST, "#FFFFFF", FOR])


def shown(text: Any, n: int = 30) -> str:
    """A label or word on one line, of `n` columns at most."""
    line = " ".join(visible(str(text)).split())
    ends = list(accumulate(map(columns_of, line), initial=0))
    return line if ends[-1] <= n else line[: bisect_right(ends, n - 1) - 1] + "…"


def columns_of(text: str) -> int:
    """How many columns of a fixed-width font a text takes."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
