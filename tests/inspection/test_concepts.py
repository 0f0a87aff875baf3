"""Words behind concepts, spaces beside each other, the bias view, and nearest texts."""

import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace.inspection import (
    SpaceGeometry,
    concept_tokens,
    group_errors,
    left_out,
    neighbors,
    polarization,
    removal_order,
    space_geometry,
    token_contributions,
)

TEXTS = [
    "the parcel is late",
    "my account was charged twice",
    "The parcel was late, the parcel!",
    "short text",
    "",
    "my parcel is late and my account was charged",
    "charged twice, twice refunded",  # its last word is of many pieces
    "short",
]
LABELS = ["delivery", "billing", "delivery", "other", "other", "delivery", "billing", "other"]


@pytest.fixture(scope="module", autouse=True)
def _quick(one_thread):
    """Tiny models."""


@pytest.fixture(scope="module")
def clf(tiny_bert):
    return fit(tiny_bert)


def fit(folder, labels=LABELS, **params):
    params = {"max_epochs": 20, "n_latent": 3, "n_members": 2, "random_state": 0} | params
    return SpaceClassifier(TokenEncoder(folder), **params).fit(TEXTS, labels)


def by_hand(clf, texts):
    """Word by word: text, word, activation (mean of pieces) and share in the centroid (M, K, m), contribution (K,)."""
    operators = clf.operators_
    found = []
    for text, one in zip(texts, token_contributions(clf, texts), strict=True):
        tokens = clf.encoder_.transform([text])[0].astype(np.float64)  # (T, d)
        W, a = operators.operators.double().numpy(), operators.queries.double().numpy()  # (M, K, d, m)
        concepts = np.tanh(np.einsum("td,mkdj->tmkj", tokens, W))
        alpha = softmax(np.einsum("td,mkdj->tmkj", tokens, a), axis=0)
        words = one.words()
        for word, (begin, end), values in zip(words.tokens, words.spans, words.contributions, strict=True):
            if begin < end:
                pieces = [i for i, (b, e) in enumerate(one.spans) if begin <= b < e <= end]
                shares = (alpha * concepts)[pieces].sum(0)
                found.append((text, word.casefold(), (concepts[pieces].mean(0), shares), values))
    return found


@pytest.mark.parametrize(
    "look",
    [
        token_contributions,
        left_out,
        removal_order,
        partial(concept_tokens, min_count=1),
        space_geometry,
        partial(neighbors, reference_texts=TEXTS),
        partial(polarization, label="billing", other="delivery", min_count=1),
        partial(group_errors, y=LABELS, groups={}, positive="billing"),
    ],
)
def test_nothing_is_encoded_that_is_in_the_cache(clf, look, monkeypatch):
    clf.predict(TEXTS)
    monkeypatch.setattr(FrozenTransformer, "forward", lambda self, batch: pytest.fail("encoded again"))
    look(clf, TEXTS)


# ---------------------------------------------------------------- concept tokens


def test_values_are_means_over_occurrences(clf):
    concepts = concept_tokens(clf, TEXTS, top=99, min_count=1)
    found = by_hand(clf, TEXTS)
    for k, label in enumerate(clf.classes_):
        listed = concepts.summary(label) + concepts.summary(label, end="-")
        assert len({word.word for word in listed}) == len(listed) == len({word for _, word, _, _ in found})
        for entry in listed:
            own = [values[k] for _, word, _, values in found if word == entry.word]
            assert entry.count == len(own)
            np.testing.assert_allclose(entry.value, np.mean(own), atol=1e-5)
        for member, axis in np.ndindex(2, 3):
            for entry in concepts.axis(label, axis, member=member) + concepts.axis(label, axis, member=member, end="-"):
                own = [[part[member, k, axis] for part in parts] for _, word, parts, _ in found if word == entry.word]
                np.testing.assert_allclose([entry.activation, entry.value], np.mean(own, axis=0), atol=1e-5)


def test_examples_are_the_farthest_occurrences(clf):
    concepts = concept_tokens(clf, TEXTS, min_count=2)
    found = by_hand(clf, TEXTS)
    k = list(clf.classes_).index("delivery")
    for end, pick in (("+", max), ("-", min)):
        for entry in concepts.summary("delivery", end=end):
            text, *_ = pick((one for one in found if one[1] == entry.word), key=lambda one: one[3][k])
            assert entry.example.replace("«", "").replace("»", "") == text
            assert entry.example[entry.example.index("«") + 1 : entry.example.index("»")].casefold() == entry.word


