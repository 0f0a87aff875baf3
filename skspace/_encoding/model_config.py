"""Numbers of a model's config.json, under the names that its architecture has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skspace._encoding.frozen_transformer import read_config

__all__ = ["DEPTH_NAMES", "WIDTH_NAMES", "config_value"]

# transformers' own name first.
DEPTH_NAMES = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers")
WIDTH_NAMES = ("hidden_size", "dim", "d_model", "n_embd")


def config_value(config: Mapping[str, Any], names: Sequence[str], find_folder: Callable[[], Path]) -> int:
    """The first of some names that the configuration has; transformers reads the model's folder if it has none."""
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    return int(getattr(read_config(find_folder()), names[0]))
