"""An explanation as HTML: self-contained, without script, everything from the text and the labels escaped.

Colours are laid under the page's own text colour half transparent, so that they can be read on light and dark pages.
They are blue and orange, which colour-blind readers tell apart, and the line under a token says the same without
colour. The figures stand in a table, for screen readers and whoever wants them; panels open by keyboard. The page is in
English; of the text and the labels nobody knows the language, and `lang=""` tells screen readers so.
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

_FOR, _AGAINST = "0,114,178", "213,94,0"  # red, green, blue; of Okabe and Ito's palette
_DEEPEST = 0.55  # opacity: text keeps a contrast of 4.5 to 1 on white and on black
_FAINTEST = 0.04  # what is less is not coloured at all
_NAMED = 3  # tokens that the sentence under the text names on each side

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
    """A part of the text as it is shown."""

    text: str
    kind: str  # "token", "special", "between" or "unseen"
    values: NDArray[np.float64] | None  # (n_classes,)


def _direction(text: str) -> str:
    """That of the first letter, as HTML's dir="auto", which special tokens before it would mislead."""
    kinds = (unicodedata.bidirectional(sign) for sign in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def fragment(explanation: Any, columns: list[int]) -> str:
    """One panel a class, and the table."""
    pieces = [piece._replace(text=_text(piece.text)) for piece in _pieces(explanation)]  # once for all panels
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
            _head(explanation),
            *panels,
            _table(explanation, columns),
            "</div>",
        ]
    )


def save_page(path: str | PathLike[str], content: str) -> None:
    Path(path).write_text(_PAGE.format(content), encoding="utf-8")


def _pieces(explanation: Any) -> Iterator[_Piece]:
    """The text from its beginning to its end: tokens, what lies between, and what the model did not see."""
    text, end = explanation.text, 0
    shown: list[_Piece] = []
    last = -1  # the last token with characters
    for token, (begin, stop), values in zip(
        explanation.tokens, explanation.spans, explanation.contributions, strict=True
    ):
        if begin == stop:
            shown.append(_Piece(token, "special", values))
        elif stop <= end:  # a further piece of the same character, as byte-level tokenizers make them
            shown[last] = shown[last]._replace(values=shown[last].values + values)
        else:
            if begin > end:
                shown.append(_Piece(text[end:begin], "between", None))
            shown.append(_Piece(text[max(begin, end) : stop], "token", values))
            last, end = len(shown) - 1, stop
    yield from shown
    if end < len(text):
        read_to = len(text) - len(explanation.unread)
        if end < read_to:
            yield _Piece(text[end:read_to], "between", None)
        if explanation.unread:
            yield _Piece(explanation.unread, "unseen", None)


def _head(explanation: Any) -> str:
    return _answer(explanation) + (f"\n<p>{_not_read(explanation)}</p>" if explanation.unread else "")


def _not_read(explanation: Any) -> str:
    n, n_all = len(explanation.unread), len(explanation.text)
    return f"The text was cut: its last {n:,} of {n_all:,} characters were not read."


def _answer(explanation: Any) -> str:
    sure = explanation.predicted
    if not sure:
        return "<p>Predicted: no label</p>"
    of = dict(zip(explanation.classes.tolist(), explanation.probabilities, strict=True))
    labels = ", ".join(f"{_element('strong', label)} (probability {of[label]:.2f})" for label in sure)
    return f"<p>Predicted: {labels}</p>"


def _panel(explanation: Any, pieces: list[_Piece], column: int, scale: float, opened: bool) -> str:
    values = explanation.contributions[:, column]
    shown = "".join(_shown(piece, column, scale) for piece in pieces)
    return "\n".join(
        [
            f"<details{' open' if opened else ''}>",
            f"<summary>{_element('strong', explanation.classes[column])}: probability "
            f"{explanation.probabilities[column]:.2f}, logit {_number(explanation.logits[column])} = "
            f"{_number(explanation.bias[column])} (intercept) {_number(values.sum())} (this text)</summary>",
            f'<p class="text" lang="" dir="{_direction(explanation.text)}">{shown}</p>',
            f"<p>{_sentence(explanation, values)}</p>",
            "</details>",
        ]
    )


def _shown(piece: _Piece, column: int, scale: float) -> str:
    if piece.kind == "unseen":
        return f'<span class="unseen" title="not read by the model">{piece.text}</span>'
    if piece.values is None:
        return piece.text
    value = float(piece.values[column])
    strength = abs(value) / scale
    side = "" if strength < _FAINTEST else "for" if value > 0 else "against"
    classes = " ".join(filter(None, ["special" if piece.kind == "special" else "", side]))
    colour = _FOR if value > 0 else _AGAINST
    style = f' style="background:rgba({colour},{_DEEPEST * strength:.2f})"' if side else ""
    marked = f' class="{classes}"' if classes else ""
    return f'<span{marked}{style} title="{value:+.2f}">{piece.text}</span>'


def _sentence(explanation: Any, values: NDArray[np.float64]) -> str:
    """What spoke most for the class and against it, in words."""
    parts = []
    for side, sign in (("For it", 1), ("Against it", -1)):
        order = [i for i in np.argsort(-sign * values, kind="stable")[:_NAMED] if sign * values[i] > 0]
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
    """A token or a label in a language that nobody knows."""
    return f'<{tag} lang="">{_text(content)}</{tag}>'


def _text(content: Any) -> str:
    """Anything of the text's or the user's, escaped."""
    return escape(visible(str(content)), quote=True)