def test_lists_are_sorted_cut_and_of_one_sign(clf):
    concepts = concept_tokens(clf, TEXTS, top=2, min_count=1)
    for end, sign in (("+", 1), ("-", -1)):
        values = [sign * word.value for word in concepts.summary("billing", end=end)]
        assert values == sorted(values, reverse=True)
        assert len(values) == 2
        assert min(values) > 0
    assert all(word.count >= 3 for word in concept_tokens(clf, TEXTS, min_count=3).summary("delivery"))
    assert repr(concepts) == "<ConceptTokens: 3 classes, 2 members, 3 axes each; from 8 texts>"


def test_weights_are_of_the_own_space(clf):
    weights = concept_tokens(clf, TEXTS).weights
    for member, k, axis in np.ndindex(weights.shape):
        assert weights[member, k, axis] == pytest.approx(clf.coef_[member, k, 3 * k + axis])
    assert (weights >= 0).all()


def test_frame(clf):
    frame = concept_tokens(clf, TEXTS, top=2, min_count=1).to_frame()
    own = frame[(frame["class"] == "billing") & (frame.member == 1) & (frame.axis == 2) & (frame.end == "-")]
    expected = concept_tokens(clf, TEXTS, top=2, min_count=1).axis("billing", 2, member=1, end="-")
    assert own.word.tolist() == [word.word for word in expected]
    assert own["rank"].tolist() == list(range(len(expected)))
    assert {"weight", "count", "value", "example"} < set(frame.columns)
    summary = frame[(frame["class"] == "billing") & (frame.axis == -1) & (frame.member == -1) & (frame.end == "+")]
    assert summary.word.tolist() == [
        word.word for word in concept_tokens(clf, TEXTS, top=2, min_count=1).summary("billing")
    ]


def test_batches_do_not_matter(clf, monkeypatch):
    expected = concept_tokens(clf, TEXTS, min_count=1).to_frame()
    monkeypatch.setattr("skspace._model.forward._PREDICT_TOKENS", 6)
    pd.testing.assert_frame_equal(concept_tokens(clf, TEXTS, min_count=1).to_frame(), expected)


def test_long_contexts_are_cut(clf):
    (example,) = {word.example for word in concept_tokens(clf, ["parcel " * 20], min_count=1).summary("delivery")} | {
        word.example for word in concept_tokens(clf, ["parcel " * 20], min_count=1).summary("delivery", end="-")
    }
    assert example.count("«") == 1
    assert len(example) < 100
    assert "…" in example


def test_wrong_arguments_of_concept_tokens(clf):
    with pytest.raises(ValueError, match=r"top must be an int of at least 1. Got 0 instead"):
        concept_tokens(clf, TEXTS, top=0)
    with pytest.raises(ValueError, match=r"min_count must be an int of at least 1. Got 0 instead"):
        concept_tokens(clf, TEXTS, min_count=0)
    with pytest.raises(
        ValueError, match=r"No word occurs min_count=50 times in the 8 texts. Give more texts, or lower"
    ):
        concept_tokens(clf, TEXTS, min_count=50)
    concepts = concept_tokens(clf, TEXTS)
    with pytest.raises(ValueError, match=r"The 'axis' parameter must be an int from 0 to 2. Got 3 instead"):
        concepts.axis("billing", 3)
    with pytest.raises(ValueError, match=r"The 'member' parameter must be an int from 0 to 1. Got -1 instead"):
        concepts.axis("billing", 0, member=-1)
    with pytest.raises(ValueError, match=r"The 'end' parameter must be '\+' or '-'. Got array"):
        concepts.axis("billing", end=np.array(["+"]))
    with pytest.raises(ValueError, match=r"The 'end' parameter must be '\+' or '-'. Got 'up' instead"):
        concepts.summary("billing", end="up")
    with pytest.raises(
        ValueError, match=r"There is no class 'refund'. The 'label' parameter must be one of \['billing"
    ):
        concepts.axis("refund")


