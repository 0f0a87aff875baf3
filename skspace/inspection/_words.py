"""Where words begin and end in a text, and which tokens belong to which of them.

Characters only: no tokenizer, no model. Scripts that write no spaces and whose signs are no words (Thai, Lao, Khmer)
come out as one word between spaces; give spans of your own there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

__all__ = ["check_spans", "span_of_each_token", "spans_of_tokens", "unread", "word_spans"]

Span = tuple[int, int]

# A word keeps its apostrophes (don't), a tag or handle its sign (#topic, @name); ideographs and kana stand alone, as in
# BERT's tokenizer; other signs in a row are one unit (!!, an emoji with its modifiers).
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}]\p{M}*"
    r"|[#@]?[[\p{L}\p{M}\p{N}_]--[\p{Han}\p{Hiragana}\p{Katakana}]]+(?:['’][\p{L}\p{M}\p{N}_]+)*"
    r"|[^\s\p{L}\p{N}_]+?(?=[#@][\p{L}\p{N}_])"
    r"|[^\s\p{L}\p{N}_]+",
    regex.V1,
)

_READABLE = regex.compile(r"[^\s\p{M}\p{C}]")


def word_spans(text: str) -> list[Span]:
    """Where the words and signs of a text stand, (begin, end) in characters, in order."""
    return [match.span() for match in _WORD.finditer(text)]


def unread(text: str, end: int) -> str:
    """What lies behind `end`; empty where that is nothing that can be read."""
    return text[end:] if _READABLE.search(text, end) else ""


def check_spans(spans: Any, n_characters: int) -> list[Span]:
    """Spans that a user gives, sorted.

    Raises
    ------
    ValueError
        If one is no (begin, end) within the text, is empty, or overlaps another.
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
                f"spans must not overlap. Got ({begin}, {end}) and ({next_begin}, {next_end}); merge them or leave one "
                "out."
            )
    return pairs


def spans_of_tokens(tokens: Sequence[Span], spans: Sequence[Span]) -> tuple[list[Span], NDArray[np.int64]]:
    """The spans, and for each token the index of its own; -1 for none.

    A span without a token of its own that lies in a token of the span beside it, as two ideographs in one token, cannot
    be told apart from that one, which then reaches over both.
    """
    owner = span_of_each_token(tokens, spans)
    free = np.ones(len(spans), bool)
    free[owner[owner >= 0]] = False
    reach = list(spans)
    for (begin, end), own in zip(tokens, owner.tolist(), strict=True) if free.any() else ():
        if own < 0:
            continue
        first = last = own
        while first > 0 and free[first - 1] and spans[first - 1][1] > begin:
            first -= 1
        while last + 1 < len(spans) and free[last + 1] and spans[last + 1][0] < end:
            last += 1
        free[first : last + 1] = False
        reach[own] = min(reach[own][0], spans[first][0]), max(reach[own][1], spans[last][1])
    return reach, owner


def span_of_each_token(tokens: Sequence[Span], spans: Sequence[Span]) -> NDArray[np.int64]:
    """For each token the index of the span that it shares most characters with, the first of equals; -1 for none.

    `spans` are sorted and do not overlap. A token without characters, as the space before a word that byte-level
    tokenizers make one of, belongs to the span that begins there; special tokens, at (0, 0), to none.
    """
    if not tokens or not spans:
        return np.full(len(tokens), -1)
    begins, ends = np.array(spans).T
    token_begins, token_ends = np.array(tokens).T
    token_ends = np.maximum(token_ends, token_begins + (token_begins > 0))
    first = np.searchsorted(ends, token_begins, side="right")  # spans that end within the token or after it
    last = np.searchsorted(begins, token_ends, side="left")  # spans that begin before its end
    found = np.where(first < last, first, -1)
    for i in np.flatnonzero(last - first > 1):
        shared = np.minimum(ends, token_ends[i]) - np.maximum(begins, token_begins[i])
        found[i] = int(shared.argmax())
    return found
