"""partial_fit over a stream, and fit with warm_start: what goes on, what must not change, and what starts afresh."""

import pickle
import signal
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace.inspection import token_contributions

N = 120
Y = np.array(["bad", "good", "odd"])[np.arange(N) % 3]
CLASSES = ["odd", "bad", "good"]
CONTINUED = "must be what it was in the call that is continued"


def ragged_texts(d=8, dtype=np.float64):
    """Texts of 1 to 6 tokens of root mean square about 10, in which one token in three carries the class."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N):
        row = rng.normal(size=(rng.integers(1, 7), d))
        row[::3, i % 3] += 4
        rows.append(row.astype(dtype) * 10)
    return RaggedArray.from_rows(rows)


X = ragged_texts()


def make(**params):
    return SpaceClassifier("precomputed", **({"n_members": 2, "n_latent": 4, "random_state": 0} | params))


def stream(clf, sizes=(50, 1, 30, 39), passes=1, X=X):
    ends = np.cumsum(sizes)
    for _ in range(passes):
        for begin, end in zip(ends - sizes, ends, strict=True):
            clf.partial_fit(X[begin:end], Y[begin:end], classes=CLASSES)
    return clf


def same(one, other):
    return np.array_equal(one.decision_function(X), other.decision_function(X))


def learned(clf):
    queries = [clf.attention_queries_] if hasattr(clf, "attention_queries_") else []
    return [clf.concept_operators_, *queries, clf.coef_, clf.intercept_, clf.decision_function(X)]


# ---------------------------------------------------------------- partial_fit


def test_a_stream_of_uneven_chunks_learns():
    clf = stream(make(batch_size=16), passes=8)
    assert clf.score(X, Y) > 0.9
    assert clf.classes_.tolist() == ["bad", "good", "odd"]
    assert clf.partial_fit(X[:5], Y[:5]) is clf


class Turned(Callback):
    """Counts the axes that folding is about to turn."""

    def __init__(self, counts):
        self.counts = counts

    def __deepcopy__(self, memo):
        return self

    def on_train_end(self, net, **kwargs):
        own = net.module_.operators.coef.unflatten(2, (3, 4)).diagonal(dim1=1, dim2=2)
        self.counts.append(int((own < 0).sum()))


@pytest.mark.parametrize("head", ["linear", "alignment"])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_calls_go_on_as_the_epochs_of_one_fit_do(head, pooling):
    """Scale, signs and centring of the folded model, and Adam's moments: nothing is lost between calls."""
    params = {"lr": 0.5, "lr_schedule": "constant", "pooling": pooling, "head": head, "inter_space_weight": 0.1}
    fitted = make(max_epochs=6, **params).fit(X, Y)  # classes equally frequent: b starts at 0 there too
    turned = []
    clf = make(callbacks=[Turned(turned)] if head == "linear" else None, **params)
    for _ in range(6):
        clf.partial_fit(X, Y, classes=CLASSES)
    assert sum(turned) > 0 or head == "alignment"
    for one, other in zip(learned(clf), learned(fitted), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)
    losses = [[row["train_loss"] for row in each.history_] for each in (clf, fitted)]
    np.testing.assert_allclose(*losses, atol=1e-10)


