"""The plan of the house: which room may import which, as docs/contributing.md shows it."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skspace

PACKAGE = Path(skspace.__file__).parent
PAGE = Path(__file__).parents[2] / "docs/contributing.md"


def table(heading):
    """A two-column table of the page, the names in its cells: {name: set of names}."""
    lines = PAGE.read_text("utf-8").split(heading, 1)[1].split("|---|---|\n", 1)[1].splitlines()
    cells = [line.strip("|").split("|") for line in lines[: next(i for i, x in enumerate(lines) if "|" not in x)]]
    names = [tuple(re.findall("`([^`]+)`", cell) for cell in row) for row in cells]
    return {name: set(allowed) for keys, allowed in names for name in keys}


ROOMS, DOORS = table("| room | may import |"), table("| library | may be imported in |")


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def module(path):
    return ".".join(("skspace", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


FILES = {module(path): path for path in files()}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(path):
    """Modules that a file imports anywhere, function bodies included; relative imports are refused."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += {
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in FILES else node.module for a in node.names
            }
    return names


def test_every_room_is_in_the_table():
    assert {room(path) for path in files()} == ROOMS.keys()


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_allowed_imports(path):
    here = room(path)
    for name in imports(path):
        if name.startswith("skspace"):
            there = name.split(".")[1] if "." in name else None
            assert there is not None, f"{path} imports the package's own front"
            assert there == here or there in ROOMS[here], f"{here} imports {name}; it may import {ROOMS[here]}"


def test_no_circles():
    """Neither between rooms nor between the files of a room."""
    graph = {name: {used for used in imports(path) if used in FILES} for name, path in FILES.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())
    tuple(graphlib.TopologicalSorter(ROOMS).static_order())


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_doors(path):
    here = {room(path), str(path.relative_to(PACKAGE))}
    for name in imports(path):
        for library, allowed in DOORS.items():
            if name == library or name.startswith(f"{library}."):
                assert here & allowed, f"{path} imports {library}; it may be imported in {allowed}"


def test_no_room_for_odds_and_ends():
    names = {path.stem for path in files()}
    assert not names & {"utils", "_utils", "config", "_config", "exceptions", "_exceptions", "helpers", "common"}


def test_files_stay_short():
    # Half of each estimator is parameters and their documentation.
    long = {path.name: n for path in files() if (n := len(path.read_text("utf-8").splitlines())) > 450}
    assert long.keys() <= {"_classifier.py"}, long


def test_exported_names():
    assert set(skspace.__all__) == {
        "ConceptOperators",
        "RaggedArray",
        "SpaceClassifier",
        "TokenEncoder",
        "__version__",
    }
    for name in skspace.__all__:
        assert getattr(skspace, name) is not None
    assert set(dir(skspace)) == set(skspace.__all__)
    with pytest.raises(AttributeError, match="module 'skspace' has no attribute 'nothing'"):
        _ = skspace.nothing


LOADED = """
import sys
def report():
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
import skspace
report()
from skspace import SpaceClassifier, TokenEncoder
SpaceClassifier(TokenEncoder())
report()
"""


@pytest.mark.parametrize(
    ("heavy", "stage"),
    [
        pytest.param(
            {"torch", "transformers", "skorch", "matplotlib", "sklearn", "huggingface_hub", "pandas"}, 0, id="package"
        ),
        pytest.param({"transformers", "matplotlib", "sentence_transformers", "tokenizers"}, 1, id="classifier"),
    ],
)
def test_import_is_light(loaded, heavy, stage):
    assert "skspace" in loaded[stage]
    assert not heavy & loaded[stage]


@pytest.fixture(scope="module")
def loaded():
    """What another interpreter has imported, after importing the package, and then after making a classifier."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    return [set(line.split()) for line in done.stdout.splitlines()]
