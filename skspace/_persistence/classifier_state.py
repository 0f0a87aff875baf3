"""A fitted SpaceClassifier as plain values and arrays, and back; on the way back nothing is trusted.

folder_format.py writes them to a folder. The estimator's class comes from the caller.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from skspace._encoding.model_files import RememberedModel
from skspace._encoding.token_encoder import TokenEncoder
from skspace._encoding.vector_spec import VectorSpec
from skspace._files.safetensors_format import Damage
from skspace._model.concept_operators import ARGUMENTS
from skspace._model.fitted_state import FittedState, arrays_of, operators_from_arrays
from skspace._persistence.folder_format import (
    CONFIG,
    check_known,
    entry,
    labels_from_plain,
    labels_to_plain,
    plain_value,
    read_tensors,
)

__all__ = ["classifier_from_plain", "classifier_to_plain", "vector_spec"]

# ---------------------------------------------------------------- to plain values


def classifier_to_plain(clf: Any, *, share: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What config.json says of a fitted classifier, and its tensors.

    Parameters
    ----------
    share : bool
        Leave out where folders lie on this machine.

    Raises
    ------
    ValueError
        If a parameter has no plain form; it is named.
    """
    names = getattr(clf, "feature_names_in_", None)
    content = {
        "parameters": {
            name: _plain_parameter(name, value, share) for name, value in clf.get_params(deep=False).items()
        },
        "labels": labels_to_plain(clf.classes_),
        "multilabel": bool(clf._multilabel),
        "n_features_in": getattr(clf, "n_features_in_", None),
        "feature_names_in": None if names is None else names.tolist(),
        "encoder": None if clf.encoder_ is None else _plain_fitted_encoder(clf.encoder_, share),
        "operators": clf.operators_.arguments(),
        "history": [{name: _plain_figure(value) for name, value in row.items()} for row in clf.history_],
    }
    return content, arrays_of(clf.operators_)


def _plain_parameter(name: str, value: Any, share: bool) -> Any:
    if name == "callbacks":
        return None  # code; what they did is done
    if name == "encoder" and isinstance(value, TokenEncoder):
        return {"TokenEncoder": _plain_encoder(value, share)}
    if name == "encoder" and isinstance(value, (str, os.PathLike)) and value != "precomputed":
        return _plain_model(os.fspath(value), share)
    if name == "class_weight" and isinstance(value, Mapping):
        return [[plain_value(label, name), plain_value(weight, name)] for label, weight in value.items()]
    return plain_value(value, name)


def _plain_encoder(encoder: TokenEncoder, share: bool) -> dict[str, Any]:
    if type(encoder) is not TokenEncoder:
        raise ValueError(
            f"save_pretrained writes a TokenEncoder. Got encoder={type(encoder).__name__}(…), a class of your own, "
            "instead, whose code no file can hold; use joblib.dump, or encode beforehand with encoder='precomputed'."
        )
    parameters = {name: plain_value(value, f"encoder__{name}") for name, value in encoder.get_params().items()}
    parameters["model"] = _plain_model(parameters["model"], share)
    # Places and limits of this machine, which no stranger's folder may set on another: not read back either.
    parameters["cache_dir"] = None if parameters["cache_dir"] is None else "auto"
    parameters["cache_max_bytes"] = "auto"
    return parameters


def _plain_model(model: str, share: bool) -> str:
    """A hub id unchanged; a folder with its absolute path, or with `share` by its name only."""
    folder = Path(model).expanduser()
    if share and (folder.is_dir() or folder.is_absolute()):
        return folder.name
    return str(folder.absolute()) if folder.is_dir() else model


def _plain_fitted_encoder(encoder: TokenEncoder, share: bool) -> dict[str, Any]:
    parameters = _plain_encoder(encoder, share)
    if "_remembered" not in vars(encoder):
        encoder._remember_model()
    model = {"name": encoder._remembered.name, "config": encoder._remembered.config}
    return {"parameters": parameters, "model": model, "vectors": vector_spec(encoder).to_dict()}