def test_several_labels_go_on_as_the_epochs_of_one_fit_do():
    matrix = np.column_stack([np.arange(N) % 2, np.arange(N) < N // 2])  # each in half of the texts: b starts at 0
    params = {"lr": 0.1, "lr_schedule": "constant"}
    clf = make(**params).partial_fit(X, matrix).partial_fit(X, matrix).partial_fit(X, matrix, classes=[0, 1])
    fitted = make(max_epochs=3, **params).fit(X, matrix)
    np.testing.assert_allclose(clf.decision_function(X), fitted.decision_function(X), atol=1e-8)


def test_after_every_call_the_model_is_folded():
    clf = make(batch_size=16)
    for _ in range(3):
        stream(clf)
        coef = clf.coef_.reshape(2, 3, 3, 4)
        np.testing.assert_allclose(coef.sum(1), 0, atol=1e-12)
        assert (np.diagonal(coef, axis1=1, axis2=2) >= 0).all()
        assert clf.operators_.scale == 1.0
        by_hand = np.einsum("nmf,mkf->nk", clf.transform(X).reshape(N, 2, -1), clf.coef_) + clf.intercept_
        np.testing.assert_allclose(by_hand, clf.decision_function(X), atol=1e-10)


def test_contributions_of_a_stream_add_up(tiny_bert):
    texts = ["the parcel is late", "charged twice", "my account"] * 4
    clf = SpaceClassifier(tiny_bert, n_latent=2, random_state=0)
    for _ in range(2):
        clf.partial_fit(texts, ["a", "b", "c"] * 4, classes=list("abc"))
    (reasons,) = token_contributions(clf, texts[:1])
    np.testing.assert_allclose(
        reasons.contributions.sum(0) + clf.intercept_, clf.decision_function(texts[:1])[0], atol=1e-5
    )


def test_same_seed_and_stream_same_model():
    clf = stream(make(batch_size=16), passes=2)
    torch.manual_seed(99)
    np.random.seed(99)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert same(stream(make(batch_size=16), passes=2), clf)
    assert np.random.get_state()[1].tolist() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert not same(stream(make(batch_size=16, random_state=1), passes=2), clf)


def test_calls_take_their_batches_in_orders_of_their_own():
    """One seed for all calls must not mean one order."""
    seen = []

    class Watch(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            seen.append(batch[1]["targets"].tolist())

    for clf in [make(batch_size=60, callbacks=[Watch()])]:
        clf.partial_fit(X, Y, classes=CLASSES).partial_fit(X, Y)
    assert seen[:2] != seen[2:]


@pytest.mark.parametrize("copy", ["pickle", "joblib"])
def test_pickled_in_the_middle_of_a_stream(copy, tmp_path):
    clf = stream(make(batch_size=16))
    if copy == "pickle":
        content = pickle.dumps(clf)
        restored = pickle.loads(content)
    else:
        joblib.dump(clf, tmp_path / "clf.joblib")
        content, restored = (tmp_path / "clf.joblib").read_bytes(), joblib.load(tmp_path / "clf.joblib")
    assert same(stream(restored), stream(clf))
    parameters = sum(parameter.nbytes for parameter in clf.operators_.parameters())
    assert len(content) < 3 * parameters + 60_000
    fitted = len(pickle.dumps(make(batch_size=16, max_epochs=1).fit(X, Y)))
    assert len(content) < fitted + 2 * parameters + 10_000


def test_a_pickle_keeps_the_signs_of_axes():
    """Folding has turned some; the inter-space loss of the next call must find them as they were."""
    params = {"lr": 0.5, "lr_schedule": "constant", "inter_space_weight": 0.1}
    clf = stream(make(batch_size=16, **params))
    assert (clf._state.sign < 0).any()
    restored = pickle.loads(pickle.dumps(clf))
    assert same(stream(restored), stream(clf))


def test_without_the_moments_the_stream_is_another(monkeypatch):
    clf = stream(make(batch_size=16))
    forgetful = pickle.loads(pickle.dumps(clf))
    forgetful._state = replace(forgetful._state, moments=())
    assert not same(stream(forgetful), stream(clf))


def test_the_scale_is_that_of_the_first_call():
    clf = make().partial_fit(X[:50], Y[:50], classes=CLASSES)
    scale = clf._state.scale
    values = np.concatenate(list(X[:50]))
    assert scale == pytest.approx(np.sqrt(np.mean(values**2)))
    larger = RaggedArray(X.values * 100, X.offsets)
    assert clf.partial_fit(larger, Y)._state.scale == scale


def test_history_goes_on():
    clf = stream(make(batch_size=16), passes=2)
    assert clf.n_iter_ == len(clf.history_) == 8
    assert [row["epoch"] for row in clf.history_] == list(range(1, 9))
    assert all(row["train_cross_entropy"] > 0 for row in clf.history_)


def test_the_rate_is_constant_and_a_quarter_of_the_peak():
    rates = {}

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            rates.setdefault(net.lr, set()).add(net.optimizer_.param_groups[0]["lr"])

    for params in ({}, {"lr_schedule": "constant", "lr": 0.003}):
        stream(make(batch_size=16, callbacks=[Watch()], **params))
    assert rates == {0.005: {0.005}, 0.003: {0.003}}


def test_another_rate_counts_from_the_next_call_on():
    clf = stream(make())
    before = learned(clf)
    clf.set_params(lr=1e-12).partial_fit(X, Y)
    for one, other in zip(before, learned(clf), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


def test_one_text_at_a_time_and_one_class_at_a_time():
    clf = make(lr=0.04)
    for _ in range(4):
        for i in range(0, N, 3):
            clf.partial_fit(X[i : i + 1], Y[i : i + 1], classes=CLASSES)
    assert clf.predict(X[:3]).tolist() == ["bad"] * 3
    assert np.isfinite(clf.decision_function(X)).all()
    for _ in range(60):
        clf.partial_fit(X[1::3], Y[1::3]).partial_fit(X[2::3], Y[2::3]).partial_fit(X[::3], Y[::3])
    assert set(clf.predict(X)) == set(Y)


def test_classes_that_have_not_come_yet_have_a_probability():
    clf = make().partial_fit(X[:1], ["b"], classes=["a", "b"])
    assert clf.predict_proba(X).shape == (N, 2)
    assert (clf.predict_proba(X) > 0.01).all()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([3, 10, 3, 10], [10, 3]),
        ([True, False, True, False], [False, True]),
        (["1", "2", "1", "2"], np.array(["1", "2"])),
    ],
)
def test_labels_of_every_kind(labels, classes):
    clf = make().partial_fit(X[:4], labels, classes=classes).partial_fit(X[:1], labels[:1])
    assert clf.classes_.tolist() == sorted(labels[:2])
    assert clf.predict(X[:4]).dtype == np.array(labels).dtype or clf.classes_.dtype == object


def test_texts(tiny_bert):
    texts = ["the parcel is late", "charged twice", "my account", ""] * 4
    clf = SpaceClassifier(TokenEncoder(tiny_bert), random_state=0, lr=0.1)
    for begin in range(0, 16, 4):
        clf.partial_fit(texts[begin : begin + 4], list("abab"), classes=["a", "b"])
    assert clf.predict(texts[:3]).tolist() == ["a", "b", "a"]
    assert clf.encoder_.model == tiny_bert


def test_array_then_ragged_array():
    array = X.values[:N]
    clf = make().partial_fit(array, Y, classes=CLASSES).partial_fit(X, Y)
    assert clf.n_features_in_ == 8
    assert clf.predict(array).shape == (N,)


def test_float32_after_float64_stays_float64():
    clf = make().partial_fit(X, Y, classes=CLASSES).partial_fit(ragged_texts(dtype=np.float32), Y)
    assert clf.coef_.dtype == np.float64


def test_fit_after_a_stream_starts_afresh():
    clf = stream(make(max_epochs=3)).fit(X, Y)
    assert same(clf, make(max_epochs=3).fit(X, Y))
    assert clf.n_iter_ == 3
    assert vars(clf).keys() == vars(make(max_epochs=3).fit(X, Y)).keys()
    assert clf.partial_fit(X, Y).n_iter_ == 4
    other = stream(make()).fit(X, np.where(Y == "odd", 1, 0))
    assert other.classes_.tolist() == [0, 1]


def test_a_stream_after_fit_goes_on_from_the_fitted_model():
    fitted = make(max_epochs=30, batch_size=60).fit(X, Y)
    still = pickle.loads(pickle.dumps(fitted)).set_params(lr=1e-12).partial_fit(X, Y)
    np.testing.assert_allclose(still.decision_function(X), fitted.decision_function(X), atol=1e-7)
    loss = fitted.history_[-1]["train_loss"]
    assert (
        fitted.partial_fit(X[:60], Y[:60]).history_[-1]["train_loss"]
        < make().partial_fit(X[:60], Y[:60], classes=CLASSES).history_[-1]["train_loss"]
    )
    assert fitted.history_[-1]["train_loss"] < 2 * loss + 0.1


# ---------------------------------------------------------------- weights in a stream


def test_weight_zero_is_a_row_removed():
    weight = (np.arange(N) % 4 > 0).astype(float)
    weighted = make(batch_size=16).partial_fit(X, Y, CLASSES, weight).partial_fit(X, Y, sample_weight=weight)
    rows = np.flatnonzero(weight)
    removed = make(batch_size=16).partial_fit(X[rows], Y[rows], CLASSES).partial_fit(X[rows], Y[rows])
    assert same(weighted, removed)
    unknown = make().partial_fit(X[:3], ["bad", "good", "new"], CLASSES, [1, 1, 0])
    assert unknown.classes_.tolist() == sorted(CLASSES)


def test_weight_two_is_a_row_twice():
    weight = 1.0 + np.arange(N) % 2
    twice = np.repeat(np.arange(N), weight.astype(int))
    weighted, repeated = make(), make()
    for _ in range(5):
        weighted.partial_fit(X, Y, CLASSES, weight)
        repeated.partial_fit(X[twice], Y[twice], CLASSES)
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-8)
    assert np.abs(stream(make(), (N,), 5).decision_function(X) - weighted.decision_function(X)).max() > 1e-3


def test_a_class_weight_does_not_depend_on_the_company():
    """Chunks of one class each: normalised chunk by chunk, weights would be lost."""
    by_class = {}

    class Watch(Callback):
        def on_batch_begin(self, net, batch, **kwargs):
            by_class.setdefault(int(batch[1]["targets"][0]), set()).update(batch[1]["weights"].tolist())

    clf = make(class_weight={"bad": 4.0, "good": 1.0}, callbacks=[Watch()])
    for label in ("bad", "good", "odd"):
        clf.partial_fit(X[label == Y], Y[label == Y], classes=CLASSES)
    assert by_class == {0: {2.0}, 1: {0.5}, 2: {0.5}}


# ---------------------------------------------------------------- what a stream refuses


@pytest.fixture(scope="module")
def started():
    return make().partial_fit(X, Y, classes=CLASSES)


class Stop(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


class PressCtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


MATRIX = np.eye(3, dtype=int)[np.arange(N) % 3]
REFUSED = [
    ({}, (X, np.where(Y == "odd", "new", Y)), "not among the classes: 'new'. Expected one of 'bad', 'good', 'odd'"),
    ({}, (X, Y == "odd"), "not among the classes: False"),
    ({}, (X, Y, ["bad", "good"]), r"not the same as on last call to partial_fit, was: \['bad', 'good', 'odd'\]"),
    ({}, (ragged_texts(d=5), Y), "token vectors of 5 features, but SpaceClassifier was fitted on 8"),
    ({}, (X.values[:N, :3], Y), "token vectors of 3 features, but SpaceClassifier was fitted on 8"),
    ({}, (X, MATRIX), "y must be one label per text, as before. Got a matrix of zeros and ones instead"),
    ({}, (X[:0], []), "at least one text. Got 0 texts"),
    ({}, (X, Y[:5]), "must have the same length"),
    ({}, (X, Y, None, np.zeros(N)), "at least one non-zero number"),
    ({}, (X, Y, None, [1.0]), r"sample_weight.shape == \(1,\), expected \(120,\)"),
    ({"early_stopping": True}, (X, Y), "partial_fit does not support early_stopping=True"),
    ({"class_weight": "balanced"}, (X, Y), "must be a dict or None for partial_fit"),
    ({"class_weight": {"bad": 0.0}}, (X[::3], Y[::3]), "Got texts only of classes that have weight 0"),
    ({"n_latent": 5}, (X, Y), f"The 'n_latent' parameter of SpaceClassifier {CONTINUED}, 4. Got 5 instead; set it"),
    ({"n_latent": "auto"}, (X, Y), "The 'n_latent' parameter .* Got 8 instead"),
    ({"n_members": 3}, (X, Y), f"The 'n_members' parameter of SpaceClassifier {CONTINUED}, 2. Got 3 instead"),
    ({"pooling": "mean"}, (X, Y), f"The 'pooling' parameter of SpaceClassifier {CONTINUED}, 'attention'"),
    ({"head": "alignment"}, (X, Y), f"The 'head' parameter of SpaceClassifier {CONTINUED}, 'linear'"),
    ({"encoder": None}, (["a"], ["bad"]), f"The 'encoder' parameter of SpaceClassifier {CONTINUED}, 'precomputed'"),
    ({"lr": 1.7e308, "weight_decay": 0.0, "batch_size": 16}, (X, Y), "Training diverged"),
    ({"callbacks": [Stop()]}, (X, Y), None),
    ({"callbacks": [PressCtrlC()]}, (X, Y), None),
]


@pytest.mark.parametrize(("params", "data", "message"), REFUSED)
def test_a_refused_or_interrupted_call_leaves_all_as_it_was(started, params, data, message):
    clf = pickle.loads(pickle.dumps(started))
    before = pickle.dumps((clf.history_, clf.classes_, learned(clf)))
    with pytest.raises(ValueError if message else KeyboardInterrupt, match=message):
        clf.set_params(**params).partial_fit(*data)
    assert pickle.dumps((clf.history_, clf.classes_, learned(clf))) == before
    clf.set_params(**started.get_params())
    assert same(clf.partial_fit(X, Y), pickle.loads(pickle.dumps(started)).partial_fit(X, Y))


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (Y, None, "classes must be passed on the first call to partial_fit. Got None; pass all labels"),
        (Y, ["bad", "good"], "not among the classes: 'odd'. Expected one of 'bad', 'good'. Name all labels"),
        (Y, ["bad"], r"must name two classes or more. Got \['bad'\]"),
        (Y, "bad", "The 'classes' argument of partial_fit must be a list of labels. y should be a 1d array, got 'bad'"),
        (Y, 3, "The 'classes' argument of partial_fit must be a list of labels"),
        (Y, ["bad", 3], "The 'classes' argument .* Got str in row 0, int in row 1 instead"),
        (Y, [0.5, 1.5], "The 'classes' argument .* Unknown label type"),
        (MATRIX, [1, 2, 3], r"must be the numbers of the 3 columns of y. Got \[1, 2, 3\]"),
    ],
)
def test_first_calls_that_are_refused(labels, classes, message):
    clf = make()
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X, labels, classes=classes)
    assert not [name for name in vars(clf) if name.endswith("_")]


