"""What an explanation can be turned into: words, spans, HTML, plain text, a data frame, JSON."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from skspace.inspection import TokenContributions
from skspace.inspection._printable import columns_of, visible
from skspace.inspection._words import span_of_each_token, spans_of_tokens, word_spans

HOSTILE = "a<script>alert('x')</script> \"q\" & &amp; \u202eevil\u202c \x1b[31m \x00 end"


def explanation(text, tokens, classes=("no", "yes"), multilabel=False, seed=0):
    """Made up, but additive."""
    spans, end = [], 0
    for token in tokens:
        begin = text.index(token, end) if token in text[end:] else 0
        end = begin + len(token) if token in text[end:] else end
        spans.append((begin, end) if token in text else (0, 0))
    contributions = np.random.RandomState(seed).randn(len(tokens), len(classes))
    bias = np.linspace(-0.1, 0.1, len(classes))
    logits = contributions.sum(0) + bias
    return TokenContributions(text, tokens, spans, contributions, bias, logits, np.array(classes), multilabel)


def adds_up(one):
    np.testing.assert_allclose(one.contributions.sum(0) + one.bias, one.logits, atol=1e-12)
    assert len(one.tokens) == len(one.spans) == len(one.contributions)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't pay, John!", ["Don't", "pay", ",", "John", "!"]),
        ("#late @you_2 a@b", ["#late", "@you_2", "a", "@b"]),
        ("!!@user", ["!!", "@user"]),
        ("well-known 3.5", ["well", "-", "known", "3", ".", "5"]),
        ("日本語 カナ", ["日", "本", "語", "カ", "ナ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("❤️👍🏽 ok", ["❤️👍🏽", "ok"]),
        (" \t\n", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert [text[begin:end] for begin, end in word_spans(text)] == words


def test_a_token_belongs_to_the_word_it_shares_most_with():
    words = [(0, 3), (4, 6), (6, 9)]
    tokens = [(0, 0), (0, 2), (2, 3), (3, 5), (4, 8), (5, 7), (9, 12)]
    assert span_of_each_token(tokens, words).tolist() == [-1, 0, 0, 1, 1, 1, -1]
    assert span_of_each_token([], words).tolist() == []
    assert span_of_each_token([(0, 3)], []).tolist() == [-1]
    assert span_of_each_token([(3, 3), (4, 4), (7, 7), (9, 9)], words).tolist() == [-1, 1, 2, -1]  # without characters


def test_words_that_no_token_tells_apart():
    words = [(0, 1), (1, 2), (2, 3), (4, 6), (6, 7)]
    assert spans_of_tokens([(0, 3), (4, 7)], words)[0][0] == (0, 3)
    reach, owner = spans_of_tokens([(0, 3), (3, 6)], [(0, 2), (2, 4), (4, 6)])  # both reach for the second
    assert [reach[i] for i in owner] == [(0, 4), (4, 6)]
    reach, owner = spans_of_tokens([(0, 1), (1, 4), (5, 7)], words)
    assert [reach[i] for i in owner] == [(0, 1), (1, 3), (4, 7)]
    assert spans_of_tokens([(0, 1)], words)[0] == words  # truncated
    assert spans_of_tokens([(2, 3)], words)[0] == words  # beside others, not in them


def test_a_token_of_several_words_shows_all_of_them():
    one = TokenContributions(
        "日本語 <s>", ["日本語", "<s>"], [(0, 3), (4, 7)], np.eye(2), np.zeros(2), np.ones(2), np.arange(2)
    )
    assert one.words().tokens == ["日本語", "<s>"]
    assert one.merge([(0, 1), (1, 3), (4, 5)]).tokens == ["日本語", "<"]
    assert "unseen" not in one.words().to_html().partition("</style>")[2]


def test_pieces_are_put_together_to_words():
    one = explanation("unwell today", ["[CLS]", "un", "well", "today", "[SEP]"])
    words = one.words()
    assert words.tokens == ["[CLS]", "unwell", "today", "[SEP]"]
    assert words.spans == [(0, 0), (0, 6), (7, 12), (0, 0)]
    np.testing.assert_allclose(words.contributions[1], one.contributions[1] + one.contributions[2])
    adds_up(words)
    assert words.words().tokens == words.tokens
    assert one.tokens[1] == "un"  # the first is left as it was


def test_pieces_of_one_character():
    """Byte-level tokenizers cut an emoji into tokens of the same span."""
    one = TokenContributions(
        "hi 👍", ["hi", "a", "b"], [(0, 2), (3, 4), (3, 4)], np.eye(3, 2), np.zeros(2), np.ones(2), np.arange(2)
    )
    assert one.words().tokens == ["hi", "👍"]
    one.contributions[:] = [[0, 1], [0, 2], [0, 3]]
    assert 'style="background:rgba(0,114,178,0.55)" title="+5.00">👍</span>' in one.to_html([1])  # the deepest
    assert one.words().to_html([1]).count('title="+5.00">👍</span>') == 1
    assert one.to_html([1]).count("👍</span>") == one.to_html([1]).count('title="+5.00">👍</span>') == 1
    assert one.to_html([1]).count('title="+1.00">hi</span>') == 1


def test_given_spans():
    one = explanation("my parcel is late", ["my", "parcel", "is", "late"])
    merged = one.merge([(10, 17), (0, 9)])
    assert merged.tokens == ["my parcel", "is late"]
    adds_up(merged)
    assert one.merge([(3, 9)]).tokens == ["my", "parcel", "is", "late"]
    assert one.merge([]).tokens == one.tokens
    cut = explanation("my parcel is late", ["my", "parcel"])
    assert cut.merge([(0, 9), (10, 17)]).tokens == ["my parcel"]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 18)], r"spans must lie within the text, 0 <= begin < end <= 17. Got \(0, 18\) instead"),
        ([(-1, 2)], r"Got \(-1, 2\) instead"),
        ([(3, 3)], r"Got \(3, 3\) instead"),
        ([(0, 4), (3, 6)], r"spans must not overlap. Got \(0, 4\) and \(3, 6\) instead. Merge them"),
        (["ab"], r"spans must be pairs \(begin, end\) of int. Got \['ab'\] instead"),
        ([(0, float("inf"))], r"spans must be pairs \(begin, end\) of int. Got \[\(0, inf\)\] instead"),
        ([(0.5, 3)], r"spans must be pairs"),
        (["03"], r"spans must be pairs"),
        (3, r"spans must be pairs"),
    ],
)
def test_wrong_spans(spans, message):
    with pytest.raises(ValueError, match=message):
        explanation("my parcel is late", ["my", "parcel"]).merge(spans)


def test_what_is_predicted():
    one = explanation("a b", ["a", "b"], classes=("x", "y", "z"))
    assert one.predicted == [one.classes[one.logits.argmax()]]
    np.testing.assert_allclose(one.probabilities.sum(), 1)
    several = explanation("a b", ["a", "b"], classes=(0, 1, 2), multilabel=True)
    assert set(several.predicted) == set(np.flatnonzero(several.logits > 0))
    np.testing.assert_allclose(several.probabilities, 1 / (1 + np.exp(-several.logits)))


# ---------------------------------------------------------------- HTML


class Reader(HTMLParser):
    """Collects what a browser would see, and refuses what should not be there."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def parsed(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def test_html_is_escaped():
    one = explanation(HOSTILE, ["[<b>]", "script", "q", "evil"], classes=('"><img src=x onerror=alert(1)>', "<i>"))
    reader = parsed(one.to_html(labels=list(one.classes)))
    assert set(reader.tags) <= {
        *("style", "div", "p", "strong", "details", "summary", "span", "bdi"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in {"src", "href"}]
    seen = "".join(reader.text)
    assert "a<script>alert('x')</script> \"q\" & &amp; ⟦U+202E⟧evil⟦U+202C⟧ ⟦U+001B⟧[31m ⟦U+0000⟧ end" in seen
    assert '"><img src=x onerror=alert(1)>' in seen
    assert "\u202e" not in seen


def test_html_shows_the_whole_text_and_what_was_not_read():
    one = explanation("a b c", ["[CLS]", "a", "b", "[SEP]"])
    html = one.to_html()
    assert 'class="unseen"' in html
    assert " c</span>" in html
    assert "[CLS]" in "".join(parsed(html).text)
    assert "its last 2 of 5 characters were not read" in html
    assert one.unread == one.words().unread == json.loads(one.to_json())["unread"] == " c"
    assert one.to_text().endswith("\n  not read, since the text was cut: its last 2 characters")
    assert explanation("a", []).unread == "a"
    for end in (" ", "\u0301", "\ufe0f", "\x00", "\u200b"):  # what tokenizers drop
        one = explanation(f"a b{end}", ["a", "b"])
        assert one.unread == ""
        assert 'class="unseen"' not in one.to_html()
        assert "not read" not in one.to_html() + one.to_text()


def test_what_was_not_read_stays_so_when_pieces_are_put_together():
    one = explanation("my abcdef g", ["my", "abc"])  # cut within a word
    for merged in (one.words(), one.merge([(0, 11)]), one.words().merge([(0, 9)]), one.merge([(3, 9)])):
        assert merged.unread == one.unread == "def g"
        assert merged.tokens[-1].endswith("abc")
        assert merged.spans[-1][1] == merged.read_to == 6
        assert ">def g</span>" in merged.to_html()
        assert "its last 5 of 11 characters were not read" in merged.to_html()
    whole = explanation("ab", ["ab"]).merge([(0, 1)])  # what the token has read beyond the span
    assert (whole.tokens, whole.unread) == (["a"], "")
    assert "not read" not in whole.to_html()


def test_lines_of_long_and_wide_words():
    one = explanation(f"{'x' * 99} 荷物 b", ["x" * 99, "荷物", "b"])
    _, *rows = one.to_text("yes").splitlines()
    assert [columns_of(row.split("+")[0].split("-")[0]) for row in rows] == [43] * 3
    assert rows[0].startswith(f"  {'x' * 39}… ")
    assert rows[1].startswith("  荷物" + " " * 37)


def test_special_tokens_are_told_from_the_text():
    one = explanation("a b c", ["[CLS]", "a", "b", "[SEP]"])
    assert one.special.tolist() == [True, False, False, True]
    assert one.words().special.tolist() == [True, False, False, True]
    assert explanation("", []).special.shape == (0,)


def test_what_cannot_be_seen_is_named():
    for sign in "\0\r\x7f\x85\ud800\u00ad\u061c\u115f\u200b\u200e\u2028\u2029\u202e\u2060\u2067\ufeff\U000e0041":
        assert visible(f"a{sign}b") == f"a⟦U+{ord(sign):04X}⟧b"
    for text in ("\t\n ", "👨\u200d👩\u200d👧 ❤\ufe0f", "می\u200cخواهم", "e\u0301", "\u06dd"):
        assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "direction"),
    [("שלום abc", "rtl"), ("1, مرحبا", "rtl"), ("abc שלום", "ltr"), ("12", "ltr"), ("", "ltr"), ("\u200fabc", "rtl")],
)
def test_direction_is_that_of_the_text(text, direction):
    one = explanation(text, ["[CLS]"])
    assert f'<p class="text" lang="" dir="{direction}"><span class="special' in one.to_html()