def _plain_figure(value: Any) -> Any:
    """A figure of the history; JSON has no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# ---------------------------------------------------------------- from plain values, none of which is trusted


def classifier_from_plain(cls: type[Any], config: dict[str, Any], path: Path) -> Any:
    """The fitted classifier that a config and the tensors in its folder describe.

    Raises
    ------
    Damage
        If anything in it is not what `classifier_to_plain` would say.
    """
    clf = _checked(cls, _parameters(entry(config, "parameters", dict), config), config)
    operators, multilabel = entry(config, "operators", dict), entry(config, "multilabel", bool)
    check_known(operators, ARGUMENTS, "operators with settings", config)
    tensors = read_tensors(path, config)  # checks all of operators first
    labels, history = labels_from_plain(entry(config, "labels", dict)), _history(entry(config, "history", list))
    n_classes = operators["n_classes"]
    if len(labels) != n_classes or (n_classes < 2 and not multilabel):
        raise Damage(f"its {CONFIG} has {len(labels)} labels for {n_classes} classes")
    if multilabel and labels.tolist() != list(range(n_classes)):
        raise Damage(f"its {CONFIG} has several labels per text, whose names must be the numbers from 0 on")
    clf.classes_, clf._multilabel, clf._n_features = labels, multilabel, operators["n_features"]
    clf.encoder_ = _fitted_encoder(entry(config, "encoder", (dict, None)), config)
    clf._state = FittedState(operators_from_arrays(operators, tensors))
    clf.history_, clf.n_iter_ = history, len(history)
    _read_columns(clf, config)
    return clf


def _checked(cls: type[Any], parameters: dict[str, Any], config: Mapping[str, Any]) -> Any:
    """An estimator of these parameters, checked as in `fit`; missing ones take their default."""
    check_known(parameters, cls._get_param_names(), f"parameters of {cls.__name__}", config)
    made = cls(**parameters)
    try:
        made._validate_params()
    except (ValueError, TypeError) as error:
        raise Damage(f"its {CONFIG} is refused: {error!s:.300}") from error
    return made


def _parameters(plain: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    parameters = dict(plain)
    if entry(plain, "encoder", (str, dict, None)) is not None and isinstance(plain["encoder"], dict):
        parameters["encoder"] = _encoder(entry(plain["encoder"], "TokenEncoder", dict), config)
    if isinstance(plain.get("class_weight"), list):
        try:
            parameters["class_weight"] = {label: float(weight) for label, weight in plain["class_weight"]}
        except (TypeError, ValueError, OverflowError) as error:
            raise Damage(f"in its {CONFIG} 'class_weight' must be pairs of a label and a number") from error
    if plain.get("callbacks") is not None:
        raise Damage(f"its {CONFIG} names callbacks, which are code and never loaded")
    for name, value in parameters.items():
        if isinstance(value, (list, dict)) and name != "class_weight":
            raise Damage(f"in its {CONFIG} the parameter {name!r:.40} must be a single value")
    return parameters


def _encoder(parameters: dict[str, Any], config: Mapping[str, Any]) -> TokenEncoder:
    encoder: TokenEncoder = _checked(TokenEncoder, parameters, config)
    if encoder.cache_dir not in (None, "auto") or encoder.cache_max_bytes != "auto":
        raise Damage(f"its {CONFIG} sets the cache of this machine, which no saved classifier may")
    return encoder


def _fitted_encoder(plain: dict[str, Any] | None, config: Mapping[str, Any]) -> TokenEncoder | None:
    if plain is None:
        return None
    encoder, model = _encoder(entry(plain, "parameters", dict), config), entry(plain, "model", dict)
    of_model = entry(model, "config", dict)
    depth, kind = entry(of_model, "num_hidden_layers", int), entry(of_model, "model_type", str)
    if encoder.pooling is not None or not 0 <= depth < 2**31:
        raise Damage(f"its {CONFIG} names an encoder that gives no token embeddings")
    try:
        learned = VectorSpec.from_dict(entry(plain, "vectors", dict))
        kept = {"num_hidden_layers": depth, "model_type": kind}
        encoder._remembered = RememberedModel(learned.model, entry(model, "name", str), learned.weights, kept)
        differences = learned.differences(vector_spec(encoder))
    except ValueError as error:
        version = config["skspace_version"]
        raise Damage(f"its {CONFIG}, written by skspace {version:.40}, is refused: {error}") from error
    if differences:
        raise Damage(f"its {CONFIG} describes vectors that its encoder does not give: {differences!s:.300}")
    return encoder


def vector_spec(encoder: TokenEncoder) -> VectorSpec:
    """The vector specification of an encoder whose device this machine may lack."""
    here = copy(encoder)
    here.device = "cpu"
    return here._vector_spec()


def _history(plain: list[Any]) -> list[dict[str, Any]]:
    rows = []
    for row in plain:
        if type(row) is not dict or not all(map(_is_figure, row.values())):
            raise Damage(f"in its {CONFIG} 'history' must be a list of figures, an epoch each")
        rows.append({name: float(value) if isinstance(value, str) else value for name, value in row.items()})
    return rows


def _is_figure(value: Any) -> bool:
    return type(value) in {int, float} or (type(value) is str and value in {"nan", "inf", "-inf"})


def _read_columns(clf: Any, config: dict[str, Any]) -> None:
    n, names = entry(config, "n_features_in", (int, None)), entry(config, "feature_names_in", (list, None))
    right = names is None or (len(names) == n and all(type(name) is str for name in names))
    if not right or n not in (None, clf._n_features):
        raise Damage(f"its {CONFIG} names other columns than the operators have")
    if n is not None:
        clf.n_features_in_ = n
    if names is not None:
        clf.feature_names_in_ = np.array(names, dtype=object)
