"""left_out and removal_order: what the operators make of the tokens that are left."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skspace import SpaceClassifier, TokenEncoder
from skspace.inspection import left_out, removal_order, token_contributions

TEXTS = ["the parcel is late", "my account was charged twice", "", "short", "the parcel the parcel was charged"]
LABELS = ["delivery", "billing", "other", "other", "delivery"]


@pytest.fixture(scope="module", autouse=True)
def _quick(one_thread):
    """Tiny models."""


def fit(folder, labels=LABELS, encoder=None, **params):
    clf = SpaceClassifier(TokenEncoder(folder, **(encoder or {})), max_epochs=30, n_latent=3, random_state=0, **params)
    return clf.fit(TEXTS, labels)


def without(clf, text, *gone):
    """Logits of a text of whose vectors those that begin in these spans have been taken away."""
    ((_, spans),) = clf.encoder_.tokenize([text])
    stays = [end == begin or not any(span[0] <= begin < span[1] for span in gone) for begin, end in spans]
    rows = clf.encoder_.transform([text])
    kept = torch.from_numpy(np.asarray(rows[0], np.float32)[stays])
    with torch.inference_mode():
        return clf.operators_(kept, torch.tensor([len(kept)])).logits.mean(1)[0].numpy()


@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("head", ["linear", "alignment"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_is_what_the_tokens_that_are_left_give(tiny_bert, pooling, head, n_members):
    clf = fit(tiny_bert, pooling=pooling, head=head, n_members=n_members)
    found = left_out(clf, TEXTS)
    assert [one.words for one in found] == [text.split() for text in TEXTS]
    for text, one in zip(TEXTS, found, strict=True):
        assert one.losses.shape == (len(one.words), 3)
        for span, word, losses in zip(one.spans, one.words, one.losses, strict=True):
            assert text[slice(*span)] == word
            np.testing.assert_allclose(one.logits - losses, without(clf, text, span), atol=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 0], np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1]])])
def test_two_classes_and_several_labels(tiny_bert, labels):
    clf = fit(tiny_bert, labels=labels)
    for text, one in zip(TEXTS, left_out(clf, TEXTS), strict=True):
        for span, losses in zip(one.spans, one.losses, strict=True):
            np.testing.assert_allclose(one.logits - losses, without(clf, text, span), atol=1e-5)


def test_everything_left_out_leaves_the_intercepts(tiny_bert):
    clf = fit(tiny_bert, encoder={"special_tokens": "drop"})
    one, phrase = left_out(clf, ["short", "the parcel"], [[(0, 5)], [(0, 10)]])
    np.testing.assert_allclose(one.logits - one.losses[0], clf.intercept_, atol=1e-5)
    np.testing.assert_allclose(phrase.logits - phrase.losses[0], clf.intercept_, atol=1e-5)
    assert phrase.words == ["the parcel"]


@pytest.mark.parametrize("times", [0.2, 1.4, 1.8])
def test_a_word_with_nearly_all_of_the_attention(tiny_bert, times):
    # What the others are left with is far below the rounding of 1 minus that word's share.
    clf = fit(tiny_bert, encoder={"special_tokens": "drop"})
    operators = clf.operators_
    operators.queries.mul_(times / operators.queries.abs().max())
    vectors = torch.from_numpy(np.asarray(clf.encoder_.transform(TEXTS[:1])[0], np.float32))
    with torch.inference_mode():
        largest = operators(vectors, torch.tensor([len(vectors)])).attention.max()
    assert (1 - largest < 1e-6) == (times > 1)
    (one,) = left_out(clf, TEXTS[:1])
    for span, losses in zip(one.spans, one.losses, strict=True):
        np.testing.assert_allclose(one.logits - losses, without(clf, TEXTS[0], span), atol=1e-4)


def test_spans_without_tokens_are_passed_over(tiny_bert):
    with pytest.warns(UserWarning, match="longer than max_length"):
        clf = fit(tiny_bert, encoder={"max_length": 4})
    with pytest.warns(UserWarning, match="longer than max_length"):
        (one,) = left_out(clf, ["the parcel is late"])
    assert one.words == ["the", "parcel"]
    (empty,) = left_out(clf, [""])
    assert empty.losses.shape == (0, 3)
    assert empty.words == []


def test_top_and_frame(tiny_bert):
    clf = fit(tiny_bert)
    (one,) = left_out(clf, TEXTS[:1])
    column = clf.classes_.tolist().index("delivery")
    best = one.top("delivery", 2)
    assert [value for _, value in best] == sorted((v for v in one.losses[:, column] if v > 0), reverse=True)[:2]
    frame = one.to_frame()
    assert frame.index.names == ["word", "begin", "end"]
    assert frame.columns.tolist() == clf.classes_.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), one.losses)
    assert repr(one) == "<LeftOut: 4 words, 3 classes>"
    with pytest.raises(ValueError, match=r"no class 'nothing'.*one of \['billing', 'delivery', 'other'\]"):
        one.top("nothing")
    with pytest.raises(ValueError, match=r"n must be an int of at least 1. Got 0"):
        one.top("delivery", 0)


def test_differs_from_contributions(tiny_bert):
    clf = fit(tiny_bert)
    (one,), (sums,) = left_out(clf, TEXTS[:1]), token_contributions(clf, TEXTS[:1])
    assert np.abs(one.losses - sums.words().contributions[1:-1]).max() > 1e-3


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 3)], r"one sequence of pairs \(begin, end\) per text, for 2 texts.*write \[spans\]"),
        ("words", r"one sequence of pairs \(begin, end\) per text"),
        (3, r"one sequence of pairs \(begin, end\) per text"),
        ([[(0, 3)], [(0, 99)]], r"spans must lie within the text"),
        ([[(0, 3), (2, 4)], []], r"spans must not overlap"),
        ([[3], []], r"spans must be pairs"),
    ],
)
def test_spans_that_do_not_fit(tiny_bert, spans, message):
    with pytest.raises(ValueError, match=message):
        left_out(fit(tiny_bert), TEXTS[:2], spans)


def test_foreign_and_unfitted(tiny_bert):
    with pytest.raises(NotFittedError):
        left_out(SpaceClassifier(TokenEncoder(tiny_bert)), TEXTS)
    with pytest.raises(TypeError, match=r"clf must be a SpaceClassifier. Got int instead"):
        left_out(3, TEXTS)
    with pytest.raises(TypeError, match="str"):
        left_out(fit(tiny_bert), [1, 2])


# ---------------------------------------------------------------- one after another


def log_odds(logits, own, several):
    return logits[own] if several else logits[own] - np.logaddexp.reduce(np.delete(logits, own))


def is_answer(logits, own, several):
    return logits[own] > 0 if several else logits.argmax() == own


@pytest.mark.parametrize("params", [{}, {"pooling": "mean"}, {"head": "alignment"}, {"n_members": 1}])
@pytest.mark.parametrize(
    "labels", [LABELS, [0, 1, 1, 1, 0], np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1]])], ids=["3", "2", "several"]
)
def test_each_word_that_goes_takes_most(tiny_bert, params, labels):
    """The order against taking vectors away, all that are left one by one at each step."""
    clf = fit(tiny_bert, labels=labels, **params)
    several = np.ndim(labels) == 2
    for text, found in zip(TEXTS, removal_order(clf, TEXTS), strict=True):
        words = token_contributions(clf, [text])[0].merge(sorted(found.spans))
        half = {span: row / 2 for span, row in zip(words.spans, words.contributions, strict=True)}
        own = clf.classes_.tolist().index(found.label)
        assert own == without(clf, text).argmax()
        gone, lost = [], np.zeros(len(clf.classes_))
        odds, answers = [log_odds(without(clf, text), own, several)], [is_answer(without(clf, text), own, several)]
        for span, word in zip(found.spans, found.words, strict=True):
            assert text[slice(*span)] == word
            after = {one: without(clf, text, *gone, one) - lost - half[one] for one in found.spans if one not in gone}
            odds.append(log_odds(after[span], own, several))
            assert odds[-1] <= min(log_odds(logits, own, several) for logits in after.values()) + 1e-4
            answers.append(is_answer(after[span], own, several))
            gone.append(span)
            lost = lost + half[span]
        assert sorted(found.words) == sorted(text.split())
        np.testing.assert_allclose(found.probabilities, 1 / (1 + np.exp(-np.array(odds))), atol=1e-5)
        assert found.n_to_flip == (answers.index(False) if False in answers else None)


def test_order_of_a_label_and_of_spans(tiny_bert):
    clf = fit(tiny_bert)
    (found,) = removal_order(clf, TEXTS[:1], [[(0, 10), (11, 13), (14, 18)]], label="billing")
    assert found.label == "billing"
    assert sorted(found.words) == ["is", "late", "the parcel"]
    assert found.probabilities[0] == pytest.approx(clf.predict_proba(TEXTS[:1])[0, 0], abs=1e-6)
    assert found.n_to_flip == 0
    frame = found.to_frame()
    assert frame.index.names == ["word", "begin", "end"]
    assert frame.index.get_level_values("word").tolist() == found.words
    np.testing.assert_array_equal(frame["probability"], found.probabilities[1:])
    assert repr(found) == "<RemovalOrder: 3 words, label 'billing'>"


def test_order_of_no_words(tiny_bert):
    clf = fit(tiny_bert)
    (found,) = removal_order(clf, [""])
    assert found.words == found.spans == []
    assert found.probabilities.tolist() == pytest.approx([clf.predict_proba([""]).max()], abs=1e-6)
    assert found.n_to_flip is None
    assert found.to_frame().shape == (0, 1)


def test_order_of_what_does_not_fit(tiny_bert):
    clf = fit(tiny_bert)
    with pytest.raises(ValueError, match=r"no class 'nothing'.*one of \['billing', 'delivery', 'other'\]"):
        removal_order(clf, TEXTS, label="nothing")
    with pytest.raises(ValueError, match=r"one sequence of pairs \(begin, end\) per text"):
        removal_order(clf, TEXTS, "words")
    with pytest.raises(TypeError, match=r"clf must be a SpaceClassifier. Got int instead"):
        removal_order(3, TEXTS)
    with pytest.raises(NotFittedError):
        removal_order(SpaceClassifier(TokenEncoder(tiny_bert)), TEXTS)
