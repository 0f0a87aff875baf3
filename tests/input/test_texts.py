"""check_texts: every container that people keep texts in gives the same list of str; the rest says what is wrong."""

import enum
import re
from collections import UserString, deque

import numpy as np
import pytest
import scipy.sparse

from skspace._input.texts import check_texts

TEXTS = ["a plain text", "", "  \n", "Grüße, 世界 🎉", "a plain text"]


def pandas():
    return pytest.importorskip("pandas")


def polars():
    return pytest.importorskip("polars")


def pyarrow():
    return pytest.importorskip("pyarrow")


def string_array(texts, **kwargs):
    return np.array(texts, dtype=np.dtypes.StringDType(**kwargs))


def object_array(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def pandas_arrow(texts, dtype):
    pyarrow()
    return pandas().Series(texts, dtype=dtype)


# Each builds its container when its test runs, so that a missing library skips that test only.
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "object array": object_array,
    "fixed-width array": np.array,
    "StringDType array": string_array,
    "strided array": lambda t: np.repeat(np.array(t), 2)[::2],
    "object column": lambda t: object_array(t)[:, None],
    "fixed-width column": lambda t: np.array(t)[:, None],
    "StringDType column": lambda t: string_array(t)[:, None],
    "list of lists": lambda t: [[text] for text in t],
    "list of tuples": lambda t: [(text,) for text in t],
    "list of arrays": lambda t: list(np.array(t)[:, None]),
    "list of np.str_": lambda t: list(np.array(t)),
    "pandas default": lambda t: pandas().Series(t),
    "pandas object": lambda t: pandas().Series(t, dtype=object),
    "pandas string": lambda t: pandas().Series(t, dtype="string"),
    "pandas string[python]": lambda t: pandas().Series(t, dtype="string[python]"),
    "pandas string[pyarrow]": lambda t: pandas_arrow(t, "string[pyarrow]"),
    "pandas ArrowDtype": lambda t: pandas_arrow(t, pandas().ArrowDtype(pyarrow().string())),
    "pandas category": lambda t: pandas().Series(t, dtype="category"),
    "pandas odd index": lambda t: pandas().Series(t, index=range(len(t), 0, -1)),
    "pandas repeated index": lambda t: pandas().Series(t, index=[7] * len(t)),
    "pandas index": lambda t: pandas().Index(t),
    "pandas frame": lambda t: pandas().DataFrame({"text": t}),
    "pandas frame, odd names": lambda t: pandas().DataFrame({3: t}, index=range(len(t), 0, -1)),
    "pandas frame, string": lambda t: pandas().DataFrame({"text": t}, dtype="string"),
    "polars series": lambda t: polars().Series(t),
    "polars named series": lambda t: polars().Series("text", t),
    "polars categorical": lambda t: polars().Series(t, dtype=polars().Categorical),
    "polars frame": lambda t: polars().DataFrame({"text": t}),
    "pyarrow array": lambda t: pyarrow().array(t),
    "pyarrow large string": lambda t: pyarrow().array(t, pyarrow().large_string()),
    "pyarrow dictionary": lambda t: pyarrow().array(t).dictionary_encode(),
    "pyarrow chunked array": lambda t: pyarrow().chunked_array([t[:2], [], t[2:]]),
    "pyarrow table": lambda t: pyarrow().table({"text": t}),
    "pyarrow record batch": lambda t: pyarrow().RecordBatch.from_pydict({"text": t}),
}


@pytest.mark.parametrize("build", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_container(build):
    texts = check_texts(build(TEXTS))
    assert texts == TEXTS
    assert type(texts) is list
    assert {type(text) for text in texts} == {str}  # no np.str_, which is a str but pickles and prints otherwise


@pytest.mark.parametrize("build", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_container_of_one_text(build):
    assert check_texts(build(["only one"])) == ["only one"]


def test_input_is_left_alone():
    given = ["a", "b" + chr(0xD800)]
    texts = check_texts(given)
    texts.append("c")
    assert given == ["a", "b" + chr(0xD800)]


def test_blank_texts_are_texts():
    assert check_texts(["", " ", "\n", "\x00"]) == ["", " ", "\n", "\x00"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (chr(0xD800), "\ufffd"),
        (chr(0xDFFF), "\ufffd"),
        (f"before {chr(0xDC80)} after", "before \ufffd after"),
        (chr(0xD83D) + chr(0xDE00), "\ufffd\ufffd"),  # two halves of a character that were never joined
        (chr(0xD7FF) + chr(0xE000) + "😀", chr(0xD7FF) + chr(0xE000) + "😀"),  # neighbours; a character beyond 16 bits
    ],
)
def test_lone_surrogates(text, expected):
    [clean] = check_texts([text])
    assert clean == expected
    clean.encode()  # the point of it


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("X", "kind"),
    [("a text", "str"), (np.str_("a text"), "str_"), (b"a text", "bytes")],
)
def test_single_text(X, kind):
    with pytest.raises(
        TypeError, match=rf"^X must be a sequence of texts\. Got a single {kind} instead; wrap it in a list"
    ):
        check_texts(X)