def test_html_marks_both_sides_without_colour_too():
    one = explanation("good bad dull", ["good", "bad", "dull"])
    one.contributions[:] = [[-2, 2], [1, -1], [0.001, -0.001]]
    zero = explanation("good bad dull", ["good", "bad", "dull"])
    zero.contributions[:] = [[0, 0], [0, -1], [0, 0]]
    assert 'For it: nothing. Against it: <bdi lang="">bad</bdi> (−1.00).</p>' in zero.to_html(["yes"])
    one.logits[:] = [-1, 1.101]
    html = one.to_html(["yes"])
    summary = (
        '<strong lang="">yes</strong>: probability 0.89, logit +1.10 = +0.10 (intercept) +1.00 (this text)</summary>'
    )
    assert summary in html
    assert '<span class="for" style="background:rgba(0,114,178,0.55)" title="+2.00">good</span>' in html
    assert '<span class="against" style="background:rgba(213,94,0,0.28)" title="-1.00">bad</span>' in html
    assert '<span title="-0.00">dull</span>' in html
    sentence = "For it: <bdi>good</bdi> (+2.00). Against it: <bdi>bad</bdi> (−1.00), <bdi>dull</bdi>"
    assert sentence.replace("<bdi", '<bdi lang=""') in html


def test_html_has_all_figures_in_a_table():
    one = explanation("a b", ["a", "b"], classes=("x", "y", "z"))
    cells = [data for data in parsed(one.to_html(["y"])).text if data.startswith(("+", "−"))]
    wanted = [*one.contributions[:, 1], one.bias[1], one.logits[1]]
    assert cells == [f"{value:+.2f}".replace("-", "−") for value in wanted]


