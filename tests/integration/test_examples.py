"""The examples do what they say, as a user would run them."""

import csv
import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# Of each script of the gallery a line, or the shape of one, that would not come if it did not work.
GALLERY = {
    "plot_calibration": r"tuned +threshold 0\.\d+: \d+ of 16 missed, \d+ false alarms, cost \d+$",
    "plot_concept_spaces": r"^  \+0\.\d\d|^  \+1\.00  .*«\w+»",
    "plot_dask": r"^encoded: 300\nencoded by a second call: 0\n",
    "plot_explanations": r"^refund (\+\d\.\d+) for 'returns' .*\nrefund (?!\1)\+\d\.\d+ for 'returns'",
    "plot_multilabel": r"^SpaceClassifier +0\.[6-9]\d+ +0\.[6-9]\d+ +0\.[6-9]\d+ +0\.[6-9]\d+$",
    "plot_pipelines": r"^concept spaces \+ numbers +accuracy 0\.[89]",
    "plot_saving": r"^equal to the bit: True\nwhere is my parcel\? -> {\"label\": \"delivery\"",
    "plot_streaming": r"^after 140: returns 0\.0\d, all others 0\.[89]\d\n(?s:.*)^after 300: returns (0\.[5-9]|1)",
    "plot_transfer": r"^SpaceClassifier +up to 15 words: 0\.[89]\d+   more than 20 words: 0\.[6-9]",
    "plot_tuning": r"^texts encoded: 400, distinct texts: 400\ntexts encoded by the second search: 0$",
}
REAL = {
    "plot_calibration": r"^temperature +accuracy 0\.[67]",
    "plot_multilabel": r"^1750 texts to learn from, 750 to test, \d+ labels",
    "plot_transfer": r"^900 texts to learn from and 300 to test: MR",
}

# Refuses the network to every process of an example, but for this machine's own, and writes down who tried. A datagram
# socket that is connected sends nothing: it is how Dask asks for the machine's own address.
NO_NETWORK = """
import os, socket, sys

def refuse(event, args):
    if event == "socket.connect":
        own, address = args
        if own.family not in (socket.AF_INET, socket.AF_INET6) or own.type & socket.SOCK_DGRAM:
            return
        host = address[0]
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host not in (None, "", "localhost", "::1", socket.gethostname()) and not str(host).startswith("127."):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            print(event, host, file=log)
        raise OSError("the tests have no network")

sys.addaudithook(refuse)
"""


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


def run_without_network(script, tmp_path, **environment):
    """Its output; in another folder, with an empty cache, and pictures that nobody sees."""
    guard, folder = tmp_path / "guard", tmp_path / "elsewhere"
    guard.mkdir()
    folder.mkdir()
    (guard / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    output = run(
        script,
        cwd=folder,
        SKSPACE_CACHE_DIR=str(tmp_path / "cache"),
        PYTHONPATH=os.pathsep.join(filter(None, [str(guard), os.environ.get("PYTHONPATH")])),
        NETWORK_LOG=str(tmp_path / "network"),
        HF_HUB_OFFLINE="0",  # it must not try, rather than not be able to
        OMP_NUM_THREADS="1",  # two are much slower where others are at work
        MPLBACKEND="Agg",
        MPLCONFIGDIR=str(tmp_path / "matplotlib"),
        DISPLAY="",  # with a display matplotlib warns that Agg shows nothing
        **environment,
    )
    assert not (tmp_path / "network").exists(), (tmp_path / "network").read_text()
    return output, {path.name for path in folder.iterdir()}


def test_every_script_of_the_gallery_is_tested():
    assert {path.stem for path in EXAMPLES.glob("plot_*.py")} == set(GALLERY)


@pytest.mark.parametrize("name", GALLERY)
def test_gallery(name, minilm, tmp_path):
    pytest.importorskip("matplotlib")
    output, left = run_without_network(f"{name}.py", tmp_path, SKSPACE_DATA="")
    assert re.search(GALLERY[name], output, re.M), output
    assert left == set()


@pytest.mark.skipif("SKSPACE_SLOW_TESTS" not in os.environ, reason="a minute; set SKSPACE_SLOW_TESTS=1")
@pytest.mark.parametrize("name", REAL)
def test_gallery_on_real_texts(name, minilm, data_folder, tmp_path):
    pytest.importorskip("matplotlib")
    output, _ = run_without_network(f"{name}.py", tmp_path, SKSPACE_DATA=str(data_folder))
    assert re.search(REAL[name], output, re.M), output


def test_gallery_without_dask(minilm, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "distributed.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join(filter(None, [str(tmp_path / "without"), os.environ.get("PYTHONPATH")]))
    output = run("plot_dask.py", cwd=tmp_path, PYTHONPATH=path, OMP_NUM_THREADS="1", MPLBACKEND="Agg", DISPLAY="")
    assert output.startswith("dask.distributed is not installed: pip install 'skspace[dask]'.")
    assert re.search(GALLERY["plot_dask"], output, re.M), output


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
