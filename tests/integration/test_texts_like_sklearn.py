"""The checks of scikit-learn's suite that make sense for texts, and the suite itself over numbers rendered as text."""

import copy
import pickle
import unittest

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from skspace import SpaceClassifier, TokenEncoder

WORDS = {
    "good": ["a fine day", "what a fine film", "this is so good", "good work and a fine result", "", "so fine"],
    "bad": ["a poor day", "what a poor film", "this is so bad", "bad work and a poor result", "bad", "so poor"],
    "odd": ["the moon is green", "seven purple cows", "a green idea sleeps", "moon over cows", "green moon", "cows"],
}
TEXTS = [text for texts in WORDS.values() for text in texts] * 3
LABELS = np.array([label for label, texts in WORDS.items() for _ in texts] * 3)


@pytest.fixture(scope="module")
def make(tiny_bert):
    def make(**params):
        return SpaceClassifier(
            TokenEncoder(tiny_bert), max_epochs=120, n_members=2, n_latent=4, random_state=0, **params
        )

    return make


@pytest.fixture(scope="module")
def fitted_once(make):
    return make().fit(TEXTS, LABELS)


@pytest.fixture
def fitted(fitted_once):
    """A test's own to change."""
    return copy.deepcopy(fitted_once)


def test_learns(fitted):
    assert fitted.score(TEXTS, LABELS) > 0.9


def test_fit_returns_self_and_touches_no_parameter(make):
    clf = make().set_params(max_epochs=2)
    before = {name: repr(value) for name, value in clf.get_params().items()}
    assert clf.fit(TEXTS, LABELS) is clf
    assert {name: repr(value) for name, value in clf.get_params().items()} == before


def test_predicting_touches_no_attribute(fitted):
    before = joblib.hash({k: v for k, v in vars(fitted).items() if k != "_state"})
    weights = fitted.concept_operators_
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        getattr(fitted, method)(TEXTS)
    assert joblib.hash({k: v for k, v in vars(fitted).items() if k != "_state"}) == before
    assert np.array_equal(fitted.concept_operators_, weights)


def test_second_fit_is_as_the_first(fitted):
    first = fitted.decision_function(TEXTS)
    assert np.array_equal(fitted.fit(TEXTS, LABELS).decision_function(TEXTS), first)


def test_fit_forgets_the_fit_before(make, fitted):
    twice = make().fit(TEXTS[::-1], np.where(LABELS == "good", "yes", "no")).fit(TEXTS, LABELS)
    once = fitted
    assert np.array_equal(twice.decision_function(TEXTS), once.decision_function(TEXTS))
    assert vars(twice).keys() == vars(once).keys()


def test_clone_is_unfitted_and_learns_the_same(fitted):
    other = clone(fitted)
    with pytest.raises(NotFittedError):
        other.predict(TEXTS)
    assert np.array_equal(other.fit(TEXTS, LABELS).predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_a_text_is_predicted_alike_in_any_company(fitted):
    whole = fitted.decision_function(TEXTS)
    alone = np.concatenate([fitted.decision_function([text]) for text in TEXTS])
    shuffled = np.random.default_rng(0).permutation(len(TEXTS))
    assert np.array_equal(alone, whole)
    assert np.array_equal(fitted.decision_function([TEXTS[i] for i in shuffled]), whole[shuffled])
    assert np.array_equal(fitted.transform(TEXTS)[:5], fitted.transform(TEXTS[:5]))


def test_shapes(fitted):
    n, K = len(TEXTS), 3
    assert fitted.predict(TEXTS).shape == (n,)
    assert fitted.predict_proba(TEXTS).shape == fitted.decision_function(TEXTS).shape == (n, K)
    assert fitted.transform(TEXTS).shape == (n, 2 * K * 4)
    assert len(fitted.get_feature_names_out()) == 2 * K * 4
    assert fitted.get_feature_names_out()[[0, 5, -1]].tolist() == ["bad_0_0", "good_0_1", "odd_1_3"]
    assert fitted.concept_operators_.shape == fitted.attention_queries_.shape == (2, K, 32, 4)
    assert fitted.coef_.shape == (2, K, K * 4)
    assert fitted.intercept_.shape == (K,)
    assert not hasattr(fitted, "n_features_in_")


def test_predictions_agree_with_one_another(fitted):
    logits, proba = fitted.decision_function(TEXTS), fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), proba)
    assert np.array_equal(fitted.classes_[logits.argmax(1)], fitted.predict(TEXTS))
    centroids = fitted.transform(TEXTS).reshape(len(TEXTS), 2, -1)
    by_hand = np.einsum("nmf,mkf->nk", centroids, fitted.coef_) + fitted.intercept_
    np.testing.assert_allclose(by_hand, logits, atol=1e-5)


