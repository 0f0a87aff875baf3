"""Explanations as self-contained HTML without scripts; content from texts and labels is escaped.

Accessibility:

- Background colours are half transparent, so that text stays readable on light and dark pages.
- Blue and orange can be told apart by colour-blind readers. Lines under the tokens repeat the sign without colour.
- A table gives all numbers to screen readers. Panels open by keyboard.
- The page is in English. The language of texts and labels is unknown, which ``lang=""`` tells screen readers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._printable import visible

__all__ = ["fragment", "save_page"]

_FOR, _AGAINST = "0,114,178", "213,94,0"  # red, green, blue; from Okabe and Ito's palette
_MAX_OPACITY = 0.55  # keeps a text contrast of 4.5 to 1 on white and on black
_MIN_STRENGTH = 0.04  # weaker contributions are not coloured
_MAX_NAMED = 3  # tokens per sign in the sentence under the text

_STYLE = """<style>
.skspace-why{max-width:60em;line-height:1.5}
.skspace-why p{margin:.4em 0}
.skspace-why summary{cursor:pointer}
.skspace-why .text{white-space:pre-wrap;overflow-wrap:anywhere;line-height:2;unicode-bidi:isolate}
.skspace-why .text span{padding:.1em 0;border-radius:.2em}
.skspace-why .for{border-bottom:2px solid rgb(0,114,178)}
.skspace-why .against{border-bottom:2px dotted rgb(213,94,0)}
.skspace-why .special,.skspace-why .unseen{opacity:.75;font-size:.85em;margin:0 .3em}
.skspace-why strong,.skspace-why .special{unicode-bidi:isolate}
.skspace-why .unseen{text-decoration:line-through}
.skspace-why .scroll{overflow:auto;max-height:20em}
.skspace-why table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.skspace-why th,.skspace-why td{padding:.1em .6em;text-align:right;white-space:pre}
.skspace-why th:first-child{text-align:left}
</style>"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Why: a text, token by token</title>
</head>
<body style="font-family:sans-serif;margin:1.5em">
{}
</body>
</html>
"""


class _Piece(NamedTuple):
    """A part of the displayed text."""

    text: str
    kind: str  # "token", "special", "between" or "unseen"
    values: NDArray[np.float64] | None  # (n_classes,)


def _direction(text: str) -> str:
    """Direction of the first letter. HTML's dir="auto" would read it off the special tokens before the text."""
    kinds = (unicodedata.bidirectional(sign) for sign in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def fragment(explanation: Any, columns: list[int]) -> str:
    """The prediction, one panel per class, and the table."""
    pieces = [piece._replace(text=_text(piece.text)) for piece in _pieces(explanation)]  # escaped once for all panels
    values = np.array([piece.values[columns] for piece in pieces if piece.values is not None])
    scale = max(np.abs(values).max(initial=0.0), 1e-12)
    predicted = set(explanation.predicted) or {explanation.classes[columns[0]]}
    panels = [
        _panel(explanation, pieces, column, scale, explanation.classes[column] in predicted) for column in columns
    ]
    return "\n".join(
        [
            _STYLE,
            '<div class="skspace-why">',
            _prediction(explanation),
            *panels,
            _table(explanation, columns),
            "</div>",
        ]
    )


def save_page(path: str | PathLike[str], content: str) -> None:
    Path(path).write_text(_PAGE.format(content), encoding="utf-8")


def _pieces(explanation: Any) -> Iterator[_Piece]:
    """The whole text: tokens, the parts between them, and the part that the model did not read."""
    text, end = explanation.text, 0
    pieces: list[_Piece] = []
    last = -1  # index of the last token with characters
    for token, (begin, stop), values in zip(
        explanation.tokens, explanation.spans, explanation.contributions, strict=True
    ):
        if begin == stop:
            pieces.append(_Piece(token, "special", values))
        elif stop <= end:  # another token of the same character, from a byte-level tokenizer
            pieces[last] = pieces[last]._replace(values=pieces[last].values + values)
        else:
            if begin > end:
                pieces.append(_Piece(text[end:begin], "between", None))
            pieces.append(_Piece(text[max(begin, end) : stop], "token", values))
            last, end = len(pieces) - 1, stop
    yield from pieces
    if end < len(text):
        read_to = len(text) - len(explanation.unread)
        if end < read_to:
            yield _Piece(text[end:read_to], "between", None)
        if explanation.unread:
            yield _Piece(explanation.unread, "unseen", None)


def _prediction(explanation: Any) -> str:
    probability = dict(zip(explanation.classes.tolist(), explanation.probabilities, strict=True))
    labels = ", ".join(
        f"{_element('strong', label)} (probability {probability[label]:.2f})" for label in explanation.predicted
    )
    line = f"<p>Predicted: {labels or 'no label'}</p>"
    if not explanation.unread:
        return line
    n, n_all = len(explanation.unread), len(explanation.text)
    return f"{line}\n<p>The text was cut: its last {n:,} of {n_all:,} characters were not read.</p>"


def _panel(explanation: Any, pieces: list[_Piece], column: int, scale: float, opened: bool) -> str:
    values = explanation.contributions[:, column]
    text = "".join(_span(piece, column, scale) for piece in pieces)
    return "\n".join(
        [
            f"<details{' open' if opened else ''}>",
            f"<summary>{_element('strong', explanation.classes[column])}: probability "
            f"{explanation.probabilities[column]:.2f}, logit {_number(explanation.logits[column])} = "
            f"{_number(explanation.bias[column])} (intercept) {_number(values.sum())} (this text)</summary>",
            f'<p class="text" lang="" dir="{_direction(explanation.text)}">{text}</p>',
            f"<p>{_sentence(explanation, values)}</p>",
            "</details>",
        ]
    )


def _span(piece: _Piece, column: int, scale: float) -> str:
    if piece.kind == "unseen":
        return f'<span class="unseen" title="not read by the model">{piece.text}</span>'
    if piece.values is None:
        return piece.text
    value = float(piece.values[column])
    strength = abs(value) / scale
    side = "" if strength < _MIN_STRENGTH else "for" if value > 0 else "against"
    classes = " ".join(filter(None, ["special" if piece.kind == "special" else "", side]))
    colour = _FOR if value > 0 else _AGAINST
    style = f' style="background:rgba({colour},{_MAX_OPACITY * strength:.2f})"' if side else ""
    class_attribute = f' class="{classes}"' if classes else ""
    return f'<span{class_attribute}{style} title="{value:+.2f}">{piece.text}</span>'


def _sentence(explanation: Any, values: NDArray[np.float64]) -> str:
    """The tokens with the largest contributions for and against the class, as a sentence."""
    parts = []
    for side, sign in (("For it", 1), ("Against it", -1)):
        order = [i for i in np.argsort(-sign * values, kind="stable")[:_MAX_NAMED] if sign * values[i] > 0]
        named = ", ".join(f"{_element('bdi', explanation.tokens[i])} ({_number(values[i])})" for i in order)
        parts.append(f"{side}: {named or 'nothing'}.")
    return " ".join(parts)


def _table(explanation: Any, columns: list[int]) -> str:
    heads = "".join(f'<th scope="col" lang="">{_text(explanation.classes[column])}</th>' for column in columns)
    rows = [
        f'<tr><th scope="row">{_element("bdi", token)}</th>{_cells(values[columns])}</tr>'
        for token, values in zip(explanation.tokens, explanation.contributions, strict=True)
    ]
    rows.append(f'<tr><th scope="row">(intercept)</th>{_cells(explanation.bias[columns])}</tr>')
    rows.append(f'<tr><th scope="row">(logit)</th>{_cells(explanation.logits[columns])}</tr>')
    return "\n".join(
        [
            "<details>",
            "<summary>All contributions as a table</summary>",
            '<div class="scroll" tabindex="0" role="region" aria-label="Contributions"><table>',
            f'<thead><tr><th scope="col">token</th>{heads}</tr></thead>',
            "<tbody>",
            *rows,
            "</tbody>",
            "</table></div>",
            "</details>",
        ]
    )


def _cells(values: NDArray[np.float64]) -> str:
    return "".join(f"<td>{_number(value)}</td>" for value in values)


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _element(tag: str, content: Any) -> str:
    """A token or label in its own element, since its language is unknown."""
    return f'<{tag} lang="">{_text(content)}</{tag}>'


def _text(content: Any) -> str:
    """Content from texts or labels, escaped and with hidden characters visible."""
    return escape(visible(str(content)), quote=True)
