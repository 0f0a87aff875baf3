"""removal_order with candidates: its probabilities are those of the texts without the removed words."""

import warnings

import numpy as np
import pytest

from skspace import SpaceClassifier, TokenEncoder
from skspace.inspection import _removal_order, removal_order
from skspace.inspection._classifier_access import linear_head

TEXTS = ["the parcel is late", "my account was charged twice", "", "short", "the parcel the parcel was charged"]
LABELS = ["delivery", "billing", "other", "other", "delivery"]
SEVERAL = np.array([[1, 0], [1, 1], [0, 0], [0, 1], [1, 1]])


def fit(folder, labels=LABELS, encoder=None, **params):
    clf = SpaceClassifier(TokenEncoder(folder, **(encoder or {})), max_epochs=30, n_latent=3, random_state=0, **params)
    return clf.fit(TEXTS, labels)


def erased(text, gone):
    """A text of words between single spaces without those that stand at these places."""
    begins = np.cumsum([0] + [len(word) + 1 for word in text.split(" ")])
    return " ".join(word for word, begin in zip(text.split(" "), begins, strict=False) if begin not in gone)


def probability(clf, found, n_gone):
    """Of the label, without the first words of the order."""
    text = erased(found.text, {begin for begin, _ in found.spans[:n_gone]})
    return clf.predict_proba([text])[0, clf.classes_.tolist().index(found.label)]


@pytest.mark.parametrize("params", [{}, {"pooling": "mean", "head": "alignment"}])
@pytest.mark.parametrize("labels", [LABELS, [0, 1, 1, 1, 0], SEVERAL], ids=["3", "2", "several"])
def test_probabilities_are_those_of_the_text_without_the_words(tiny_bert, params, labels):
    clf = fit(tiny_bert, labels=labels, **params)
    orders = removal_order(clf, TEXTS, n_candidates=2)
    for text, found in zip(TEXTS, orders, strict=True):
        assert found.n_exact == len(found.words)
        assert found.text == text
        assert sorted(found.words) == sorted(text.split())
        assert [text[slice(*span)] for span in found.spans] == found.words
        expected = [probability(clf, found, n) for n in range(len(found.words) + 1)]
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)
        given = [_is_answer(clf, found, n) for n in range(len(found.words) + 1)]
        assert found.n_to_flip == (given.index(False) if False in given else None)
    assert any(found.n_to_flip for found in orders)
    assert removal_order(clf, TEXTS[:1])[0].n_exact == 0


def _is_answer(clf, found, n_gone):
    text = erased(found.text, {begin for begin, _ in found.spans[:n_gone]})
    row = clf.predict_proba([text])[0]
    own = clf.classes_.tolist().index(found.label)
    return row[own] > 0.5 if clf._multilabel else row.argmax() == own


def test_of_all_words_that_goes_which_takes_most(tiny_bert):
    clf = fit(tiny_bert)
    for found in removal_order(clf, TEXTS, n_candidates=9):
        own, gone = clf.classes_.tolist().index(found.label), set()
        for n, span in enumerate(found.spans):
            texts = [erased(found.text, {*gone, begin}) for begin, _ in found.spans[n:]]
            assert found.probabilities[n + 1] <= clf.predict_proba(texts)[:, own].min() + 1e-3
            gone.add(span[0])


def test_candidates_are_the_first_by_the_estimate(tiny_bert):
    clf = fit(tiny_bert)
    estimates, orders = removal_order(clf, TEXTS), removal_order(clf, TEXTS, n_candidates=1)
    assert [found.words[:1] for found in estimates] == [found.words[:1] for found in orders]
    # From the second on it is the vectors of the text without the first.
    rest = erased(TEXTS[4], {orders[4].spans[0][0]})
    (second,) = removal_order(clf, [rest], label=orders[4].label)
    assert second.words[0] == orders[4].words[1]


@pytest.mark.parametrize("n_read", [0, 1, 2, 9])
def test_words_after_those_that_were_read_follow_by_the_estimate(tiny_bert, n_read):
    clf = fit(tiny_bert)
    whole = removal_order(clf, TEXTS, n_candidates=2)
    for read, found in zip(whole, removal_order(clf, TEXTS, n_candidates=2, n_read=n_read), strict=True):
        assert found.n_exact == min(n_read, len(found.words))
        assert found.words[: found.n_exact] == read.words[: found.n_exact]
        assert sorted(found.words) == sorted(read.words)
        n = found.n_exact + 1
        np.testing.assert_allclose(found.probabilities[:n], read.probabilities[:n], atol=1e-3)
        assert found.probabilities.shape == read.probabilities.shape
    if n_read == 0:
        for found, estimate in zip(
            removal_order(clf, TEXTS, n_candidates=2, n_read=0), removal_order(clf, TEXTS), strict=True
        ):
            assert found.words == estimate.words
            np.testing.assert_array_equal(found.probabilities, estimate.probabilities)