def test_a_first_call_that_is_interrupted_leaves_nothing():
    clf = make(callbacks=[PressCtrlC()])
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X.values, np.resize(Y, len(X.values)), classes=CLASSES)
    assert not [name for name in vars(clf) if name.endswith("_")]


def test_several_labels_have_their_columns():
    clf = make().partial_fit(X, MATRIX)
    assert clf.classes_.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"y must have 3 columns, one per class\. Got 2 columns instead"):
        clf.partial_fit(X, MATRIX[:, :2])
    with pytest.raises(ValueError, match=r"y must be a matrix of zeros and ones, as before\. Got one label per text"):
        clf.partial_fit(X, np.arange(N) % 3)


def test_columns_of_arrays_and_frames_must_stay():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.values[:N], columns=list("abcdefgh"))
    clf = make().partial_fit(frame, Y, classes=CLASSES).partial_fit(frame, Y)
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        clf.partial_fit(frame[list("hgfedcba")], Y)
    with pytest.raises(ValueError, match="X has 3 features, but SpaceClassifier is expecting 8 features"):
        make().partial_fit(X.values[:N], Y, classes=CLASSES).partial_fit(X.values[:N, :3], Y)
    assert clf.feature_names_in_.tolist() == list("abcdefgh")


def test_the_encoder_must_give_the_same_vectors(tiny_bert, tmp_path):
    clf = SpaceClassifier(TokenEncoder(Path(tiny_bert), layer=1)).partial_fit(["the", "my"], [0, 1], classes=[0, 1])
    clf.set_params(encoder=TokenEncoder(tiny_bert, layer=1, cache_dir=tmp_path)).partial_fit(["is"], [0])
    for change in ({"layer": 1.0}, {"max_length": 32}, {"special_tokens": "drop"}):
        clf.set_params(encoder=TokenEncoder(tiny_bert, **({"layer": 1} | change)))
        with pytest.raises(ValueError, match=f"The 'encoder' parameter of SpaceClassifier {CONTINUED}"):
            clf.partial_fit(["is"], [0])