def test_one_axis_one_member_two_classes_several_labels_and_the_mean(tiny_bert):
    for labels, params in (
        (LABELS, {"n_latent": 1, "n_members": 1}),
        ([0, 1, 0, 1, 0, 1, 0, 1], {"pooling": "mean", "head": "alignment"}),
        (np.eye(8, 3, dtype=int), {}),
    ):
        clf = fit(tiny_bert, labels, **params)
        concepts = concept_tokens(clf, TEXTS, min_count=1)
        assert concepts.axis(clf.classes_[0], 0) + concepts.axis(clf.classes_[0], 0, end="-")
        assert space_geometry(clf, TEXTS).distances.shape == (len(clf.classes_),) * 2


# ---------------------------------------------------------------- geometry


def test_geometry_against_its_definitions(clf):
    geometry = space_geometry(clf, TEXTS)
    assert repr(geometry) == f"<SpaceGeometry: 3 spaces, effective ranks around {geometry.effective_ranks.mean():.1f}>"
    tokens = clf.encoder_.transform(TEXTS).values.astype(np.float64)
    concepts = np.tanh(np.einsum("td,mkdj->mktj", tokens, clf.concept_operators_.astype(np.float64)))
    concepts -= concepts.mean(2, keepdims=True)

    def alignment(X, Y):
        norm = np.linalg.norm
        return norm(X.T @ Y) ** 2 / (norm(X.T @ X) * norm(Y.T @ Y))

    for k, other in np.ndindex(3, 3):
        expected = np.mean([1 - alignment(member[k], member[other]) for member in concepts])
        assert geometry.distances[k, other] == pytest.approx(expected, abs=1e-6)
    for k in range(3):
        shares = [PCA().fit(member[k]).singular_values_ for member in concepts]
        shares = [values / values.sum() for values in shares]
        expected = np.mean([np.exp(-(p * np.log(p)).sum()) for p in shares])
        assert geometry.effective_ranks[k] == pytest.approx(expected, rel=1e-4)
    assert (geometry.effective_ranks >= 1).all()
    assert (geometry.effective_ranks <= 3).all()
    frame = geometry.to_frame()
    assert frame.loc["billing", "other"] == geometry.distances[0, 2]
    assert frame["effective rank"].tolist() == geometry.effective_ranks.tolist()
    odd = SpaceGeometry(np.array(["effective rank", "b"]), np.eye(2), np.ones(2)).to_frame()
    assert odd.columns.tolist() == ["effective rank", "effective rank", "b"]


def test_geometry_where_nothing_varies(clf):
    one_token = clf.encoder_.get_params() | {"special_tokens": "drop"}
    bare = SpaceClassifier(TokenEncoder(**one_token), n_latent=2, max_epochs=1).fit(["short", "late"], [0, 1])
    geometry = space_geometry(bare, ["short"])
    assert geometry.distances.tolist() == [[0, 1], [1, 0]]
    assert geometry.effective_ranks.tolist() == [0, 0]


# ---------------------------------------------------------------- the bias view


def test_polarization(clf):
    pulls = polarization(clf, TEXTS, "delivery", "billing", min_count=1)
    found = by_hand(clf, TEXTS)
    one, two = (list(clf.classes_).index(label) for label in ("delivery", "billing"))
    assert pulls.contributions.tolist() == sorted(pulls.contributions, reverse=True)
    for word, count, pull, alignment in zip(
        pulls.words, pulls.counts, pulls.contributions, pulls.alignments, strict=True
    ):
        own = [(activations, values) for _, other, (activations, _), values in found if other == word]
        assert count == len(own)
        np.testing.assert_allclose(pull, np.mean([v[one] - v[two] for _, v in own]), atol=1e-5)
        spaces = [c.mean((0, 2)) for c, _ in own]
        np.testing.assert_allclose(alignment, np.mean([s[one] - s[two] for s in spaces]) / 2, atol=1e-5)
    back = polarization(clf, TEXTS, "billing", "delivery", min_count=1)
    assert dict(zip(back.words, back.contributions, strict=True)) == pytest.approx(
        {word: -value for word, value in zip(pulls.words, pulls.contributions, strict=True)}
    )
    assert repr(pulls) == f"<Polarization: {len(pulls.words)} words between 'delivery' and 'billing'>"
    frame = pulls.to_frame()
    assert frame.columns.tolist() == ["word", "count", "contribution", "alignment", "example"]
    with pytest.raises(ValueError, match=r"label and other must be two different classes. Got 'billing' twice"):
        polarization(clf, TEXTS, "billing", "billing")
    with pytest.raises(ValueError, match=r"There is no class 'x'. The 'other' parameter must be one of"):
        polarization(clf, TEXTS, "billing", "x")


