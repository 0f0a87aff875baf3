"""Shared by the displays: colours, axes and fonts.

matplotlib is imported when something is drawn. Colours are those of Okabe and Ito, which colour-blind readers can tell
apart; classes also differ in their markers.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

from skspace.inspection._printable import one_line, visible

__all__ = ["AGAINST", "FOR", "MARKERS", "MUTED", "PALETTE", "Fonts", "diverging", "height_of", "new_axes"]

FOR, AGAINST, MUTED = "#0072B2", "#D55E00", "#999999"
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8A6D00")
# Fonts for scripts and emoji that matplotlib's own fonts lack; those that are installed are used.
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
    """The given axes, or those of a new figure of this size in inches.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If `ax` is not a matplotlib axes, or is two-dimensional although the projection is 3-D.
    """
    name = type(display).__name__
    pyplot = _pyplot(name)
    if ax is None:
        return pyplot.figure(figsize=size, layout="constrained").add_subplot(projection=projection)
    if not hasattr(ax, "figure") or not hasattr(ax, "plot"):
        raise TypeError(f"ax must be a matplotlib axes or None. Got {type(ax).__name__} instead.")
    if projection == "3d" and getattr(ax, "name", None) != "3d":
        raise TypeError(
            f"{name} with three components needs axes made with projection='3d'. Got two-dimensional ones instead. "
            "Omit ax, or use n_components=2."
        )
    return ax


def diverging() -> Any:
    """Colour map from orange (against the class) over white (zero) to blue (for the class)."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("skspace", [AGAINST, "#FFFFFF", FOR])


def height_of(ax: Any) -> float:
    """Height of axes in points."""
    return float(ax.get_position().height * ax.figure.get_size_inches()[1] * 72)


class Fonts:
    """Fonts for labels and words, with fallbacks for characters that a font lacks.

    Attributes
    ----------
    families : list of str
        Names of font families, in the order in which matplotlib tries them for each character.
    """

    def __init__(self, family: str | None = None) -> None:
        from matplotlib import rcParams
        from matplotlib.font_manager import FontProperties, findfont, fontManager

        installed = set(fontManager.get_font_names())
        own = rcParams["font.family"] if family is None else [family]
        self.families = [*own, *(name for name in _MORE_FONTS if name in installed)]
        self._code_points = [_code_points_of(findfont(FontProperties(family=[name]))) for name in self.families]

    def printable(self, text: Any, n: int = 30) -> str:
        """The text on one line of at most `n` columns; characters that no font has become their code points."""
        return one_line("".join(map(self._printable_sign, visible(str(text)))), n)

    def _printable_sign(self, sign: str) -> str:
        if sign.isspace() or any(ord(sign) in code_points for code_points in self._code_points):
            return sign
        # A joiner or variation selector means nothing without the characters next to it.
        joins = sign in "\u200c\u200d" or unicodedata.name(sign, "").startswith("VARIATION SELECTOR")
        return "" if joins else f"⟦U+{ord(sign):04X}⟧"


@cache
def _code_points_of(path: str) -> frozenset[int]:
    """Code points that a font file covers."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())
