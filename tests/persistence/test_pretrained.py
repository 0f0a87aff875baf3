"""Saving and loading: equal to the bit, on another machine, from damaged and hostile folders, and through the hub."""

import copy
import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import huggingface_hub
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace._encoding import encoding_job, token_encoder
from skspace._persistence.classifier_state import classifier_to_plain
from skspace._persistence.folder_format import _MAX_CONFIG_BYTES, FORMAT, FORMAT_VERSION, _checksum, tensor_shapes
from skspace.inspection import token_contributions

N, D = 60, 8
TEXTS = ["the parcel is late", "charged twice", "my account", "short text", "longer text and longer", ""]
LABELS = ["late", "money", "account", "late", "money", "account"]
NEW = "and a text that nobody has seen"


def vectors(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(rng.integers(1, 7), D)) for _ in range(N)]
    for i, row in enumerate(rows):
        row[::2, i % 3] += 3
    return RaggedArray.from_rows([row.astype(dtype) for row in rows])


X = vectors()
Y = np.array(["bad", "good", "odd"])[np.arange(N) % 3]


def make(**params):
    return SpaceClassifier(
        "precomputed", **({"max_epochs": 3, "n_members": 2, "n_latent": 2, "random_state": 0} | params)
    )


@pytest.fixture(scope="module")
def fitted():
    return make().fit(X, Y)


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "clf")
    return tmp_path / "clf"


@pytest.fixture(scope="module")
def on_texts(tiny_bert, tmp_path_factory):
    encoder = TokenEncoder(tiny_bert, dtype="float32", cache_dir=None)
    return SpaceClassifier(encoder, max_epochs=3, random_state=0).fit(TEXTS, LABELS)


def outputs(clf, X):
    return {name: getattr(clf, name)(X) for name in ("predict", "predict_proba", "decision_function", "transform")} | {
        name: getattr(clf, name)
        for name in ("classes_", "concept_operators_", "attention_queries_", "coef_", "intercept_")
        if hasattr(clf, name)
    }


def assert_same(clf, other, X):
    got, expected = outputs(other, X), outputs(clf, X)
    assert got.keys() == expected.keys()
    for name in expected:
        assert got[name].dtype == expected[name].dtype, name
        assert np.array_equal(got[name], expected[name]), name
    assert other.history_ == clf.history_
    assert other.n_iter_ == clf.n_iter_
    assert other.get_feature_names_out().tolist() == clf.get_feature_names_out().tolist()


def load(folder, **arguments):
    return SpaceClassifier.from_pretrained(folder, **arguments)


def load_or_say(folder):
    """The classifier, or None and what the error says."""
    try:
        return load(folder), ""
    except OSError as error:
        return None, str(error)


REFUSED = "holds no classifier that can be loaded"


