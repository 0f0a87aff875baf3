"""Texts and labels for display: invisible characters made visible, on one line, with a maximum width."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Any

import regex

__all__ = ["columns_of", "one_line", "visible"]

# Characters that are invisible or change the writing direction: a reader would see another text than the model read.
# Joiners and variation selectors stay, since emoji and several scripts need them.
_HIDDEN = regex.compile(
    r"[[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]--[\t\n\u200c\u200d\p{Variation_Selector}]]", regex.V1
)


def visible(text: str) -> str:
    """The text with hidden and direction-changing characters replaced by their code points; tabs and newlines stay."""
    return _HIDDEN.sub(lambda sign: f"⟦U+{ord(sign[0]):04X}⟧", text)


def one_line(text: Any, n: int = 30) -> str:
    """A label or word on one line of at most `n` columns."""
    line = " ".join(visible(str(text)).split())
    ends = list(accumulate(map(columns_of, line), initial=0))
    return line if ends[-1] <= n else line[: bisect_right(ends, n - 1) - 1] + "…"


def columns_of(text: str) -> int:
    """Width of a text in columns of a fixed-width font."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
