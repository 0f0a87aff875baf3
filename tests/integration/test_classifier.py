"""SpaceClassifier: seeds, validation, callbacks, scikit-learn's tools, vectors, and what it says to wrong input."""

import copy
import io
import os
import pickle
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, EarlyStopping

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace._input.targets import split_groups
from skspace._model.forward import each_batch

RNG = np.random.default_rng(0)
N = 120
Y = np.array(["bad", "good", "odd"])[np.arange(N) % 3]


def ragged_texts(seed=0, d=8):
    """Texts of 0 to 6 tokens, in which one token in three carries the class."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(N):
        row = rng.normal(size=(rng.integers(1, 7), d))
        row[::3, i % 3] += 4
        rows.append(row[: len(row) if i else 0])
    return RaggedArray.from_rows([row.astype(np.float32) for row in rows])


X = ragged_texts()


def make(**params):
    defaults = {"max_epochs": 20, "n_members": 2, "n_latent": 4, "random_state": 0}
    return SpaceClassifier("precomputed", **(defaults | params))


@pytest.fixture(scope="module")
def fitted():
    return make().fit(X, Y)


# ---------------------------------------------------------------- vectors


def test_ragged_array_in_cross_validation(fitted):
    assert fitted.score(X, Y) > 0.9
    assert cross_val_score(make(), X, Y, cv=3).mean() > 0.8
    search = GridSearchCV(make(), {"n_latent": [1, 4]}, cv=2).fit(X, Y)
    assert search.best_params_["n_latent"] in {1, 4}


def test_a_row_of_an_array_is_a_text_of_one_token():
    array = X.values[:60]
    labels = np.array([f"{i}" for i in array[:, :3].argmax(1)])
    by_rows = make().fit(array, labels)
    by_texts = make().fit(RaggedArray(array, np.arange(61)), labels)
    assert np.array_equal(
        by_rows.decision_function(array), by_texts.decision_function(RaggedArray(array, np.arange(61)))
    )
    assert by_rows.n_features_in_ == 8
    assert not hasattr(by_texts, "n_features_in_")


def test_frame_of_vectors_gives_feature_names():
    frame = pd.DataFrame(RNG.normal(size=(40, 3)), columns=list("abc"))
    clf = make().fit(frame, frame["a"] > 0)
    assert clf.feature_names_in_.tolist() == ["a", "b", "c"]
    assert clf.set_output(transform="pandas").transform(frame).columns[0] == "False_0_0"


@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("head", ["linear", "alignment"])
def test_poolings_and_heads_learn(pooling, head):
    clf = make(pooling=pooling, head=head, inter_space_weight=0.2, intra_space_weight=1e-3).fit(X, Y)
    assert clf.score(X, Y) > 0.85
    assert hasattr(clf, "attention_queries_") == (pooling == "attention")


def test_reading_batch_by_batch_learns_the_same(fitted, monkeypatch):
    """Data larger than what is gathered in memory."""
    monkeypatch.setattr("skspace._training.train._MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr("skspace._model.forward._PREDICT_TOKENS", 16)
    monkeypatch.setattr("skspace._training.starting_operators._SCALE_TOKENS", 16)
    assert np.array_equal(make().fit(X, Y).decision_function(X), fitted.decision_function(X))


# ---------------------------------------------------------------- seeds


def test_fit_leaves_global_random_states_alone():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    make(early_stopping=True).fit(X, Y)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_fit_does_not_depend_on_global_random_states(fitted):
    torch.manual_seed(99)
    assert np.array_equal(make().fit(X, Y).decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_autocast_around_a_call_changes_nothing(pooling):
    params = {"pooling": pooling, "inter_space_weight": 0.1, "intra_space_weight": 1e-3}
    outside = make(**params).fit(X, Y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make(**params).fit(X, Y)
        np.testing.assert_array_equal(inside.decision_function(X), outside.decision_function(X))
        assert torch.is_autocast_enabled("cpu")
    np.testing.assert_array_equal(inside.decision_function(X), outside.decision_function(X))


def test_another_seed_is_another_model(fitted):
    assert not np.array_equal(make(random_state=1).fit(X, Y).decision_function(X), fitted.decision_function(X))


def test_members_start_apart(fitted):
    assert not np.allclose(fitted.concept_operators_[0], fitted.concept_operators_[1])


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_same_model_for_any_n_jobs(backend):
    import joblib

    def scores(n_jobs):
        with joblib.parallel_config(backend=backend):
            search = GridSearchCV(make(), {"n_latent": [2, 3]}, cv=3, n_jobs=n_jobs, scoring="neg_log_loss").fit(X, Y)
        return np.array([search.cv_results_[f"split{i}_test_score"] for i in range(3)])

    assert np.array_equal(scores(1), scores(2))


# ---------------------------------------------------------------- what was learned means something


def test_centred_and_signed(fitted):
    coef = fitted.coef_.reshape(2, 3, 3, 4)
    np.testing.assert_allclose(coef.sum(1), 0, atol=1e-6)
    np.testing.assert_allclose(fitted.intercept_.sum(), 0, atol=1e-6)
    assert (np.diagonal(coef, axis1=1, axis2=2) >= 0).all()
    assert fitted.operators_.scale == 1.0


def test_empty_text_gets_the_logits_b(fitted):
    logits = fitted.decision_function(X[[0]])
    assert len(X[0]) == 0
    np.testing.assert_allclose(logits[0], fitted.intercept_, atol=1e-6)


def test_intercept_starts_at_the_weighted_log_prior():
    y = np.array(["a"] * 90 + ["b"] * 30)
    clf = make(lr=1e-9, max_epochs=1).fit(X, y, sample_weight=np.where(y == "a", 1.0, 2.0))
    prior = np.log([90 / 150, 60 / 150])
    np.testing.assert_allclose(clf.intercept_, prior - prior.mean(), atol=1e-5)


def test_nobody_decays_the_intercept():
    y = np.array(["a"] * 110 + ["b"] * 10)
    zeros = RaggedArray(np.zeros((N, 8), np.float32), np.arange(N + 1))  # nothing to learn but the prior
    clf = make(weight_decay=50.0, lr=0.01).fit(zeros, y)
    assert clf.predict_proba(zeros)[0, 0] == pytest.approx(110 / 120, abs=0.01)


def test_papers_setting_is_one_call_away():
    clf = make(
        pooling="mean", n_latent=3, n_members=1, lr=2e-4, lr_schedule="constant", max_epochs=5, weight_decay=0.01,
        inter_space_weight=0.2, intra_space_weight=0.001,
    ).fit(X, Y)  # fmt: skip
    assert clf.n_iter_ == 5
    assert clf.concept_operators_.shape == (1, 3, 8, 3)


@pytest.mark.parametrize(("n_classes", "expected"), [(2, 8), (12, 8), (13, 7), (60, 2)])
def test_automatic_n_latent(n_classes, expected):
    y = np.arange(N) % n_classes
    assert make(n_latent="auto", max_epochs=1).fit(X, y).concept_operators_.shape[3] == expected


def test_automatic_epochs():
    """Ten, or more where that would be fewer than 100 steps; a number is taken at its word."""
    assert make(max_epochs="auto", batch_size=60).fit(X, Y).n_iter_ == 50
    assert make(max_epochs="auto", batch_size=5).fit(X, Y).n_iter_ == 10
    assert make(max_epochs=2).fit(X, Y).n_iter_ == 2


def test_inter_space_loss_pulls_tokens_or_centroids():
    """Both make the alignment reading work; on tokens the loss pulls each token, on centroids their mean only."""
    none = make(max_epochs=30).fit(X, Y)
    heights, spread = {}, {}
    for on in ("tokens", "centroids"):
        clf = make(max_epochs=30, inter_space_weight=1.0, inter_space_on=on).fit(X, Y)
        own = clf.transform(X).reshape(N, 2, 3, 4).mean((1, 3))  # (n_texts, K)
        assert np.mean(clf.classes_[own.argmax(1)] == Y) > 0.85
        heights[on] = clf.history_[-1]["train_inter_space"]
        (spaces,) = [spaces for _, spaces in each_batch(clf.operators_, X)]
        spread[on] = float(spaces.concepts.abs().mean())
    assert max(heights.values()) < 0.9  # 1 is what untrained spaces have
    assert spread["tokens"] != spread["centroids"]
    assert not np.array_equal(none.coef_, clf.coef_)


# ---------------------------------------------------------------- history, callbacks, stopping


def test_history_has_every_term_on_its_own():
    clf = make(inter_space_weight=0.5, intra_space_weight=0.01, early_stopping=True, max_epochs=3).fit(X, Y)
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3]
    for split in ("train", "valid"):
        row = clf.history_[-1]
        parts = row[f"{split}_cross_entropy"], row[f"{split}_inter_space"], row[f"{split}_intra_space"]
        assert row[f"{split}_loss"] == pytest.approx(parts[0] + 0.5 * parts[1] + 0.01 * parts[2], rel=1e-5)


def test_early_stopping_keeps_the_best_epoch():
    noise = np.random.default_rng(1).permutation(Y)
    clf = make(early_stopping=True, max_epochs=60, n_iter_no_change=5, lr_schedule="constant").fit(X, noise)
    losses = [row["valid_cross_entropy"] for row in clf.history_]
    assert clf.n_iter_ == int(np.argmin(losses)) + 1 + 5 < 60


def test_duplicates_do_not_leak_into_the_validation_split(monkeypatch):
    seen = {}

    def spy(training_set, *args, **kwargs):
        seen["training"], seen["validation"] = training_set.train, training_set.validation
        raise KeyboardInterrupt

    monkeypatch.setattr("skspace._classifier.train", spy)
    twice = X[np.repeat(np.arange(N), 2)]
    with pytest.raises(KeyboardInterrupt):
        make(early_stopping=True, validation_fraction=0.25).fit(twice, np.repeat(Y, 2))
    rows = [{row.tobytes() for row in seen[part].rows} for part in ("training", "validation")]
    assert not rows[0] & rows[1]
    assert len(rows[1]) == N // 4
    assert np.bincount(seen["validation"].targets).tolist() == [20, 20, 20]


def test_early_stopping_with_too_few_texts():
    with pytest.raises(ValueError, match="early_stopping needs texts to train on and to validate with"):
        make(early_stopping=True).fit(X[[1, 1]], ["a", "b"])


class Counting(Callback):
    def __init__(self):
        self.epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1
        assert net.history[-1]["train_cross_entropy"] > 0


def test_callbacks_pass_through_and_are_not_changed():
    callback = Counting()
    clf = make(callbacks=[callback, ("mine", Counting())], max_epochs=4).fit(X, Y)
    assert callback.epochs == 0
    assert dict(clf.callbacks_)["Counting"].epochs == dict(clf.callbacks_)["mine"].epochs == 4


@pytest.mark.parametrize("callbacks", [[3], [("mine", "no callback")], [object]])
def test_what_is_no_callback(callbacks):
    with pytest.raises(TypeError, match=r"callbacks must hold skorch callbacks, .* Got (int|str|type) instead"):
        make(callbacks=callbacks).fit(X, Y)


def test_a_callback_may_end_the_training(fitted):
    stop = EarlyStopping("train_cross_entropy", patience=1, threshold=10, sink=lambda *args: None)
    clf = make(callbacks=[stop], max_epochs=50).fit(X, Y)
    assert clf.n_iter_ < 50
    assert clf.predict(X).shape == (N,)


class PressCtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


class Terminate(Callback):
    """As a cluster does, in a program that takes SIGTERM for Ctrl-C."""

    def on_epoch_end(self, net, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # in a call of C when the signal comes


class RaiseElsewhere(Callback):
    """KeyboardInterrupt from code that is not the callback's own, so perhaps the user's."""

    def on_batch_begin(self, net, **kwargs):
        raise_interrupt()


def raise_interrupt():
    raise KeyboardInterrupt


@pytest.fixture
def sigterm_as_ctrl_c():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("callback", [PressCtrlC, Terminate, RaiseElsewhere])
@pytest.mark.usefixtures("sigterm_as_ctrl_c")
def test_an_interrupted_fit_is_clearly_unfitted(callback):
    clf = make(callbacks=[callback()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


@pytest.mark.usefixtures("sigterm_as_ctrl_c")
def test_a_signal_in_the_midst_of_training_ends_a_search(fitted):
    """No callback is at work: the interrupt arises in torch, and a search must not go on with a truncated model."""
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    search = GridSearchCV(make(max_epochs=100_000), {"n_latent": [2, 3]}, cv=2, error_score="raise")
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert not hasattr(search, "best_estimator_")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, KeyboardInterrupt("stop")])
def test_an_interrupt_that_is_no_signal(monkeypatch, fitted, raised):
    clf = copy.deepcopy(fitted).set_params(warm_start=True)
    before = clf.decision_function(X)

    def interrupt(self, *args, **kwargs):
        raise raised

    monkeypatch.setattr("skspace._training.skorch_net.BatchModule.forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert np.array_equal(clf.decision_function(X), before)
    assert clf.n_iter_ == fitted.n_iter_


def test_a_fit_leaves_the_signal_handlers_alone():
    handlers = []

    class Look(Callback):
        def on_batch_end(self, net, **kwargs):
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    make(callbacks=[Look()], max_epochs=1).fit(X, Y)
    assert set(handlers) == {before} == {signal.getsignal(signal.SIGINT)}


def test_quiet_unless_asked(capsys):
    make(max_epochs=2).fit(X, Y)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    make(max_epochs=2, verbose=1).fit(X, Y)
    assert "train_cross_entropy" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_the_log_is_coloured_on_a_terminal_only(monkeypatch, terminal):
    class Out(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.setattr(sys, "stdout", Out())
    make(max_epochs=2, verbose=1).fit(X, Y)
    lines = sys.stdout.getvalue()
    assert "train_loss" in lines
    assert ("\x1b[" in lines) == terminal


# ---------------------------------------------------------------- scikit-learn's tools on real text


@pytest.fixture(scope="module")
def messages(minilm):
    from skspace.datasets import load_support_messages

    texts, labels = load_support_messages(return_X_y=True)
    return texts[:150], labels[:150]


def test_grid_search_over_a_pipeline_of_texts(messages, tmp_path):
    texts, labels = messages
    encoder = TokenEncoder(cache_dir=tmp_path)
    pipeline = make_pipeline(FunctionTransformer(), SpaceClassifier(encoder, max_epochs=20, random_state=0))
    search = GridSearchCV(pipeline, {"spaceclassifier__n_latent": [2, 8]}, cv=3, n_jobs=2).fit(texts, labels)
    assert search.best_score_ > 0.75
    info = encoder.cache_info()
    assert info["n_texts"] == info["n_distinct"] == len(set(texts))


def test_cross_val_score_and_nested_parameters(messages):
    texts, labels = messages
    assert cross_val_score(SpaceClassifier(max_epochs=20, random_state=0), texts, labels, cv=3).mean() > 0.75
    clf = SpaceClassifier(TokenEncoder()).set_params(encoder__layer=2, encoder__max_length=32)
    assert (clf.encoder.layer, clf.encoder.max_length) == (2, 32)
    assert clone(clf).get_params()["encoder__layer"] == 2


def test_beside_other_features(messages):
    texts, labels = messages
    lengths = FunctionTransformer(lambda X: np.array([[len(x)] for x in X]), feature_names_out=lambda *_: ["length"])
    union = FeatureUnion([("space", SpaceClassifier(max_epochs=2, n_latent=2, n_members=1)), ("length", lengths)])
    assert union.fit_transform(texts, labels).shape == (150, 5 * 2 + 1)


@pytest.mark.parametrize("container", [list, tuple, pd.Series, lambda t: pd.DataFrame({"t": t}), lambda t: t[:, None]])
def test_containers_of_texts(messages, container):
    texts, labels = messages
    clf = SpaceClassifier(max_epochs=2, random_state=0)
    expected = clf.fit(texts, labels).decision_function(texts)
    labels_too = labels if container is not pd.Series else pd.Series(labels)
    assert np.array_equal(clf.fit(container(texts), labels_too).decision_function(container(texts)), expected)


def test_model_folder_as_encoder(tiny_bert):
    clf = SpaceClassifier(tiny_bert, max_epochs=2).fit(["a", "b"], [0, 1])
    assert clf.encoder_.model == tiny_bert


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("a text", ["a"], "must be a sequence of texts. Got a single str instead; wrap it in a list"),
        (["a", None], ["a", "b"], r"missing value \(None\) in row 1"),
        (["a", float("nan")], ["a", "b"], r"missing value \(nan\) in row 1"),
        (["a", b"b"], ["a", "b"], r"Got bytes \(b'b'\) in row 1 instead; decode it"),
        ([3, "b"], ["a", "b"], r"Got int \(3\) in row 0 instead; convert it"),
        ([], [], "at least one text. Got 0 texts"),
        (["a", "b"], ["a"], "must have the same length. Got inconsistent numbers of samples: 2 in X and 1 in y"),
        (["a", "b"], ["a", "a"], "at least two classes. Got one class only: 'a'"),
        (["a", "b"], ["a", float("nan")], "Input y contains NaN: no label in row 1"),
        (["a", "b"], [0.5, 1.5], "Unknown label type: continuous"),
        (["a", "b"], ["a", 1], "must be all str, all int or all bool. Got str in row 0, int in row 1 instead"),
        (["a", "b"], None, "requires y to be passed, but the target y is None"),
        ([["a", "b"], ["c", "d"]], ["a", "b"], "must have one column, the texts. Got 2 columns instead"),
    ],
)
def test_wrong_texts_and_labels(texts, labels, message, tiny_bert):
    with pytest.raises((TypeError, ValueError), match=message):
        SpaceClassifier(tiny_bert).fit(texts, labels)


@pytest.mark.filterwarnings("ignore:The number of unique classes is greater than 50%")
def test_swapped_texts_and_labels(tiny_bert):
    labels, texts = ["late", "broken"] * 11, [f"parcel {i}" for i in range(22)]
    clf = SpaceClassifier(tiny_bert, max_epochs=1)
    with pytest.raises(ValueError, match=r"Got 2 different texts and 22 different labels instead; are X and y swapped"):
        clf.fit(labels, texts)
    clf.fit(texts, texts)  # a class for every text is odd, but can be learned
    clf = SpaceClassifier(tiny_bert)
    assert len(clf.partial_fit(texts[:2], texts[:2], classes=texts).classes_) == 22
    assert clf.fit(texts[:2], np.eye(30, dtype=int)[:2]).predict(texts[:1]).shape == (1, 30)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder": 3}, "The 'encoder' parameter of SpaceClassifier must be"),
        ({"n_latent": 0}, "The 'n_latent' parameter of SpaceClassifier must be an int in the range"),
        ({"n_latent": "many"}, "The 'n_latent' parameter of SpaceClassifier must be"),
        ({"n_members": 0}, "The 'n_members' parameter of SpaceClassifier must be"),
        ({"pooling": "max"}, r"The 'pooling' parameter of SpaceClassifier must be a str among .* Got 'max' instead"),
        ({"head": "mlp"}, r"The 'head' parameter of SpaceClassifier must be a str among .* Got 'mlp' instead"),
        ({"inter_space_weight": -1}, "The 'inter_space_weight' parameter of SpaceClassifier must be"),
        ({"inter_space_on": "classes"}, r"The 'inter_space_on' parameter .* Got 'classes' instead"),
        ({"intra_space_weight": -1}, "The 'intra_space_weight' parameter of SpaceClassifier must be"),
        ({"class_weight": "fair"}, "The 'class_weight' parameter of SpaceClassifier must be"),
        ({"class_weight": {"x": 1.0}}, "The classes, .* are not in class_weight"),
        ({"class_weight": {"bad": 0, "good": 0, "odd": 0}}, "and at least one positive weight"),
        ({"lr": 0}, "The 'lr' parameter of SpaceClassifier must be"),
        ({"lr_schedule": "cosine"}, "The 'lr_schedule' parameter of SpaceClassifier must be"),
        ({"max_epochs": 0}, "The 'max_epochs' parameter of SpaceClassifier must be"),
        ({"batch_size": 0}, "The 'batch_size' parameter of SpaceClassifier must be"),
        ({"weight_decay": -1}, "The 'weight_decay' parameter of SpaceClassifier must be"),
        ({"early_stopping": "yes"}, "The 'early_stopping' parameter of SpaceClassifier must be"),
        ({"validation_fraction": 1.0}, "The 'validation_fraction' parameter of SpaceClassifier must be"),
        ({"n_iter_no_change": 0}, "The 'n_iter_no_change' parameter of SpaceClassifier must be"),
        ({"warm_start": "yes"}, "The 'warm_start' parameter of SpaceClassifier must be"),
        ({"callbacks": 3}, "The 'callbacks' parameter of SpaceClassifier must be"),
        ({"device": "gpu"}, r"must be 'auto' or a torch device that this machine has, .* Got 'gpu' instead"),
        ({"device": "cuda:99"}, r"must be 'auto' or a torch device that this machine has, .* Got 'cuda:99' instead"),
        ({"verbose": "loud"}, "The 'verbose' parameter of SpaceClassifier must be"),
        ({"random_state": "seed"}, "The 'random_state' parameter of SpaceClassifier must be"),
        ({"encoder": TokenEncoder(pooling="mean")}, r"must give token embeddings, TokenEncoder\(pooling=None\)"),
    ],
)
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        make().set_params(**params).fit(["a", "b", "c"] if "encoder" in params else X[:3], Y[:3])


def test_wrong_vectors(fitted):
    with pytest.raises(ValueError, match="token vectors of 5 features, but SpaceClassifier was fitted on 8"):
        fitted.predict(ragged_texts(d=5))
    with pytest.raises(ValueError, match=r"at least one text. Got 0 texts"):
        fitted.predict(X[:0])
    array = make().fit(X.values[:60], Y[:60])
    with pytest.raises(ValueError, match="X has 3 features, but SpaceClassifier is expecting 8 features"):
        array.predict(np.zeros((2, 3)))


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_wrong_sample_weight(weight):
    with pytest.raises(ValueError, match=r"Negative values|contains NaN"):
        make().fit(X, Y, sample_weight=np.full(N, weight))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform"])
def test_not_fitted(method):
    with pytest.raises(NotFittedError, match="This SpaceClassifier instance is not fitted yet"):
        getattr(make(), method)(X)
    with pytest.raises(NotFittedError):
        make().get_feature_names_out()
    with pytest.raises(AttributeError, match=r"is not fitted yet. Call fit first"):
        _ = make().coef_


def test_encoder_that_is_nowhere(monkeypatch):
    with pytest.raises(OSError, match=r"No model 'no-such-model' was found. Looked for, in this order: the folder"):
        SpaceClassifier("no-such-model").fit(["a", "b"], [0, 1])


# ---------------------------------------------------------------- found by trying to break it


def test_steps_that_shrink_to_less_than_nothing():
    with pytest.raises(ValueError, match=r"must have a product below 1, .* Got lr=2.0 and weight_decay=0.5 instead"):
        make(lr=2.0, weight_decay=0.5).fit(X, Y)


@pytest.mark.parametrize("size", [1e-30, 1e19, 1e30])
def test_vectors_whose_squares_leave_float32(size):
    usual = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
    odd = (usual.astype(np.float64) * size).astype(np.float32)
    expected = make().fit(usual, Y).predict_proba(usual)
    np.testing.assert_allclose(make().fit(odd, Y).predict_proba(odd), expected, atol=1e-3)


def test_vectors_that_cannot_be_squared():
    with pytest.raises(ValueError, match=r"overflow when squared. Expected a finite .*, got infinity. Rescale X"):
        make().fit(np.random.default_rng(0).normal(size=(N, 5)) * 1e200, Y)


def test_diverged_training_is_an_error():
    with pytest.raises(ValueError, match=r"Training diverged: .* Lower lr \(got 1.7e\+308\) or weight_decay"):
        make(lr=1.7e308, weight_decay=0.0).fit(X, Y)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_class_weight_must_be_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match="must give finite, non-negative weights"):
        make(class_weight={"bad": weight, "good": 1.0, "odd": 1.0}).fit(X, Y)


def test_huge_sample_weights_do_not_overflow(fitted):
    clf = make().fit(X, Y, sample_weight=np.full(N, 1e308))
    assert np.array_equal(clf.decision_function(X), fitted.decision_function(X))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_must_be_finite(fitted, value):
    values = X.values.copy()
    values[int(X.offsets[7])] = value
    broken = RaggedArray(values, X.offsets)
    for call in (lambda: make().fit(broken, Y), lambda: fitted.predict(broken)):
        with pytest.raises(ValueError, match=r"finite numbers only. Got NaN or infinity in row 7 instead"):
            call()


def test_a_failed_fit_leaves_the_classifier_as_it_was():
    array = X.values[:60]
    clf = make().fit(array, Y[:60])
    expected = clf.predict_proba(array)
    with pytest.raises(ValueError, match="one class only"):
        clf.fit(array[:, :3], ["a"] * 60)
    assert clf.n_features_in_ == 8
    assert np.array_equal(clf.predict_proba(array), expected)
    unfitted = make(callbacks=[PressCtrlC()])
    with pytest.raises(KeyboardInterrupt):
        unfitted.fit(array, Y[:60])
    assert not hasattr(unfitted, "n_features_in_")


def test_fit_on_ragged_forgets_the_columns_of_an_array():
    frame = pd.DataFrame(X.values[:60], columns=list("abcdefgh"))
    clf = make().fit(frame, Y[:60]).fit(ragged_texts(d=5), Y)
    assert not hasattr(clf, "n_features_in_")
    assert not hasattr(clf, "feature_names_in_")


def test_the_fit_decides_what_is_predicted(fitted):
    changed = clone(fitted).fit(X, Y).set_params(encoder=None)
    assert np.array_equal(changed.predict(X), fitted.predict(X))


def test_encoder_parameters_need_an_encoder():
    with pytest.raises(
        ValueError, match=r"encoder__layer can be set only where .* write SpaceClassifier\(TokenEncoder"
    ):
        SpaceClassifier().set_params(encoder__layer=3)
    assert SpaceClassifier().set_params(encoder=TokenEncoder(), encoder__layer=3).encoder.layer == 3


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (["a text", "another"], "X must hold vectors. Got texts instead; leave encoder out"),
        (np.array(["a text", "another"]), "X must hold vectors. Got texts instead; leave encoder out"),
        (pd.Series(["a text", "another"], index=[7, 8]), "X must hold vectors. Got texts instead; leave encoder out"),
        (
            [np.zeros((2, 3)), np.zeros((1, 3))],
            r"Got a list of 2-D arrays instead; pack them with RaggedArray.from_rows",
        ),
    ],
)
def test_vectors_of_another_kind(vectors, message):
    with pytest.raises(ValueError, match=message):
        make().fit(vectors, [0, 1])


def test_early_stopping_trains_on_every_class():
    y = np.array(["a", "b"] * 59 + ["c", "d"])  # two classes of one text
    clf = make(early_stopping=True, validation_fraction=0.5, max_epochs=2).fit(X, y)
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    for seed in range(5):
        training, held_out = split_groups(
            np.arange(N), np.searchsorted(clf.classes_, y), 0.5, np.random.RandomState(seed)
        )
        assert {118, 119} <= set(training)
        assert len(held_out) == 60
    with pytest.raises(ValueError, match=r"118 distinct texts of classes with more than one, and 119 to hold out"):
        make(early_stopping=True, validation_fraction=0.99).fit(X, y)


def test_pandas_output_everywhere(tiny_bert):
    with config_context(transform_output="pandas"):
        encoder = TokenEncoder(tiny_bert)
        clf = SpaceClassifier(encoder, max_epochs=2).fit(["a", "b"], [0, 1])
        assert clf.transform(["a"]).shape == (1, 4 * 2 * 8)
        assert len(encoder.fit_transform(["a", "b"])) == 2
        assert list(encoder.set_params(pooling="mean").fit_transform(["a"]).columns)[:1] == ["tokenencoder0"]


@pytest.mark.slow  # by default: tests/runtime/test_devices.py
def test_a_child_after_a_fork_predicts(tiny_bert, python, tmp_path):
    """OpenMP's threads do not survive a fork: a child that waits for them would hang."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    code = f"""