MISSING = {
    "None in a list": (lambda: ["a", "b", None, None], "None"),
    "NaN in a list": (lambda: ["a", "b", float("nan")], "nan"),
    "np.nan in a tuple": (lambda: ("a", "b", np.float32("nan")), r"np\.float32\(nan\)"),
    "None in one-item lists": (lambda: [["a"], ["b"], [None]], "None"),
    "None in an array": (lambda: object_array(["a", "b", None]), "None"),
    "NaN in a column": (lambda: object_array(["a", "b", float("nan")])[:, None], "nan"),
    "NaN in StringDType": (lambda: string_array(["a", "b", np.nan], na_object=np.nan), "nan"),
    "masked array": (lambda: np.ma.array(["a", "b", "c"], mask=[0, 0, 1]), "None"),
    "pd.NA in a list": (lambda: ["a", "b", pandas().NA], "<NA>"),
    "pd.NaT in a list": (lambda: ["a", "b", pandas().NaT], "NaT"),
    "pandas default": (lambda: pandas().Series(["a", "b", None]), "(nan|None)"),
    "pandas object": (lambda: pandas().Series(["a", "b", None], dtype=object), "None"),
    "pandas string": (lambda: pandas().Series(["a", "b", None], dtype="string"), "<NA>"),
    "pandas category": (lambda: pandas().Series(["a", "b", None], dtype="category"), "nan"),
    "pandas frame": (lambda: pandas().DataFrame({"t": ["a", "b", None]}, dtype="string"), "<NA>"),
    "polars": (lambda: polars().Series(["a", "b", None]), "None"),
    "polars frame": (lambda: polars().DataFrame({"t": ["a", "b", None]}), "None"),
    "pyarrow": (lambda: pyarrow().array(["a", "b", None]), "None"),
    "pyarrow chunked": (lambda: pyarrow().chunked_array([["a", "b"], [None]]), "None"),
    "pyarrow table": (lambda: pyarrow().table({"t": ["a", "b", None]}), "None"),
}


@pytest.mark.parametrize(("build", "shown"), MISSING.values(), ids=MISSING.keys())
def test_missing_text(build, shown):
    message = (
        rf"^X must hold texts only\. Got a missing value \({shown}\) in row 2 instead; drop the row or put an empty"
    )
    with pytest.raises(ValueError, match=message):
        check_texts(build())


NO_TEXT = {
    "int": (["a", 3], r"Got int \(3\) in row 1 instead; convert it with str\(\)"),
    "float": (["a", 3.5], r"Got float \(3\.5\) in row 1 instead"),
    "infinity": (["a", float("inf")], r"Got float \(inf\) in row 1 instead"),
    "bool": (["a", True], r"Got bool \(True\) in row 1 instead"),
    "bytes": (["a", b"b"], r"Got bytes \(b'b'\) in row 1 instead; decode it, for example with \.decode\('utf-8'\)"),
    "bytes array": (np.array([b"a", b"b"]), r"Got bytes \(b'a'\) in row 0 instead; decode it"),
    "int array": (np.array([1, 2]), r"Got int \(1\) in row 0 instead"),
    "float array": (np.array([[1.5], [2.0]]), r"Got float \(1\.5\) in row 0 instead"),
    "tokens": (["a", ["b", "c"]], r"Got list \(\['b', 'c'\]\) in row 1 instead"),
    "one-item list among texts": (["a", ["b"]], r"Got list \(\['b'\]\) in row 1 instead"),
    "nested twice": ([[["a"]]], r"Got list \(\['a'\]\) in row 0 instead"),
    "dict": ([{"text": "a"}], r"Got dict \(\{'text': 'a'\}\) in row 0 instead"),
    "records": (np.array([("a", 1)], dtype=[("t", "U1"), ("n", int)]), r"Got tuple \(\('a', 1\)\) in row 0 instead"),
    "like a str": (["a", UserString("b")], r"Got UserString \('b'\) in row 1 instead; convert it with str\(\)"),
    "long": ([["x" * 1000], "a"], r"Got list \(\['x{58}\) in row 0 instead"),
}


@pytest.mark.parametrize(("X", "message"), NO_TEXT.values(), ids=NO_TEXT.keys())
def test_no_text_in_a_row(X, message):
    with pytest.raises(TypeError, match=r"^X must hold texts only\. " + message):
        check_texts(X)