def rewrite(folder, change):
    """Change config.json as somebody would who knows how to compute its checksum."""
    config = json.loads((folder / "config.json").read_text())
    del config["checksum"]
    config = change(config) or config
    config["checksum"] = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def rewrite_weights(folder, change):
    """Change model.safetensors, with its size and digest in config.json right."""
    data = change((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(data)
    rewrite(folder, lambda c: c["weights"].update(n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))


def header_and_data(data):
    n = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def with_header(header, data):
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + data


# ---------------------------------------------------------------- there and back


MATRIX = np.arange(N)[:, None] % [2, 3, 4] == 0


@pytest.mark.parametrize(
    "y",
    [
        Y,
        Y.astype(object),
        np.array(['ü\n"`', "<b>|</b>", "\ud800 lone", ""])[np.arange(N) % 4],
        np.array(["a" * 30, "b"])[np.arange(N) % 2],
        np.arange(N) % 3 * 2**40 - 5,
        (np.arange(N) % 3).astype(np.uint8),
        (np.arange(N) % 2).astype(bool),
        np.arange(N) % 2,
        (np.arange(N) % 3).astype(np.float64),
        MATRIX.astype(int),
    ],
    ids=["str", "objects", "odd-str", "wide", "int64", "uint8", "bool", "binary", "float", "several"],
)
def test_labels(y, tmp_path):
    clf = make().fit(X, y)
    clf.save_pretrained(tmp_path / "clf")
    assert_same(clf, load(tmp_path / "clf"), X)


@pytest.mark.parametrize("head", ["linear", "alignment"])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize(("dtype", "n_members"), [(np.float32, 1), (np.float32, 4), (np.float64, 4)])
def test_operators(head, pooling, dtype, n_members, tmp_path):
    X = vectors(dtype)
    clf = make(head=head, pooling=pooling, n_members=n_members, inter_space_weight=0.1).fit(X, Y)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert_same(clf, loaded, X)
    assert_same(clf, pickle.loads(pickle.dumps(clf)), X)
    assert loaded.concept_operators_.dtype == dtype
    plain, tensors = classifier_to_plain(clf, share=False)
    assert {name: tensor.shape for name, tensor in tensors.items()} == tensor_shapes(plain["operators"])


def test_everything_of_a_fitted_classifier(fitted, saved):
    loaded = load(saved)
    assert loaded.get_params() == fitted.get_params()
    assert np.array_equal(loaded.operators_.operators, fitted.concept_operators_)
    assert not loaded.operators_.training
    assert loaded.history_ == fitted.history_
    assert np.array_equal(clone(loaded).fit(X, Y).decision_function(X), fitted.decision_function(X))
    assert np.array_equal(loaded.fit(X, Y).decision_function(X), fitted.decision_function(X))


def test_saved_again_is_the_same(fitted, saved, tmp_path):
    load(saved).save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_the_fit_is_saved_and_not_what_was_set_later(tmp_path):
    clf = make().fit(X, Y).set_params(n_latent=7, pooling="mean", encoder=None)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert_same(clf, loaded, X)
    assert loaded.get_params() == clf.get_params()


def test_frame_of_vectors_keeps_its_columns(tmp_path):
    frame = pd.DataFrame(X.values[:N], columns=list("abcdefgh"))
    clf = make().fit(frame, Y)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert_same(clf, loaded, frame)
    assert loaded.n_features_in_ == D
    assert loaded.feature_names_in_.tolist() == list("abcdefgh")
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.rename(columns={"a": "z"}))


def test_numbers_of_numpy_and_weights_of_classes_are_plain(tmp_path):
    clf = make(
        lr=np.float64(0.01), n_latent=np.int64(2), n_members=np.int64(2), class_weight={0: np.float32(2), 1: 1.0, 2: 1}
    ).fit(X, np.arange(N) % 3)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert loaded.class_weight == {0: 2.0, 1: 1.0, 2: 1.0}
    assert [type(v) for v in (*loaded.class_weight, loaded.lr, loaded.n_latent)] == [int, int, int, float, int]
    assert_same(clf, loaded, X)


def test_figures_that_are_not_finite_come_back(fitted, tmp_path):
    clf = copy.deepcopy(fitted)
    clf.history_[0] |= {"valid_loss": float("inf"), "train_loss": float("nan")}
    clf.save_pretrained(tmp_path / "clf")
    assert "NaN" not in (tmp_path / "clf" / "config.json").read_text()
    row = load(tmp_path / "clf").history_[0]
    assert row["valid_loss"] == float("inf")
    assert np.isnan(row["train_loss"])


def test_loading_draws_no_random_number(saved):
    state = torch.get_rng_state()
    load(saved)
    assert torch.equal(torch.get_rng_state(), state)


def test_files_follow_the_umask_and_no_rubbish_is_left(saved):
    assert {path.name for path in saved.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert [path.name for path in saved.parent.iterdir()] == ["clf"]
    other = saved.parent / "other"
    other.write_text("")
    assert (saved / "config.json").stat().st_mode == other.stat().st_mode


def test_layout_may_change_what_is_said_may_not(saved):
    path = saved / "config.json"
    config = json.loads(path.read_text())
    path.write_bytes(json.dumps(config, indent=4).replace("\n", "\r\n").encode())
    load(saved)
    config["parameters"]["verbose"] = 1
    path.write_text(json.dumps(config))
    with pytest.raises(OSError, match=r"config.json does not match its checksum: it was changed"):
        load(saved)


# ---------------------------------------------------------------- texts


def test_texts_and_reasons(on_texts, tmp_path):
    on_texts.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert_same(on_texts, loaded, [*TEXTS, NEW])
    assert loaded.encoder.get_params() == on_texts.encoder.get_params()
    one, other = (token_contributions(clf, [NEW])[0] for clf in (on_texts, loaded))
    assert one.tokens == other.tokens
    assert np.array_equal(one.contributions, other.contributions)


def test_default_encoder(minilm, tmp_path):
    clf = SpaceClassifier(max_epochs=2, random_state=0).fit(TEXTS, LABELS)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    assert loaded.encoder is None
    assert_same(clf, loaded, [*TEXTS, NEW])


OTHER_PROCESS = """
import socket, sys
def refuse(*args, **kwargs):
    raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
import numpy as np
from skspace import SpaceClassifier
clf = SpaceClassifier.from_pretrained(sys.argv[1])
assert not {"transformers", "tokenizers"} & sys.modules.keys(), "loading needs no transformers"
expected = np.load(sys.argv[2])
sys.exit(0 if np.array_equal(clf.decision_function(expected["texts"]), expected["logits"]) else 7)
"""


@pytest.fixture
def assert_same_elsewhere(python, tmp_path):
    """Call it with a folder, a classifier and texts: another process finds the same logits."""

    def check(folder, clf, texts):
        (tmp_path / "cwd").mkdir(exist_ok=True)
        expected = tmp_path / "expected.npz"
        np.savez(expected, texts=np.array(texts), logits=clf.decision_function(texts))
        done = python(OTHER_PROCESS, str(folder), str(expected), cwd=tmp_path / "cwd", HF_HUB_OFFLINE="1")
        assert done.returncode == 0, done.stderr

    return check


def test_another_process_in_another_folder_without_a_network(on_texts, tmp_path, assert_same_elsewhere):
    on_texts.save_pretrained(tmp_path / "clf")
    assert_same_elsewhere(tmp_path / "clf", on_texts, [*TEXTS, NEW])


@pytest.fixture
def movable(tiny_bert, tmp_path, monkeypatch):
    """A classifier on a model in a folder of its own, with a cache that is found without being named; both folders."""
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path / "cache"))
    model = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    clf = SpaceClassifier(TokenEncoder(model, dtype="float32"), max_epochs=3, random_state=0).fit(TEXTS, LABELS)
    clf.predict(TEXTS)
    clf.save_pretrained(tmp_path / "clf")
    return SimpleNamespace(clf=clf, model=model, saved=tmp_path / "clf")


