"""skspace: frozen-encoder text classification for scikit-learn, one concept space per class.

Names are imported when they are first used, so that ``import skspace`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skspace._classifier import SpaceClassifier
    from skspace._encoder import TokenEncoder
    from skspace._operators import ConceptOperators
    from skspace._ragged import RaggedArray
    from skspace._store import TokenStore

__version__ = "0.1.0"
__all__ = ["ConceptOperators", "RaggedArray", "SpaceClassifier", "TokenEncoder", "TokenStore", "__version__"]

_HOMES = {
    "ConceptOperators": "_operators",
    "RaggedArray": "_ragged",
    "SpaceClassifier": "_classifier",
    "TokenEncoder": "_encoder",
    "TokenStore": "_store",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"skspace.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'skspace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
