"""Pictures: what is drawn is what was computed, whatever the number of classes, axes and texts."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from skspace import SpaceClassifier, TokenEncoder
from skspace.inspection import (
    ConceptSpaceDisplay,
    ConceptTokensDisplay,
    TokenContributionsDisplay,
    TrainingHistoryDisplay,
    concept_tokens,
    token_contributions,
)
from skspace.inspection._printable import one_line

pyplot = pytest.importorskip("matplotlib.pyplot")

TEXTS = ["the parcel is late", "my account was charged twice", "the parcel", "short text", "charged", "text"] * 2
LABELS = ["delivery", "billing", "delivery", "other", "billing", "other"] * 2


@pytest.fixture(scope="module", autouse=True)
def _agg():
    pyplot.switch_backend("Agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def fit(folder, texts=TEXTS, labels=LABELS, **params):
    params = {"max_epochs": 3, "n_latent": 3, "n_members": 2, "random_state": 0} | params
    return SpaceClassifier(TokenEncoder(folder), **params).fit(texts, labels)


@pytest.fixture(scope="module")
def clf(tiny_bert):
    return fit(tiny_bert)


def drawn(display):
    """The picture, for what only drawing shows; warnings are errors."""
    display.figure_.canvas.draw()
    return display


# ---------------------------------------------------------------- a text


def test_contributions(clf):
    display = drawn(TokenContributionsDisplay.from_estimator(clf, TEXTS[0]))
    (one,) = token_contributions(clf, [TEXTS[0]])
    words = one.words()
    columns = np.argsort(-one.logits)
    assert display.labels == clf.classes_[columns].tolist()
    np.testing.assert_allclose(display.contributions, words.contributions[:, columns])
    assert [text.get_text() for text in display.ax_.texts] == words.tokens
    (heat,) = display.ax_.collections
    np.testing.assert_allclose(heat.get_array(), display.contributions.ravel())
    assert heat.get_clim() == (-np.abs(display.contributions).max(), np.abs(display.contributions).max())
    pieces = TokenContributionsDisplay.from_estimator(clf, TEXTS[0], labels=["other"], words=False)
    assert pieces.tokens == one.tokens
    assert pieces.contributions.shape == (len(one.tokens), 1)


def test_words_stand_in_lines_of_that_width():
    display = TokenContributionsDisplay(["aaaa", "bbb", "ccccccccccccc", "d"], np.ones((4, 1)), ["x"])
    drawn(display.plot(width=10))
    places = [(text.get_text(), text.get_position()) for text in display.ax_.texts]
    heights = [y for _, (_, y) in places]
    assert heights[0] == heights[1] < heights[2] < heights[3]
    assert places[2][0] == "ccccccccc…"
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["x"] * 3


def test_rows_of_classes_stand_below_their_word():
    display = drawn(TokenContributionsDisplay(["aaaa", "bbb"], np.ones((2, 2)), ["x", "y"]).plot(width=5))
    boxes = [path.get_extents() for path in display.ax_.collections[0].get_paths()]  # from top to bottom
    words = [text.get_position()[1] for text in display.ax_.texts]
    assert words[0] < boxes[0].y0 < boxes[0].y1 == boxes[1].y0 < boxes[1].y1 < words[1] < boxes[2].y0


def boxes_of(texts):
    return [text.get_window_extent() for text in texts if text.get_text()]


def overlaps(boxes):
    return [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]


@pytest.mark.parametrize("name", ["a", "direct_debit_payment_not_recognised"])
def test_words_do_not_run_into_each_other(name):
    words = ["my", "supplementary", "transaction", "unfortunately", "denominated"] * 4
    display = drawn(TokenContributionsDisplay(words, np.ones((20, 2)), [name, name[:-1]]).plot())
    assert not overlaps(boxes_of(display.ax_.texts))
    _, axes = pyplot.subplots(2, 2, figsize=(10, 6))
    display = drawn(TokenContributionsDisplay(words, np.ones((20, 3)), [name] * 3).plot(ax=axes[0, 1]))
    assert not overlaps(boxes_of(display.ax_.texts))
    assert not overlaps(boxes_of(display.ax_.get_yticklabels()))


@pytest.mark.parametrize("n", [4, 400])
def test_the_scale_is_inside_the_picture(n):
    display = drawn(TokenContributionsDisplay(["word"] * n, np.ones((n, 3)), ["a", "b", "c"]).plot())
    caption = display.colorbar_.ax.xaxis.label.get_window_extent()
    assert 0 <= caption.y0 < caption.y1 < display.figure_.bbox.height


def test_signs_that_no_font_has(monkeypatch):
    """None of the fonts that bring them, as on a machine without."""
    monkeypatch.setattr("skspace.inspection._plotting._MORE_FONTS", ())
    words = ["\U0001f914", "荷", "❤\ufe0f", "o\u202e", "é"]
    display = drawn(TokenContributionsDisplay(words, np.ones((5, 1)), ["\U0001f97a"]).plot())
    assert [text.get_text() for text in display.ax_.texts] == ["⟦U+1F914⟧", "⟦U+8377⟧", "❤", "o⟦U+202E⟧", "é"]
    assert display.ax_.get_yticklabels()[0].get_text() == "⟦U+1F97A⟧"
    drawn(ConceptTokensDisplay(words, np.ones(5), [1] * 5, "\U0001f914", "value").plot())
    drawn(ConceptSpaceDisplay(np.zeros((1, 2)), ["荷"], ["荷"], "荷", ["x", "y"], True).plot())


def test_fonts_that_are_installed_are_used(monkeypatch):
    monkeypatch.setattr("skspace.inspection._plotting._MORE_FONTS", ("No Such Font", "STIXGeneral"))
    display = drawn(TokenContributionsDisplay(["⫝̸"], np.ones((1, 1)), ["a"]).plot())
    (word,) = display.ax_.texts
    assert word.get_fontfamily() == ["monospace", "STIXGeneral"]


def test_signs_that_mean_something_to_matplotlib(clf):
    drawn(TokenContributionsDisplay.from_estimator(clf, "costs $5 or $6_7^ \\frac <b> \x1b"))
    empty = TokenContributionsDisplay([], np.zeros((0, 2)), ["$a$", "b_$"])
    drawn(empty.plot())
    with pytest.raises(ValueError, match=r"width must be an int of at least 1. Got 0 instead"):
        empty.plot(width=0)


def test_long_and_wide_words_are_cut():
    assert one_line("a\n \x1b") == "a ⟦U+001B⟧"
    assert one_line("abc", 3) == "abc"
    assert one_line("abcd", 3) == "ab…"
    assert one_line("가나다", 6) == "가나다"
    assert one_line("가나다라", 6) == "가나…"
    assert one_line("e\u0301a", 2) == "e\u0301a"


# ---------------------------------------------------------------- a space


def test_space_of_texts_is_projected(clf):
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS, LABELS, label="billing", member=1))
    k = list(clf.classes_).index("billing")
    centroids = clf.transform(TEXTS).reshape(len(TEXTS), 2, 3, 3)[:, 1, k]
    np.testing.assert_allclose(display.points, PCA(2, svd_solver="full").fit_transform(centroids), atol=1e-5)
    assert display.labels == LABELS
    assert display.projected
    shares = PCA().fit(centroids).explained_variance_ratio_
    assert display.axis_names == [f"principal component {j + 1} ({100 * shares[j]:.0f}%)" for j in range(2)]
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["delivery (4)", "other (4)", "billing (4)"]  # the own class on top
    assert len({scatter.get_paths()[0].vertices.tobytes() for scatter in display.scatters_}) == 3


def test_space_of_tokens_as_it_is(clf):
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS, label="other", on="tokens", n_components=3))
    assert display.axis_names == ["axis 0", "axis 1", "axis 2"]
    assert not display.projected
    lengths = clf.encoder_.transform(TEXTS).lengths
    assert len(display.points) == lengths.sum()
    assert display.labels == np.repeat(clf.predict(TEXTS), lengths).tolist()
    assert display.ax_.name == "3d"
    assert display.ax_.get_xlim() == pytest.approx((-1.05, 1.05), abs=0.1)


def test_three_dimensions_have_room_for_all_that_is_written(clf):
    name = "balance_not_updated_after_bank"
    for projected in (True, False):
        points = np.random.default_rng(0).uniform(-1, 1, (9, 3))
        display = ConceptSpaceDisplay(points, [name] * 9, [name], name, ["component 1 (85%)"] * 3, projected)
        ax = drawn(display.plot()).ax_
        figure, legend = ax.figure.bbox, ax.figure.legends[0].get_window_extent()
        written = [ax.title, ax.xaxis.label, ax.yaxis.label, ax.zaxis.label]
        for box in [legend, *boxes_of(written)]:
            assert figure.x0 <= box.x0 < box.x1 <= figure.x1
            assert figure.y0 <= box.y0 < box.y1 <= figure.y1
        assert not any(box.overlaps(legend) for box in boxes_of(written))


def test_space_of_one_axis(tiny_bert):
    display = drawn(ConceptSpaceDisplay.from_estimator(fit(tiny_bert, n_latent=1), TEXTS, label="other"))
    assert display.axis_names == ["axis 0", ""]
    again = ConceptSpaceDisplay.from_estimator(fit(tiny_bert, n_latent=1), TEXTS, label="other")
    np.testing.assert_array_equal(display.points, again.points)


def test_a_single_text(clf):
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS[:1], label="other"))
    assert display.points.shape == (1, 2)
    assert display.axis_names == ["axis 0", "axis 1"]


def test_the_first_member_where_none_is_named(clf):
    display = ConceptSpaceDisplay.from_estimator(clf, TEXTS, label="other")
    first = ConceptSpaceDisplay.from_estimator(clf, TEXTS, label="other", member=0)
    np.testing.assert_array_equal(display.points, first.points)


def test_eight_classes_have_a_marker_each(tiny_bert):
    clf = fit(tiny_bert, TEXTS[:8] * 2, list(range(8)) * 2, n_latent=2, max_epochs=1)
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS[:8], list(range(8)), label=7))
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == [f"{i} (1)" for i in range(8)]


def test_fewer_points(clf):
    display = ConceptSpaceDisplay.from_estimator(clf, TEXTS, LABELS, label="other", max_points=5)
    assert len(display.points) == len(display.labels) == 5


def test_many_classes(tiny_bert):
    texts, labels = [f"text {i}" for i in range(154)], [f"class {i:02}" for i in range(77)] * 2
    clf = fit(tiny_bert, texts, labels, n_latent=2, max_epochs=1)
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, texts, labels, label="class 07"))
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["all others (152)", "class 07 (2)"]
    assert len(drawn(TokenContributionsDisplay.from_estimator(clf, "text 3")).labels) == 3
    assert concept_tokens(clf, texts, min_count=1).summary("class 07")


def test_labels_that_mean_something_to_matplotlib(tiny_bert):
    labels = ["_hidden", "$x$\n^"] * 6
    clf = fit(tiny_bert, labels=labels)
    display = drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS, labels, label="_hidden"))
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == ["$x$ ^ (6)", "_hidden (6)"]
    drawn(ConceptTokensDisplay.from_estimator(clf, TEXTS, label="_hidden", min_count=1))


def test_two_classes(tiny_bert):
    clf = fit(tiny_bert, labels=[0, 1] * 6)
    assert len(TokenContributionsDisplay.from_estimator(clf, "text").labels) == 1
    drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS, label=1))


def test_several_labels(tiny_bert):
    clf = fit(tiny_bert, labels=np.eye(12, 4, dtype=int))
    drawn(TokenContributionsDisplay.from_estimator(clf, "text"))
    drawn(ConceptSpaceDisplay.from_estimator(clf, TEXTS, [0] * 12, label=2))
    with pytest.raises(ValueError, match=r"y must be given for a classifier with several labels per text.* Got None"):
        ConceptSpaceDisplay.from_estimator(clf, TEXTS, label=2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"label": "x"},
            r"There is no class 'x'. The 'label' parameter must be one of \['billing', 'delivery', 'other'",
        ),
        ({"member": 2}, "The 'member' parameter must be an int from 0 to 1. Got 2 instead"),
        ({"member": 1.0}, "The 'member' parameter must be an int from 0 to 1. Got 1.0 instead"),
        ({"max_points": 0}, "max_points must be an int of at least 1. Got 0 instead"),
        ({"on": "words"}, "The 'on' parameter must be 'texts' or 'tokens'. Got 'words' instead"),
        ({"n_components": 4}, "The 'n_components' parameter must be 2 or 3. Got 4 instead"),
        ({"y": ["other"]}, "y must have a label for each of the 12 texts. Got 1 instead"),
        ({"y": ["x"] * 12}, "There is no class 'x'. The 'y' parameter must be one of"),
    ],
)
def test_wrong_arguments_of_the_space(clf, params, message):
    with pytest.raises(ValueError, match=message):
        ConceptSpaceDisplay.from_estimator(clf, TEXTS, **({"label": "other"} | params))


def test_nothing_to_draw(tiny_bert):
    clf = SpaceClassifier(TokenEncoder(tiny_bert, special_tokens="drop"), max_epochs=1).fit(["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="There is nothing to draw: the 1 texts have no tokens"):
        ConceptSpaceDisplay.from_estimator(clf, [""], label=0, on="tokens")


# ---------------------------------------------------------------- words and losses


def test_concept_tokens(clf):
    display = drawn(ConceptTokensDisplay.from_estimator(clf, TEXTS, label="billing", top=2, min_count=2))
    concepts = concept_tokens(clf, TEXTS, top=2, min_count=2)
    expected = [*concepts.summary("billing"), *reversed(concepts.summary("billing", end="-"))]
    assert display.words == [word.word for word in expected]
    assert display.ax_.lines[0].get_xdata() == [0, 0]
    assert [bar.get_width() for bar in display.bars_] == pytest.approx([word.value for word in expected])
    assert display.ax_.get_yticklabels()[0].get_text() == f"{expected[0].word} ({expected[0].count})"
    axis = ConceptTokensDisplay.from_concepts(concepts, label="billing", axis=1, member=1)
    assert axis.title == "Axis 1 of the space of billing"
    with pytest.raises(ValueError, match=r"The 'axis' parameter must be an int from 0 to 2. Got 9"):
        ConceptTokensDisplay.from_concepts(concepts, label="billing", axis=9)
    with pytest.raises(TypeError, match=r"the result of concept_tokens\(clf, texts\). Got NoneType instead"):
        ConceptTokensDisplay.from_concepts(None, label="billing")


def test_bars_of_small_axes_have_names_that_can_be_read():
    _, axes = pyplot.subplots(2, 2, figsize=(10, 6))
    names = [f"word{i}" for i in range(20)]
    display = drawn(ConceptTokensDisplay(names, np.arange(20.0), range(20), "", "").plot(ax=axes[0, 0]))
    assert not overlaps(boxes_of(display.ax_.get_yticklabels()))


def test_history(tiny_bert):
    clf = fit(tiny_bert, TEXTS + [f"{text} a" for text in TEXTS], LABELS * 2, early_stopping=True,
              validation_fraction=0.3, inter_space_weight=0.1)  # fmt: skip
    display = drawn(TrainingHistoryDisplay.from_estimator(clf))
    lines = {line.get_label(): line.get_ydata() for line in display.lines_}
    assert lines.keys() == {
        f"{term}, {part}" for term in ("cross-entropy", "inter-space") for part in ("training", "validation")
    }
    np.testing.assert_array_equal(lines["inter-space, validation"], [row["valid_inter_space"] for row in clf.history_])
    plain = TrainingHistoryDisplay.from_estimator(fit(tiny_bert, max_epochs=1))
    assert len(plain.lines_) == 1


# ---------------------------------------------------------------- manners


FROM_ESTIMATOR = [
    lambda clf, **ax: TokenContributionsDisplay.from_estimator(clf, "text", **ax),
    lambda clf, **ax: ConceptSpaceDisplay.from_estimator(clf, TEXTS, label="other", **ax),
    lambda clf, **ax: ConceptTokensDisplay.from_estimator(clf, TEXTS, label="other", min_count=1, **ax),
    lambda clf, **ax: TrainingHistoryDisplay.from_estimator(clf, **ax),
]


@pytest.mark.parametrize("draw", FROM_ESTIMATOR)
def test_axes_that_are_given(clf, draw):
    figure, axes = pyplot.subplots(1, 2)
    display = draw(clf, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert display.plot(ax=axes[0]) is display
    assert display.ax_ is axes[0]
    drawn(display)
    with pytest.raises(TypeError, match=r"ax must be a matplotlib axes or None. Got str instead"):
        draw(clf, ax="here")
    with pytest.raises(TypeError, match=r"ax must be a matplotlib axes or None. Got Text instead"):
        draw(clf, ax=figure.text(0, 0, "here"))


@pytest.mark.parametrize("draw", FROM_ESTIMATOR)
def test_no_other_estimator(draw, tiny_bert):
    with pytest.raises(TypeError, match=r"clf must be a SpaceClassifier. Got LogisticRegression instead"):
        draw(LogisticRegression())
    with pytest.raises(NotFittedError, match="not fitted yet"):
        draw(SpaceClassifier(tiny_bert))


@pytest.mark.parametrize("draw", FROM_ESTIMATOR)
def test_without_matplotlib(clf, draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Display.plot needs matplotlib, .* pip install 'skspace\[plot\]'"):
        draw(clf)


def test_flat_axes_for_three_dimensions(clf):
    with pytest.raises(TypeError, match=r"needs axes made with projection='3d'. Got two-dimensional ones instead"):
        ConceptSpaceDisplay.from_estimator(clf, TEXTS, label="other", n_components=3, ax=pyplot.subplots()[1])


def test_one_text_only(clf):
    with pytest.raises(TypeError, match=r"text must be one str. Got list instead. Draw one text at a time"):
        TokenContributionsDisplay.from_estimator(clf, ["text"])
