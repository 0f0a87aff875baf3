"""Weights of texts and classes: 0 is a text removed and 2 a text twice, in all losses and in what is held out.

In float64 and in one batch, so that this can be shown exactly, but for rounding.
"""

import numpy as np
import pytest

from skspace import RaggedArray, SpaceClassifier

N = 90
RNG = np.random.default_rng(0)
CLASS = np.arange(N) % 3
Y = np.array(["bad", "good", "odd"])[CLASS]
MATRIX = np.column_stack([CLASS == 0, CLASS != 1, np.zeros(N, bool), RNG.random(N) < 0.1]).astype(int)
ROWS = [RNG.normal(size=(RNG.integers(0, 7), 6)) + 2 * np.eye(6)[CLASS[i]] for i in range(N)]
X = RaggedArray.from_rows(ROWS)
WEIGHT = np.array([0, 1, 2, 5])[RNG.integers(0, 4, size=N)]
TIMES = np.repeat(np.arange(N), WEIGHT)
LOSSES = {"inter_space_weight": 0.3, "intra_space_weight": 0.01}
SETTINGS = {
    "cross-entropy": {},
    "all losses": LOSSES,
    "inter on centroids": {"inter_space_weight": 0.3, "inter_space_on": "centroids"},
    "alignment head": {"head": "alignment", "pooling": "mean"} | LOSSES,
    "class weights": {"class_weight": "balanced"} | LOSSES,
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "n_iter_no_change": 3} | LOSSES,
    "both": {"early_stopping": True, "class_weight": "balanced", "lr_schedule": "constant", "lr": 0.1},
}


def make(**params):
    defaults = {"max_epochs": 15, "n_members": 2, "n_latent": 3, "random_state": 0, "batch_size": 10_000}
    return SpaceClassifier("precomputed", **(defaults | params))


def losses(clf):
    return [[value for name, value in row.items() if name != "dur"] for row in clf.history_]


@pytest.mark.parametrize("y", [Y, MATRIX], ids=["one label", "several labels"])
@pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS)
def test_a_weight_is_so_many_texts(params, y):
    weighted = make(**params).fit(X, y, sample_weight=WEIGHT)
    repeated = make(**params).fit(X[TIMES], y[TIMES])
    np.testing.assert_allclose(losses(weighted), losses(repeated), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-8)
    np.testing.assert_allclose(weighted.concept_operators_, repeated.concept_operators_, atol=1e-8)
    without = make(**params).fit(X, y)
    assert np.abs(without.decision_function(X) - weighted.decision_function(X)).max() > 1e-2


def test_a_rare_class_among_heavy_texts():
    """The start of b does not go by the number of rows, of which a weight of 1000 is one."""
    y = np.where(np.arange(N) == 3, "rare", "often")
    weight = np.where(y == "rare", 1, 30)
    times = np.repeat(np.arange(N), weight)
    weighted, repeated = make(max_epochs=3).fit(X, y, weight), make(max_epochs=3).fit(X[times], y[times])
    np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), atol=1e-8)


def test_weight_zero_is_a_text_removed_to_the_last_bit():
    rows = np.flatnonzero(WEIGHT)
    for params in SETTINGS.values():
        weighted = make(batch_size=16, **params).fit(X, Y, (WEIGHT > 0).astype(float))
        removed = make(batch_size=16, **params).fit(X[rows], Y[rows])
        assert np.array_equal(weighted.decision_function(X), removed.decision_function(X))


def test_weights_count_by_proportion_only():
    one, other = make(**LOSSES).fit(X, Y, 1 + WEIGHT), make(**LOSSES).fit(X, Y, 1e3 * (1 + WEIGHT))
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X), atol=1e-8)


def test_copies_of_a_text_stay_on_one_side_with_their_weights(monkeypatch):
    seen = {}

    def spy(training_set, *args, **kwargs):
        seen["training"], seen["validation"] = training_set.train, training_set.validation
        raise KeyboardInterrupt

    monkeypatch.setattr("skspace._classifier.train", spy)
    with pytest.raises(KeyboardInterrupt):
        make(early_stopping=True, validation_fraction=0.3).fit(X[TIMES], Y[TIMES], 1 + WEIGHT[TIMES])
    sides = [{row.tobytes() for row in seen[part].rows} for part in ("training", "validation")]
    assert sides[0] & sides[1] <= {b""}
    for part in seen.values():
        assert part.weights.numpy().mean() == pytest.approx(1)
    assert seen["validation"].weights.unique().numel() > 1


# ---------------------------------------------------------------- class weights


def test_class_weights_are_weights_of_their_texts():
    by_class = {"bad": 3.0, "odd": 0.5}  # good: 1
    weight = np.array([by_class.get(label, 1.0) for label in Y])
    one = make(class_weight=by_class, **LOSSES).fit(X, Y, 1 + WEIGHT)
    other = make(**LOSSES).fit(X, Y, weight * (1 + WEIGHT))
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X), atol=1e-8)


