"""The README.md of a saved classifier: labels, metrics, encoder.

Names from users or strangers (labels, models, metrics) are written so that neither Markdown nor YAML interprets them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["check_metrics", "model_card"]

_MAX_LABELS = 200
_METRIC_NAME = re.compile(r"[\w .@%()+:/=-]{1,100}")
_HUB_ID = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def check_metrics(metrics: Any) -> dict[str, float]:
    """Names and numbers for the card.

    Raises
    ------
    ValueError
        If `metrics` is not a mapping of short names to finite numbers.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise ValueError(
            f"metrics must be a dict such as {{'accuracy': 0.93}}, or None. Got {type(metrics).__name__} instead."
        )
    checked = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
            raise ValueError(
                "Names in metrics must be of letters, digits, spaces and any of _.@%()+:/=-, up to 100 of them. Got "
                f"{name!r:.120} instead."
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if number - number != 0:  # NaN and infinity
            raise ValueError(f"Values in metrics must be finite numbers. Got {value!r:.60} for {name!r} instead.")
        checked[name] = number
    return checked


def model_card(
    name: str,
    *,
    labels: Sequence[Any],
    multilabel: bool,
    metrics: Mapping[str, float],
    encoder: Mapping[str, Any] | None,
    identity: str,
    version: str,
) -> str:
    """Markdown with the hub's YAML head.

    Parameters
    ----------
    name : str
        The argument of `from_pretrained`: a hub id, or a folder's name.
    encoder : mapping or None
        Parameters of the TokenEncoder; None if the classifier takes vectors.
    identity : str
        Identity of the encoder: the hub's commit or a digest of its files.
    """
    sections = [
        _head(encoder),
        f"# A text classifier: {_code(name)}" if encoder else f"# A classifier of vectors: {_code(name)}",
        f"Made with skspace {version}: a frozen encoder and one concept space per class "
        "([Space Model, arXiv 2401.16638](https://arxiv.org/abs/2401.16638)).",
        _usage(name, "a text" if encoder else None),
        "## Labels",
        f"{len(labels)} labels; {'a text can have several of them' if multilabel else 'a text has one of them'}.",
        _listing([json.dumps(label, ensure_ascii=False) for label in labels]),
        "## Metrics",
        _table(metrics) if metrics else "None were given when it was saved.",
        "## Encoder",
        _encoder(encoder, identity),
    ]
    return "\n\n".join(sections) + "\n"


def _head(encoder: Mapping[str, Any] | None) -> str:
    lines = ["---", "library_name: skspace", "tags:", "- skspace", "- scikit-learn"]
    if encoder is not None:
        lines += ["- text-classification", "pipeline_tag: text-classification"]
        if _HUB_ID.fullmatch(str(encoder["model"])):
            lines.append(f'base_model: "{encoder["model"]}"')
    return "\n".join([*lines, "---"])


def _usage(name: str, text: str | None) -> str:
    predict = f"clf.predict([{json.dumps(text)}])" if text else "clf.predict(X)  # one row of numbers a text"
    code = [
        "from skspace import SpaceClassifier",
        "",
        f"clf = SpaceClassifier.from_pretrained({_quoted(name)})",
        predict,
    ]
    return "\n".join(["```python", *code, "```"])


def _encoder(encoder: Mapping[str, Any] | None, identity: str) -> str:
    if encoder is None:
        return 'None: the classifier takes vectors (`encoder="precomputed"`).'
    names = ("model", "revision", "layer", "max_length", "special_tokens")
    rows = [f"| {name} | {_code(str(encoder[name]))} |" for name in names]
    return "\n".join(["| | |", "|---|---|", *rows, f"| identity | {_code(identity)} |"]) + (
        "\n\nIts weights are not part of this folder. They are looked for when a text is new: on the machine, then at "
        "the hub; `from_pretrained(…, encoder=…)` names another place."
    )


def _table(metrics: Mapping[str, float]) -> str:
    return "\n".join(["| metric | value |", "|---|---|", *(f"| {_code(k)} | {v:.6g} |" for k, v in metrics.items())])


def _listing(lines: Sequence[str]) -> str:
    """An indented block: unlike a fenced one, no line in it can end it."""
    shown = [f"    {_one_line(line)}" for line in lines[:_MAX_LABELS]]
    return "\n".join(shown + [f"    … and {len(lines) - _MAX_LABELS} more"] * (len(lines) > _MAX_LABELS))


def _code(text: str) -> str:
    return "`" + _one_line(text).replace("`", "'").replace("|", "¦") + "`"


def _quoted(text: str) -> str:
    return json.dumps(_one_line(text).replace("`", "'"), ensure_ascii=False)


def _one_line(text: str) -> str:
    """Replace line ends, other control characters and lone surrogates, which UTF-8 cannot hold."""
    return "".join(c if c.isprintable() else "�" for c in text)
