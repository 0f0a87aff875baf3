"""How the documentation is built: python -m sphinx -W --keep-going -b html docs docs/_build/html

No network is needed: the gallery runs on the built-in data set, or on real ones where SKSPACE_DATA names their folder.
"""

import importlib.metadata
import os
from pathlib import Path

project = "skspace"
author = "The skspace developers"
copyright = author  # noqa: A001
release = importlib.metadata.version("skspace")
version = release

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",  # the pages are read without network too
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "sg_execution_times.rst"]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # sphinx-gallery's sorting key is a class

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says types, and what they mean
numpydoc_show_class_members = False


class QuickstartFirst:
    """The gallery's order: by name, but for where one begins."""

    def __init__(self, folder):
        pass

    def __call__(self, name):
        return name != "quickstart.py", name


os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "2")
sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"(plot_\w+|quickstart)\.py$",
    "ignore_pattern": r"(__init__|tune_latent)\.py$",
    "nested_sections": False,
    "within_subsection_order": QuickstartFirst,
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "reference_url": {"skspace": None},
    "doc_module": ("skspace",),
    "backreferences_dir": "generated/backreferences",
}

html_theme = "pydata_sphinx_theme"
html_title = "skspace"
html_static_path = ["_static"]
html_css_files = ["skspace.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
}
html_sidebars = {"index": []}


# ---------------------------------------------------------------- pages of figures, which live beside their scripts

BENCHMARKS = Path(__file__).parent.parent / "examples" / "benchmarks"


def write_result_pages(app):
    """A page for every page of figures, that includes it."""
    folder = Path(app.srcdir) / "results"
    folder.mkdir(exist_ok=True)
    for page in sorted(BENCHMARKS.glob("*.md")):
        content = f"```{{include}} ../../examples/benchmarks/{page.name}\n```\n"
        here = folder / page.name
        if not here.exists() or here.read_text("utf-8") != content:
            here.write_text(content, "utf-8")


def point_at_result_pages(app, name, source):
    """Links that work in the repository, as links that work here."""
    source[0] = source[0].replace("](../examples/benchmarks/", "](results/")


def setup(app):
    app.connect("builder-inited", write_result_pages)
    app.connect("source-read", point_at_result_pages)
