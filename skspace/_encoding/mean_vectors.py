"""Mean vectors of texts, for ``TokenEncoder(pooling="mean")``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skspace._input.ragged import RaggedArray

__all__ = ["mean_pool"]


def mean_pool(rows: RaggedArray) -> NDArray[np.float32]:
    """Mean vector of every text, (n_texts, n_features); 0 for a text without tokens."""
    pooled = np.zeros((len(rows), rows.n_features), np.float32)
    for begin in range(0, len(rows), 1024):
        part = rows[begin : begin + 1024]
        full = np.flatnonzero(part.lengths)
        if len(full):
            sums = np.add.reduceat(part.values.astype(np.float32), part.offsets[full], axis=0)
            pooled[begin + full] = sums / part.lengths[full, None]
    return pooled
