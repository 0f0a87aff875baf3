"""token_contributions: the parts add up to the whole, for every kind of model and text."""

import html
import pickle
import re

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

import skspace.inspection
from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace.inspection import token_contributions
from skspace.inspection._html import visible

TEXTS = ["the parcel is late", "my account was charged twice", "", "short", "the parcel the parcel was charged"]
LABELS = ["delivery", "billing", "other", "other", "delivery"]


def fit(folder, labels=LABELS, encoder=None, **params):
    encoder = encoder or {}
    clf = SpaceClassifier(TokenEncoder(folder, **encoder), max_epochs=30, n_latent=3, random_state=0, **params)
    return clf.fit(TEXTS, labels)


def assert_adds_up(clf, texts):
    logits = clf.decision_function(texts)
    if logits.ndim == 1:
        logits = np.column_stack([-logits / 2, logits / 2])  # the two are centred
    explained = token_contributions(clf, texts)
    assert len(explained) == len(texts)
    for one, expected in zip(explained, logits, strict=True):
        assert one.contributions.shape == (len(one.tokens), len(clf.classes_))
        assert len(one.spans) == len(one.tokens)
        np.testing.assert_allclose(one.contributions.sum(0) + one.bias, one.logits, atol=1e-5)
        np.testing.assert_allclose(one.logits, expected, atol=1e-5)
    return explained


@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("head", ["linear", "alignment"])
def test_contributions_add_up_to_the_logits(tiny_bert, pooling, head):
    explained = assert_adds_up(fit(tiny_bert, pooling=pooling, head=head), TEXTS)
    assert explained[0].tokens == ["[CLS]", "the", "parcel", "is", "late", "[SEP]"] or explained[0].tokens[1] == "the"
    begin, end = explained[0].spans[2]
    assert TEXTS[0][begin:end] == explained[0].tokens[2].removeprefix("##")


def test_two_classes_and_several_labels(tiny_bert):
    assert_adds_up(fit(tiny_bert, labels=[0, 1, 1, 1, 0]), TEXTS)
    matrix = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    clf = fit(tiny_bert, labels=matrix)
    assert_adds_up(clf, TEXTS)


def test_truncated_and_empty_texts(tiny_bert):
    with pytest.warns(UserWarning, match="were truncated"):
        clf = fit(tiny_bert, encoder={"max_length": 5, "special_tokens": "drop"})
    with pytest.warns(UserWarning, match="were truncated"):
        explained = assert_adds_up(clf, TEXTS)
    assert [len(one.tokens) for one in explained][:3] == [3, 3, 0]
    np.testing.assert_allclose(explained[2].logits, clf.intercept_, atol=1e-6)


def test_many_batches_keep_their_order(tiny_bert, monkeypatch):
    clf = fit(tiny_bert)
    expected = token_contributions(clf, TEXTS)
    monkeypatch.setattr("skspace._model.forward._PREDICT_TOKENS", 7)
    for one, other in zip(token_contributions(clf, TEXTS), expected, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(one.contributions, other.contributions, rtol=1e-12)


ODD = [
    *(
        " ",
        "\n\t ",
        "👨\u200d👩\u200d👧 the 👍🏽",
        "مرحبا 123",
        "e\u0301cole",
        "end \0",
        '<b>&amp; "q"',
        "$5 \\frac",
        "a\r\nb",
    ),
    *(
        "w" * 300,
        "日本 한국어",
        "the ❤️",
        "\u200b\ufeffthe\u00ad",
        "İstanbul ß",
        "the\u2028is",
        "𝕳𝖊 the",
        "▁ the",
        "Ġ the",
    ),
    *("[CLS] the [SEP]", "<s> the </s>", "x \ud800 y"),
]


@pytest.mark.filterwarnings("ignore:.*were truncated")
@pytest.mark.parametrize("special_tokens", ["keep", "drop"])
@pytest.mark.parametrize("name", ["bert", "roberta", "xlnet", "modernbert", "t5"])
def test_odd_texts(tiny_models, name, special_tokens):
    clf = fit(tiny_models[name], encoder={"special_tokens": special_tokens, "max_length": 64})
    for one in assert_adds_up(clf, ODD):
        words = one.words()
        np.testing.assert_allclose(words.contributions.sum(0), one.contributions.sum(0), atol=1e-9)
        for form in (one, words):
            (shown,) = re.findall(r'<p class="text"[^>]*>(.*?)</p>', form.to_html([clf.classes_[0]]), re.DOTALL)
            shown = re.sub(r'<span class="special.*?</span>', "", shown)
            assert html.unescape(re.sub("<.*?>", "", shown)) == visible(one.text)
            begins = [begin for begin, end in form.spans if end]
            assert begins == sorted(begins)
        if len(one.tokens) < 60:
            assert "not read" not in words.to_html()


def test_a_space_alone_belongs_to_the_word_after_it(tiny_models):
    (one,) = token_contributions(fit(tiny_models["roberta"]), ["the parcel"])
    assert one.tokens[1:4] == ["the", "Ġ", "p"]
    assert one.words().tokens == ["<s>", "the", "parcel", "</s>"]


def test_top(tiny_bert):
    clf = fit(tiny_bert)
    (one,) = token_contributions(clf, ["the parcel is late"])
    column = one.contributions[:, list(clf.classes_).index("delivery")]
    best = one.top("delivery", 2)
    assert [value for _, value in best] == sorted(column, reverse=True)[:2]
    with pytest.raises(
        ValueError, match=r"There is no class 'refund'. The 'label' parameter must be one of \['billing', 'delivery'"
    ):
        one.top("refund")
    assert all(value > 0 for _, value in one.top("delivery", 99))
    with pytest.raises(ValueError, match=r"n must be an int of at least 1. Got 0 instead"):
        one.top("delivery", 0)
    with pytest.raises(ValueError, match=r"n must be an int of at least 1. Got 'all' instead"):
        one.top("delivery", "all")
    with pytest.raises(ValueError, match=r"There is no class array\(\['delivery', 'billing'\]"):
        one.top(np.array(["delivery", "billing"]))
    assert repr(one).startswith(f"<TokenContributions: {len(one.tokens)} tokens, 3 classes; ")


def test_wrong_arguments(tiny_bert):
    with pytest.raises(TypeError, match=r"Got LogisticRegression instead. For a pipeline, pass pipe\[-1\]"):
        token_contributions(LogisticRegression(), TEXTS)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        token_contributions(SpaceClassifier(tiny_bert), TEXTS)
    vectors = RaggedArray(np.eye(4, dtype=np.float32), [0, 2, 4])
    clf = SpaceClassifier("precomputed", max_epochs=1).fit(vectors, [0, 1])
    with pytest.raises(TypeError, match="must be fitted on texts"):
        token_contributions(clf, TEXTS)
    with pytest.raises(TypeError, match=r"Got int \(3\) in row 1 instead"):
        token_contributions(fit(tiny_bert), ["a", 3])


@pytest.mark.parametrize("name", skspace.inspection.__all__)
def test_public_names_say_the_public_module(name):
    public = getattr(skspace.inspection, name)
    assert public.__module__ == "skspace.inspection"
    assert pickle.loads(pickle.dumps(public)) is public


def test_results_survive_a_pickle(tiny_bert):
    clf = fit(tiny_bert)
    (one,) = token_contributions(clf, TEXTS[:1])
    content = pickle.dumps(one)
    assert b"skspace.inspection._" not in content
    assert pickle.loads(content).to_json() == one.to_json()
