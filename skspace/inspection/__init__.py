"""Explanations of a fitted SpaceClassifier and its predictions, as numbers, tables, HTML and figures."""

from skspace.inspection._concept_tokens_display import ConceptTokensDisplay
from skspace.inspection._concepts import ConceptTokens, ConceptWord, SpaceGeometry, concept_tokens, space_geometry
from skspace.inspection._contributions import TokenContributions, token_contributions
from skspace.inspection._contributions_display import TokenContributionsDisplay
from skspace.inspection._groups import GroupErrors, Polarization, group_errors, polarization
from skspace.inspection._history_display import TrainingHistoryDisplay
from skspace.inspection._left_out import LeftOut, left_out
from skspace.inspection._neighbors import Neighbors, neighbors
from skspace.inspection._removal_order import RemovalOrder, removal_order
from skspace.inspection._space_display import ConceptSpaceDisplay

__all__ = [
    "ConceptSpaceDisplay",
    "ConceptTokens",
    "ConceptTokensDisplay",
    "ConceptWord",
    "GroupErrors",
    "LeftOut",
    "Neighbors",
    "Polarization",
    "RemovalOrder",
    "SpaceGeometry",
    "TokenContributions",
    "TokenContributionsDisplay",
    "TrainingHistoryDisplay",
    "concept_tokens",
    "group_errors",
    "left_out",
    "neighbors",
    "polarization",
    "removal_order",
    "space_geometry",
    "token_contributions",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # pickles, skops and error messages then name the public module
del _name
