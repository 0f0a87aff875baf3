"""Small data sets that come with the package."""

from skspace.datasets._support_messages import load_support_messages

__all__ = ["load_support_messages"]