def test_reading_corrects_the_estimate_of_words_that_were_tried(tiny_bert):
    """After a step, the estimate of a word that was tried but not removed is corrected by its measurement."""
    clf = fit(tiny_bert)
    text = "the parcel is late"
    (start,) = _removal_order.pooled_words(clf, [text], [[(0, 3), (4, 10), (11, 13), (14, 18)]])
    head = linear_head(clf)
    removal = _removal_order._Removal(head, False, start, None)
    estimated = removal.estimates([0, 1])
    tried = {
        word: next(_removal_order.pooled_words(clf, [rest], [spans], edited=True))
        for word, (rest, spans) in ((w, _removal_order._without_word(text, start.words, w)) for w in (0, 1))
    }
    best = min(tried, key=lambda word: removal.odds(tried[word].logits[None])[0])
    removal.remove_best(tried)
    kept = 1 - best
    now = kept - (best < kept)  # its index among the remaining words
    uncorrected = _removal_order._Removal(head, False, tried[best], removal.target).estimates([now])[0]
    error = estimated[kept] - tried[kept].logits
    assert np.abs(error).max() > 1e-3  # otherwise the test would be void
    np.testing.assert_allclose(removal.estimates([now])[0], uncorrected - error, atol=1e-9)


def test_a_label_that_is_asked_about(tiny_bert):
    clf = fit(tiny_bert)
    (found,) = removal_order(clf, TEXTS[:1], [[(0, 10), (14, 18)]], label="billing", n_candidates=3)
    assert (found.label, found.n_to_flip) == ("billing", 0)
    assert sorted(found.words) == ["late", "the parcel"]
    last = clf.predict_proba(["is"])[0, 0]
    assert found.probabilities[2] == pytest.approx(last, abs=1e-3)


def test_parts_that_share_a_token_when_another_has_gone(tiny_bert):
    """ "zlate" is a token a letter, "late" one."""
    clf = fit(tiny_bert)
    orders = [
        removal_order(clf, ["zlate"], [[(0, 1), (1, 3), (3, 5)]], label=y, n_candidates=3)[0] for y in clf.classes_
    ]
    assert [sorted(found.words) for found in orders] == [["la", "te", "z"]] * 3
    assert any(found.words[0] == "z" for found in orders)  # otherwise the test would be void


def test_nothing_is_kept_of_texts_without_words(tiny_bert, tmp_path):
    clf = fit(tiny_bert, encoder={"cache_dir": tmp_path})
    before = clf.encoder_.cache_info()
    removal_order(clf, TEXTS, n_candidates=2)
    assert clf.encoder_.cache_info() == before
    assert clf.encoder_.cache_dir == tmp_path


def test_texts_do_not_see_each_other(tiny_bert, monkeypatch):
    clf = fit(tiny_bert)
    together = removal_order(clf, TEXTS, n_candidates=2)
    monkeypatch.setattr(_removal_order, "_TEXTS_PER_BATCH", 2)
    for one, other in zip(together, removal_order(clf, TEXTS, n_candidates=2), strict=True):
        assert one.words == other.words
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-3)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["3", "several"])
@pytest.mark.parametrize("at_once", [1, 200])
def test_estimates_do_not_see_each_other(tiny_bert, monkeypatch, labels, at_once):
    """To the last bit, however many texts of however many words are followed side by side."""
    clf = fit(tiny_bert, labels=labels)
    together = removal_order(clf, TEXTS)
    monkeypatch.setattr(_removal_order, "_MAX_NUMBERS", at_once)
    for one, other in zip(together, removal_order(clf, TEXTS), strict=True):
        assert one.spans == other.spans
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_what_was_not_read_does_not_move_in(tiny_bert):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts that are truncated
        clf = fit(tiny_bert, encoder={"max_length": 5})
        (found,) = removal_order(clf, ["the parcel is charged twice short"], n_candidates=3)
        assert sorted(found.words) == ["is", "parcel", "the"]
        left = erased("the parcel is", {found.spans[0][0]})
        expected = clf.predict_proba([left])[0, clf.classes_.tolist().index(found.label)]
    assert found.probabilities[1] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "spans", "word", "expected"),
    [
        ("a b c", [(0, 1), (2, 3), (4, 5)], 0, ("b c", [(0, 1), (2, 3)])),
        ("a b c", [(0, 1), (2, 3), (4, 5)], 1, ("a c", [(0, 1), (2, 3)])),
        ("a b c", [(0, 1), (2, 3), (4, 5)], 2, ("a b", [(0, 1), (2, 3)])),
        ("go, now", [(0, 2), (2, 3), (4, 7)], 1, ("go now", [(0, 2), (3, 6)])),
        ("go, now", [(0, 2), (2, 3), (4, 7)], 0, (", now", [(0, 1), (2, 5)])),
        ("ab", [(0, 1), (1, 2)], 0, ("b", [(0, 1)])),
        ("a", [(0, 1)], 0, ("", [])),
        ("x a", [(2, 3)], 0, ("x", [])),
        ("a b c", [(0, 1), (1, 3), (3, 5)], 1, ("a c", [(0, 1), (1, 3)])),  # spaces that belong to a span stay
        ("a b c", [(0, 2), (2, 3), (4, 5)], 1, ("a c", [(0, 2), (2, 3)])),
        ("a b ", [(0, 1), (1, 2), (2, 4)], 2, ("a ", [(0, 1), (1, 2)])),
        ("地方 x", [(0, 1), (1, 2), (3, 4)], 0, ("方 x", [(0, 1), (2, 3)])),
    ],
)
def test_text_without_a_word(text, spans, word, expected):
    assert _removal_order._without_word(text, spans, word) == expected


@pytest.mark.parametrize(
    ("name", "n"), [("n_candidates", n) for n in (-1, 1.5, "2", True, None)] + [("n_read", n) for n in (-1, 1.5, "2")]
)
def test_numbers_that_are_none(tiny_bert, name, n):
    with pytest.raises(ValueError, match=rf"{name} must be an int of at least 0\. Got .* instead"):
        removal_order(fit(tiny_bert), TEXTS, **({"n_candidates": 2} | {name: n}))