def test_balanced_means_what_it_means_in_scikit_learn():
    from sklearn.utils import compute_class_weight

    y = np.where(np.arange(N) < 10, "rare", Y)
    by_hand = compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=1.0 + WEIGHT)
    one = make(class_weight="balanced").fit(X, y, 1 + WEIGHT)
    other = make(class_weight=dict(zip(np.unique(y), by_hand, strict=True))).fit(X, y, 1 + WEIGHT)
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X), atol=1e-8)


def test_keys_of_class_weight_are_labels_as_they_are():
    digits = np.array(["7", "8", "9"])[CLASS]
    one = make(class_weight={"7": 5.0}).fit(X, digits)
    other = make(class_weight={7: 5.0}).fit(X, digits.astype(int))
    assert np.array_equal(one.decision_function(X), other.decision_function(X))
    assert not np.array_equal(one.decision_function(X), make().fit(X, digits).decision_function(X))
    spare = make(class_weight={"7": 5.0, "8": 1, "9": 1, "in no text": 3}).fit(X, digits)
    assert np.array_equal(one.decision_function(X), spare.decision_function(X))
    with pytest.raises(ValueError, match=r"The classes, \['8', '9'\], are not in class_weight. Got keys \['7', 8\]"):
        make(class_weight={"7": 5.0, 8: 1.0}).fit(X, digits)


def test_class_weight_with_several_labels_is_the_weight_of_having_a_class():
    """Cross-entropy of a column: as if the texts that have the class came that often; other columns are left alone."""
    one_column = MATRIX[:, :2] * [1, 0]  # the second has no text
    times = np.repeat(np.arange(N), np.where(CLASS == 0, 4, 1))
    # Steps do not show it, since Adam scales them: the start of b does, and the loss of a model that does not move.
    still = {"lr": 1e-12, "max_epochs": 1}
    weighted = make(class_weight={0: 4.0}, **still).fit(X, one_column)
    repeated = make(**still).fit(X[times], one_column[times])
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-8)

    logits = make(**still).fit(X, MATRIX).decision_function(X)
    wanted = [2.0, 1.0, 1.0, 0.5]
    clf = make(class_weight=dict(enumerate(wanted)), n_members=1, **still).fit(X, MATRIX, 1 + WEIGHT)
    logits = clf.decision_function(X)
    terms = np.logaddexp(0, -logits) * MATRIX * wanted + np.logaddexp(0, logits) * (1 - MATRIX)
    by_hand = np.average(terms.sum(1), weights=1 + WEIGHT)
    assert clf.history_[0]["train_cross_entropy"] == pytest.approx(by_hand, rel=1e-9)


def test_balanced_with_several_labels():
    having = np.average(MATRIX, axis=0, weights=1 + WEIGHT)
    by_hand = {k: (1 - share) / share if 0 < share < 1 else 1.0 for k, share in enumerate(having)}
    one = make(class_weight="balanced").fit(X, MATRIX, 1 + WEIGHT)
    other = make(class_weight=by_hand).fit(X, MATRIX, 1 + WEIGHT)
    np.testing.assert_allclose(one.decision_function(X), other.decision_function(X), atol=1e-8)
    start = make(class_weight="balanced", lr=1e-12, max_epochs=1).fit(X, MATRIX).intercept_
    np.testing.assert_allclose(start[[0, 1, 3]], 0, atol=1e-8)
    assert start[2] < -5  # nobody has it
    zeros = RaggedArray(np.zeros((N, 6)), np.arange(N + 1))
    rare, plain = (make(class_weight=w, max_epochs=50).fit(zeros, MATRIX) for w in ("balanced", None))
    assert rare.predict_proba(zeros)[0, 3] == pytest.approx(0.5, abs=0.02)
    assert plain.predict_proba(zeros)[0, 3] == pytest.approx(MATRIX[:, 3].mean(), abs=0.02)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({5: 2.0}, r"The classes, \[0, 1, 2, 3\], are not in class_weight. Got keys \[5\]"),
        ({0: -1.0}, "must give finite, non-negative weights"),
        (dict.fromkeys(range(4), 0), "and at least one positive weight"),
    ],
)
def test_class_weights_of_several_labels_that_are_refused(class_weight, message):
    with pytest.raises(ValueError, match=message):
        make(class_weight=class_weight).fit(X, MATRIX)


def test_held_out_texts_must_have_some_weight():
    y = np.where(np.arange(N) < 2, "a", "b")
    weights = {"a": 1.0, "b": 0.0}
    with pytest.raises(ValueError, match="Got texts only of classes that have weight 0 in class_weight"):
        make(early_stopping=True, validation_fraction=0.01, class_weight=weights).fit(X, y)
