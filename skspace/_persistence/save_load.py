"""The methods of SpaceClassifier that save, load, share and pickle it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skspace._encoding.token_encoder import TokenEncoder
from skspace._files.safetensors_format import Damage
from skspace._model.fitted_state import FittedState
from skspace._persistence.classifier_state import classifier_from_plain, classifier_to_plain, vector_spec
from skspace._persistence.folder_format import (
    CONFIG,
    WEIGHTS,
    check_target,
    read_config,
    skspace_version,
    write_folder,
)
from skspace._persistence.hub import download, upload
from skspace._persistence.model_card import check_metrics, model_card
from skspace._runtime.devices import pick_device
from skspace._runtime.messages import warn

__all__ = ["Persistence"]

_PICKLE_FORMAT = 2


class Persistence:
    """Mixin with the methods that save, load, share and pickle a SpaceClassifier."""

    def save_pretrained(
        self: Any,
        folder: str | os.PathLike[str],
        *,
        metrics: Mapping[str, float] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Save the fitted classifier as a folder of plain files, from which no code is ever run.

        ``config.json`` holds the parameters, labels, history and the encoder's identity, ``model.safetensors`` the
        trained operators, ``README.md`` a model card. Not saved: the encoder's weights, `callbacks`, and the place and
        limit of this machine's cache (`cache_dir`, `cache_max_bytes`).

        Parameters
        ----------
        folder : str or Path
            Created if needed. Written beside its place and renamed, so that it is never incomplete.
        metrics : dict of str to float, default=None
            Figures for the model card, such as ``{"accuracy": clf.score(X_test, y_test)}``.
        overwrite : bool, default=False
            Replace a classifier saved there before. A folder with anything else in it is never touched.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        ValueError
            If a parameter has no plain form (a RandomState, a subclass of TokenEncoder), or a metric is not a number.
        FileExistsError
            If the folder holds something that must not be replaced.
        """
        check_is_fitted(self)
        folder = Path(os.path.abspath(Path(folder).expanduser()))
        check_target(folder, overwrite=overwrite)
        _write(self, folder, folder.name, check_metrics(metrics), overwrite=overwrite)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], *, revision: str | None = None, encoder: Any = None
    ) -> Self:
        """Load what `save_pretrained` or `push_to_hub` wrote; predictions are the same to the last bit.

        The encoder is loaded, and if necessary downloaded, at the first text that is not in the cache. It must be the
        one of the fit. Devices that this machine lacks become "auto", with a warning.

        Parameters
        ----------
        folder : str or Path
            Folder, or hub id. Of a hub repository, config.json and model.safetensors are downloaded if this machine
            lacks them.
        revision : str, default=None
            Branch, tag or commit at the hub. Not for a folder.
        encoder : str, Path or TokenEncoder, default=None
            The encoder's new place, a folder or hub id, if it has moved. Or a TokenEncoder with other runtime settings
            that gives the same vectors.

        Returns
        -------
        SpaceClassifier
            Fitted, with all attributes but `callbacks_`.

        Raises
        ------
        OSError
            If there is no such folder, or its content is damaged, foreign, or of another format version.
        ValueError
            If `revision` is given with a folder, or `encoder` gives other vectors.
        """
        path = Path(folder).expanduser()
        if path.is_dir() and revision is not None:
            raise ValueError(
                f"The 'revision' parameter must be None for a folder, and {path.absolute()} is one. Got {revision!r} "
                "instead; give the folder of the revision that you want."
            )
        try:
            if not path.is_dir():
                path = _download(os.fspath(folder), revision)
            config = read_config(path)
            clf = classifier_from_plain(cls, config, path)
        except Damage as damage:
            raise OSError(
                f"{path} holds no classifier that can be loaded: {damage}. Expected a folder that "
                "SpaceClassifier.save_pretrained of this version wrote; save it again, or get a sound copy."
            ) from damage
        if encoder is not None:
            _move_encoder(clf, encoder)
        _leave_missing_devices(clf)
        return clf

    def push_to_hub(
        self: Any,
        repo_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        private: bool | None = True,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload SpaceClassifier",
    ) -> str:
        """Save to a repository of the Hugging Face hub, from which `from_pretrained` loads.

        Parameters
        ----------
        repo_id : str
            Such as ``"me/my-classifier"``; created if needed. Files of the same names are replaced, also the model card
            (README.md).
        metrics : dict of str to float, default=None
            Figures for the model card.
        private : bool or None, default=True
            Visibility of a new repository; None is the account's default. An existing repository keeps its own.
        revision : str, default=None
            Branch, created if needed; None is the main branch.
        token : str, default=None
            None uses ``hf auth login`` or ``$HF_TOKEN``. It is never written or logged.
        commit_message : str

        Returns
        -------
        str
            URL of the commit.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `save_pretrained`.
        OSError
            If the hub refuses or cannot be reached.
        """
        check_is_fitted(self)
        metrics = check_metrics(metrics)
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "classifier"
            _write(self, folder, repo_id, metrics, share=True)
            return upload(folder, repo_id, private=private, token=token, revision=revision, message=commit_message)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        if "_state" in state:
            state["_state"] = {"format": _PICKLE_FORMAT, **state["_state"].to_plain()}  # arrays, which skops can read
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        plain = state.get("_state", state.get("net_"))  # "net_" in format 1
        if isinstance(plain, dict):
            if plain["format"] != _PICKLE_FORMAT:
                kind = "a newer" if plain["format"] > _PICKLE_FORMAT else "an older"
                raise ValueError(
                    f"This SpaceClassifier was pickled in format {plain['format']} by {kind} skspace. This one "
                    f"({skspace_version()}) reads format {_PICKLE_FORMAT}. Load it with {kind} skspace, or fit again."
                )
            state = {**state, "_state": FittedState.from_plain(plain)}
        super().__setstate__(state)  # type: ignore[misc]


