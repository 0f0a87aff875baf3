"""A fitted classifier as a folder of plain files: their format, and reading them without trust.

    config.json        everything that fits JSON; with `FORMAT`, a version, size and SHA-256 of the weights, and its own
                       checksum
    model.safetensors  the parameters of ConceptOperators, see `tensor_shapes`
    README.md          a model card, for people and the hub; never read

A checksum notices accidents, not malice: anyone who writes a folder can compute it. So every size is compared with the
shapes and the file before anything is allocated, and every value's type is checked before it is used. A folder is
written beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skspace._files.open_files import open_to_read
from skspace._files.safetensors_format import Damage, load, save

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "check_known",
    "check_target",
    "entry",
    "labels_from_plain",
    "labels_to_plain",
    "plain_value",
    "read_config",
    "read_tensors",
    "skspace_version",
    "write_folder",
]

FORMAT, FORMAT_VERSION = "skspace.SpaceClassifier", 2
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_MAX_CONFIG_BYTES = 2**23
_MAX_WEIGHTS_BYTES = 2**32
_MAX_LABEL_BYTES = 2**28
_MAX_HEADER_BYTES = 2**16 + 8
_DTYPES = ("float32", "float64")
_NUMBERS = {
    "bool": bool,
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"), int),
    **dict.fromkeys(("float16", "float32", "float64"), float),
}


# ---------------------------------------------------------------- writing


def write_folder(
    folder: Path, content: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], card: str, *, overwrite: bool
) -> None:
    """Write a classifier; an existing folder is replaced only when the new one is complete.

    Raises
    ------
    ValueError
        If the content is larger than `read_config` and `read_tensors` accept.
    OSError
        See `check_target`, or if the disk refuses.
    """
    weights = save(dict(tensors), {"format": FORMAT})
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skspace_version": skspace_version(),
        **content,
        "weights": {"n_bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
    }
    config["checksum"] = _checksum(config)
    written = (json.dumps(config, indent=1, allow_nan=False) + "\n").encode()
    if len(written) > _MAX_CONFIG_BYTES or len(weights) > _MAX_WEIGHTS_BYTES:
        raise ValueError(
            f"A saved classifier holds at most {_MAX_CONFIG_BYTES} bytes of labels, history and parameters and "
            f"{_MAX_WEIGHTS_BYTES} bytes of weights. Got {len(written)} and {len(weights)} instead."
        )
    _replace_folder(folder, {CONFIG: written, WEIGHTS: weights, CARD: card.encode()}, overwrite=overwrite)


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError if a classifier may not be written to `folder`."""
    if folder.is_symlink():
        raise FileExistsError(
            f"{folder} is a link, and links are not followed when writing. Give the folder that it points to."
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} must be a folder, or not exist. Got a file instead; give another name.")
    names = {path.name for path in folder.iterdir()}
    if names and not (_is_ours(folder) and names <= {CONFIG, WEIGHTS, CARD}):
        raise FileExistsError(
            f"{folder} must not exist, be empty, or hold only a saved classifier. Got a folder with "
            f"{', '.join(sorted(names)[:5])} instead. Nothing was deleted; give another folder."
        )
    if names and not overwrite:
        raise FileExistsError(f"{folder} holds a saved classifier. Give another folder, or overwrite=True.")


def _is_ours(folder: Path) -> bool:
    try:
        return bool(_read_json(folder).get("format") == FORMAT)
    except (OSError, Damage):
        return False


