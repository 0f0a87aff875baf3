"""check_labels: labels of every kind that people have, and a message with the row for those that cannot be learned."""

import datetime
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import DataConversionWarning

from skspace._input.labels import check_labels

STR = ["spam", "ham", "spam"]
INT = [3, -1, 3]
BOOL = [True, False, True]
FLOAT = [2.0, 0.0, 2.0]
INDICATOR = [[1, 0, 1], [0, 0, 0], [1, 0, 0], [1, 0, 1]]  # a text without a label, a class without a text


def check(y, n_rows=3):
    return check_labels(y, n_rows=n_rows, estimator="SpaceClassifier")


def pandas():
    return pytest.importorskip("pandas")


def polars():
    return pytest.importorskip("polars")


def pyarrow():
    return pytest.importorskip("pyarrow")


def string_array(labels, **kwargs):
    return np.array(labels, dtype=np.dtypes.StringDType(**kwargs))


def object_array(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


# ---------------------------------------------------------------- one label a text

# Each builds its container when its test runs, so that a missing library skips that test only.
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "object array": object_array,
    "list of numpy scalars": lambda y: list(np.array(y)),
    "pandas": lambda y: pandas().Series(y),
    "pandas object": lambda y: pandas().Series(y, dtype=object),
    "pandas category": lambda y: pandas().Series(y, dtype="category"),
    "pandas nullable": lambda y: pandas().Series(y).convert_dtypes(),
    "pandas odd index": lambda y: pandas().Series(y, index=[7, 7, 0]),
    "pandas index": lambda y: pandas().Index(y),
    "polars": lambda y: polars().Series(y),
    "pyarrow chunked array": lambda y: pyarrow().chunked_array([y[:1], y[1:]]),
}


@pytest.mark.parametrize("build", CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize(("y", "kinds"), [(STR, "OU"), (INT, "i"), (BOOL, "b")], ids=["str", "int", "bool"])
def test_container(build, y, kinds):
    labels = check(build(y))
    assert type(labels) is np.ndarray
    assert labels.shape == (3,)
    assert labels.dtype.kind in kinds
    assert labels.tolist() == y
    assert np.unique(labels).tolist() == sorted(set(y))  # what the classifier does with them next


@pytest.mark.parametrize(
    "build",
    [
        list,
        np.array,
        object_array,
        lambda y: list(np.array(y, np.float32)),
        lambda y: pandas().Series(y),
        lambda y: polars().Series(y),
    ],
)
def test_whole_numbers_as_float(build):
    labels = check(build(FLOAT))
    assert labels.dtype == np.float64
    assert labels.tolist() == FLOAT


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint64, np.float16, np.float32])
def test_numbers_keep_their_dtype(dtype):
    labels = check(np.array([1, 0, 1], dtype))
    assert labels.dtype == dtype
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "build",
    [
        string_array,
        lambda y: pandas().Series(y, dtype="string"),
        lambda y: pandas().Series(y, dtype="string[python]"),
        lambda y: polars().Series(y, dtype=polars().Categorical),
        lambda y: polars().Series(y, dtype=polars().Enum(["ham", "spam"])),
    ],
)
def test_more_kinds_of_str(build):
    labels = check(build(STR))
    assert labels.dtype.kind in "OU"
    assert labels.tolist() == STR


def test_range():
    assert check(range(3)).tolist() == [0, 1, 2]


def test_labels_of_one_class_pass():
    assert check(["a", "a", "a"]).tolist() == ["a", "a", "a"]  # the classifier says more on it than this function could


def test_strange_but_legal_str():
    y = ["", " ", "nan"]
    assert check(y).tolist() == y


def test_input_is_left_alone():
    y = object_array(BOOL)
    check(y)
    assert y.dtype == object


# ---------------------------------------------------------------- column vectors

COLUMNS = {
    "lists": lambda: [["spam"], ["ham"], ["spam"]],
    "tuples": lambda: [("spam",), ("ham",), ("spam",)],
    "array": lambda: np.array(STR)[:, None],
    "object array": lambda: object_array(STR)[:, None],
    "StringDType": lambda: string_array(STR)[:, None],
    "pandas": lambda: pandas().DataFrame({"label": STR}),
    "polars": lambda: polars().DataFrame({"label": STR}),
}


