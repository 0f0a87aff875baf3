"""The examples do what they say, as a user would run them."""

import csv
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(script, *args, cwd, **environment):
    result = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_quickstart_in_another_folder_with_an_empty_cache(minilm, tmp_path):
    output = run("quickstart.py", cwd=tmp_path, SKSPACE_CACHE_DIR=str(tmp_path / "cache"))
    assert float(re.search(r"accuracy (\d\.\d+)", output).group(1)) > 0.75
    assert re.findall(r"^    (\w+) \(", output, re.M) == ["billing", "delivery", "fault"]
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


@pytest.fixture
def small_set(tmp_path):
    from skspace.datasets import load_support_messages

    bunch = load_support_messages()
    for split, rows in (("train", slice(0, 60)), ("test", slice(50, 100))):  # 10 stand in both
        (tmp_path / "messages").mkdir(exist_ok=True)
        with gzip.open(tmp_path / "messages" / f"{split}.csv.gz", "wt", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "label"])
            writer.writerows(zip(bunch.ids[rows], bunch.data[rows], bunch.target[rows], strict=True))
    return tmp_path


def test_tune_latent_encodes_each_text_once_and_then_never(minilm, small_set, tmp_path):
    environment = {"SKSPACE_DATA": str(small_set), "SKSPACE_CACHE_DIR": str(tmp_path / "cache")}
    args = ("tune_latent.py", "messages", "--n-latent", "2", "8", "--n-jobs", "2")
    first = run(*args, cwd=tmp_path, **environment)
    assert "texts encoded: 100, distinct texts: 100" in first
    assert "transformers imported: yes" in first
    second = run(*args, cwd=tmp_path, **environment)
    assert "texts encoded: 0, distinct texts: 100" in second
    assert "transformers imported: no" in second
    # Stored vectors and a seed: the same table, but for the seconds.
    scores = [re.findall(r"^ +\d+ +(\d\.\d+ +\d\.\d+)|test accuracy (\S+)", o, re.M) for o in (first, second)]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3


def test_tune_latent_says_what_is_missing(tmp_path):
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "tune_latent.py"), "nothing"],
        capture_output=True,
        text=True,
        env=os.environ | {"SKSPACE_DATA": str(tmp_path)},
        check=False,
    )
    assert result.returncode == 1
    assert re.search(r"No file .*nothing/train.csv.gz. Set SKSPACE_DATA", result.stderr)