def test_the_largest_contribution_is_the_deepest_however_small():
    one = explanation("a b", ["a", "b"])
    one.contributions[:] = [[0, 0.004], [0, -0.002]]
    assert re.findall(r"rgba\(.*?\)", one.to_html(["yes"])) == ["rgba(0,114,178,0.55)", "rgba(213,94,0,0.28)"]


def test_html_can_be_read_and_reached_without_a_mouse():
    one = explanation("a b", ["[CLS]", "a", "b"], classes=("x", "y", "z"))
    reader = parsed(one.to_html())
    assert reader.attributes.count(("scope", "col")) == 1 + 3
    assert reader.attributes.count(("scope", "row")) == 3 + 2  # tokens, intercept and logit
    assert reader.tags.count("summary") == reader.tags.count("details") == 3 + 1
    assert {("tabindex", "0"), ("role", "region"), ("aria-label", "Contributions")} < set(reader.attributes)


def test_html_of_nothing():
    one = TokenContributions("", [], [], np.zeros((0, 2)), np.zeros(2), np.zeros(2), np.array(["a", "b"]))
    assert "For it: nothing. Against it: nothing." in one.to_html()
    several = TokenContributions("", [], [], np.zeros((0, 1)), -np.ones(1), -np.ones(1), np.array([0]), True)
    assert "Predicted: no label" in parsed(several.to_html()).text


