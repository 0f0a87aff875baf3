"""The floors and doors of the house: what a module may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skspace

PACKAGE = Path(skspace.__file__).parent
FLOORS = {
    "_ragged": 0,
    "_texts": 0,
    "_labels": 0,
    "_model_files": 0,
    "_safetensors": 0,
    "_index": 0,
    "_locks": 0,
    "_open_files": 0,
    "_progress": 0,
    "_threads": 0,
    "_devices": 0,
    "_packed": 0,
    "_warnings": 0,
    "_fit_callbacks": 0,
    "_products": 0,
    "_hub": 0,
    "_model_card": 0,
    "datasets": 1,
    "_shard": 1,
    "_store": 2,
    "_cache_folder": 2,
    "_transformer": 1,
    "_batches": 1,
    "_operators": 1,
    "_losses": 1,
    "_targets": 1,
    "_pretrained": 2,
    "_encode": 3,
    "_accumulation": 2,
    "_net_callbacks": 2,
    "_criterion": 2,
    "_lesson": 2,
    "cache": 3,
    "_net": 3,
    "_encoder": 4,
    "_plain_net": 4,
    "_plain": 5,
    "_persistence": 6,
    "_classifier": 7,
    "inspection": 7,
}
DOORS = {
    "transformers": {"_transformer"},
    "huggingface_hub": {"_model_files", "_hub"},
    "skorch": {"_accumulation", "_net", "_net_callbacks", "_plain_net"},
    "matplotlib": {"inspection"},
    "pandas": {"datasets", "inspection"},
    "pooch": {"datasets"},
    "requests": {"datasets"},
    "safetensors": {"_safetensors"},
    "filelock": {"_locks"},
    "tqdm": {"_progress"},
    "sklearn.callback": {"_fit_callbacks"},
    "platformdirs": {"_cache_folder"},
    "torch": {
        "_threads",
        "_devices",
        "_packed",
        "_products",
        "_operators",
        "_accumulation",
        "_net_callbacks",
        "_losses",
        "_criterion",
        "_batches",
        "_lesson",
        "_transformer",
        "_encoder",
        "_net",
        "_plain_net",
        "_classifier",
    },
}


def files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Modules that a file imports anywhere, function bodies included; relative ones are refused."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_every_room_has_a_floor():
    assert {room(path) for path in files()} == FLOORS.keys()


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    here = room(path)
    for name in imports(path):
        if name.startswith("skspace"):
            there = name.split(".")[1] if "." in name else None
            assert there is not None, f"{path} imports the package's own front"
            assert there == here or FLOORS[there] < FLOORS[here], f"{here} (floor {FLOORS[here]}) imports {there}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_doors(path):
    for name in imports(path):
        for library, rooms in DOORS.items():
            if name == library or name.startswith(f"{library}."):
                assert room(path) in rooms, f"{path} imports {library}; the door is {rooms}"


def test_no_room_for_odds_and_ends():
    names = {path.stem for path in files()}
    assert not names & {"utils", "_utils", "config", "_config", "exceptions", "_exceptions", "helpers", "common"}


def test_files_stay_short():
    # Half of the estimators is parameters and their documentation; what reads, writes and merges in a store shares one
    # index and one lock.
    long = {path.name: n for path in files() if (n := len(path.read_text("utf-8").splitlines())) > 400}
    assert long.keys() <= {"_classifier.py", "_encoder.py", "_store.py"}, long


def test_exported_names():
    assert set(skspace.__all__) == {
        "ConceptOperators",
        "RaggedArray",
        "SpaceClassifier",
        "TokenEncoder",
        "TokenStore",
        "__version__",
    }
    for name in skspace.__all__:
        assert getattr(skspace, name) is not None
    assert set(dir(skspace)) == set(skspace.__all__)
    with pytest.raises(AttributeError, match="module 'skspace' has no attribute 'nothing'"):
        _ = skspace.nothing


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_import_is_light():
    heavy = ("torch", "transformers", "skorch", "matplotlib", "sklearn", "huggingface_hub", "pandas")
    loaded = run(f"import sys, skspace; print(*[name for name in {heavy} if name in sys.modules])")
    assert loaded == []


def test_classifier_imports_no_transformers_and_no_matplotlib():
    heavy = ("transformers", "matplotlib", "sentence_transformers", "tokenizers")
    loaded = run(
        "import sys; from skspace import SpaceClassifier, TokenEncoder; SpaceClassifier(TokenEncoder()); "
        f"print(*[name for name in {heavy} if name in sys.modules])"
    )
    assert loaded == []
