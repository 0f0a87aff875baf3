"""Explanations as lines for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from skspace.inspection._printable import columns_of, one_line, visible

__all__ = ["lines"]

_BAR_WIDTH, _NAME_WIDTH = 20, 40  # maxima, in columns


def lines(explanation: Any, column: int, n: int) -> str:
    """The prediction, then the `n` largest contributions to one class in the order of the text."""
    values = explanation.contributions[:, column]
    largest = np.sort(np.argsort(-np.abs(values), kind="stable")[:n])
    names = [one_line(explanation.tokens[i], _NAME_WIDTH) for i in largest]
    width = max(map(columns_of, names), default=0)
    scale = np.abs(values).max(initial=0.0) or 1.0
    head = (
        f"{visible(str(explanation.classes[column]))}: probability {explanation.probabilities[column]:.2f}, logit "
        f"{explanation.logits[column]:+.2f} = {explanation.bias[column]:+.2f} (intercept) {values.sum():+.2f} (text)"
    )
    rows = []
    for i, name in zip(largest, names, strict=True):
        bar = ("+" if values[i] > 0 else "-") * round(_BAR_WIDTH * abs(values[i]) / scale)
        rows.append(f"  {name}{' ' * (width - columns_of(name))} {values[i]:+.2f} {bar}")
    left_out = len(values) - len(largest)
    tail = [f"  and {left_out} more, {values.sum() - values[largest].sum():+.2f} together"] if left_out else []
    if explanation.unread:
        tail.append(f"  not read, since the text was cut: its last {len(explanation.unread):,} characters")
    return "\n".join(row.rstrip() for row in [head, *rows, *tail])