@pytest.mark.parametrize("build", COLUMNS.values(), ids=COLUMNS.keys())
def test_column_vector(build):
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"):
        labels = check(build())
    assert labels.shape == (3,)
    assert labels.tolist() == STR


def test_column_of_zeros_and_ones_is_no_indicator_matrix():
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        labels = check(scipy.sparse.csr_array([[1], [0], [1]]))
    assert labels.tolist() == [1, 0, 1]


def test_column_vector_is_checked_like_the_rest():
    with (
        pytest.warns(DataConversionWarning, match="A column-vector y was passed"),
        pytest.raises(ValueError, match=r"Input y contains None: no label in row 1"),
    ):
        check([["a"], [None], ["b"]])


# ---------------------------------------------------------------- several labels a text

INDICATORS = {
    "lists": lambda y: y,
    "tuples": lambda y: tuple(map(tuple, y)),
    "list of arrays": lambda y: list(np.array(y)),
    "int": np.array,
    "bool": lambda y: np.array(y, bool),
    "uint8": lambda y: np.array(y, np.uint8),
    "float": lambda y: np.array(y, np.float32),
    "object": lambda y: np.array(y, object),
    "object bool": lambda y: np.array(y, bool).astype(object),
    "columns first": lambda y: np.asfortranarray(y),
    "csr_matrix": scipy.sparse.csr_matrix,
    "csr_array": scipy.sparse.csr_array,
    "csc_array of bool": lambda y: scipy.sparse.csc_array(np.array(y, bool)),
    "coo_array": scipy.sparse.coo_array,
    "pandas": lambda y: pandas().DataFrame(y, columns=["a", "b", "c"]),
    "pandas bool": lambda y: pandas().DataFrame(y, columns=["a", "b", "c"]).astype(bool),
    "polars": lambda y: polars().DataFrame(y, schema=["a", "b", "c"], orient="row"),
}


@pytest.mark.parametrize("build", INDICATORS.values(), ids=INDICATORS.keys())
def test_indicator_matrix(build):
    labels = check(build(INDICATOR), n_rows=4)
    assert type(labels) is np.ndarray
    assert labels.dtype == np.int64
    assert labels.tolist() == INDICATOR


NO_INDICATOR = {
    "another number": [[1, 0], [0, 2], [1, 1]],
    "negative": [[1, 0], [0, -1], [1, 1]],
    "fraction": [[1, 0], [0, 0.5], [1, 1]],
    "NaN": [[1, 0], [0, float("nan")], [1, 1]],
    "infinity": [[1, 0], [0, float("inf")], [1, 1]],
    "None": [[1, 0], [0, None], [1, 1]],
    "objects": [[{}, 1], [0, 1], [0, 0]],
    "str": [["a", "b"], ["c", "d"], ["e", "f"]],
    "str array": np.array([["a", "b"], ["c", "d"], ["e", "f"]]),
    "StringDType": string_array([["a", "b"], ["c", "d"], ["e", "f"]]),
    "sparse": scipy.sparse.csr_array([[1, 0], [0, 2], [1, 1]]),
}


@pytest.mark.parametrize("y", NO_INDICATOR.values(), ids=NO_INDICATOR.keys())
def test_matrix_of_other_values(y):
    message = r"must be a matrix of zeros and ones, one column per class\. Got shape \(3, 2\) with other values instead"
    with pytest.raises(ValueError, match=message):
        check(y)


@pytest.mark.parametrize(
    "y", [np.zeros((3, 2, 1)), np.zeros((3, 1, 1)), [[[1]], [[0]], [[1]]], np.array(3), np.array("a")]
)
def test_other_dimensions(y):
    shape = re.escape(str(np.shape(y)))
    message = rf"y should be a 1d array of labels or a 2d matrix of zeros and ones\. Got shape {shape} instead"
    with pytest.raises(ValueError, match=message):
        check(y)