def test_first_bad_row_is_named():
    with pytest.raises(TypeError, match=r"Got int .* in row 3 instead"):
        check_texts(["a", "b", "c", 1, 2, None])


EMPTY = {
    "list": list,
    "tuple": tuple,
    "array": lambda: np.array([]),
    "column": lambda: np.empty((0, 1), object),
    "pandas series": lambda: pandas().Series([], dtype=object),
    "pandas frame": lambda: pandas().DataFrame({"text": []}),
    "polars series": lambda: polars().Series([], dtype=polars().String),
    "pyarrow table": lambda: pyarrow().table({"text": []}),
}


@pytest.mark.parametrize("build", EMPTY.values(), ids=EMPTY.keys())
def test_empty(build):
    with pytest.raises(
        ValueError, match=r"^X must hold at least one text\. Got 0 texts \(a minimum of 1 is required\)"
    ):
        check_texts(build())


MORE_COLUMNS = {
    "array": (lambda: np.full((3, 2), "a"), 2),
    "square array": (lambda: np.full((2, 2), "a"), 2),
    "lists": (lambda: [["a", "b"], ["c", "d"]], 2),
    "uneven lists": (lambda: [["a"], ["b", "c", "d"]], 3),
    "empty lists": (lambda: [[], []], 0),
    "no column": (lambda: np.empty((3, 0), object), 0),
    "pandas": (lambda: pandas().DataFrame({"a": ["x"], "b": ["y"]}), 2),
    "pandas without columns": (lambda: pandas().DataFrame(index=[0, 1]), 0),
    "polars": (lambda: polars().DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}), 3),
    "pyarrow": (lambda: pyarrow().table({"a": ["x"], "b": ["y"]}), 2),
    "pyarrow record batch": (lambda: pyarrow().RecordBatch.from_pydict({"a": ["x"], "b": ["y"]}), 2),
}


@pytest.mark.parametrize(("build", "n_columns"), MORE_COLUMNS.values(), ids=MORE_COLUMNS.keys())
def test_other_than_one_column(build, n_columns):
    message = (
        rf"^X must have one column, the texts\. Got {n_columns} columns instead; select one, for .*ColumnTransformer"
    )
    with pytest.raises(ValueError, match=message):
        check_texts(build())


@pytest.mark.parametrize("shape", [(), (2, 1, 1), (1, 1, 1, 1)])
def test_other_dimensions(shape):
    message = rf"^X must be one-dimensional or have one column\. Got shape {re.escape(str(shape))} instead"
    with pytest.raises(ValueError, match=message):
        check_texts(np.full(shape, "a"))


NO_CONTAINER = {
    "generator": (text for text in TEXTS),
    "iterator": iter(TEXTS),
    "dict": {"text": TEXTS},
    "dict keys": dict.fromkeys(TEXTS).keys(),
    "set": set(TEXTS),
    "deque": deque(TEXTS),
    "bytearray": bytearray(b"text"),
    "number": 3,
    "None": None,
    "csr_matrix": scipy.sparse.csr_matrix(np.eye(2)),
}


@pytest.mark.parametrize("kind", NO_CONTAINER)
def test_no_container(kind):
    X = NO_CONTAINER[kind]
    message = rf"^X must be a list, tuple, array, Series or one-column frame of texts\. Got {type(X).__name__} instead"
    with pytest.raises(TypeError, match=message):
        check_texts(X)


@pytest.mark.parametrize("X", ["a text", [], ["a", None], ["a", 1], np.full((2, 2), "a"), np.array("a"), 3])
def test_errors_name_the_argument(X):
    with pytest.raises((TypeError, ValueError), match=r"^raw_documents must"):
        check_texts(X, name="raw_documents")


class Colour(str, enum.Enum):  # noqa: UP042 - what older code has
    RED = "red"


@pytest.mark.parametrize(
    "build",
    [
        lambda pd: pd.Series(["a", "b"]).values,
        lambda pd: pd.array(["a", "b"]),
        lambda pd: pd.Categorical(["a", "b"]),
        lambda pd: pd.Series(["a", "b"]).unique(),
    ],
)
def test_pandas_arrays(build):
    assert check_texts(build(pytest.importorskip("pandas"))) == ["a", "b"]


def test_enum_of_str():
    assert check_texts([Colour.RED]) == ["red"]


def test_list_of_arrays_without_dimension():
    with pytest.raises(TypeError, match=r"Got ndarray .* in row 0"):
        check_texts([np.array("a")])


def test_lazy_frame():
    with pytest.raises(TypeError, match=r"Got LazyFrame instead"):
        check_texts(pytest.importorskip("polars").LazyFrame({"text": ["a"]}))
