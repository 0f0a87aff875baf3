"""Data sets: one that comes with the package, and the three of the Space Model's paper, which are downloaded."""

from skspace.datasets._hatexplain import fetch_hatexplain
from skspace.datasets._imdb import fetch_imdb
from skspace.datasets._social_media_attributions import fetch_social_media_attributions
from skspace.datasets._support_messages import load_support_messages

__all__ = [
    "fetch_hatexplain",
    "fetch_imdb",
    "fetch_social_media_attributions",
    "load_support_messages",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # error messages and pickles then name the public module
del _name
