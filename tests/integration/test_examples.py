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
    "plot_explanations": r"^refund ([+-]\d\.\d+) for 'returns' .*\nrefund (?!\1)[+-]\d\.\d+ for 'returns'",
    "plot_multilabel": r"^SpaceClassifier +0\.\d+ +0\.\d+ +0\.\d+ +0\.\d+$",
    "plot_pipelines": r"^concept spaces \+ numbers +accuracy 0\.\d",
    "plot_saving": r"^equal to the bit: True\nwhere is my parcel\? -> {\"label\": \"",
    "plot_streaming": r"^after 140: returns 0\.0\d, all others 0\.[89]\d\n(?s:.*)^after 300: returns (0\.[5-9]|1)",
    "plot_transfer": r"^SpaceClassifier +up to 15 words: 0\.\d+   more than 20 words: 0\.\d",
    "plot_tuning": r"^texts encoded: 400, distinct texts: 400\ntexts encoded by the second search: 0$",
}
# What it takes a whole training to print.
LEARNED = GALLERY | {
    "plot_explanations": r"^refund (\+\d\.\d+) for 'returns' .*\nrefund (?!\1)\+\d\.\d+ for 'returns'",
    "plot_multilabel": r"^SpaceClassifier +0\.[6-9]\d+ +0\.[6-9]\d+ +0\.[6-9]\d+ +0\.[6-9]\d+$",
    "plot_pipelines": r"^concept spaces \+ numbers +accuracy 0\.[89]",
    "plot_saving": r"^equal to the bit: True\nwhere is my parcel\? -> {\"label\": \"delivery\"",
    "plot_transfer": r"^SpaceClassifier +up to 15 words: 0\.[89]\d+   more than 20 words: 0\.[6-9]",
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


# Run before a script whose training need not be any good.
QUICK = """
from skspace import SpaceClassifier
SpaceClassifier.__init__.__kwdefaults__.update(max_epochs=2, n_members=1)
"""
WITHOUT_DASK = """
import joblib, sys
sys.modules["distributed"] = None
joblib.register_parallel_backend("loky", joblib.parallel.BACKENDS["threading"])
"""
SCRIPT = """
import runpy, sys
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
UNSEEN = {"MPLBACKEND": "Agg", "DISPLAY": ""}  # with a display matplotlib warns that Agg shows nothing


def printed(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def run(script, *args, cwd, **environment):
    """What a script prints in an interpreter of its own."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *args]
    return printed(
        subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, check=False)
    )


@pytest.fixture(scope="session")
def encoding_python(start_python, tmp_path_factory):
    """The same, with what encodes and draws, but not skspace."""
    pytest.importorskip("matplotlib")
    return start_python(
        "sklearn.model_selection",
        "skorch",
        "matplotlib.pyplot",
        "transformers.models.bert.modeling_bert",
        MPLCONFIGDIR=str(tmp_path_factory.mktemp("matplotlib")),
        HF_HUB_OFFLINE="0",  # it must not try to use the network, rather than not be able to
        **UNSEEN,
    )


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory):
    """For scripts that do not count what they encode."""
    return tmp_path_factory.mktemp("gallery")


@pytest.fixture
def no_network(tmp_path):
    """Environment that refuses the network to the processes that a script starts; fails if one has tried to use it."""
    guard, log = tmp_path / "guard", tmp_path / "network"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(guard), os.environ.get("PYTHONPATH")]))
    yield {"PYTHONPATH": path, "NETWORK_LOG": str(log), "HF_HUB_OFFLINE": "0"}
    assert not log.exists(), log.read_text()


