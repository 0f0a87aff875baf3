"""Whatever texts, labels, weights and parameters come: a clear error, or finite results that agree with one another."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace.inspection import token_contributions

# A fit takes milliseconds to tenths of a second; the database of failures would be written beside the tests.
common = settings(
    max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
texts = st.text(st.characters(codec=None), max_size=40)  # lone surrogates, control characters, emoji, any script
labels = st.one_of(
    st.lists(st.sampled_from(["a", "b", "", "ä\n"]), min_size=2, max_size=8),
    st.lists(st.integers(-3, 3), min_size=2, max_size=8),
    st.lists(st.booleans(), min_size=2, max_size=8),
)
parameters = st.fixed_dictionaries(
    {},
    optional={
        "n_latent": st.sampled_from(["auto", 1, 3]),
        "n_members": st.integers(1, 3),
        "pooling": st.sampled_from(["attention", "mean"]),
        "head": st.sampled_from(["linear", "alignment"]),
        "inter_space_weight": st.sampled_from([0, 0.1, 10.0]),
        "inter_space_on": st.sampled_from(["tokens", "centroids"]),
        "intra_space_weight": st.sampled_from([0, 0.01, 10.0]),
        "class_weight": st.sampled_from([None, "balanced"]),
        "lr": st.sampled_from([1e-4, 0.02]),
        "lr_schedule": st.sampled_from(["one_cycle", "constant"]),
        "batch_size": st.sampled_from([1, 3, 256]),
        "weight_decay": st.sampled_from([0.0, 0.5]),
    },
)


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    return TokenEncoder(tiny_bert, layer=1, max_length=64, cache_dir=None)


def repeated(values, n):
    return [values[i % len(values)] for i in range(n)]


def check_results(clf, X, n):
    """Finite, of the right shape, in agreement."""
    probability, decision = clf.predict_proba(X), clf.decision_function(X)
    assert np.isfinite(probability).all()
    assert np.isfinite(decision).all()
    assert np.isfinite(clf.transform(X)).all()
    np.testing.assert_allclose(probability.sum(1), np.ones(n))
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[probability.argmax(1)])
    if len(clf.classes_) == 2:
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[(decision > 0).astype(int)])


@common
@given(st.lists(texts, min_size=2, max_size=6), labels, parameters)
@example(["", " ", "\x00", "\ud800"], ["a", "b"], {})
def test_any_texts_and_labels(encoder, X, y, params):
    X = repeated(X, max(len(X), len(y)))
    y = repeated(y, len(X))
    clf = SpaceClassifier(encoder, max_epochs=2, random_state=0, **params)
    if len(set(y)) < 2:
        with pytest.raises(ValueError, match="at least two classes"):
            clf.fit(X, y)
        return
    with np.errstate(all="raise"):
        clf.fit(X, y)
    assert clf.classes_.tolist() == sorted(set(y))
    check_results(clf, X, len(X))


@common
@given(st.lists(texts, min_size=1, max_size=5))
def test_contributions_of_any_texts_sum_to_the_logits(encoder, X):
    clf = SpaceClassifier(encoder, max_epochs=2, random_state=0).fit(["good thing", "bad thing", "odd"], [0, 1, 2])
    for explanation, text in zip(token_contributions(clf, X), X, strict=True):
        np.testing.assert_allclose(explanation.contributions.sum(0) + explanation.bias, explanation.logits, atol=1e-5)
        assert all(0 <= begin <= end <= len(text) for begin, end in explanation.spans)


@common
@given(
    st.lists(st.integers(0, 4), min_size=3, max_size=8),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.floats(1e-3, 1e3),
    parameters,
    st.data(),
)
def test_any_vectors_and_weights(lengths, dtype, size, params, data):
    rng = np.random.default_rng(len(lengths))
    X = RaggedArray.from_rows([(size * rng.standard_normal((n, 5))).astype(dtype) for n in lengths], n_features=5)
    y = np.arange(len(lengths)) % 2
    weight = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))
    weights = np.array(data.draw(st.lists(weight, min_size=len(lengths), max_size=len(lengths))))
    clf = SpaceClassifier("precomputed", max_epochs=2, random_state=0, **params)
    if len(set(y[weights > 0])) < 2:
        with pytest.raises(ValueError, match=r"at least two classes|at least one|positive weight|Sample weights must"):
            clf.fit(X, y, sample_weight=weights)
        return
    clf.fit(X, y, sample_weight=weights)
    check_results(clf, X, len(X))


@common
@given(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=2, max_size=6), parameters)
def test_any_indicator_matrix(encoder, y, params):
    params.pop("class_weight", None)
    X = [f"text number {i}" for i in range(len(y))]
    clf = SpaceClassifier(encoder, max_epochs=2, random_state=0, **params).fit(X, np.array(y))
    probability = clf.predict_proba(X)
    assert np.isfinite(probability).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_array_equal(clf.predict(X), probability > 0.5)


@common
@given(
    st.one_of(
        st.none(), st.integers(), st.floats(), st.binary(), st.lists(st.text()), st.dictionaries(st.text(), st.text())
    )
)
def test_what_is_no_text_is_refused_by_row(encoder, thing):
    assume(thing not in ([], {}))
    clf = SpaceClassifier(encoder)
    with pytest.raises((TypeError, ValueError), match=r"in row 1 instead|must have one column"):
        clf.fit(["a text", thing, "another"], ["a", "b", "a"])