def test_group_errors(clf):
    y = ["billing", "billing", "delivery", "other", "other", "other", "delivery", "other"]
    parcel = np.array(["parcel" in text for text in TEXTS])
    groups = {"parcel": parcel, "none": [False] * 8, "found": [i == 2 for i in range(8)]}
    rows = group_errors(clf, TEXTS, y, groups, positive=["delivery"])
    predicted = clf.predict(TEXTS)
    assert predicted.tolist() == LABELS  # what follows rests on it
    assert [row.group for row in rows] == ["(all)", "parcel", "none", "found"]
    every, own, none, found = rows
    assert (found.n_positive, found.false_negative_rate, found.false_negative_interval[0]) == (1, 0, 0)
    assert (every.n_texts, every.n_negative, every.n_positive) == (8, 6, 2)
    assert every.false_positive_rate == pytest.approx(2 / 6)
    assert every.false_negative_rate == pytest.approx(1 / 2)
    assert (own.n_negative, own.false_positive_rate) == (2, 1.0)
    low, high = own.false_positive_interval
    assert low == pytest.approx(0.342, abs=1e-3)  # Wilson, 2 of 2
    assert high == pytest.approx(1)
    assert np.isnan(none.false_positive_rate)
    assert none.false_positive_interval == (0.0, 1.0)
    assert none.drivers == []
    total = {}
    for i, true in ((0, "billing"), (5, "other")):
        words = token_contributions(clf, [TEXTS[i]])[0].words()
        classes = list(clf.classes_)
        for word, span, values in zip(words.tokens, words.spans, words.contributions, strict=True):
            if span != (0, 0):
                beyond = values[classes.index("delivery")] - values[classes.index(true)]
                total[word] = total.get(word, 0) + beyond / 2
    best = sorted(total.items(), key=lambda pair: -pair[1])[:5]
    assert own.drivers == [(word, pytest.approx(value)) for word, value in best if value > 0]


def test_groups_as_a_frame_and_a_single_alarm(clf):
    frame = pd.DataFrame({"a": [1, 0] * 4, "b": [True] * 8})
    rows = group_errors(clf, pd.Series(TEXTS), pd.Series(LABELS), frame, positive="billing")
    assert [row.group for row in rows] == ["(all)", "a", "b"]
    assert rows[0][1:] == rows[2][1:]
    same = group_errors(
        clf, TEXTS, LABELS, {"(all)": pd.array([1] * 8, dtype="boolean")}, positive=pd.Series(["billing"])
    )
    assert [row.group for row in same] == ["(all)", "(all)"]
    assert group_errors(clf, TEXTS, LABELS, {}, positive=np.str_("billing"))[0] == rows[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": LABELS[:3]}, ValueError, "y must have a label for each of the 8 texts. Got 3 instead"),
        ({"y": ["x"] * 8}, ValueError, "There is no class 'x'. The 'y' parameter must be one of"),
        ({"groups": [True] * 8}, TypeError, "groups must be a mapping from names to arrays of bool.* Got list instead"),
        ({"groups": {"g": [True]}}, ValueError, r"groups\['g'\] must be True or False for each of the 8 texts"),
        ({"groups": {"g": [2] * 8}}, ValueError, r"groups\['g'\] must be True or False"),
        ({"groups": {"g": ["no"] * 8}}, ValueError, r"groups\['g'\] must be True or False"),
        ({"groups": {"g": pd.array([True, None] * 4)}}, ValueError, r"groups\['g'\] must be True or False"),
        ({"y": None}, ValueError, "y must be a list, array or Series of labels. Got None instead"),
        ({"y": "billings"}, ValueError, "y must be a list, array or Series of labels. Got 'billings' instead"),
        ({"top": -1}, ValueError, "top must be an int of at least 1. Got -1 instead"),
        ({"positive": []}, ValueError, r"positive must name some but not all of the classes .*. Got \[\]"),
        ({"positive": ["billing", "delivery", "other"]}, ValueError, "some but not all"),
        ({"positive": "x"}, ValueError, "There is no class 'x'. The 'positive' parameter must be one of"),
    ],
)
def test_wrong_arguments_of_group_errors(clf, change, error, message):
    given = {"y": LABELS, "groups": {"g": [True] * 8}, "positive": "billing"} | change
    with pytest.raises(error, match=message):
        group_errors(clf, TEXTS, **given)


