"""What only the repository has: pinned hooks, the workflows' Python versions, the benchmarks' imports."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_hooks_are_pinned_to_the_tested_versions():
    config = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    tested = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    hooks = dict(re.findall(r"([\w-]+)==([\w.]+)", config))
    assert {"ruff", "pre_commit_hooks"} <= hooks.keys() & tested.keys()
    assert {name: version for name, version in hooks.items() if name in tested and tested[name] != version} == {}


@pytest.mark.parametrize(
    ("subject", "refused"),
    [("x" * 72, False), ("é" * 72, False), ("x" * 73, True), ("é" * 73, True), ("x" * 9 + "\n\n" + "x" * 99, False)],
)
def test_subjects_of_more_than_72_characters_are_refused(subject, refused):
    config = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    (pattern,) = re.findall(r"entry: '(\\A.*)'", config)
    found = re.search(pattern.encode(), (subject + "\n").encode(), re.MULTILINE | re.DOTALL)  # as pygrep --multiline
    assert bool(found) is refused


def test_ci_tests_the_oldest_python():
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    (first,) = re.findall(r'python: \["([\d.]+)",', (ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert needed == f">={first}"


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skspace"):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "examples/benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_benchmarks_import_what_exists(path):
    """The tests do not run them all, and they may use private modules."""
    for module, name in imported(path):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")