def test_html_opens_what_was_predicted():
    one = explanation("a b", ["a", "b"], classes=tuple("uvwxyz"))
    html = one.to_html()
    assert html.count("<details open>") == 1
    assert html.count("<details>") == 3  # the two next, and the table
    assert one._repr_html_() == html
    assert f'<details open>\n<summary><strong lang="">{one.predicted[0]}</strong>' in one.to_html(list("uvwxyz"))
    several = explanation("a b", ["a", "b"], classes=(0, 1, 2), multilabel=True)
    several.logits[:] = [1, -1, 1]
    assert several.to_html([0, 1, 2]).count("<details open>") == 2
    several.logits[:] = -1
    assert several.to_html([0, 1, 2]).count("<details open>") == 1
    with pytest.raises(ValueError, match=r"There is no class 'k'. The 'labels' parameter must be one of \['u', 'v'"):
        one.to_html(["k"])
    for labels in ("uv", [], 3):
        with pytest.raises(ValueError, match=r"labels must be a list of at least one class. Got .* list: \[label\]"):
            one.to_html(labels)
    assert one.to_html(np.array(["u"])) == one.to_html(["u"])


def test_page(tmp_path):
    one = explanation(HOSTILE, ["script", "q"])
    path = tmp_path / "why.html"
    one.save_html(path)
    reader = parsed(path.read_text("utf-8"))
    assert "script" not in reader.tags
    assert ("charset", "utf-8") in reader.attributes
    assert ("content", "light dark") in reader.attributes
    with pytest.raises(FileNotFoundError, match="nowhere"):
        one.save_html(tmp_path / "nowhere" / "why.html")


# ---------------------------------------------------------------- other forms


def test_plain_text():
    one = explanation("good\nbad dull", ["good\nbad", "dull"])
    one.contributions[:] = [[-2, 2], [0.5, -0.5]]
    one.logits[:] = [-1.6, 1.6]
    assert one.to_text().splitlines() == [
        "yes: probability 0.96, logit +1.60 = +0.10 (intercept) +1.50 (text)",
        "  good bad +2.00 ++++++++++++++++++++",
        "  dull     -0.50 -----",
    ]
    assert one.to_text("no", n=1).splitlines()[1:] == [
        "  good bad -2.00 --------------------",
        "  and 1 more, +0.50 together",
    ]
    many = explanation("a b c d e f g h i j k l", list("abcdefghijkl"))
    assert many.to_text().splitlines()[-1].startswith("  and 2 more, ")
    assert "\x1b" not in explanation(HOSTILE, ["\x1b[31m"]).to_text()
    with pytest.raises(ValueError, match=r"n must be an int of at least 1. Got 0 instead"):
        one.to_text(n=0)
    with pytest.raises(ValueError, match=r"n must be an int of at least 1. Got 2.5 instead"):
        one.to_text(n=2.5)
    with pytest.raises(ValueError, match="There is no class 'maybe'"):
        one.to_text("maybe")


def test_frame():
    pytest.importorskip("pandas")
    one = explanation("a token b", ["a", "token", "b"], classes=("token", "end"))
    frame = one.to_frame()
    assert frame.index.names == ["token", "begin", "end"]
    assert frame.index[1] == ("token", 2, 7)
    np.testing.assert_array_equal(frame[["token", "end"]], one.contributions)


def test_json():
    one = explanation(HOSTILE, ["script"], classes=(3, 7))
    content = json.loads(one.to_json())
    assert content["text"] == HOSTILE
    assert content["classes"] == [3, 7]
    assert content["predicted"] == one.predicted
    np.testing.assert_array_equal(content["contributions"], one.contributions)
    assert content.keys() == {
        *("text", "tokens", "spans", "contributions", "bias", "logits", "classes", "multilabel"),
        "read_to",
        *("probabilities", "predicted", "unread"),
    }


def test_columns_of_several_labels_get_names():
    """As docs/multilabel.md says."""
    one = replace(explanation("a b", ["a", "b"], classes=(0, 1, 2), multilabel=True), classes=np.array(["x", "y", "z"]))
    assert one.to_frame().columns.tolist() == ["x", "y", "z"]
    assert set(one.predicted) <= {"x", "y", "z"}
    assert json.loads(one.to_json())["classes"] == ["x", "y", "z"]
    assert one.words().to_text("z").startswith("z: ")
    assert '<th scope="col" lang="">z</th>' in one.to_html(["z"])