def test_group_errors_are_for_one_label_a_text(tiny_bert):
    clf = fit(tiny_bert, np.eye(8, 3, dtype=int))
    with pytest.raises(
        ValueError, match=r"group_errors needs a classifier with one label per text. Got one with several"
    ):
        group_errors(clf, TEXTS, LABELS, {}, positive=[0])


# ---------------------------------------------------------------- nearest texts


def test_neighbors(clf):
    near = neighbors(clf, ["short text", "the parcel is late"], TEXTS, LABELS, n_neighbors=3)
    assert [one.indices[0] for one in near] == [3, 0]
    distances = np.linalg.norm(clf.transform(["short text"]) - clf.transform(TEXTS), axis=1)
    np.testing.assert_allclose(near[0].distances, np.sort(distances)[:3], atol=1e-4)
    assert near[0].labels == [LABELS[i] for i in near[0].indices]
    assert near[0].texts == [TEXTS[i] for i in near[0].indices]
    assert near[0].predicted == clf.predict(["short text"])[0]
    assert near[0].to_frame().columns.tolist() == ["index", "distance", "text", "label"]
    few = neighbors(clf, ["short text"], TEXTS[:2], n_neighbors=5)[0]
    assert (len(few.indices), few.labels) == (2, None)
    assert few.to_frame().columns.tolist() == ["index", "distance", "text"]


def test_neighbors_with_several_labels(tiny_bert):
    y = np.eye(8, 3, dtype=int)
    clf = fit(tiny_bert, y)
    near = neighbors(clf, TEXTS, TEXTS, y, n_neighbors=1)
    assert near[1].labels == [[1]]
    with pytest.raises(ValueError, match=r"y must be a matrix of zeros and ones of shape \(8, 3\).*Got shape \(8,\)"):
        neighbors(clf, TEXTS, TEXTS, y[:, 0])
    assert [one.predicted for one in near] == [np.flatnonzero(row).tolist() for row in clf.predict(TEXTS)]


def test_wrong_arguments_of_neighbors(clf):
    with pytest.raises(ValueError, match=r"y must have a label for each of the 8 reference_texts. Got 2 instead"):
        neighbors(clf, TEXTS, TEXTS, [1, 2])
    with pytest.raises(ValueError, match=r"n_neighbors must be an int of at least 1. Got 0 instead"):
        neighbors(clf, TEXTS, TEXTS, n_neighbors=0)
    with pytest.raises(TypeError, match=r"Got int \(3\) in row 0 instead"):
        neighbors(clf, TEXTS, [3])


# ---------------------------------------------------------------- whom it may be asked of


CALLS = [
    lambda clf: concept_tokens(clf, TEXTS),
    lambda clf: space_geometry(clf, TEXTS),
    lambda clf: polarization(clf, TEXTS, "billing", "other"),
    lambda clf: group_errors(clf, TEXTS, LABELS, {}, positive="billing"),
    lambda clf: neighbors(clf, TEXTS, TEXTS),
]


@pytest.mark.parametrize("call", CALLS)
def test_no_other_estimator(call, tiny_bert):
    with pytest.raises(TypeError, match=r"clf must be a SpaceClassifier. Got LogisticRegression instead"):
        call(LogisticRegression())
    with pytest.raises(NotFittedError, match="not fitted yet"):
        call(SpaceClassifier(tiny_bert))
    vectors = RaggedArray(np.eye(4, dtype=np.float32), [0, 2, 4])
    with pytest.raises(TypeError, match="clf must be fitted on texts"):
        call(SpaceClassifier("precomputed", max_epochs=1).fit(vectors, [0, 1]))


def test_frames_without_pandas(clf, monkeypatch):
    found = [
        concept_tokens(clf, TEXTS, min_count=1),
        space_geometry(clf, TEXTS),
        polarization(clf, TEXTS, *clf.classes_[:2], min_count=1),
        neighbors(clf, TEXTS[:1], TEXTS)[0],
        token_contributions(clf, TEXTS[:1])[0],
        *left_out(clf, TEXTS[:1]),
        *removal_order(clf, TEXTS[:1]),
    ]
    monkeypatch.setitem(sys.modules, "pandas", None)
    for one in found:
        with pytest.raises(ImportError, match=r"to_frame needs pandas, which is not installed.* pip install pandas"):
            one.to_frame()