# ---------------------------------------------------------------- errors


def test_none():
    message = r"^SpaceClassifier requires y to be passed, but the target y is None\. Pass one label per text"
    with pytest.raises(ValueError, match=message):
        check(None)


@pytest.mark.parametrize("y", [["a"], ["a", "b", "a", "b"], [], np.zeros((4, 2)), scipy.sparse.csr_array((2, 2))])
def test_other_length(y):
    n_labels = y.shape[0] if hasattr(y, "shape") else len(y)
    message = rf"inconsistent numbers of samples: 3 in X and {n_labels} in y"
    with pytest.raises(ValueError, match=message):
        check(y)


@pytest.mark.parametrize(
    ("y", "shown"),
    [
        ("spam", "'spam'"),
        (b"spam", "b'spam'"),
        (3, "3"),
        (1.5, r"1\.5"),
        ((label for label in STR), "<generator"),
        (iter(STR), "<list_iterator"),
    ],
    ids=["str", "bytes", "int", "float", "generator", "iterator"],
)
def test_no_container(y, shown):
    message = (
        rf"^y should be a 1d array, got {shown}.* instead\. Expected one label per text in a list, array or Series"
    )
    with pytest.raises(ValueError, match=message):
        check(y)


MISSING = {
    "None in a list": (lambda: ["a", None, "b"], "None"),
    "NaN among str": (lambda: ["a", float("nan"), "b"], "NaN"),
    "NaN among int": (lambda: [1, float("nan"), 0], "NaN"),
    "NaN in a list": (lambda: [1.0, np.nan, 0.0], "NaN"),
    "NaN in an array": (lambda: np.array([1.0, np.nan, 0.0]), "NaN"),
    "NaN in float16": (lambda: np.array([1.0, np.nan, 0.0], np.float16), "NaN"),
    "NaN in an object array": (lambda: object_array(["a", np.float32("nan"), "b"]), "NaN"),
    "None among bool": (lambda: [True, None, False], "None"),
    "NaN in StringDType": (lambda: string_array(["a", np.nan, "b"], na_object=np.nan), "NaN"),
    "None in StringDType": (lambda: string_array(["a", None, "b"], na_object=None), "None"),
    "infinity in a list": (lambda: [1.0, float("inf"), 0.0], "infinity"),
    "infinity in an array": (lambda: np.array([1.0, -np.inf, 0.0]), "infinity"),
    "pd.NA": (lambda: ["a", pandas().NA, "b"], "<NA>"),
    "pd.NaT": (lambda: ["a", pandas().NaT, "b"], "NaT"),
    "pandas default": (lambda: pandas().Series(["a", None, "b"]), "(NaN|None)"),
    "pandas object": (lambda: pandas().Series(["a", None, "b"], dtype=object), "None"),
    "pandas string": (lambda: pandas().Series(["a", None, "b"], dtype="string"), "<NA>"),
    "pandas category": (lambda: pandas().Series(["a", None, "b"], dtype="category"), "NaN"),
    "pandas Int64": (lambda: pandas().Series([1, None, 0], dtype="Int64"), "(<NA>|NaN)"),
    "pandas boolean": (lambda: pandas().Series([True, None, False], dtype="boolean"), "<NA>"),
    "polars str": (lambda: polars().Series(["a", None, "b"]), "None"),
    "polars int": (lambda: polars().Series([1, None, 0]), "NaN"),
    "polars bool": (lambda: polars().Series([True, None, False]), "None"),
    "pyarrow": (lambda: pyarrow().chunked_array([["a"], [None, "b"]]), "None"),
}


@pytest.mark.parametrize(("build", "shown"), MISSING.values(), ids=MISSING.keys())
def test_missing_label(build, shown):
    message = rf"^Input y contains {shown}: no label in row 1\. Drop the row, or give it a label"
    with pytest.raises(ValueError, match=message):
        check(build())