import os, sys, torch, warnings
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)  # of the fork
torch.set_num_threads(2)
from skspace import SpaceClassifier, TokenEncoder
texts = ["the parcel is late", "charged twice"] * 40
clf = SpaceClassifier(TokenEncoder({tiny_bert!r}, device="cpu"), max_epochs=3, random_state=0).fit(texts, [0, 1] * 40)
expected = clf.predict_proba(texts + ["new"] * 40)
child = os.fork()
if child == 0:
    same = (clf.predict_proba(texts + ["new"] * 40) == expected).all() and len(clf.predict(["newer"])) == 1
    os._exit(0 if same else 7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- what users may count on


def test_logarithms_of_probabilities(fitted):
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(fitted.predict_proba(X)), rtol=1e-12)
    several = make(max_epochs=5).fit(X, np.column_stack([Y == "bad", np.arange(N) % 2]).astype(int))
    np.testing.assert_allclose(several.predict_log_proba(X), np.log(several.predict_proba(X)), rtol=1e-12)


def test_logarithms_of_probabilities_that_round_to_zero():
    far = RaggedArray.from_rows([np.full((1, 8), value, np.float32) for value in (-1, 1)] * 30)
    clf = make(weight_decay=0.0, lr=1.0, max_epochs=300).fit(far, [0, 1] * 30)
    clf.operators_.intercept.data += torch.tensor([0.0, 2000.0])
    assert clf.predict_proba(far)[0, 0] == 0
    assert np.isfinite(clf.predict_log_proba(far)).all()


