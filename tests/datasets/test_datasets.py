"""The built-in customer-support messages and their loader."""

import csv
import doctest
import io
import re
import subprocess
import sys
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

import skspace.datasets
from skspace.datasets import load_support_messages

LABELS = ["account", "billing", "delivery", "fault", "returns"]

# Words that give a class away at first sight, for the check that they often mislead.
CLASS_WORDS = {
    "account": r"accounts?|login|logged|log|passwords?|profile|username|sign(?:ed|-in)?",
    "billing": r"invoices?|bill(?:ed)?|receipt|paid|pay(?:ment)?|charged|card|fee|price|discount",
    "delivery": r"parcels?|deliver(?:y|ed)|courier|tracking|shipp(?:ed|ing)|ships?|depot|address",
    "fault": r"app|website|crash(?:es|ed)?|error|broken?|broke|faulty|fault|update|sync",
    "returns": r"returns?|returned|refund(?:ed)?|exchange|cancel(?:led)?|send it back|warranty",
}


@pytest.fixture(scope="module")
def messages():
    return load_support_messages()


@pytest.fixture(scope="module")
def raw():
    folder = resources.files("skspace.datasets") / "data"
    return (folder / "support_messages.csv").read_bytes()


def fold(text):
    return " ".join(text.casefold().split())


def test_public_names():
    assert skspace.datasets.__all__ == [
        "fetch_hatexplain",
        "fetch_imdb",
        "fetch_social_media_attributions",
        "load_support_messages",
    ]
    assert {getattr(skspace.datasets, name).__module__ for name in skspace.datasets.__all__} == {"skspace.datasets"}


def test_bunch(messages):
    assert isinstance(messages, Bunch)
    assert sorted(messages) == sorted(["data", "target", "target_names", "ids", "frame", "DESCR", "filename"])
    assert messages.target_names == LABELS
    assert messages.frame is None
    assert messages.filename == "support_messages.csv"


@pytest.mark.parametrize("name", ["data", "target", "ids"])
def test_arrays(messages, name):
    array = messages[name]
    assert isinstance(array, np.ndarray)
    assert array.dtype == object
    assert array.shape == (400,)
    assert {type(value) for value in array} == {str}


def test_counts_per_class(messages):
    assert Counter(messages.target) == dict.fromkeys(LABELS, 80)


def test_ids(messages):
    assert messages.ids.tolist() == [f"s{number:03d}" for number in range(1, 401)]


def test_messages_are_distinct(messages):
    counts = Counter(fold(text) for text in messages.data)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_message_is_nearly_another(messages):
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    vectors = vectorizer.fit_transform(messages.data)
    similarity = (vectors @ vectors.T).toarray()
    np.fill_diagonal(similarity, 0)
    assert similarity.max() < 0.6


def test_whitespace(messages):
    for text in messages.data:
        assert " ".join(text.split()) == text


def test_lengths(messages):
    words = [len(text.split()) for text in messages.data]
    assert min(words) >= 4
    assert max(words) <= 45
    # The description states these figures.
    assert f"{min(words)} to {max(words)} words" in messages.DESCR
    assert f"half of the messages have {np.median(words):.0f} words or fewer" in messages.DESCR


@pytest.mark.parametrize("n_rows", [10, 50, 100])
def test_first_rows_hold_every_class(messages, n_rows):
    counts = Counter(messages.target[:n_rows])
    assert min(counts[label] for label in LABELS) >= n_rows / 10


def test_nothing_that_identifies_a_person(messages):
    for text in messages.data:
        assert "@" not in text
        assert not re.search(r"https?:|www\.|\.(?:com|org|net)\b", text, flags=re.IGNORECASE)
        # Seven digits with the separators people put into phone numbers; order numbers are shorter.
        assert not re.search(r"\+\d|(?:\d[\s()./-]{0,2}){7,}", text)


def test_a_quarter_has_the_words_of_another_class(messages):
    misleading = 0
    for text, label in zip(messages.data, messages.target, strict=True):
        misleading += any(
            re.search(rf"\b(?:{words})\b", text, flags=re.IGNORECASE)
            for other, words in CLASS_WORDS.items()
            if other != label
        )
    assert misleading >= 100


