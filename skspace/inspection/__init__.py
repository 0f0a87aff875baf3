"""Why a fitted SpaceClassifier says what it says: numbers, words and pictures."""

from skspace.inspection._concepts import ConceptTokens, ConceptWord, SpaceGeometry, concept_tokens, space_geometry
from skspace.inspection._contributions import TokenContributions, token_contributions
from skspace.inspection._groups import GroupErrors, Polarization, group_errors, polarization
from skspace.inspection._neighbors import Neighbors, neighbors

__all__ = [
    "ConceptTokens",
    "ConceptWord",
    "GroupErrors",
    "Neighbors",
    "Polarization",
    "SpaceGeometry",
    "TokenContributions",
    "concept_tokens",
    "group_errors",
    "neighbors",
    "polarization",
    "space_geometry",
    "token_contributions",
]
