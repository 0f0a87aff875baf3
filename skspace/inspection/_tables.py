"""Results as pandas data frames and ranked lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skspace.inspection._checks import check_count, class_index
from skspace.inspection._words import Span

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["import_pandas", "largest_for_class", "span_frame"]


def import_pandas() -> Any:
    """The pandas module, imported only when a data frame is made.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "to_frame needs pandas, which is not installed. Install it with pip install pandas."
        ) from error
    return pd


def span_frame(
    kind: str, names: Sequence[str], spans: Sequence[Span], values: NDArray[Any], classes: NDArray[Any]
) -> DataFrame:
    """A data frame of values (n_names, n_classes), indexed by name (the level is called `kind`), begin and end."""
    pd = import_pandas()
    begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
    index = pd.MultiIndex.from_arrays([names, begins, ends], names=[kind, "begin", "end"])
    return pd.DataFrame(values, index=index, columns=classes.tolist())


def largest_for_class(
    names: Sequence[str], values: NDArray[Any], classes: NDArray[Any], label: Any, n: Any
) -> list[tuple[str, float]]:
    """The `n` names with the largest positive values (n_names, n_classes) for `label`, with these values."""
    check_count(n, "n")
    class_values = values[:, class_index(classes, label)]
    order = np.argsort(-class_values, kind="stable")[:n]
    return [(names[i], float(class_values[i])) for i in order if class_values[i] > 0]