def test_two_classes_have_one_decision(make):
    labels = np.where(LABELS == "odd", "odd", "even")
    clf = make().fit(TEXTS, labels)
    decision, proba = clf.decision_function(TEXTS), clf.predict_proba(TEXTS)
    assert decision.shape == (len(TEXTS),)
    np.testing.assert_allclose(1 / (1 + np.exp(-decision)), proba[:, 1], rtol=1e-6)
    assert np.array_equal(clf.predict(TEXTS) == "odd", decision > 0)


@pytest.mark.parametrize("dump", [pickle.dumps, joblib.dump])
def test_pickle_predicts_the_same_without_weights_or_vectors(fitted, dump, tmp_path):
    expected = fitted.predict_proba(TEXTS)
    if dump is pickle.dumps:
        content = pickle.dumps(fitted)
        loaded = pickle.loads(content)
    else:
        joblib.dump(fitted, tmp_path / "clf.joblib")
        content = (tmp_path / "clf.joblib").read_bytes()
        loaded = joblib.load(tmp_path / "clf.joblib")
    assert np.array_equal(loaded.predict_proba(TEXTS), expected)
    learned = 2 * fitted.concept_operators_.nbytes + fitted.coef_.nbytes
    assert len(content) < learned + 60_000  # the rest: the history, and skorch's settings
    more = pickle.dumps(clone(fitted).set_params(max_epochs=3).fit(TEXTS * 20, list(LABELS) * 20))
    assert len(more) < learned + 60_000


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(LABELS.tolist(), id="list of str"),
        pytest.param(LABELS.astype(object), id="objects"),
        pytest.param(LABELS.astype(np.dtypes.StringDType()), id="StringDType"),
        pytest.param(np.searchsorted(["bad", "good", "odd"], LABELS) * 7 + 3, id="int 3, 10, 17"),
        pytest.param(LABELS == "odd", id="bool"),
        pytest.param((LABELS == "odd").astype(object), id="objects of bool"),
    ],
)
def test_labels_of_every_kind(make, labels):
    clf = make().fit(TEXTS, labels)
    expected = np.unique(np.array(list(labels)))
    assert np.array_equal(clf.classes_, expected)
    assert clf.classes_.dtype.kind in {"U", "O", "i", "b"}
    predicted = clf.predict(TEXTS)
    assert np.mean(predicted == np.array(list(labels))) > 0.9


def test_several_labels_a_text(make):
    matrix = np.column_stack([LABELS == "good", LABELS != "odd", np.zeros(len(LABELS))]).astype(int)
    clf = make().fit(TEXTS, matrix)
    assert np.array_equal(clf.classes_, [0, 1, 2])
    proba = clf.predict_proba(TEXTS)
    assert proba.shape == clf.decision_function(TEXTS).shape == matrix.shape
    assert ((proba > 0) & (proba < 1)).all()
    assert np.array_equal(clf.predict(TEXTS), (proba > 0.5).astype(int))
    assert np.mean(clf.predict(TEXTS) == matrix) > 0.95


def test_weight_zero_is_a_row_removed(make):
    weight = (LABELS != "odd").astype(float)
    weighted = make().fit(TEXTS, LABELS, sample_weight=weight)
    removed = make().fit([t for t, w in zip(TEXTS, weight, strict=True) if w], LABELS[weight > 0])
    assert np.array_equal(weighted.classes_, ["bad", "good"])
    assert np.array_equal(weighted.decision_function(TEXTS), removed.decision_function(TEXTS))