def test_task_is_neither_trivial_nor_hopeless(messages):
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    scores = cross_val_score(model, messages.data, messages.target, cv=folds)
    assert 0.70 < scores.mean() < 0.92


def test_file_format(raw):
    assert raw.startswith(b"id,text,label\n")
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    assert raw.count(b"\n") == 401
    text = raw.decode("utf-8")
    assert {len(row) for row in csv.reader(io.StringIO(text, newline=""))} == {3}


def test_loader_returns_the_file(messages, raw):
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="")))[1:]
    loaded = zip(messages.ids, messages.data, messages.target, strict=True)
    assert [list(row) for row in loaded] == rows


def test_calls_share_nothing():
    first = load_support_messages()
    first.data[0] = "changed"
    assert load_support_messages().data[0] != "changed"


def test_return_x_y(messages):
    X, y = load_support_messages(return_X_y=True)
    np.testing.assert_array_equal(X, messages.data)
    np.testing.assert_array_equal(y, messages.target)


def test_as_frame(messages):
    pd = pytest.importorskip("pandas")
    bunch = load_support_messages(as_frame=True)
    assert isinstance(bunch.frame, pd.DataFrame)
    assert bunch.frame.shape == (400, 3)
    assert bunch.frame.columns.tolist() == ["id", "text", "label"]
    assert bunch.frame.dtypes.map(str).tolist() == ["object"] * 3
    assert bunch.frame["id"].tolist() == messages.ids.tolist()
    for name, column in [("data", "text"), ("target", "label")]:
        assert isinstance(bunch[name], pd.Series)
        assert bunch[name].name == column
        assert bunch[name].tolist() == bunch.frame[column].tolist() == messages[name].tolist()
    assert bunch.target_names == LABELS


def test_as_frame_with_return_x_y(messages):
    pd = pytest.importorskip("pandas")
    X, y = load_support_messages(return_X_y=True, as_frame=True)
    assert isinstance(X, pd.Series)
    assert isinstance(y, pd.Series)
    assert X.tolist() == messages.data.tolist()
    assert y.tolist() == messages.target.tolist()


def test_missing_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'skspace\[datasets\]'"):
        load_support_messages(as_frame=True)
    assert load_support_messages().frame is None


@pytest.mark.parametrize("name", ["return_X_y", "as_frame"])
@pytest.mark.parametrize("value", ["auto", None, 1])
def test_options_must_be_bool(name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        load_support_messages(**{name: value})


def test_options_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        load_support_messages(True)


def test_description(messages):
    assert "synthetic" in messages.DESCR
    assert "BSD-3-Clause" in messages.DESCR
    for label in LABELS:
        assert re.search(rf"^``{label}``\s+80\b", messages.DESCR, flags=re.MULTILINE)
    # The example the description quotes must be in the data, with that label.
    quoted = re.search(r'"(I paid extra[^"]+)" is ``(\w+)``', messages.DESCR)
    row = messages.data.tolist().index(" ".join(quoted[1].split()))
    assert messages.target[row] == quoted[2]


def test_docstring_example():
    result = doctest.testmod(skspace.datasets)
    assert result.attempted > 0
    assert result.failed == 0


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_is_light():
    done = run_python(
        "import sys, skspace.datasets;"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'sklearn', 'pooch', 'requests'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_loading_uses_nothing_else_of_the_package():
    done = run_python(
        "import sys, skspace.datasets as datasets; datasets.load_support_messages();"
        "others = [name for name in sys.modules if name.startswith('skspace.')"
        " and not name.startswith('skspace.datasets')];"
        "heavy = {'torch', 'transformers', 'matplotlib'} & set(sys.modules);"
        "sys.exit(str((others, heavy)) if others or heavy else 0)"
    )
    assert done.returncode == 0, done.stderr


def test_loading_works_without_pandas():
    done = run_python(
        "import sys; sys.modules['pandas'] = None;"
        "from skspace.datasets import load_support_messages;"
        "sys.exit(0 if load_support_messages().data.shape == (400,) else 'wrong shape')"
    )
    assert done.returncode == 0, done.stderr