def test_single_texts_look_for_the_encoder_once_a_second(movable, tmp_path, monkeypatch):
    clock, looks, find = [100.0], [], token_encoder.find_remembered

    def look(*args):
        looks.append(args[0])
        return find(*args)

    monkeypatch.setattr(token_encoder, "find_remembered", look)
    monkeypatch.setattr(token_encoder, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    clf = load(movable.saved)
    for seconds, texts, n_looks in (
        (0.0, ["one new text"], 1),
        (0.9, ["another new text"], 1),
        (0.2, ["a third new text"], 2),
        (0.1, ["two new texts", "at once"], 3),
    ):
        clock[0] += seconds
        clf.predict(texts)
        assert len(looks) == n_looks
    moved = str(shutil.move(movable.model, tmp_path / "moved"))
    clf.encoder_.set_params(model=moved).transform(["a text after the move"])
    assert looks[-1] == moved


@pytest.mark.parametrize("way", ["folder", "pickle"])
def test_cached_texts_need_no_encoder(movable, assert_same_elsewhere, way):
    expected = movable.clf.decision_function(TEXTS)
    pickled = pickle.dumps(movable.clf)
    shutil.rmtree(movable.model)
    clf = load(movable.saved) if way == "folder" else pickle.loads(pickled)
    assert np.array_equal(clf.decision_function(TEXTS), expected)
    with pytest.raises(
        OSError,
        match=r"A text is not in the cache, and its encoder is missing\. No model .*\.from_pretrained\(…, encoder=",
    ):
        clf.predict([NEW])
    assert_same_elsewhere(movable.saved, clf, TEXTS)


def test_encoder_that_has_moved(movable, tmp_path):
    expected = movable.clf.decision_function([NEW, *TEXTS])
    shutil.rmtree(os.environ["SKSPACE_CACHE_DIR"])
    moved = movable.model.rename(tmp_path / "moved")
    for encoder in (str(moved), moved, TokenEncoder(moved, dtype="float32", cache_dir=None)):
        clf = load(movable.saved, encoder=encoder)
        np.testing.assert_allclose(clf.decision_function([NEW, *TEXTS]), expected, rtol=1e-4, atol=1e-5)
        assert Path(clf.encoder.model) == moved
        clf.fit(TEXTS, LABELS)
    clf = load(movable.saved)
    clf.encoder_.set_params(model=str(moved))
    assert len(clf.predict([NEW])) == 1


def test_another_encoder_in_its_place_is_noticed(movable, tiny_models):
    shutil.rmtree(movable.model)
    shutil.copytree(tiny_models["distilbert"], movable.model)
    expected = movable.clf.decision_function(TEXTS)
    for clf in (load(movable.saved), pickle.loads(pickle.dumps(movable.clf)), movable.clf):
        assert np.array_equal(clf.decision_function(TEXTS), expected)  # vectors of the right model, from the cache
        with pytest.raises(
            OSError, match=r"is not the one that the classifier was fitted with: expected files:.*, got fi"
        ):
            clf.predict([NEW])
    movable.clf.fit(TEXTS, LABELS)
    assert len(movable.clf.predict([NEW])) == 1


def test_a_changed_tokenizer_is_another_encoder(movable):
    with open(movable.model / "tokenizer_config.json", "a") as file:
        file.write("\n")
    with pytest.raises(OSError, match="is not the one that the classifier was fitted with"):
        load(movable.saved).predict([NEW])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 1}, r"vectors that the classifier was fitted on\. Expected {'layer': 2}, got {'layer': 1}"),
        ({"max_length": 9}, r"Expected {'max_length': 256}, got {'max_length': 9}"),
        ({"special_tokens": "drop"}, r"got {'special_tokens': 'drop'}"),
        ({"pooling": "mean"}, r"must have pooling=None\. Got pooling='mean'"),
    ],
)
def test_encoder_of_other_settings(movable, settings, message):
    with pytest.raises(ValueError, match=message):
        load(movable.saved, encoder=TokenEncoder(movable.model, **settings))
    load(movable.saved, encoder=TokenEncoder(movable.model, layer=2, batch_tokens=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v.update(window=9),
            r"is refused: These vectors depend on window, which this version",
        ),
        (lambda v: v.pop("layer"), r"is refused: The description of the vectors lacks 'layer'"),
        (lambda v: v.update(layer="2"), r"'layer' of the vectors must be of type int. Got '2'"),
        (lambda v: v.update(layer=1), r"describes vectors that its encoder does not give: {'layer': \(1, 2\)}"),
    ],
)
def test_vectors_of_another_kind(movable, change, message):
    rewrite(movable.saved, lambda c: change(c["encoder"]["vectors"]) and None)
    with pytest.raises(OSError, match=message):
        load(movable.saved)


def test_another_model_in_the_same_folder_is_not_continued(movable, tiny_models):
    """The same name, other weights: vectors of another meaning."""
    clf = load(movable.saved).set_params(warm_start=True)
    shutil.rmtree(movable.model)
    shutil.copytree(tiny_models["distilbert"], movable.model)
    with pytest.raises(ValueError, match=r"The 'encoder' parameter .* must be what it was .*, {'model': 'files:"):
        clf.fit(TEXTS, LABELS)


def test_encoder_where_there_is_none(saved):
    with pytest.raises(ValueError, match="'encoder' parameter must be None for a classifier of vectors"):
        load(saved, encoder="somewhere")


def test_encoder_of_no_known_kind(movable):
    with pytest.raises(ValueError, match=r"must be a folder, a hub id, a TokenEncoder or None. Got 3 instead"):
        load(movable.saved, encoder=3)


def test_the_cache_is_this_machines_own(tiny_bert, tmp_path):
    """A folder from a stranger must not say where token vectors are written, nor evict what is there."""
    encoder = TokenEncoder(tiny_bert, cache_dir=tmp_path / "cache", cache_max_bytes=10**9)
    clf = SpaceClassifier(encoder, max_epochs=1).fit(TEXTS, LABELS)
    clf.save_pretrained(tmp_path / "clf")
    loaded = load(tmp_path / "clf")
    for encoder in (loaded.encoder, loaded.encoder_):
        assert (encoder.cache_dir, encoder.cache_max_bytes) == ("auto", "auto")
    assert "cache" not in (tmp_path / "clf" / "config.json").read_text().replace("cache_dir", "").replace(
        "cache_max_bytes", ""
    )
    for name, value in (("cache_dir", "/tmp/elsewhere"), ("cache_max_bytes", 1)):
        rewrite(tmp_path / "clf", lambda c, n=name, v=value: c["encoder"]["parameters"].update({n: v}))
        with pytest.raises(OSError, match="sets the cache of this machine, which no saved classifier may"):
            load(tmp_path / "clf")
        rewrite(tmp_path / "clf", lambda c, n=name: c["encoder"]["parameters"].update({n: "auto"}))


def test_a_lying_folder_writes_under_the_name_of_what_was_loaded(movable, tiny_models):
    """Else a stranger's classifier would put its encoder's vectors where those of another model are looked for."""
    other = tiny_models["distilbert"]
    victim = TokenEncoder(other, dtype="float32")
    victim.transform(["something"])
    claimed = SpaceClassifier(victim, max_epochs=1).fit(TEXTS, LABELS).encoder_._remembered

    def lie(config):
        config["encoder"]["model"]["config"] = {"num_hidden_layers": 90, "model_type": ""}
        config["encoder"]["vectors"] |= {"model": "hub:a/b@" + "c" * 40, "layer": 60}

    rewrite(movable.saved, lie)
    clf = load(movable.saved)
    assert clf.encoder_._remembered.identity != claimed.identity
    clf.predict([NEW, *(f"text {i}" for i in range(64))])  # the weights are those of the fit, whatever the name
    assert TokenEncoder(movable.model, dtype="float32").cache_info()["n_texts"] >= 65
    names = [path.parent.name for path in Path(os.environ["SKSPACE_CACHE_DIR"]).rglob("namespace.json")]
    assert len(names) == 2


