"""RaggedArray against the plainest thing that does the same: a list with one array a text."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.utils import _safe_indexing

from skspace import RaggedArray

LENGTHS = [2, 0, 3, 1, 0, 4]  # rows without a token stand inside


def make_rows(lengths=LENGTHS, n_features=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, n_features)).astype(dtype) for n in lengths]


def assert_rows(ragged, rows):
    """`ragged` holds exactly `rows`, whichever way it is asked."""
    lengths = [len(row) for row in rows]
    assert isinstance(ragged, RaggedArray)
    assert len(ragged) == len(rows)
    assert ragged.shape == (len(rows),)
    assert ragged.ndim == 1
    np.testing.assert_array_equal(ragged.lengths, lengths)
    np.testing.assert_array_equal(ragged.offsets, np.cumsum([0, *lengths]))
    assert ragged.lengths.dtype == ragged.offsets.dtype == np.int64
    assert ragged.values.shape == (sum(lengths), ragged.n_features)
    assert ragged.values.dtype == ragged.dtype
    np.testing.assert_array_equal(ragged.values, np.concatenate([np.empty((0, ragged.n_features)), *rows]))
    for i, row in enumerate(rows):
        assert ragged[i].shape == row.shape
        np.testing.assert_array_equal(ragged[i], row)


class FakeFile:
    """A segment that is read by position, as a shard on disk is. Notes what was read; pickles as its name only."""

    contents: ClassVar[dict] = {}

    def __init__(self, name):
        self.name = name
        self.dtype = self.contents[name].dtype
        self.shape = self.contents[name].shape
        self.reads = []

    def __reduce__(self):
        return FakeFile, (self.name,)

    def read_runs(self, runs, out):
        for start, begin, end in runs:
            self.reads.append((start, start + end - begin))
            out[begin:end] = self.contents[self.name][start : start + end - begin]


@pytest.fixture
def fake_file(monkeypatch):
    def make(values, name="shard"):
        monkeypatch.setitem(FakeFile.contents, name, values)
        return FakeFile(name)

    return make


@pytest.fixture
def rows():
    return make_rows()


@pytest.fixture
def ragged(rows):
    return RaggedArray.from_rows(rows)


def over_file(file, lengths):
    """A RaggedArray whose rows lie in `file` one after another."""
    lengths = np.asarray(lengths)
    return RaggedArray.from_segments(
        [file],
        np.zeros(len(lengths), int),
        np.cumsum(lengths) - lengths,
        lengths,
        n_features=file.shape[1],
        dtype=file.dtype,
    )


# ---------------------------------------------------------------- construction


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_constructor(dtype):
    rows = make_rows(dtype=dtype)
    ragged = RaggedArray(np.concatenate(rows), np.cumsum([0, *LENGTHS]))
    assert_rows(ragged, rows)
    assert ragged.dtype == dtype
    assert ragged.n_features == 3
    assert ragged.nbytes == ragged.values.nbytes == sum(LENGTHS) * 3 * np.dtype(dtype).itemsize


def test_constructor_takes_lists():
    ragged = RaggedArray([[1.0, 2.0], [3.0, 4.0]], [0, 0, 2])
    assert_rows(ragged, [np.empty((0, 2)), np.array([[1.0, 2.0], [3.0, 4.0]])])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint64])
def test_offsets_of_any_integer_kind(dtype, rows):
    assert_rows(RaggedArray(np.concatenate(rows), np.cumsum([0, *LENGTHS]).astype(dtype)), rows)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda v: np.repeat(v, 2, axis=0)[::2], lambda v: v[::-1][::-1]])
def test_values_of_any_memory_layout(layout, rows):
    assert_rows(RaggedArray(layout(np.concatenate(rows)), np.cumsum([0, *LENGTHS])), rows)


@pytest.mark.parametrize("n_features", [0, 3])
def test_no_text(n_features):
    assert_rows(RaggedArray(np.empty((0, n_features), np.float32), [0]), [])


def test_only_texts_without_tokens():
    assert_rows(RaggedArray(np.empty((0, 3), np.float32), [0, 0, 0]), make_rows([0, 0]))


def test_values_are_not_copied_and_offsets_are(rows):
    values, offsets = np.concatenate(rows), np.cumsum([0, *LENGTHS])
    ragged = RaggedArray(values, offsets)
    assert np.shares_memory(ragged.values, values)
    offsets[1:] = len(values)
    assert_rows(ragged, rows)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), r"values must have shape \(n_tokens, n_features\)\. Got 1 dimension"),
        (np.zeros((5, 2, 2)), r"values must have shape \(n_tokens, n_features\)\. Got 3 dimension"),
        (np.zeros((5, 2), int), r"must be floating-point numbers\. Got dtype int64 instead.*astype\('float32'\)"),
        (np.zeros((5, 2), bool), r"must be floating-point numbers\. Got dtype bool"),
        (np.zeros((5, 2), complex), r"must be floating-point numbers\. Got dtype complex128"),
        (np.full((5, 2), "a"), r"must be floating-point numbers\. Got dtype <U1"),
        (np.full((5, 2), None), r"must be floating-point numbers\. Got dtype object"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        RaggedArray(values, [0, 5])


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([], r"1-D array of n_texts \+ 1 integers\. Got shape \(0,\)"),
        (np.array([], int), r"1-D array of n_texts \+ 1 integers\. Got shape \(0,\), dtype int64"),
        ([[0, 5]], r"1-D array of n_texts \+ 1 integers\. Got shape \(1, 2\)"),
        (5, r"1-D array of n_texts \+ 1 integers\. Got shape \(\)"),
        ([0.0, 5.0], r"1-D array of n_texts \+ 1 integers\. Got shape \(2,\), dtype float64"),
        ([False, True], r"1-D array of n_texts \+ 1 integers\. Got shape \(2,\), dtype bool"),
        ([1, 5], r"start with 0, never fall and end with n_tokens=5\. Got first 1, last 5"),
        ([0, 4], r"start with 0, never fall and end with n_tokens=5\. Got first 0, last 4"),
        ([0, 6], r"start with 0, never fall and end with n_tokens=5\. Got first 0, last 6"),
        ([0, 3, 2, 5], r"start with 0, never fall and end with n_tokens=5"),
        ([0, -1, 5], r"start with 0, never fall and end with n_tokens=5"),
        ([0], r"start with 0, never fall and end with n_tokens=5\. Got first 0, last 0"),
        (np.array([0, 2**64 - 1], np.uint64), r"start with 0, never fall and end with n_tokens=5"),
    ],
)
def test_bad_offsets(offsets, message):
    with pytest.raises(ValueError, match=message):
        RaggedArray(np.zeros((5, 2)), offsets)


def test_repr(ragged):
    assert repr(ragged) == "<RaggedArray: 6 texts, 10 tokens, 3 features, float32>"


# ---------------------------------------------------------------- from_rows


def test_from_rows(rows):
    assert_rows(RaggedArray.from_rows(rows), rows)
    assert_rows(RaggedArray.from_rows(iter(rows)), rows)
    assert_rows(RaggedArray.from_rows([[[1.0, 2.0]], [[3.0, 4.0]]]), [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])])


@pytest.mark.parametrize("n_features", [None, 3])
def test_from_no_row(n_features):
    ragged = RaggedArray.from_rows([], n_features)
    assert_rows(ragged, [])
    assert ragged.n_features == (n_features or 0)


@pytest.mark.parametrize(
    ("rows", "n_features", "message"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 4))], None, r"shape \(n_tokens, 3\)\. Got \(2, 4\) in row 1"),
        ([np.zeros((2, 3)), np.zeros(3)], None, r"shape \(n_tokens, 3\)\. Got \(3,\) in row 1"),
        ([np.zeros(3)], None, r"shape \(n_tokens, 3\)\. Got \(3,\) in row 0"),
        ([np.zeros((2, 3))], 4, r"shape \(n_tokens, 4\)\. Got \(2, 3\) in row 0"),
        ([np.zeros((2, 3, 1))], None, r"Got \(2, 3, 1\) in row 0"),
        ([[]], 3, r"shape \(n_tokens, 3\)\. Got \(0,\) in row 0"),
        ([np.zeros((2, 3), int)], None, "must be floating-point numbers"),
    ],
)
def test_from_bad_rows(rows, n_features, message):
    with pytest.raises(ValueError, match=message):
        RaggedArray.from_rows(rows, n_features)


# ---------------------------------------------------------------- indexing


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_integer_index(kind, ragged, rows):
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(ragged[kind(i)], row)


def test_negative_integer_index(ragged, rows):
    for i in range(1, len(rows) + 1):
        np.testing.assert_array_equal(ragged[-i], rows[-i])


KEYS = {
    "slice": slice(1, 4),
    "open slice": slice(3, None),
    "negative slice": slice(-2, None),
    "backward slice": slice(None, None, -1),
    "step": slice(None, None, 2),
    "slice past the end": slice(4, 100),
    "empty slice": slice(3, 3),
    "list": [4, 0, 2],
    "repeated": [2, 2, 5, 2],
    "negative list": [-1, 0, -6],
    "array": np.array([5, 3, 1]),
    "unsigned array": np.array([5, 3, 1], np.uint8),
    "range": range(2, 5),
    "list mask": [True, False, True, True, False, False],
    "mask": np.array([False, True, False, False, True, True]),
    "mask of nothing": np.zeros(6, bool),
    "empty list": [],
    "empty array": np.array([], int),
    "ellipsis": Ellipsis,
}


@pytest.mark.parametrize("with_ellipsis", [False, True], ids=["key", "key, ..."])
@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_index_of_many(key, with_ellipsis, ragged, rows):
    places = [] if isinstance(key, list) and not key else np.arange(len(rows))[key]
    expected = [rows[i] for i in places]
    assert_rows(ragged[(key, ...) if with_ellipsis else key], expected)


def test_integer_with_ellipsis(ragged, rows):
    np.testing.assert_array_equal(ragged[2, ...], rows[2])


def test_index_of_an_index(ragged, rows):
    subset = ragged[[5, 0, 2, 3]][1:][[2, 0]]
    assert_rows(subset, [rows[3], rows[0]])
    assert subset.nbytes == subset.values.nbytes == 3 * 3 * 4


def test_index_leaves_the_array_alone(ragged, rows):
    ragged[[3, 0]].values[:] = 0
    ragged[0][:] = 0
    assert_rows(ragged, rows)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (6, "RaggedArray: index 6 is out of bounds for 6 texts"),
        (-7, "RaggedArray: index -7 is out of bounds for 6 texts"),
        (np.int64(6), "RaggedArray: index 6 is out of bounds for 6 texts"),
        ([0, 6], "index 6 is out of bounds"),
        ([0, -7], "index -7 is out of bounds"),
        ([True, False], "boolean index did not match"),
        (True, r"must be an integer, a slice, a boolean mask or a 1-D array of integers\. Got shape \(\), dtype bool"),
        (np.True_, r"must be an integer, .* Got shape \(\), dtype bool"),
        (1.0, r"must be an integer, .* Got shape \(\), dtype float64"),
        ("a", r"must be an integer, .* Got shape \(\), dtype <U1"),
        (None, r"must be an integer, .* Got shape \(\), dtype object"),
        ([0.0, 1.0], r"must be an integer, .* Got shape \(2,\), dtype float64"),
        (["a"], r"must be an integer, .* Got shape \(1,\), dtype <U1"),
        ([[0, 1]], r"must be an integer, .* Got shape \(1, 2\), dtype int64"),
        ((), r"one dimension, its texts\. Got index \(\) instead"),
        ((0, 1), r"one dimension, its texts\. Got index \(0, 1\) instead; index tokens in ragged\[i\]"),
        ((..., 0), r"one dimension, its texts\. Got index \(Ellipsis, 0\) instead"),
        ((slice(2), slice(2)), r"one dimension, its texts"),
        (([0, 1], None), r"one dimension, its texts"),
    ],
)
def test_bad_index(key, message, ragged):
    with pytest.raises(IndexError, match=message):
        ragged[key]


def test_no_text_no_index():
    with pytest.raises(IndexError, match="index 0 is out of bounds for 0 texts"):
        RaggedArray(np.empty((0, 3)), [0])[0]


def test_iteration(ragged, rows):
    seen = list(ragged)
    assert len(seen) == len(rows)
    for got, row in zip(seen, rows, strict=True):
        np.testing.assert_array_equal(got, row)
    assert [len(row) for row in reversed(ragged)] == LENGTHS[::-1]


# ---------------------------------------------------------------- segments


def test_rows_anywhere_in_several_segments(fake_file):
    memory, other, on_disk = (make_rows([8], seed=s)[0] for s in range(3))
    segments = [memory, fake_file(on_disk), other]
    where = [(1, 5, 2), (0, 0, 3), (1, 0, 4), (2, 7, 1), (2, 3, 0), (0, 6, 2), (1, 4, 1)]
    segment, start, lengths = np.transpose(where)
    ragged = RaggedArray.from_segments(segments, segment, start, lengths, n_features=3, dtype=np.float32)
    sources = [memory, on_disk, other]
    rows = [sources[s][a : a + n] for s, a, n in where]
    assert_rows(ragged, rows)
    assert_rows(ragged[[6, 3, 0, 3]], [rows[i] for i in (6, 3, 0, 3)])
    assert_rows(ragged[[1, 5]], [rows[1], rows[5]])  # only rows that lie in memory
    assert_rows(ragged[[]], [])


@pytest.mark.parametrize("seed", range(5))
def test_random_rows_of_random_segments(seed, fake_file):
    rng = np.random.default_rng(seed)
    sources = make_rows(rng.integers(5, 30, 4), n_features=2, dtype=np.float16, seed=seed)
    segments = [source if s % 2 else fake_file(source, name=f"shard {s}") for s, source in enumerate(sources)]
    segment = np.sort(rng.integers(0, 4, 40)) if seed % 2 else rng.integers(0, 4, 40)
    lengths = rng.integers(0, 4, 40)
    start = np.array([rng.integers(0, len(sources[s]) - n + 1) for s, n in zip(segment, lengths, strict=True)])
    ragged = RaggedArray.from_segments(segments, segment, start, lengths, n_features=2, dtype=np.float16)
    rows = [sources[s][a : a + n] for s, a, n in zip(segment, start, lengths, strict=True)]
    assert_rows(ragged, rows)
    some = rng.integers(-40, 40, 60)
    assert_rows(ragged[some], [rows[i] for i in some])
    assert_rows(pickle.loads(pickle.dumps(ragged[some])), [rows[i] for i in some])


def test_neighbours_in_a_file_are_read_at_once(fake_file):
    file = fake_file(np.concatenate(make_rows()))
    ragged = over_file(file, LENGTHS)
    assert file.reads == []  # nothing is read before it is asked for
    _ = ragged.values
    assert file.reads == [(0, 10)]
    file.reads.clear()
    _ = ragged[[2, 3, 0, 5]].values  # rows 2 and 3 are neighbours
    assert file.reads == [(2, 6), (0, 2), (6, 10)]
    file.reads.clear()
    _ = ragged[::-1].values
    assert file.reads == [(6, 10), (5, 6), (2, 5), (0, 2)]


def test_neighbours_in_different_files_are_read_apart(fake_file):
    first, second = fake_file(make_rows([4])[0], "first"), fake_file(make_rows([4], seed=1)[0], "second")
    ragged = RaggedArray.from_segments([first, second], [0, 1], [0, 2], [2, 2], n_features=3, dtype=np.float32)
    np.testing.assert_array_equal(ragged.values, np.concatenate([make_rows([4])[0][:2], make_rows([4], seed=1)[0][2:]]))
    assert (first.reads, second.reads) == ([(0, 2)], [(2, 4)])


def test_texts_without_tokens_touch_no_file(fake_file):
    file = fake_file(np.concatenate(make_rows()))
    ragged = over_file(file, LENGTHS)
    assert ragged[1].shape == (0, 3)
    assert ragged[[1, 4]].values.shape == (0, 3)
    assert file.reads == []


def test_subset_of_a_file_reads_nothing_and_keeps_it(fake_file, rows):
    file = fake_file(np.concatenate(rows))
    subset = over_file(file, LENGTHS)[[5, 2]][::-1]
    assert subset.nbytes == 7 * 3 * 4
    assert file.reads == []
    assert_rows(subset, [rows[2], rows[5]])


def test_no_segment_at_all():
    none = np.empty(0, int)
    assert_rows(RaggedArray.from_segments([], none, none, none, n_features=3, dtype=np.float16), [])


def test_in_memory(fake_file, rows):
    file = fake_file(np.concatenate(rows))
    packed = over_file(file, LENGTHS)[[5, 1, 0]].in_memory()
    file.reads.clear()
    assert_rows(packed, [rows[5], rows[1], rows[0]])
    assert file.reads == []


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda r: pickle.loads(pickle.dumps(r))])
def test_duplicates(duplicate, ragged, rows):
    assert_rows(duplicate(ragged), rows)
    assert_rows(duplicate(ragged[[4, 2, 2]]), [rows[4], rows[2], rows[2]])
    assert_rows(duplicate(ragged[:0]), [])
    assert duplicate(ragged).dtype == ragged.dtype


def test_deepcopy_shares_nothing(ragged, rows):
    copied = copy.deepcopy(ragged)
    copied.values[:] = 0
    assert_rows(ragged, rows)


def test_a_pickled_slice_leaves_the_rest_behind():
    ragged = RaggedArray.from_rows(make_rows([100] * 50, n_features=20))
    whole, slice_ = len(pickle.dumps(ragged)), len(pickle.dumps(ragged[[7, 3]]))
    assert whole > ragged.nbytes
    assert slice_ < 0.05 * whole
    assert_rows(pickle.loads(pickle.dumps(ragged[[7, 3]])), [ragged[7], ragged[3]])


def test_pickle_of_a_file_is_its_reference(fake_file):
    rows = make_rows([100] * 50, n_features=20)
    file = fake_file(np.concatenate(rows))
    ragged = over_file(file, [100] * 50)
    pickled = pickle.dumps(ragged)
    assert file.reads == []
    assert len(pickled) < 5000
    assert_rows(pickle.loads(pickled), rows)


def test_pickle_of_files_and_memory(fake_file):
    memory, on_disk, other = make_rows([500], seed=1)[0], make_rows([500], seed=2)[0], make_rows([500], seed=3)[0]
    where = [(0, 3, 2), (1, 100, 3), (2, 490, 4), (1, 0, 1), (0, 400, 0), (2, 0, 2)]
    segments, sources = [memory, fake_file(on_disk), other], [memory, on_disk, other]
    ragged = RaggedArray.from_segments(segments, *np.transpose(where), n_features=3, dtype=np.float32)
    pickled = pickle.dumps(ragged)
    assert len(pickled) < 2500  # memory alone has 12 000 bytes
    assert_rows(pickle.loads(pickled), [sources[s][a : a + n] for s, a, n in where])
    assert_rows(ragged, [sources[s][a : a + n] for s, a, n in where])


# ---------------------------------------------------------------- with scikit-learn and numpy


def test_train_test_split(ragged, rows):
    y = np.array([0, 0, 0, 1, 1, 1])
    train, test, where_train, where_test = train_test_split(
        ragged, np.arange(6), test_size=2, stratify=y, random_state=0
    )
    assert_rows(train, [rows[i] for i in where_train])
    assert_rows(test, [rows[i] for i in where_test])


@pytest.mark.parametrize("splitter", [KFold(3), KFold(3, shuffle=True, random_state=0), StratifiedKFold(3)])
def test_folds(splitter, ragged, rows):
    seen = []
    for train, test in splitter.split(ragged, [0, 0, 0, 1, 1, 1]):
        assert_rows(_safe_indexing(ragged, train), [rows[i] for i in train])
        assert_rows(_safe_indexing(ragged, test), [rows[i] for i in test])
        seen.extend(test)
    assert sorted(seen) == list(range(6))


@pytest.mark.parametrize("key", [[0, 5], np.array([0, 5]), slice(1, 3), [True, False, False, False, True, False]])
def test_safe_indexing(key, ragged, rows):
    assert_rows(_safe_indexing(ragged, key), [rows[i] for i in np.arange(6)[key]])


@pytest.mark.parametrize("convert", [np.asarray, np.array, lambda r: np.asarray(r, dtype=object), lambda r: np.mean(r)])
def test_no_rectangular_array(convert, ragged):
    with pytest.raises(TypeError, match=r"does not fit a rectangular array\. Use \.values and \.offsets"):
        convert(ragged)


def test_offsets_that_overflow():
    with pytest.raises(ValueError, match="never fall"):
        RaggedArray(np.zeros((5, 1)), [0, 2**63 - 1, -2, 5])


def test_from_scalars():
    with pytest.raises(ValueError, match=r"Got \(\) in row 0"):
        RaggedArray.from_rows([1.0])


def test_foreign_byte_order():
    ragged = RaggedArray(np.ones((2, 3), ">f4"), [0, 2])
    assert ragged.dtype.isnative
    np.testing.assert_array_equal(ragged.values, np.ones((2, 3)))