def _replace_folder(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    check_target(folder, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = f".{folder.name}.{secrets.token_hex(8)}"
    new, old = folder.with_name(f"{mark}.new"), folder.with_name(f"{mark}.old")
    try:
        new.mkdir()
        for name, written in files.items():
            with open(new / name, "xb") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave an empty file under a name that looks complete
        _swap(folder, new, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _swap(folder: Path, new: Path, old: Path) -> None:
    """Replace `folder` by `new`; if that fails, restore `folder`."""
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise


# ---------------------------------------------------------------- reading


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json and check its format and checksum; the types of its values remain to be checked.

    Raises
    ------
    Damage
        If it is of another program or another format version, or damaged.
    OSError
        If it cannot be read.
    """
    config = _read_json(folder)
    if config.get("format") != FORMAT:
        kind = config.get("model_type")
        encoder = f", but of a transformers model ({kind!r:.40}): that is an encoder, SpaceClassifier(encoder=…)"
        raise Damage(f"its {CONFIG} is not that of a SpaceClassifier{encoder if isinstance(kind, str) else ''}")
    version, written_by = entry(config, "format_version", int), entry(config, "skspace_version", str)
    if version > FORMAT_VERSION:
        raise Damage(
            f"it was written by skspace {written_by:.40} in format {version}, and this is skspace {skspace_version()}, "
            f"which reads format {FORMAT_VERSION}: install the newer skspace"
        )
    if version < FORMAT_VERSION:
        raise Damage(
            f"it was written by skspace {written_by:.40} in format {version}, and this is skspace {skspace_version()}, "
            f"which reads format {FORMAT_VERSION}: fit and save again, or load it with the older skspace"
        )
    if config.pop("checksum", None) != _checksum(config):
        raise Damage(f"its {CONFIG} does not match its checksum: it was changed after it was written")
    return config


def read_tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Read the parameters that belong to a config.

    Raises
    ------
    Damage
        If shapes, sizes, types or checksum differ, or a number is not finite.
    OSError
        If the file cannot be read.
    """
    shapes, dtype = tensor_shapes(entry(config, "operators", dict)), config["operators"]["dtype"]
    n_data = sum(math.prod(shape) for shape in shapes.values()) * np.dtype(dtype).itemsize
    stated = entry(config, "weights", dict)
    with _open_inside(folder, WEIGHTS) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry(stated, "n_bytes", int) or not n_data < size <= n_data + _MAX_HEADER_BYTES:
            raise Damage(f"its {WEIGHTS} has {size} bytes, which do not fit the shapes that {CONFIG} tells")
        if size > _MAX_WEIGHTS_BYTES:
            raise Damage(f"its {WEIGHTS} has {size} bytes, more than {_MAX_WEIGHTS_BYTES}")
        data = file.read(size)
    if hashlib.sha256(data).hexdigest() != entry(stated, "sha256", str):
        raise Damage(f"its {WEIGHTS} does not match its checksum")
    try:
        tensors = load(data)
    except Damage as damage:
        raise Damage(f"its {WEIGHTS} cannot be read: {damage}") from damage
    if tensors.keys() != shapes.keys():
        raise Damage(f"its {WEIGHTS} holds other tensors than {', '.join(sorted(shapes))}")
    for name, array in tensors.items():
        if array.shape != shapes[name] or array.dtype != np.dtype(dtype):
            raise Damage(f"its {name} is {array.dtype}{array.shape}, and {CONFIG} says {dtype}{shapes[name]}")
        if not np.isfinite(array).all():
            raise Damage(f"its {name} holds NaN or infinity")
    return tensors


def tensor_shapes(operators: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of ConceptOperators with these arguments: d features, K classes, m axes, M members."""
    d, K, m, M = (entry(operators, name, int) for name in ("n_features", "n_classes", "n_latent", "n_members"))
    pooling, head = entry(operators, "pooling", str), entry(operators, "head", str)
    known = pooling in {"attention", "mean"} and head in {"linear", "alignment"}
    if min(d, K, m, M) < 1 or not known or entry(operators, "dtype", str) not in _DTYPES:
        raise Damage(f"its {CONFIG} describes no operators")
    shapes: dict[str, tuple[int, ...]] = {"weight": (d, (1 + (pooling == "attention")) * M * K * m)}
    if head == "alignment":
        return shapes | {"log_slope": (M,)}
    return shapes | {"coef": (M, K, K * m), "intercept": (M, K)}


def entry(content: Mapping[str, Any], name: str, kind: type | tuple[type | None, ...]) -> Any:
    """An entry, which must have exactly this type, or one of these types; True does not count as an int."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    value = content.get(name)
    if type(value) not in [type(None) if one is None else one for one in kinds]:
        names = " or ".join("null" if one is None else one.__name__ for one in kinds)
        raise Damage(f"in its {CONFIG} {name!r} must be of type {names}, and is {value!r:.60}")
    return value


def check_known(names: Iterable[str], known: Iterable[str], what: str, config: Mapping[str, Any]) -> None:
    """Refuse settings of a later version: what they mean cannot be known. Missing ones take their default.

    Raises
    ------
    Damage
        If one of `names` is not among the `known`; it names the version that wrote the folder.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise Damage(
            f"its {CONFIG} has {what} that this skspace {skspace_version()} does not know: {', '.join(unknown):.200}. "
            f"It was written by skspace {config['skspace_version']:.40}; install that version"
        )


def _read_json(folder: Path) -> dict[str, Any]:
    with _open_inside(folder, CONFIG) as file:
        written = file.read(_MAX_CONFIG_BYTES + 1)
    if len(written) > _MAX_CONFIG_BYTES:
        raise Damage(f"its {CONFIG} is larger than {_MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(written.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Damage(f"its {CONFIG} is not JSON ({type(error).__name__}: {error!s:.100})") from error
    if not isinstance(config, dict):
        raise Damage(f"its {CONFIG} is not a JSON object")
    return config


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _open_inside(folder: Path, name: str) -> Any:
    """Open a regular file of a folder; links may lead into the hub's cache, but nowhere else."""
    try:
        root, path = folder.resolve(), (folder / name).resolve()
    except RuntimeError as error:  # links in a circle
        raise Damage(f"its {name} is a link to itself") from error
    if root.parent.name == "snapshots":  # …/models--owner--name/snapshots/commit, beside blobs
        root = root.parents[1]
    if not path.is_relative_to(root):
        raise Damage(f"its {name} is a link that leads out of the folder")
    if not path.exists():
        raise Damage(f"it lacks {name}")
    return open(path, "rb", opener=open_to_read)


def _checksum(config: Mapping[str, Any]) -> str:
    """SHA-256 of the content, whatever its layout: tools may change line ends or indentation."""
    try:
        return hashlib.sha256(json.dumps(config, sort_keys=True, allow_nan=False).encode()).hexdigest()
    except (ValueError, RecursionError) as error:
        raise Damage(f"its {CONFIG} is nested too deeply, or holds a number that is not finite") from error


def skspace_version() -> str:
    return str(sys.modules["skspace"].__version__)


# ---------------------------------------------------------------- values


def plain_value(value: Any, name: str) -> Any:
    """A parameter as a JSON value.

    Raises
    ------
    ValueError
        If it is not a str, int, finite float, bool or None.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if type(value) in {str, int, bool, type(None)} or (type(value) is float and math.isfinite(value)):
        return value
    raise ValueError(
        f"save_pretrained writes parameters that are str, int, float, bool or None. Got {name}={value!r:.80} instead; "
        f"change it with set_params({name}=…), or use joblib.dump."
    )


def labels_to_plain(labels: NDArray[Any]) -> dict[str, Any]:
    """`classes_` with its type; for str also the width, or None for an array of objects."""
    values = labels.tolist()
    if labels.dtype.kind == "U":
        return {"type": "str", "width": labels.dtype.itemsize // 4, "values": values}
    if labels.dtype.kind == "O" and all(type(value) is str for value in values):
        return {"type": "str", "width": None, "values": values}
    if labels.dtype.name in _NUMBERS:
        return {"type": labels.dtype.name, "values": values}
    raise ValueError(
        f"save_pretrained writes labels that are str, bool, or int or float of up to 64 bits. Got dtype {labels.dtype} "
        "instead; fit on labels.astype(str)."
    )


def labels_from_plain(plain: Mapping[str, Any]) -> NDArray[Any]:
    """Undo `labels_to_plain`; labels that are not sorted and distinct are Damage."""
    kind, values = entry(plain, "type", str), entry(plain, "values", list)
    if kind not in {"str", *_NUMBERS}:
        raise Damage(f"in its {CONFIG} labels have the unknown type {kind!r:.40}")
    expected = _NUMBERS.get(kind, str)
    if not all(type(value) is expected for value in values):
        raise Damage(f"in its {CONFIG} labels must be all {expected.__name__}")
    dtype: Any = kind
    if kind == "str":
        width = entry(plain, "width", (int, None))
        longest = max(map(len, values), default=0)
        if width is not None and not (max(1, longest) <= width and 4 * width * len(values) <= _MAX_LABEL_BYTES):
            raise Damage(f"in its {CONFIG} labels have an impossible width")
        dtype = object if width is None else f"<U{width}"
    try:
        labels = np.array(values, dtype=dtype)
        sound = kind == "str" or bool(np.isfinite(labels).all())
    except (OverflowError, ValueError) as error:
        raise Damage(f"in its {CONFIG} labels do not fit {kind}") from error
    if not sound or not (labels[:-1] < labels[1:]).all():
        raise Damage(f"in its {CONFIG} labels are not sorted and distinct")
    return labels