@pytest.fixture
def elsewhere(tmp_path):
    """A folder to work in, where nothing may be left."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def test_the_network_is_refused(encoding_python, tmp_path):
    """Else no script could fail for using it."""
    code = "import socket; socket.create_connection(('192.0.2.1', 80))"
    log = tmp_path / "network"
    result = encoding_python(NO_NETWORK + code, cwd=tmp_path, NETWORK_LOG=str(log))
    assert result.returncode == 1
    assert result.stderr.endswith("OSError: the tests have no network\n")
    assert "192.0.2.1" in log.read_text()


def test_quickstart_in_another_folder_with_an_empty_cache(minilm, encoding_python, no_network, elsewhere, tmp_path):
    script, cache = EXAMPLES / "quickstart.py", tmp_path / "cache"
    code = NO_NETWORK + SCRIPT
    output = printed(encoding_python(code, str(script), cwd=elsewhere, **no_network, SKSPACE_CACHE_DIR=str(cache)))
    assert float(re.search(r"accuracy (\d\.\d+)", output).group(1)) > 0.75
    assert re.findall(r"^    (\w+) \(", output, re.M) == ["billing", "delivery", "fault"]
    assert cache.is_dir()


def test_every_script_of_the_gallery_is_tested():
    assert {path.stem for path in EXAMPLES.glob("plot_*.py")} == set(GALLERY)


@pytest.fixture
def two_epochs(minilm, encoding_python, no_network, elsewhere, warm_cache):
    """What a script prints that trains for two epochs."""

    def run(script, before=""):
        environment = no_network | {"SKSPACE_CACHE_DIR": str(warm_cache), "SKSPACE_DATA": ""}
        code = NO_NETWORK + before + QUICK + SCRIPT
        return printed(encoding_python(code, str(EXAMPLES / script), cwd=elsewhere, **environment))

    return run


# The slowest are left to test_gallery_in_full.
LONG = ("plot_calibration", "plot_dask", "plot_multilabel", "plot_transfer", "plot_tuning")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in GALLERY])
def test_gallery(name, two_epochs):
    output = two_epochs(f"{name}.py")
    assert re.search(GALLERY[name], output, re.M), output


def test_gallery_without_dask(two_epochs):
    output = two_epochs("plot_dask.py", before=WITHOUT_DASK)
    assert output.startswith("dask.distributed is not installed: pip install 'skspace[dask]'.")
    assert re.search(GALLERY["plot_dask"], output, re.M), output


def in_full(name, no_network, elsewhere, tmp_path, data):
    """What a script prints in an interpreter of its own, with an empty cache."""
    pytest.importorskip("matplotlib")
    folders = {"SKSPACE_CACHE_DIR": str(tmp_path / "cache"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    return run(f"{name}.py", cwd=elsewhere, SKSPACE_DATA=data, **folders, **UNSEEN, **no_network)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_gallery_in_full(name, minilm, no_network, elsewhere, tmp_path):
    output = in_full(name, no_network, elsewhere, tmp_path, "")
    assert re.search(LEARNED[name], output, re.M), output


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_gallery_on_real_texts(name, minilm, data_folder, no_network, elsewhere, tmp_path):
    if not os.environ.get("SKSPACE_SLOW_TESTS"):
        pytest.skip("takes longer than CI can afford: set SKSPACE_SLOW_TESTS=1")
    output = in_full(name, no_network, elsewhere, tmp_path, str(data_folder))
    assert re.search(REAL[name], output, re.M), output


@pytest.mark.slow
def test_gallery_in_full_without_dask(minilm, no_network, elsewhere, tmp_path):
    (tmp_path / "guard" / "distributed.py").write_text("raise ImportError('not here')", encoding="utf-8")
    output = in_full("plot_dask", no_network, elsewhere, tmp_path, "")
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


def assert_encodes_each_text_once_and_then_never(first, second):
    assert "texts encoded: 100, distinct texts: 100" in first
    assert "transformers imported: yes" in first
    assert "texts encoded: 0, distinct texts: 100" in second
    assert "transformers imported: no" in second
    # Stored vectors and a seed: the same table, but for the seconds.
    scores = [re.findall(r"^ +\d+ +(\d\.\d+ +\d\.\d+)|test accuracy (\S+)", o, re.M) for o in (first, second)]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 3


def test_tune_latent(minilm, python, small_set, tmp_path):
    environment = {"SKSPACE_DATA": str(small_set), "SKSPACE_CACHE_DIR": str(tmp_path / "cache")}
    args = (str(EXAMPLES / "tune_latent.py"), "messages", "--n-latent", "2", "8", "--n-jobs", "1")
    first, second = (printed(python(QUICK + SCRIPT, *args, cwd=tmp_path, **environment)) for _ in range(2))
    assert_encodes_each_text_once_and_then_never(first, second)


@pytest.mark.slow
def test_tune_latent_in_full_and_in_processes(minilm, small_set, tmp_path):
    environment = {"SKSPACE_DATA": str(small_set), "SKSPACE_CACHE_DIR": str(tmp_path / "cache")}
    args = ("tune_latent.py", "messages", "--n-latent", "2", "8", "--n-jobs", "2")
    first, second = (run(*args, cwd=tmp_path, **environment) for _ in range(2))
    assert_encodes_each_text_once_and_then_never(first, second)


def test_tune_latent_says_what_is_missing(python, tmp_path):
    script = str(EXAMPLES / "tune_latent.py")
    result = python(SCRIPT, script, "nothing", cwd=tmp_path, SKSPACE_DATA=str(tmp_path))
    assert result.returncode == 1
    assert re.search(r"No file .*nothing/train.csv.gz. Set SKSPACE_DATA", result.stderr)