def _download(repo_id: str, revision: str | None) -> Path:
    # config.json first, so that weights of a repository that holds something else are never downloaded.
    path = download(repo_id, [CONFIG], revision)
    read_config(path)
    return download(repo_id, [CONFIG, WEIGHTS], path.name)


def _write(
    clf: Any, folder: Path, name: str, metrics: dict[str, float], *, overwrite: bool = False, share: bool = False
) -> None:
    content, tensors = classifier_to_plain(clf, share=share)
    encoder = content["encoder"]
    card = model_card(
        name,
        labels=content["labels"]["values"],
        multilabel=content["multilabel"],
        metrics=metrics,
        encoder=encoder and encoder["parameters"],
        identity=encoder["vectors"]["model"] if encoder else "",
        version=skspace_version(),
    )
    write_folder(folder, {**content, "metrics": metrics}, tensors, card, overwrite=overwrite)


# ---------------------------------------------------------------- on another machine


def _move_encoder(clf: Any, given: Any) -> None:
    """Point the classifier to the encoder's new place; its weights are compared when it is loaded."""
    fitted: TokenEncoder | None = clf.encoder_
    if fitted is None:
        raise ValueError(
            f"The 'encoder' parameter must be None for a classifier of vectors. Got {given!r:.80} instead."
        )
    if isinstance(given, TokenEncoder):
        moved = clone(given)
        clf.encoder = given
    elif isinstance(given, (str, os.PathLike)):
        elsewhere = {"model": os.fspath(given), "revision": None}
        moved = clone(fitted).set_params(**elsewhere)
        is_encoder = isinstance(clf.encoder, TokenEncoder)
        clf.encoder = clone(clf.encoder).set_params(**elsewhere) if is_encoder else os.fspath(given)
    else:
        raise ValueError(
            f"The 'encoder' parameter must be a folder, a hub id, a TokenEncoder or None. Got {given!r:.80} instead."
        )
    moved._remembered = fitted._remembered
    _check_same_vectors(fitted, moved)
    clf.encoder_ = moved


def _check_same_vectors(fitted: TokenEncoder, given: TokenEncoder) -> None:
    if given.pooling is not None:
        raise ValueError(f"The 'encoder' parameter must have pooling=None. Got pooling={given.pooling!r} instead.")
    differences = vector_spec(fitted).differences(vector_spec(given))
    if differences:
        expected, got = ({name: pair[i] for name, pair in differences.items()} for i in (0, 1))
        raise ValueError(
            "The 'encoder' parameter must give the vectors that the classifier was fitted on. Expected "
            f"{expected}, got {got}."
        )


def _leave_missing_devices(clf: Any) -> None:
    holders = [clf, *(one for one in (clf.encoder, clf.encoder_) if isinstance(one, TokenEncoder))]
    missing = {holder.device for holder in holders if not _is_here(holder.device)}
    if missing:
        for holder in holders:
            if holder.device in missing:
                holder.device = "auto"
        warn(
            f"This machine lacks the device {', '.join(sorted(missing)):.80} that the classifier was saved with; it is "
            "device='auto' now. If the encoder's dtype is 'auto', it may use a different dtype on this machine."
        )


def _is_here(device: str) -> bool:
    try:
        pick_device(device, estimator="SpaceClassifier")
    except ValueError:
        return False
    return True
