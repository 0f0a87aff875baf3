"""skspace: frozen-encoder text classification for scikit-learn, one concept space per class.

Names are imported when they are first used, so that ``import skspace`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skspace._classifier import SpaceClassifier
    from skspace._encoding.token_encoder import TokenEncoder
    from skspace._input.ragged import RaggedArray
    from skspace._model.concept_operators import ConceptOperators

__version__ = "0.1.0"
__all__ = ["ConceptOperators", "RaggedArray", "SpaceClassifier", "TokenEncoder", "__version__"]

_HOMES = {
    "ConceptOperators": "_model.concept_operators",
    "RaggedArray": "_input.ragged",
    "SpaceClassifier": "_classifier",
    "TokenEncoder": "_encoding.token_encoder",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"skspace.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'skspace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
