"""What the displays share: the way to matplotlib, colours, axes, fonts.

matplotlib is imported when something is drawn, and by this file only. Colours are Okabe and Ito's, which colour-blind
readers tell apart; classes differ in their markers too.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from skspace.inspection._printable import shown, visible

__all__ = ["AGAINST", "FOR", "MARKERS", "MUTED", "PALETTE", "Fonts", "diverging", "height_of", "new_axes"]

FOR, AGAINST, MUTED = "#0072B2", "#D55E00", "#999999"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8A6D00")
# What matplotlib's own fonts lack, other scripts and emoji, is written in those of these that are installed.
_MORE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Hiragino Sans", "PingFang SC", "Microsoft YaHei"),
    *("Yu Gothic", "Malgun Gothic", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Nirmala UI"),
    *("Noto Sans Thai", "Leelawadee UI", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Ethiopic"),
    *("Noto Emoji", "Noto Sans Symbols 2", "Segoe UI Emoji", "Segoe UI Symbol", "Symbola", "Arial Unicode MS"),
)
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


def height_of(ax: Any) -> float:
    """Of axes, in points."""
    return float(ax.get_position().height * ax.figure.get_size_inches()[1] * 72)


class Fonts:
    """What labels and words are written in.

    Attributes
    ----------
    families : list of str
        As matplotlib wants them, in the order in which they are tried for each sign.
    """

    def __init__(self, family: str | None = None) -> None:
        from matplotlib import rcParams
        from matplotlib.font_manager import FontProperties, findfont, fontManager

        installed = set(fontManager.get_font_names())
        own = rcParams["font.family"] if family is None else [family]
        self.families = [*own, *(name for name in _MORE_FONTS if name in installed)]
        self._signs = [_signs_of(findfont(FontProperties(family=[name]))) for name in self.families]

    def shown(self, text: Any, n: int = 30) -> str:
        """As `shown`; signs that no font has stand there by their code points, as do those that cannot be seen."""
        return shown("".join(map(self._written, visible(str(text)))), n)

    def _written(self, sign: str) -> str:
        if sign.isspace() or any(ord(sign) in signs for signs in self._signs):
            return sign
        # What joins or varies the signs beside it says nothing without them.
        joins = sign in "\u200c\u200d" or unicodedata.name(sign, "").startswith("VARIATION SELECTOR")
        return "" if joins else f"⟦U+{ord(sign):04X}⟧"


@cache
def _signs_of(path: str) -> frozenset[int]:
    """Code points that a font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