def test_the_hub_may_move_on(tiny_models, tmp_path, monkeypatch, network):
    """Fitted on the main branch; the branch goes on to another model; the commit of the fit is still used."""
    hub = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path / "cache"))
    root = hub / "models--tiny--model"
    shutil.copytree(tiny_models["bert"], root / "snapshots" / ("a" * 40))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    encoder = TokenEncoder("tiny/model", dtype="float32")
    clf = SpaceClassifier(encoder, max_epochs=1, random_state=0).fit(TEXTS, LABELS)
    expected = clf.decision_function([NEW])
    clf.save_pretrained(tmp_path / "clf")
    assert "hub:tiny/model@" + "a" * 40 in (tmp_path / "clf" / "README.md").read_text()
    shutil.rmtree(tmp_path / "cache")

    shutil.copytree(tiny_models["distilbert"], root / "snapshots" / ("b" * 40))
    (root / "refs" / "main").write_text("b" * 40)
    np.testing.assert_allclose(load(tmp_path / "clf").decision_function([NEW]), expected, rtol=1e-5)

    shutil.rmtree(root / "snapshots" / ("a" * 40))
    with pytest.raises(OSError, match=r"its encoder is missing\. No model 'tiny/model' at revision 'aaaa"):
        load(tmp_path / "clf").predict(["another new text"])
    # The same weights under another commit, or in a folder, are the same model.
    shutil.rmtree(root / "snapshots" / ("b" * 40))
    shutil.copytree(tiny_models["bert"], root / "snapshots" / ("b" * 40))
    attempts = len(network)
    assert len(load(tmp_path / "clf").predict(["another new text"])) == 1
    assert len(load(tmp_path / "clf", encoder=tiny_models["bert"]).predict(["a third new text"])) == 1
    assert len(network) == attempts


def test_devices_that_are_missing_become_automatic(on_texts, tmp_path):
    on_texts.save_pretrained(tmp_path / "clf")

    def on_a_card(config):
        config["parameters"]["device"] = "cuda:77"
        config["encoder"]["parameters"]["device"] = config["parameters"]["encoder"]["TokenEncoder"]["device"] = (
            "cuda:77"
        )

    rewrite(tmp_path / "clf", on_a_card)
    with pytest.warns(
        UserWarning, match=r"lacks the device cuda:77 that the classifier was saved with; it is device='a"
    ):
        clf = load(tmp_path / "clf")
    assert clf.device == clf.encoder.device == clf.encoder_.device == "auto"
    assert np.array_equal(clf.decision_function(TEXTS), on_texts.decision_function(TEXTS))


# ---------------------------------------------------------------- what is not saved


class MyEncoder(TokenEncoder):
    pass


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"random_state": np.random.RandomState(0)},
            r"Got random_state=RandomState\(MT19937\).* set_params\(random_state=",
        ),
        ({"encoder": MyEncoder()}, r"Got encoder=MyEncoder\(…\), a class of your own, instead"),
        ({"lr": float("inf")}, r"Got lr=inf instead"),
        ({"class_weight": {("a",): 1}}, r"Got class_weight=\('a',\) instead"),
    ],
)
def test_parameters_without_a_plain_form(fitted, parameters, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        copy.deepcopy(fitted).set_params(**parameters).save_pretrained(tmp_path / "clf")
    assert list(tmp_path.iterdir()) == []


def test_fitted_on_an_encoder_of_ones_own(tiny_bert, tmp_path):
    clf = SpaceClassifier(MyEncoder(tiny_bert), max_epochs=1).fit(TEXTS, LABELS).set_params(encoder=None)
    with pytest.raises(ValueError, match="a class of your own"):
        clf.save_pretrained(tmp_path / "clf")


class Counting(Callback):
    def __init__(self):
        self.epochs = 0

    def initialize(self):
        self.epochs = 0
        return self

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


def test_callbacks_stay_behind_but_go_into_a_pickle(tmp_path):
    clf = make(callbacks=[Counting()]).fit(X, Y)
    clf.save_pretrained(tmp_path / "clf")
    assert load(tmp_path / "clf").callbacks is None
    for again in (copy.deepcopy(clf), pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(clf))))):
        assert dict(again.callbacks_)["Counting"].epochs == 3
        assert len(again.callbacks) == 1


