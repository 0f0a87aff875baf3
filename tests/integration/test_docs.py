"""What the documentation shows is true: docstrings, README, and that CI does what the README says."""

import ast
import copy
import doctest
import importlib
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import skspace

ROOT = Path(__file__).parents[2]
MODULES = [
    info.name for info in pkgutil.walk_packages(skspace.__path__, "skspace.") if not info.name.endswith("__main__")
]


def examples(name):
    """Doctests in the source of a module; doctest's finder skips a class that names another module as its own."""
    module = importlib.import_module(name)
    for node in ast.walk(ast.parse(Path(module.__file__).read_text("utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            place = f"{name}.{getattr(node, 'name', '')}"
            yield doctest.DocTestParser().get_doctest(text, vars(module), place, module.__file__, 0)


FITTED = {}


@pytest.fixture
def each_fit_once(minilm, monkeypatch):
    """The pages fit the same classifier on the same texts; whichever is tested first does it."""
    fit = skspace.SpaceClassifier.fit

    def fit_or_copy(clf, X, y):
        key = (repr(clf.get_params()), tuple(X), tuple(y))
        if key not in FITTED:
            FITTED[key] = copy.deepcopy(fit(clf, X, y))
        vars(clf).update(vars(copy.deepcopy(FITTED[key])))
        return clf

    monkeypatch.setattr(skspace.SpaceClassifier, "fit", fit_or_copy)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, each_fit_once):
    runner = doctest.DocTestRunner()
    for test in examples(name):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_docstring_examples():
    found = {name: sum(len(test.examples) for test in examples(name)) for name in MODULES}
    assert {"skspace._classifier", "skspace._encoding.token_encoder", "skspace._input.ragged"} <= {
        name for name, n in found.items() if n
    }
    assert sum(found.values()) == sum(
        Path(importlib.import_module(name).__file__).read_text("utf-8").count("    >>> ") for name in MODULES
    )


@pytest.mark.parametrize(("page", "least"), [("README.md", 8), ("docs/explaining.md", 15)])
def test_code_of_pages(page, least, each_fit_once):
    result = doctest.testfile(str(ROOT / page), module_relative=False)
    assert result.attempted >= least
    assert result.failed == 0


def test_ci_runs_the_second_command_of_the_readme():
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert len(commands) == 2
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    # With the slow tests, which a first look may do without.
    assert commands[1].replace(".venv-test", "$VENV") in script.replace('"$venv"', "$VENV").replace(
        '"$venv/bin/pip" install -q', "$VENV/bin/pip install"
    ).replace('"$venv/bin/pytest" -m "" --durations=15', "$VENV/bin/pytest")


PUBLIC = [
    (module, name)
    for module in ("skspace", "skspace.inspection", "skspace.datasets", "skspace.cache")
    for name in importlib.import_module(module).__all__
    if name != "__version__"
]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_has_a_docstring_that_tells_its_parameters(module, name):
    documentation = getattr(importlib.import_module(module), name).__doc__
    assert "Parameters\n" in documentation or "Attributes\n" in documentation


def test_the_reference_lists_every_public_name():
    module, listed = "", set()
    for line in (ROOT / "docs" / "api.md").read_text("utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            listed.add((module, line.strip()))
    assert listed == set(PUBLIC)


def test_no_file_of_the_repository_names_a_path_of_a_machine():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    foreign = re.compile(r"(?<![\w.])/(work|root|home/\w+|Users/\w+)/")
    for name in listing.split("\n"):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".rst", ".yml"} and path.is_file():
            assert not foreign.search(path.read_text("utf-8")), name