def test_the_encoder_may_be_a_path(tiny_bert):
    texts = ["the parcel is late", "charged twice"] * 4
    by_path, by_name = (
        SpaceClassifier(model, max_epochs=2, random_state=0).fit(texts, [0, 1] * 4)
        for model in (Path(tiny_bert), tiny_bert)
    )
    assert np.array_equal(by_path.decision_function(texts), by_name.decision_function(texts))
    assert clone(by_path).get_params() == by_path.get_params()


def test_a_path_survives_saving(tiny_bert, tmp_path):
    texts = ["the parcel is late", "charged twice"] * 4
    clf = SpaceClassifier(Path(tiny_bert), max_epochs=2, random_state=0).fit(texts, [0, 1] * 4)
    clf.save_pretrained(tmp_path / "clf")
    loaded = SpaceClassifier.from_pretrained(tmp_path / "clf")
    assert loaded.encoder == tiny_bert
    assert np.array_equal(loaded.predict_proba(texts), clf.predict_proba(texts))


@pytest.mark.parametrize("name", ["ConceptOperators", "RaggedArray", "SpaceClassifier", "TokenEncoder"])
def test_public_classes_name_the_public_module(name):
    import skspace

    assert getattr(skspace, name).__module__ == "skspace"


def test_pickles_name_no_private_path(tiny_bert):
    texts = ["the parcel is late", "charged twice"] * 4
    for clf in (make(max_epochs=1).fit(X, Y), SpaceClassifier(tiny_bert, max_epochs=1).fit(texts, [0, 1] * 4)):
        assert b"skspace._" not in pickle.dumps(clf)
        assert b"skspace" in pickle.dumps(clf)