# ---------------------------------------------------------------- warm_start


def test_warm_start_begins_where_the_fit_before_ended():
    clf = make(max_epochs=10, batch_size=60, warm_start=True).fit(X, Y)
    first = clf.decision_function(X)
    clf.set_params(lr=1e-12).fit(X, Y)
    np.testing.assert_allclose(clf.decision_function(X), first, atol=1e-7)
    assert clf.n_iter_ == 20
    assert [row["epoch"] for row in clf.history_] == list(range(1, 21))


def test_warm_start_is_at_a_lower_loss_sooner():
    clf = make(max_epochs=10, batch_size=60, warm_start=True).fit(X, Y).fit(X, Y)
    cold = make(max_epochs=10, batch_size=60).fit(X, Y)
    losses = [row["train_loss"] for row in clf.history_]
    assert losses[:10] == [row["train_loss"] for row in cold.history_]
    assert all(second < first for first, second in zip(losses[:10], losses[10:], strict=True))


def test_warm_start_has_a_new_cycle():
    rates = []

    class Watch(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    make(max_epochs=10, warm_start=True, callbacks=[Watch()]).fit(X, Y).fit(X, Y)
    assert rates[:10] == rates[10:]
    assert rates[0] == pytest.approx(0.02 / 25)
    assert max(rates) == pytest.approx(0.02, rel=0.1)


def test_without_warm_start_a_second_fit_is_as_the_first():
    clf = make(max_epochs=5).fit(X, Y)
    assert same(pickle.loads(pickle.dumps(clf)).fit(X, Y), clf)
    assert same(make(max_epochs=5, warm_start=True).fit(X, Y), clf)  # nothing there to go on from


def test_warm_start_after_early_stopping_goes_on_with_the_best_weights():
    noise = np.random.default_rng(1).permutation(Y)
    params = {"early_stopping": True, "n_iter_no_change": 5, "lr_schedule": "constant", "warm_start": True}
    clf = make(max_epochs=60, **params).fit(X, noise)
    losses = [row["valid_cross_entropy"] for row in clf.history_]
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    # With a vanishing rate the first epoch shows what it started from, on the split of before.
    clf.set_params(lr=1e-12, max_epochs=1).fit(X, noise)
    assert clf.history_[-1]["valid_cross_entropy"] == pytest.approx(losses[best], rel=1e-6)
    assert clf.history_[-1]["valid_cross_entropy"] != pytest.approx(losses[-1], rel=1e-3)


def test_warm_start_on_more_texts_and_after_a_stream():
    clf = make(max_epochs=10, warm_start=True).fit(X[:60], Y[:60]).fit(X, Y)
    assert clf.n_iter_ == 20
    mixed = stream(make(max_epochs=10, warm_start=True)).fit(X, Y).partial_fit(X, Y)
    assert mixed.n_iter_ == 4 + 10 + 1
    assert mixed.history_[4]["train_loss"] < make(max_epochs=1).fit(X, Y).history_[0]["train_loss"]


@pytest.mark.parametrize(
    ("params", "data", "message"),
    [
        (
            {},
            (X, np.where(Y == "odd", "bad", Y)),
            r"Previously got .*'odd'\], `y` has \['bad', 'good'\]",
        ),
        ({}, (X, np.where(Y == "odd", "new", Y)), r"same classes as in the previous call to fit"),
        ({}, (X, MATRIX), "y must be one label per text, as before"),
        ({}, (ragged_texts(d=5), Y), "token vectors of 5 features, but SpaceClassifier was fitted on 8"),
        ({"n_latent": 5}, (X, Y), f"The 'n_latent' parameter of SpaceClassifier {CONTINUED}, 4. Got 5"),
        ({"n_members": 1}, (X, Y), f"The 'n_members' parameter of SpaceClassifier {CONTINUED}"),
        ({"pooling": "mean"}, (X, Y), f"The 'pooling' parameter of SpaceClassifier {CONTINUED}"),
        ({"head": "alignment"}, (X, Y), f"The 'head' parameter of SpaceClassifier {CONTINUED}"),
    ],
)
def test_what_warm_start_refuses(params, data, message):
    clf = make(max_epochs=2, warm_start=True).fit(X, Y)
    before = clf.decision_function(X)
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*data)
    assert np.array_equal(clf.decision_function(X), before)
    assert clf.n_iter_ == 2


# ---------------------------------------------------------------- and saving


@pytest.mark.parametrize("go_on", ["partial_fit", "warm_start"])
def test_goes_on_after_save_pretrained(go_on, tmp_path):
    """With new moments, and the scale of what it is given: close to what goes on without a break, not equal."""
    whole = stream(make(batch_size=16))
    whole.save_pretrained(tmp_path / "clf")
    loaded = SpaceClassifier.from_pretrained(tmp_path / "clf")
    before = loaded.predict_proba(X)
    if go_on == "partial_fit":
        loaded.partial_fit(X, Y)
    else:
        loaded.set_params(warm_start=True).fit(X, Y)
    assert loaded.n_iter_ > whole.n_iter_
    assert log_loss(Y, loaded.predict_proba(X)) < log_loss(Y, before)