@pytest.mark.parametrize(
    "call", [lambda clf, path: clf.save_pretrained(path), lambda clf, path: clf.push_to_hub("a/b")]
)
def test_not_fitted(call, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        call(make(), tmp_path / "clf")


def test_labels_without_a_plain_form(fitted, tmp_path):
    clf = copy.deepcopy(fitted)
    clf.classes_ = np.array([1, 2, 3], dtype=np.longdouble)
    with pytest.raises(ValueError, match=r"Got dtype float128 instead; fit on labels.astype\(str\)"):
        clf.save_pretrained(tmp_path / "clf")


# ---------------------------------------------------------------- writing


def test_overwriting(fitted, saved):
    with pytest.raises(FileExistsError, match=r"holds a saved classifier. Give another folder, or overwrite=True"):
        fitted.save_pretrained(saved)
    other = make(n_latent=3).fit(X, Y)
    other.save_pretrained(saved, overwrite=True)
    assert_same(other, load(saved), X)
    assert [path.name for path in saved.parent.iterdir()] == ["clf"]


def test_an_empty_folder_is_as_good_as_none(fitted, tmp_path):
    (tmp_path / "deep" / "clf").mkdir(parents=True)
    fitted.save_pretrained(tmp_path / "deep" / "clf")
    fitted.save_pretrained(str(tmp_path / "a" / "b" / "clf"))
    assert_same(fitted, load(tmp_path / "deep" / "clf"), X)
    assert_same(fitted, load(str(tmp_path / "a" / "b" / "clf")), X)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("extra", ["notes.txt", ".git", "model"])
def test_a_folder_with_other_things_is_left_alone(fitted, saved, extra, overwrite):
    (saved / extra).mkdir()
    with pytest.raises(
        FileExistsError, match=r"or hold only a saved classifier. Got a folder with .* instead. Nothing was del"
    ):
        fitted.save_pretrained(saved, overwrite=overwrite)
    assert (saved / extra).is_dir()


def test_foreign_and_odd_targets(fitted, tmp_path, tiny_bert, saved):
    model = Path(shutil.copytree(tiny_bert, tmp_path / "bert"))
    with pytest.raises(FileExistsError, match="or hold only a saved classifier"):
        fitted.save_pretrained(model, overwrite=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match=r"must be a folder, or not exist\. Got a file instead"):
        fitted.save_pretrained(tmp_path / "file", overwrite=True)
    for name, goal in (("link", saved), ("dangling", tmp_path / "nowhere")):
        (tmp_path / name).symlink_to(goal)
        with pytest.raises(FileExistsError, match="is a link, and links are not followed"):
            fitted.save_pretrained(tmp_path / name, overwrite=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", range(5))
def test_an_interrupted_save_leaves_the_old_one(fitted, saved, monkeypatch, error, at):
    """Whichever of its five steps fails: three files are synced, two folders renamed."""
    steps = []

    def failing(step):
        def call(*args):
            steps.append(step)
            if len(steps) == at + 1:
                raise error
            return step(*args)

        return call

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "rename", failing(os.rename))
    with pytest.raises(type(error)):
        make(n_latent=3).fit(X, Y).save_pretrained(saved, overwrite=True)
    monkeypatch.undo()
    assert_same(fitted, load(saved), X)
    assert [path.name for path in saved.parent.iterdir()] == ["clf"]


def test_more_than_would_be_read_is_not_written(fitted, tmp_path, monkeypatch):
    clf = copy.deepcopy(fitted)
    clf.history_ = [{"train_loss": 0.1234567890123}] * (_MAX_CONFIG_BYTES // 20)
    with pytest.raises(ValueError, match=r"saved classifier holds at most \d+ bytes of labels, history and parameters"):
        clf.save_pretrained(tmp_path / "clf")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- reading what is not right


def test_no_such_folder(tmp_path, network):
    with pytest.raises(OSError, match=r"nowhere.* is neither a folder nor available at the hub \(Repo id"):
        load(tmp_path / "nowhere")
    assert network == []
    with pytest.raises(ValueError, match="'revision' parameter must be None for a folder"):
        load(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files(saved, name):
    (saved / name).unlink()
    with pytest.raises(OSError, match=f"holds no classifier that can be loaded: it lacks {name}"):
        load(saved)


def test_the_card_is_not_needed(saved):
    (saved / "README.md").write_bytes(b"\xff" * 10)
    load(saved)
    (saved / "README.md").unlink()
    load(saved)


def test_a_folder_of_another_kind(tiny_bert, tmp_path):
    with pytest.raises(
        OSError, match=r"of a transformers model \('bert'\): that is an encoder, SpaceClassifier\(encoder="
    ):
        load(tiny_bert)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OSError, match=r"its config.json is not that of a SpaceClassifier\. Expected a folder that"):
        load(tmp_path)


def test_a_newer_format(saved):
    rewrite(saved, lambda c: c.update(format_version=FORMAT_VERSION + 1, skspace_version="9.9"))
    with pytest.raises(
        OSError,
        match=r"written by skspace 9\.9 in format 3, and this is skspace 0\.\S+, which reads format 2: inst",
    ):
        load(saved)


def test_an_older_format(saved):
    rewrite(saved, lambda c: c.update(format_version=1))
    with pytest.raises(OSError, match=r"in format 1, and this is skspace .*, which reads format 2: fit and save again"):
        load(saved)


@pytest.mark.parametrize("place", ["parameters", "operators"])
def test_unknown_settings_are_named_with_the_version_that_wrote_them(saved, place):
    rewrite(saved, lambda c: c.update(skspace_version="9.9") or c[place].update(n_heads=3))
    message = r"that this skspace 0\.\S+ does not know: n_heads\. It was written by skspace 9\.9; install that version"
    with pytest.raises(OSError, match=message):
        load(saved)


def test_parameters_that_are_missing_take_their_defaults(saved):
    """A parameter that comes later in the same format."""
    rewrite(saved, lambda c: c["parameters"].pop("n_iter_no_change") and None)
    assert load(saved).n_iter_no_change == 10


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_every_truncation_is_noticed(saved, name):
    data = (saved / name).read_bytes()
    places = {0, 1, 7, 8, 9, 40, 100, len(data) // 2, len(data) - 3, *range(0, len(data), max(1, len(data) // 40))}
    for place in sorted(places):
        (saved / name).write_bytes(data[:place])
        with pytest.raises(OSError, match="holds no classifier that can be loaded"):
            load(saved)
    (saved / name).write_bytes(data + b"x")
    with pytest.raises(OSError, match="holds no classifier that can be loaded"):
        load(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_flipped_bits_are_noticed(fitted, saved, name):
    data, rng = (saved / name).read_bytes(), np.random.default_rng(0)
    noticed = 0
    for place in rng.integers(len(data), size=150):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        (saved / name).write_bytes(damaged)
        clf, message = load_or_say(saved)
        if clf is None:
            assert REFUSED in message
            noticed += 1
        else:  # white space of the JSON
            assert_same(fitted, clf, X)
    assert noticed >= (100 if name == "config.json" else 150)


ODD = [
    None, True, False, 0, -1, 1, 2, 3, 2**31, 2**64, 10**30, 0.5, -1.5, 1e300, "", "x", "..", "../../etc/passwd", "/",
    "\x00", "\ud800", "nan", "inf", "x" * 3000, [], [[]], [None], ["a", 1], {}, {"a": 1},
    {"TokenEncoder": {}}, [[[[]]]],
]  # fmt: skip


def places(content, path=()):
    """Every place in nested lists and dicts."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@pytest.mark.filterwarnings("ignore:This machine lacks the device")
@pytest.mark.parametrize("kind", ["vectors", "texts"])
def test_hostile_configs_are_refused_or_harmless(kind, fitted, on_texts, tmp_path):
    """Every value of the config replaced by odd ones, the checksum right: an error of ours, or what it says works."""
    clf = {"vectors": fitted, "texts": copy.deepcopy(on_texts)}[kind]
    clf.save_pretrained(tmp_path / "clf")
    sound, rng = json.loads((tmp_path / "clf" / "config.json").read_text()), np.random.default_rng(0)
    refused = tried = 0
    for place in places(sound):
        for i in rng.permutation(len(ODD))[:8]:
            config = copy.deepcopy(sound)
            holder = config
            for key in place[:-1]:
                holder = holder[key]
            if rng.random() < 0.1:
                del holder[place[-1]]
            else:
                holder[place[-1]] = ODD[i]
            config.pop("checksum", None)
            config["checksum"] = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
            (tmp_path / "clf" / "config.json").write_text(json.dumps(config))
            tried += 1
            loaded, message = load_or_say(tmp_path / "clf")
            if loaded is None:
                assert REFUSED in message, place
                refused += 1
                continue
            if kind == "vectors":
                assert loaded.decision_function(X).shape[0] == N
            assert set(loaded.operators_.state_dict()) == {"weight", "coef", "intercept"}
    assert tried > 400
    assert refused > tried / 2


def test_random_damage_with_right_checksums(fitted, saved):
    """Bytes of the safetensors file exchanged at random, its digest right: an error of ours, or finite numbers."""
    data, rng = (saved / "model.safetensors").read_bytes(), np.random.default_rng(1)
    n_header = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for i in range(250):
        damaged = bytearray(data)
        for place in rng.integers(n_header if i % 2 else len(data), size=rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        rewrite_weights(saved, lambda _, d=bytes(damaged): d)
        loaded, message = load_or_say(saved)
        if loaded is None:
            assert REFUSED in message
            refused += 1
        else:
            assert np.isfinite(loaded.coef_).all()
    assert refused > 100


UNREADABLE = "its model.safetensors cannot be read: not a safetensors file"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, d: with_header(h | {"weight": h["weight"] | {"shape": [D, 23]}}, d), UNREADABLE),
        (
            lambda h, d: with_header(h | {"weight": h["weight"] | {"shape": [24, D]}}, d),
            r"its weight is float32\(24, 8\), and config\.json says float32\(8, 24\)",
        ),
        (lambda h, d: with_header(h | {"weight": h["weight"] | {"dtype": "F16"}}, d), UNREADABLE),
        (lambda h, d: with_header(h | {"weight": h["weight"] | {"dtype": "I32"}}, d), r"its weight is int32"),
        (
            lambda h, d: with_header(h | {"weight": h["weight"] | {"shape": [2**40, 2**40]}}, d),
            UNREADABLE,
        ),
        (
            lambda h, d: with_header(h | {"weight": h["weight"] | {"data_offsets": [-4, 0]}}, d),
            UNREADABLE,
        ),
        (lambda h, d: with_header(h | {"weight": {}}, d), UNREADABLE),
        (
            lambda h, d: with_header({"A" if k == "coef" else k: v for k, v in h.items()}, d),
            "other tensors than",
        ),
        (lambda h, d: with_header({k: v for k, v in h.items() if k != "coef"}, d), UNREADABLE),
        (lambda h, d: with_header(h | {"more": h["weight"]}, d), UNREADABLE),
        (lambda h, d: with_header(b"[" * 3000, d), UNREADABLE),
        (lambda h, d: with_header(b'{"__metadata__": 3}', d), UNREADABLE),
        (lambda h, d: b"\xff" * 7 + b"\x7f" + d + b" " * 300, UNREADABLE),
        (lambda h, d: with_header(h, d[:-4] + np.float32(np.nan).tobytes()), "holds NaN or infinity"),
        (lambda h, d: with_header(h, np.float32(-np.inf).tobytes() + d[4:]), "holds NaN or infinity"),
        (lambda h, d: with_header(h, d) + b" " * 2**17, "which do not fit the shapes that config.json tells"),
    ],
)
def test_hostile_tensors(saved, change, message):
    rewrite_weights(saved, lambda data: change(*header_and_data(data)))
    with pytest.raises(OSError, match=f"holds no classifier that can be loaded: .*{message}"):
        load(saved)


@pytest.mark.parametrize(
    "claim", [{"n_features": 10**12}, {"n_classes": 2**62, "n_latent": 2**62}, {"n_members": 10**9}]
)
def test_claims_of_huge_shapes_allocate_nothing(saved, claim):
    rewrite(saved, lambda c: c["operators"].update(claim))
    with pytest.raises(OSError, match=r"do not fit the shapes that config\.json tells"):
        load(saved)


def test_a_huge_file_with_fitting_claims(saved):
    """Sparse: it takes no room on the disk."""
    n_bytes = D * 2 * 10**9 * 2 * 2 * 4 + 100
    rewrite(saved, lambda c: c["operators"].update(n_features=D * 10**9))
    rewrite(saved, lambda c: c["weights"].update(n_bytes=n_bytes))
    os.truncate(saved / "model.safetensors", n_bytes)
    with pytest.raises(OSError, match=r"model.safetensors has \d+ bytes"):
        load(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 10**6, "is not JSON"),
        (b'{"a":' * 10**5, "is not JSON"),
        (b'{"format": "' + FORMAT.encode() + b'", "format_version": NaN}', "NaN is not a JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"\xff\xfe", "is not JSON"),
        (b"", "is not JSON"),
        (b" " * (_MAX_CONFIG_BYTES + 1), "is larger than"),
    ],
)
def test_json_bombs(saved, content, message):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(OSError, match=f"holds no classifier that can be loaded: its config.json.*{message}"):
        load(saved)


def test_labels_of_an_impossible_width_allocate_nothing(saved):
    rewrite(saved, lambda c: c["labels"].update(width=2**40))
    with pytest.raises(OSError, match="labels have an impossible width"):
        load(saved)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"type": "str", "width": 4, "values": ["bad", "good"]}, "has 2 labels for 3 classes"),
        ({"type": "str", "width": 4, "values": ["odd", "good", "bad"]}, "labels are not sorted and distinct"),
        ({"type": "str", "width": None, "values": ["a", "a", "b"]}, "labels are not sorted and distinct"),
        ({"type": "int8", "values": [1, 2, 300]}, "labels do not fit int8"),
        ({"type": "int64", "values": [True, 2, 3]}, "labels must be all int"),
        ({"type": "V8", "values": [1, 2, 3]}, "labels have the unknown type 'V8'"),
    ],
)
def test_hostile_labels(saved, labels, message):
    rewrite(saved, lambda c: c.update(labels=labels))
    with pytest.raises(OSError, match=message):
        load(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["elsewhere", "above", "circle", "folder", "pipe"])
def test_links_and_pipes(saved, tmp_path, name, kind):
    outside = tmp_path / name
    (saved / name).rename(outside)
    if kind == "elsewhere":
        (saved / name).symlink_to(outside)
    elif kind == "above":
        (saved / name).symlink_to(Path("..") / name)
    elif kind == "circle":
        (saved / name).symlink_to(name)
    elif kind == "folder":
        (saved / name).mkdir()
    else:
        os.mkfifo(saved / name)
    with pytest.raises(OSError, match=r"leads out of the folder|link to itself|Not a regular file"):
        load(saved)


def test_links_within_the_hubs_cache_are_its_way_of_keeping_files(fitted, saved, tmp_path):
    snapshot = tmp_path / "models--me--clf" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for i, name in enumerate(("config.json", "model.safetensors")):
        blob = tmp_path / "models--me--clf" / "blobs" / f"{i}"
        blob.parent.mkdir(exist_ok=True)
        shutil.copy(saved / name, blob)
        (snapshot / name).symlink_to(Path("../../blobs") / f"{i}")
    assert_same(fitted, load(snapshot), X)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(saved / "config.json")
    with pytest.raises(OSError, match=r"its config\.json is a link that leads out of the folder"):
        load(snapshot)


def test_nothing_in_the_folder_is_run(saved, tmp_path):
    evidence = tmp_path / "ran"
    for name in ("__init__.py", "skspace.py", "modeling.py"):
        (saved / name).write_text(f"open({str(evidence)!r}, 'w').close()\n")
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(evidence)))
    load(saved)
    (saved / "model.safetensors").write_bytes(pickle.dumps(Trap(evidence)))
    with pytest.raises(OSError, match="which do not fit"):
        load(saved)
    assert not evidence.exists()


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


# ---------------------------------------------------------------- pickle, joblib, cloudpickle, skops


WAYS = {
    "pickle": lambda clf: pickle.loads(pickle.dumps(clf)),
    "cloudpickle": lambda clf: pickle.loads(cloudpickle.dumps(clf)),
    "joblib": lambda clf: joblib_there_and_back(clf),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def joblib_there_and_back(clf):
    buffer = io.BytesIO()
    joblib.dump(clf, buffer, compress=1)
    buffer.seek(0)
    return joblib.load(buffer)


@pytest.mark.parametrize("way", WAYS)
def test_pickled_and_copied(fitted, on_texts, way):
    assert_same(fitted, WAYS[way](fitted), X)
    again = WAYS[way](on_texts)
    assert_same(on_texts, again, [*TEXTS, NEW])
    assert again.encoder_.get_params() == on_texts.encoder_.get_params()
    assert clone(again).fit(TEXTS, LABELS).score(TEXTS, LABELS) >= 0
    assert WAYS[way](make()).get_params() == make().get_params()


def test_pickle_in_a_pipeline_and_memory_mapped(fitted, on_texts, tmp_path):
    pipeline = make_pipeline(FunctionTransformer(), on_texts)
    assert np.array_equal(pickle.loads(pickle.dumps(pipeline)).predict(TEXTS), on_texts.predict(TEXTS))
    joblib.dump(fitted, tmp_path / "clf.joblib")
    assert_same(fitted, joblib.load(tmp_path / "clf.joblib", mmap_mode="r"), X)


def test_pickle_of_a_newer_format(fitted):
    state = fitted.__getstate__()
    state["_state"]["format"] = 3
    with pytest.raises(
        ValueError, match=r"was pickled in format 3 by a newer skspace\. This one \(0\.\S+ reads format 2"
    ):
        make().__setstate__(state)


def test_pickles_hold_neither_data_nor_encoder(tiny_bert):
    """Ten times the texts, the same size; little more than what was learned."""
    encoder = TokenEncoder(tiny_bert, cache_dir=None)
    few = [f"the parcel {i}" for i in range(20)]
    many = [f"the parcel {i}" for i in range(200)]
    # The same number of epochs, so that the history is the same.
    make = SpaceClassifier(encoder, max_epochs=3, random_state=0)
    sizes = [len(pickle.dumps(clone(make).fit(texts, np.arange(len(texts)) % 2))) for texts in (few, many)]
    assert sizes[1] <= sizes[0] * 1.02
    clf = clone(make).fit(few, np.arange(20) % 2)
    learned = sum(p.numel() * 4 for p in clf.operators_.parameters())
    assert len(pickle.dumps(clf)) < learned + 5000
    assert len(cloudpickle.dumps(clf)) < learned + 5000


def test_figures_in_the_docs(minilm, tmp_path):
    """What docs/saving.md says of sizes: default model, three classes."""
    clf = SpaceClassifier(random_state=0).fit(TEXTS, LABELS)
    documented = (Path(__file__).parents[2] / "docs" / "saving.md").read_text("utf-8")
    clf.save_pretrained(tmp_path / "clf")
    sizes = {
        "pickle": len(pickle.dumps(clf)),
        "model.safetensors": (tmp_path / "clf" / "model.safetensors").stat().st_size,
    }
    for name, size in sizes.items():
        assert f"| `{name}` | {round(size / 1000)} kB |" in documented, (name, size)


SKOPS_TYPES = ["skspace.SpaceClassifier", "skspace.TokenEncoder"]


def test_skops(fitted, on_texts):
    sio = pytest.importorskip("skops.io")
    for clf, data in ((fitted, X), (on_texts, [*TEXTS, NEW])):
        written = sio.dumps(clf)
        untrusted = sio.get_untrusted_types(data=written)
        assert set(untrusted) <= set(SKOPS_TYPES)
        assert_same(clf, sio.loads(written, trusted=SKOPS_TYPES), data)
    documented = (Path(__file__).parents[2] / "docs" / "saving.md").read_text("utf-8")
    assert all(f'"{name}"' in documented for name in untrusted)
    assert set(untrusted) == set(SKOPS_TYPES)


# ---------------------------------------------------------------- the hub


class FakeApi:
    """Stands in for HfApi; a repository is a folder."""

    def __init__(self, root, error=None):
        self.root, self.error, self.calls = root, error, []

    def __call__(self, token=None):
        self.calls.append(("HfApi", token))
        return self

    def create_repo(self, repo_id, **arguments):
        self.calls.append(("create_repo", repo_id, arguments))
        if self.error:
            raise self.error
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, repo_id, **arguments):
        self.calls.append(("create_branch", repo_id, arguments))

    def upload_folder(self, *, repo_id, folder_path, **arguments):
        self.calls.append(("upload_folder", repo_id, arguments))
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    api = FakeApi(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", api)
    return api


def test_push_to_hub(fitted, hub, tmp_path):
    url = fitted.push_to_hub("me/clf", metrics={"accuracy": 0.9375}, token="hf_secret", revision="v1")
    assert url == "https://hub/me/clf/commit/1"
    create, branch, upload = (dict(arguments) for _, _, arguments in hub.calls[1:])
    assert create == {"private": True, "repo_type": "model", "exist_ok": True}
    assert branch == {"branch": "v1", "repo_type": "model", "exist_ok": True}
    assert upload == {"repo_type": "model", "revision": "v1", "commit_message": "Upload SpaceClassifier"}
    pushed = hub.root / "me" / "clf"
    assert {path.name for path in pushed.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert not any("secret" in path.read_bytes().decode("latin-1") for path in pushed.iterdir())
    assert_same(fitted, load(pushed), X)


def test_the_card(on_texts, hub, tiny_bert):
    clf = copy.deepcopy(on_texts)
    clf.classes_ = np.array(["<script>", "``` | \n---\n# no", "ü"], dtype=object)
    clf.push_to_hub("me/clf", metrics={"macro F1": np.float32(0.5), "accuracy": 1})
    card = (hub.root / "me" / "clf" / "README.md").read_text("utf-8")
    head, body = card.split("---\n", 2)[1:]
    assert "library_name: skspace" in head
    assert "pipeline_tag: text-classification" in head
    assert 'SpaceClassifier.from_pretrained("me/clf")' in body
    assert "| `macro F1` | 0.5 |\n| `accuracy` | 1 |" in body
    listing = '    "<script>"\n    "``` | \\n---\\n# no"\n    "ü"\n'
    assert listing in body
    assert on_texts.encoder_._remembered.identity in body
    # Where folders lie is this machine's own.
    for path in (hub.root / "me" / "clf").iterdir():
        assert str(Path(tiny_bert).parent).encode() not in path.read_bytes()
    assert f"| model | `{Path(tiny_bert).name}` |" in body
    loaded = load(hub.root / "me" / "clf", encoder=TokenEncoder(tiny_bert, dtype="float32", cache_dir=None))
    assert np.array_equal(loaded.decision_function(TEXTS), on_texts.decision_function(TEXTS))


def test_card_of_a_model_at_the_hub_names_it(minilm, tmp_path):
    SpaceClassifier(max_epochs=1).fit(TEXTS, LABELS).save_pretrained(tmp_path / "clf")
    assert 'base_model: "sentence-transformers/all-MiniLM-L6-v2"' in (tmp_path / "clf" / "README.md").read_text("utf-8")


def test_card_with_very_many_labels(tmp_path):
    many = RaggedArray(np.eye(900, 8, dtype=np.float32), np.arange(901))
    make(max_epochs=1).fit(many, np.arange(900) % 300).save_pretrained(tmp_path / "clf")
    assert "    … and 100 more\n" in (tmp_path / "clf" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (0.9, r"metrics must be a dict such as {'accuracy': 0.93}, or None. Got float instead"),
        ({"a|b": 1}, r"Names in metrics must be of letters.* Got 'a\|b' instead"),
        ({"a\nb": 1}, "Names in metrics must be of letters"),
        ({3: 1}, "Names in metrics must be of letters"),
        ({"a": "good"}, r"Values in metrics must be finite numbers. Got 'good' for 'a' instead"),
        ({"a": float("nan")}, "Values in metrics must be finite numbers. Got nan"),
        ({"a": [1]}, "Values in metrics must be finite numbers"),
    ],
)
def test_wrong_metrics(fitted, tmp_path, metrics, message):
    with pytest.raises(ValueError, match=message):
        fitted.save_pretrained(tmp_path / "clf", metrics=metrics)
    assert list(tmp_path.iterdir()) == []


def test_the_token_is_in_no_message(fitted, hub, caplog, capsys):
    hub.error = OSError("401: the token hf_secret may not write")
    with caplog.at_level(0), pytest.raises(OSError, match=r"could not be pushed to 'me/clf' at the hub: 401") as raised:
        fitted.push_to_hub("me/clf", token="hf_secret")
    error, seen = raised.value, []
    while error is not None:
        seen.append(repr(error))
        error = error.__cause__ or error.__context__
    assert "secret" not in "".join(seen) + caplog.text + "".join(capsys.readouterr())


def test_push_offline_and_with_an_impossible_name(fitted, monkeypatch, network):
    with pytest.raises(OSError, match=r"could not be pushed to 'a/b/c' at the hub: .*Check the name"):
        fitted.push_to_hub("a/b/c")
    assert network == []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"could not be pushed to 'me/clf' at the hub"):
        fitted.push_to_hub("me/clf")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A hub whose only repository is a folder, and what was asked of it."""
    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    asked, folder = [], tmp_path / "repository"

    def download(repo_id, *, revision, allow_patterns):
        asked.append((repo_id, revision, allow_patterns))
        root = cache / "models--me--clf"
        snapshot = root / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True, exist_ok=True)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text("a" * 40)
        for name in allow_patterns:
            shutil.copy(folder / name, snapshot / name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return SimpleNamespace(asked=asked, folder=folder)


def test_from_the_hub(on_texts, repository, network):
    on_texts.save_pretrained(repository.folder)
    (repository.folder / "evil.py").write_text("")
    loaded = load("me/clf")
    # Named files only, at one commit, and no encoder.
    assert repository.asked == [
        ("me/clf", None, ["config.json"]),
        ("me/clf", "a" * 40, ["config.json", "model.safetensors"]),
    ]
    assert np.array_equal(loaded.predict(TEXTS), on_texts.predict(TEXTS))
    load("me/clf")
    load("me/clf", revision="a" * 40)
    assert len(repository.asked) == 2  # a copy on this machine is used without asking
    assert network == []


def test_from_the_hub_something_else(repository, tiny_bert):
    shutil.copytree(tiny_bert, repository.folder)
    with pytest.raises(
        OSError, match=r"me/clf holds no classifier that can be loaded: .*of a transformers model \('bert'\)"
    ):
        load("me/clf")
    assert [names for _, _, names in repository.asked] == [["config.json"]]  # its weights were not fetched


def test_hub_that_cannot_be_reached(tmp_path, monkeypatch, network):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"'me/none' is neither a folder nor available at the hub \("):
        load("me/none")


def test_loading_never_encodes_and_never_downloads_an_encoder(movable, monkeypatch, network):
    shutil.rmtree(movable.model)
    monkeypatch.setattr(encoding_job.EncodingJob, "run", lambda self: pytest.fail("encoded"))
    rewrite(movable.saved, lambda c: c["encoder"]["parameters"].update(model="someone/encoder"))
    clf = load(movable.saved)
    assert np.array_equal(clf.predict(TEXTS), movable.clf.predict(TEXTS))
    assert network == []
    with pytest.raises(OSError, match=r"its encoder is missing\. No model 'someone/encoder' was found"):
        clf.predict([NEW])
    assert network  # only now, and through TokenEncoder's own way


def test_checksum_is_of_the_content():
    assert _checksum({"a": 1, "b": [2]}) == _checksum({"b": [2], "a": 1}) != _checksum({"a": 1, "b": [3]})
