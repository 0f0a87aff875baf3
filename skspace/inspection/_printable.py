"""Texts and labels as they can be shown: nothing invisible, one line, so many columns.

Characters only.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Any

import regex

__all__ = ["columns_of", "shown", "visible"]

# What cannot be seen, or turns the direction of the page, so that a reader sees another text than the model has read.
# Joiners and variation selectors stay: emoji and several scripts are written with them.
_HIDDEN = regex.compile(
    r"[[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]--[\t\n\u200c\u200d\p{Variation_Selector}]]", regex.V1
)


def visible(text: str) -> str:
    """With what cannot be seen, or turns the direction of the page, named by its code point; tabs and lines kept."""
    return _HIDDEN.sub(lambda sign: f"⟦U+{ord(sign[0]):04X}⟧", text)


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