@pytest.mark.parametrize("losses", [{}, {"inter_space_weight": 0.3, "intra_space_weight": 0.01}])
def test_weight_two_is_a_row_twice(make, losses):
    """In one batch, exactly but for rounding: the terms of all losses, the scale of the tokens and the start of b."""
    weight = 1.0 + (np.arange(len(TEXTS)) % 3 == 0)
    twice = np.repeat(np.arange(len(TEXTS)), weight.astype(int))
    weighted = make(**losses).set_params(max_epochs=5).fit(TEXTS, LABELS, sample_weight=weight)
    repeated = make(**losses).set_params(max_epochs=5).fit([TEXTS[i] for i in twice], LABELS[twice])
    np.testing.assert_allclose(weighted.decision_function(TEXTS), repeated.decision_function(TEXTS), atol=2e-3)
    without = make(**losses).set_params(max_epochs=5).fit(TEXTS, LABELS)
    assert np.abs(without.decision_function(TEXTS) - weighted.decision_function(TEXTS)).max() > 1e-2


def test_class_weight(make):
    plain = make().set_params(max_epochs=3).fit(TEXTS, LABELS)
    heavy = make(class_weight={"bad": 50.0, "good": 1.0, "odd": 1.0}).set_params(max_epochs=3).fit(TEXTS, LABELS)
    assert (heavy.predict(TEXTS) == "bad").sum() > (plain.predict(TEXTS) == "bad").sum()
    skewed = [i for i, label in enumerate(LABELS) if label != "bad" or i < 8]
    X, y = [TEXTS[i] for i in skewed], LABELS[skewed]
    counts = {label: (y == label).sum() for label in np.unique(y)}
    by_hand = make(class_weight={label: len(y) / (3 * n) for label, n in counts.items()}).fit(X, y)
    balanced = make(class_weight="balanced").fit(X, y)
    np.testing.assert_allclose(balanced.decision_function(X), by_hand.decision_function(X), atol=1e-6)


def test_order_of_duplicates_and_blank_texts(make):
    clf = make().fit(["", "  ", "good", "bad"], ["a", "a", "b", "b"])
    assert clf.predict(["", " ", "\n"]).shape == (3,)


# ---------------------------------------------------------------- the official suite over the text path


class NumbersAsText(ClassifierMixin, BaseEstimator):
    """A facade that writes rows of numbers as words, so that scikit-learn's suite reaches the text path."""

    def __init__(self, folder=None, random_state=None):
        self.folder = folder
        self.random_state = random_state

    def _texts(self, X):
        return [" ".join("abcdefghijklmnopqrst"[min(19, max(0, int(10 + 3 * x)))] for x in row[:8]) for row in X]

    def fit(self, X, y, sample_weight=None):
        X = validate_data(self, X)
        clf = SpaceClassifier(TokenEncoder(self.folder), n_members=1, n_latent=4, max_epochs=30)
        clf.set_params(random_state=self.random_state)
        self.clf_ = clf.fit(self._texts(X), y, sample_weight)
        self.classes_, self.n_iter_ = self.clf_.classes_, self.clf_.n_iter_
        return self

    def _call(self, method, X):
        check_is_fitted(self)
        return getattr(self.clf_, method)(self._texts(validate_data(self, X, reset=False)))

    def predict(self, X):
        return self._call("predict", X)

    def predict_proba(self, X):
        return self._call("predict_proba", X)

    def decision_function(self, X):
        return self._call("decision_function", X)


# What a handful of letters from a random encoder cannot show: accuracy, and sums to 1e-7 in float32.
NOT_FOR_TEXTS = {
    "check_classifiers_train",
    "check_sample_weight_equivalence_on_dense_data",
    "check_class_weight_classifiers",
}


@pytest.mark.filterwarnings("default")
def test_official_suite_over_the_text_path(tiny_bert):
    ran = 0
    for estimator, check in estimator_checks_generator(NumbersAsText(tiny_bert), legacy=True):
        if check.func.__name__ not in NOT_FOR_TEXTS:
            try:
                check(estimator)
            except unittest.SkipTest:
                continue
            except Exception as error:
                raise AssertionError(f"{check.func.__name__} failed over texts") from error
            ran += 1
    assert ran >= 50
