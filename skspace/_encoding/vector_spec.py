"""VectorSpec: everything that determines a stored vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, get_args, get_type_hints

from skspace._encoding.model_files import is_same_model

__all__ = ["VectorSpec"]


# Metadata of fields. `differences` compares the weights together with the model.
_NOT_IN_NAMESPACE, _KEEPS_MEANING = {"in_namespace": False}, {"changes_meaning": False}


@dataclass(frozen=True)
class VectorSpec:
    """Everything that determines a stored vector, besides its text.

    A new field needs an entry here and in `TokenEncoder._vector_spec`, nothing else. Give it a default that describes
    the vectors made before: caches and saved folders from then stay valid.

    Parameters
    ----------
    model : str
        Identity of the model's files, see `ModelFiles`.
    weights : str
        Digest of the weights. The hub's copy of a model and a folder of the same files differ in `model` only.
    layer : int
        From 0, the token embeddings, to the depth of the model.
    max_length : int
    special_tokens : {"keep", "drop"}
    computed : str
        Precision of the computation. It changes a vector by rounding only.
    stored : str
        Type that the store keeps.
    """

    model: str
    weights: str = field(metadata=_NOT_IN_NAMESPACE | _KEEPS_MEANING)
    layer: int
    max_length: int
    special_tokens: str
    computed: str = field(metadata=_KEEPS_MEANING)
    stored: str

    def namespace(self) -> dict[str, Any]:
        """The parts that name the store of these vectors; a part with its default value is left out."""
        return {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if part.metadata.get("in_namespace", True) and getattr(self, part.name) != part.default
        }

    def differences(self, other: VectorSpec) -> dict[str, tuple[Any, Any]]:
        """The fields, as ``{name: (own value, the other's)}``, by which vectors mean something else.

        Empty if a classifier that was fitted on the vectors of one can use those of the other.
        """
        compared = [part.name for part in fields(self) if part.metadata.get("changes_meaning", True)]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in compared}
        different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if is_same_model((self.model, self.weights), (other.model, other.weights)):
            different.pop("model", None)
        return different

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> VectorSpec:
        """Read what `to_dict` wrote, perhaps in an earlier version, which lacked fields that now have a default.

        Raises
        ------
        ValueError
            If a field is unknown, has the wrong type, or is missing and has no default.
        """
        kinds = get_type_hints(cls)
        if unknown := sorted(map(str, plain.keys() - kinds.keys())):
            raise ValueError(
                f"These vectors depend on {', '.join(unknown):.200}, which this version of skspace does not know. "
                "Install the version that wrote them, or a newer one."
            )
        for part in fields(cls):
            if part.name not in plain:
                if part.default is MISSING:
                    raise ValueError(f"The description of the vectors lacks {part.name!r}. Expected a value for it.")
                continue
            kind, value = kinds[part.name], plain[part.name]
            if type(value) not in (get_args(kind) or (kind,)):
                expected = getattr(kind, "__name__", str(kind))
                raise ValueError(f"{part.name!r} of the vectors must be of type {expected}. Got {value!r:.80} instead.")
        return cls(**plain)
