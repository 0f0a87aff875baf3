"""Why a fitted SpaceClassifier says what it says."""

from skspace.inspection._contributions import TokenContributions, token_contributions

__all__ = ["TokenContributions", "token_contributions"]
