"""Spans of the words of a text, and the assignment of tokens to them.

Only characters count here; tokenizer and model are not involved. In scripts without spaces between words (Thai, Lao,
Khmer), everything between two spaces is one word; users pass their own spans there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

__all__ = ["Span", "check_spans", "span_of_each_token", "spans_of_tokens", "unread_part", "word_spans"]

Span = tuple[int, int]

# A word keeps its apostrophes (don't), and a tag or handle its sign (#topic, @name). Each ideograph or kana is a word,
# as in BERT's tokenizer. A run of other signs is one word (!!, an emoji with its modifiers).
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*"
    r"|[#@]?[[\p{L}\p{M}\p{N}_]--[\p{Han}\p{Hiragana}\p{Katakana}]]+(?:['’][\p{L}\p{M}\p{N}_]+)*"
    r"|[^\s\p{L}\p{N}_]+?(?=[#@][\p{L}\p{N}_])"
    r"|[^\s\p{L}\p{N}_]+",
    regex.V1,
)

_READABLE = regex.compile(r"[^\s\p{M}\p{C}]")


def word_spans(text: str) -> list[Span]:
    """Spans (begin, end) of the words and signs of a text, in characters and in order."""
    return [match.span() for match in _WORD.finditer(text)]


def unread_part(text: str, end: int) -> str:
    """The text after `end`, or an empty str if only spaces, marks and control characters follow."""
    return text[end:] if _READABLE.search(text, end) else ""


def check_spans(spans: Any, n_characters: int) -> list[Span]:
    """Spans that a user passes, sorted.

    Raises
    ------
    ValueError
        If a span is not a pair (begin, end) within the text, is empty, or overlaps another.
    """
    try:
        pairs = sorted((index(begin), index(end)) for begin, end in spans)
    except (TypeError, ValueError) as error:
        raise ValueError(f"spans must be pairs (begin, end) of int. Got {spans!r:.200} instead.") from error
    for begin, end in pairs:
        if not 0 <= begin < end <= n_characters:
            raise ValueError(
                f"spans must lie within the text, 0 <= begin < end <= {n_characters}. Got ({begin}, {end}) instead."
            )
    for (begin, end), (next_begin, next_end) in pairwise(pairs):
        if next_begin < end:
            raise ValueError(
                f"spans must not overlap. Got ({begin}, {end}) and ({next_begin}, {next_end}) instead. Merge "
                "them or omit one."
            )
    return pairs


def spans_of_tokens(tokens: Sequence[Span], spans: Sequence[Span]) -> tuple[list[Span], NDArray[np.int64]]:
    """The spans, extended where needed, and for each token the index of its span or -1.

    A token may cover several spans, such as two ideographs. It then belongs to one of them, and this span is extended
    over those neighbours that have no token of their own.
    """
    owner = span_of_each_token(tokens, spans)
    free = np.ones(len(spans), bool)
    free[owner[owner >= 0]] = False
    extended = list(spans)
    for (begin, end), own in zip(tokens, owner.tolist(), strict=True) if free.any() else ():
        if own < 0:
            continue
        first = last = own
        while first > 0 and free[first - 1] and spans[first - 1][1] > begin:
            first -= 1
        while last + 1 < len(spans) and free[last + 1] and spans[last + 1][0] < end:
            last += 1
        free[first : last + 1] = False
        extended[own] = min(extended[own][0], spans[first][0]), max(extended[own][1], spans[last][1])
    return extended, owner


def span_of_each_token(tokens: Sequence[Span], spans: Sequence[Span]) -> NDArray[np.int64]:
    """For each token the index of the span with which it shares most characters (the first if several do), or -1.

    `spans` are sorted and do not overlap. A token without characters belongs to the span that begins there, such as the
    space before a word in byte-level tokenizers. Special tokens, at (0, 0), belong to none.
    """
    if not tokens or not spans:
        return np.full(len(tokens), -1)
    begins, ends = np.array(spans).T
    token_begins, token_ends = np.array(tokens).T
    token_ends = np.maximum(token_ends, token_begins + (token_begins > 0))
    first = np.searchsorted(ends, token_begins, side="right")  # the first span that ends after the token's begin
    last = np.searchsorted(begins, token_ends, side="left")  # the first span that begins at or after its end
    found = np.where(first < last, first, -1)
    for i in np.flatnonzero(last - first > 1):
        shared = np.minimum(ends, token_ends[i]) - np.maximum(begins, token_begins[i])
        found[i] = int(shared.argmax())
    return found
