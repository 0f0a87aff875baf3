"""The safetensors format: writes headers, and reads them without trusting anything in them.

A file is 8 bytes with the length of a header, the header in JSON (of every tensor
its type, shape and place; ``__metadata__``, strings), and the tensors. What in a file does not fit is `Damage`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save

__all__ = ["Damage", "extent", "load", "read_header", "read_tensor", "save", "written_header"]

_MAX_HEADER_BYTES = 2**16
DType = tuple[str, Any]  # the format's name and numpy's


class Damage(Exception):  # noqa: N818 - what is wrong with a file, not an error of the caller
    """A file is not what it says it is."""


def load(content: bytes) -> dict[str, NDArray[Any]]:
    """All tensors of a file that is in memory, by name.

    Raises
    ------
    Damage
        If it is not a safetensors file, or holds a type that NumPy lacks.
    """
    try:
        return dict(load_bytes(content))
    except (SafetensorError, KeyError, ValueError) as error:
        raise Damage(f"not a safetensors file with types that NumPy has ({error!s:.100})") from error


def written_header(tensors: Mapping[str, tuple[DType, tuple[int, ...]]], metadata: Mapping[str, str]) -> bytes:
    """What a file begins with whose tensors, given by type and shape, follow one behind the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * np.dtype(dtype[1]).itemsize
        header[name] = {"dtype": dtype[0], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_header(file: Any, size: int) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and the position where its data begin. Nothing in it is trusted."""
    n_header = int.from_bytes(file.read(8), "little")
    if not 0 < n_header <= min(_MAX_HEADER_BYTES, size - 8):
        raise Damage("it is not a safetensors file")
    try:
        header = json.loads(file.read(n_header))
    except (ValueError, RecursionError) as error:
        raise Damage("its header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict):
        raise Damage("its header is incomplete")
    return header, 8 + n_header


def extent(header: dict[str, Any], name: str, dtype: DType, data: int, size: int) -> tuple[tuple[int, ...], int, int]:
    """Shape, begin and end (positions in the file) of a tensor, checked against each other and the file."""
    entry: Any = header.get(name)
    try:
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        numbers = (*shape, begin, end)
        sound = entry["dtype"] == dtype[0] and all(type(n) is int and n >= 0 for n in numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise Damage(f"its header says nothing usable of {name}") from error
    n_bytes = np.dtype(dtype[1]).itemsize
    for n in shape if sound else ():
        n_bytes *= n  # Python integers: a huge shape cannot overflow
    if not sound or end - begin != n_bytes or data + end > size:
        raise Damage(f"its {name} do not fit the file")
    return shape, data + begin, data + end


def read_tensor(file: Any, header: dict[str, Any], name: str, dtype: DType, data: int, size: int) -> NDArray[Any]:
    shape, begin, end = extent(header, name, dtype, data, size)
    file.seek(begin)
    content = file.read(end - begin)
    if len(content) != end - begin:
        raise Damage("it is cut short")
    return np.frombuffer(content, dtype[1]).reshape(shape)