MIXED = {
    "str and int": (["a", "b", 1], "str in row 0, int in row 2"),
    "int and str": ([1, 2, "a"], "int in row 0, str in row 2"),
    "bool and int": ([True, 1, 0], "bool in row 0, int in row 1"),
    "int and float": ([1, 2.0, 2], "int in row 0, float in row 1"),
    "three kinds": ([1, "a", True], "int in row 0, str in row 1, bool in row 2"),
    "str and bytes": (["a", b"a", "b"], "str in row 0, bytes in row 1"),
    "numpy scalars": ([np.int8(1), np.str_("a"), np.bool_(True)], "int in row 0, str in row 1, bool in row 2"),
    "object array": (object_array(["a", 1, "b"]), "str in row 0, int in row 1"),
    "label and list": (["a", ["b"], "c"], "str in row 0, list in row 1"),
}


@pytest.mark.parametrize(("y", "rows"), MIXED.values(), ids=MIXED.keys())
def test_mixed_types(y, rows):
    message = rf"^Labels must be all str, all int or all bool\. Got {rows} instead; convert them to one type"
    with pytest.raises(ValueError, match=message):
        check(y)


OTHER_TYPES = {
    "bytes": [b"a", b"b", b"a"],
    "complex": [1j, 2j, 1j],
    "Decimal": [Decimal(1), Decimal(2), Decimal(1)],
    "Fraction": [Fraction(1), Fraction(2), Fraction(1)],
    "date": [datetime.date(2020, 1, 1)] * 3,
    "list": [["a"], ["a", "b"], []],
    "tuple": [("a",), ("a", "b"), ("b",)],
    "set": [{"a"}, {"a", "b"}, {"b"}],
    "dict": [{"label": "a"}] * 3,
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_other_types(kind):
    message = rf"^Unknown label type: labels must be str, int or bool\. Got {kind} in row 0 instead"
    with pytest.raises(ValueError, match=message):
        check(OTHER_TYPES[kind])


@pytest.mark.parametrize("y", [[0.5, 1.0, 2.0], np.array([0.5, 1.0, 2.0]), object_array([0.1, 0.2, 0.3])])
def test_continuous(y):
    with pytest.raises(ValueError, match=r"^Unknown label type: continuous"):
        check(y)


def test_arrays_of_different_shape():
    with pytest.raises(ValueError, match=r"^y should be a 1d array\. Got rows of different length instead"):
        check([np.zeros((2, 3)), np.zeros((2, 4)), np.zeros((2, 4))])


@pytest.mark.parametrize("y", [["a", "b", "a"], [True, False, True], [1, 0, 1]])
def test_pyarrow_array(y):
    assert check(pyarrow().array(y)).tolist() == y


@pytest.mark.parametrize("y", [{"a", "b", "c"}, frozenset("abc"), dict.fromkeys("abc"), dict.fromkeys("abc").keys()])
def test_no_order(y):
    with pytest.raises(ValueError, match=r"^y should be a 1d array, got"):
        check(y)


@pytest.mark.parametrize(
    "y",
    [
        [["1", "0"], ["0", "1"], ["1", "1"]],
        np.array([["1", "0"], ["0", "1"], ["1", "1"]]),
        np.eye(3, 2, dtype=complex),
        np.zeros((3, 0)),
        [[], [], []],
    ],
)
def test_no_indicator(y):
    with pytest.raises(ValueError, match=r"must be a matrix of zeros and ones"):
        check(y)


@pytest.mark.parametrize(
    "y",
    [
        np.array(["2020-01-01", "NaT", "2020-01-01"], "M8[D]"),
        np.array([1, 2, 1], "m8[s]"),
        np.zeros(3, [("a", "U1"), ("b", int)]),
        np.zeros(3, "V2"),
        np.array([b"a", b"b", b"a"]),
    ],
)
def test_more_unknown_types(y):
    with pytest.raises(ValueError, match=r"^Unknown label type"):
        check(y)


def test_huge_int():
    with pytest.raises(ValueError, match=r"row 1"):
        check([1, 2**70, 1])


def test_masked():
    with pytest.raises(ValueError, match=r"no label in row 1"):
        check(np.ma.array([1, 2, 1], mask=[0, 1, 0]))
