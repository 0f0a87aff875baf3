"""KeyIndex against a dict, and the groups that texts are locked in."""

import numpy as np
import pytest

from skspace._encoding.encoding_job import divide
from skspace._store.key_index import N_LOCKS, KeyIndex, lock_of, text_keys


def keys_of(numbers):
    return text_keys([str(number) for number in numbers])


def assert_like_dict(index, expected, numbers):
    shards, rows = index.find(keys_of(numbers))
    assert [index.find(keys_of([number])) for number in numbers[:20]] == list(zip(shards, rows, strict=True))[:20]
    for number, shard, row in zip(numbers, shards.tolist(), rows.tolist(), strict=True):
        if expected.get(number):
            assert (shard, row) in expected[number]
        else:
            assert shard == -1


@pytest.mark.parametrize("seed", range(5))
def test_like_a_dict(seed):
    """Shards come and go in any order, some hold the same text, and nothing is found that is not there."""
    random = np.random.default_rng(seed)
    index, shards = KeyIndex(), {}
    for number in range(120):
        if shards and random.random() < 0.3:
            gone = random.choice(list(shards))
            del shards[gone]
            index.remove(gone)
        if random.random() < 0.1:
            index.add([])
        shards[number] = random.integers(0, 400, size=random.choice([1, 2, 50])).tolist()
        index.add([(number, keys_of(shards[number]))])
        expected = {}
        for shard, texts in shards.items():
            for row, text in enumerate(texts):
                expected.setdefault(text, set()).add((shard, row))
        assert_like_dict(index, expected, random.integers(0, 500, size=60).tolist())
    assert index.n_distinct() == len(expected)
    assert len(index._runs) <= 12


def test_many_shards_at_once():
    index = KeyIndex()
    index.add([(number, keys_of(range(10 * number, 10 * number + 10))) for number in range(200)])
    shards, rows = index.find(keys_of(range(2000)))
    np.testing.assert_array_equal(shards, np.arange(2000) // 10)
    np.testing.assert_array_equal(rows, np.arange(2000) % 10)


def test_nothing():
    index = KeyIndex()
    assert index.find(keys_of([1, 2]))[0].tolist() == [-1, -1]
    index.add([(0, keys_of([3]))])
    assert index.find(np.empty((0, 2), np.uint64))[0].tolist() == []
    assert KeyIndex().n_distinct() == 0


def test_entries_of_shards_that_have_gone_do_not_pile_up():
    index = KeyIndex()
    for number in range(2000):
        index.add([(number, keys_of(range(5)))])
        if number:
            index.remove(number - 1)
    assert sum(len(run.first) for run in index._runs) < 200


def test_same_first_half_of_the_key():
    """Texts are told apart by the whole key."""
    keys = np.array([[7, 1], [7, 2], [7, 3]], np.uint64)
    index = KeyIndex()
    index.add([(0, keys[:1]), (1, keys[1:2])])
    for gone, expected in ((None, [0, 1, -1]), (0, [-1, 1, -1])):
        if gone is not None:
            index.remove(gone)
        assert index.find(keys)[0].tolist() == expected
        assert [index.find(keys[i : i + 1])[0][0] for i in range(3)] == expected


# ---------------------------------------------------------------- who encodes what


@pytest.mark.parametrize("n_parts", [1, 2, 4, 7, 64, 1000])
def test_parts_share_no_lock(n_parts):
    keys = keys_of(range(3000))
    parts = divide(keys, n_parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    locks = [set(lock_of(keys[part]).tolist()) for part in parts]
    assert sum(map(len, locks)) == len(set().union(*locks)) == N_LOCKS
    assert len(parts) == min(n_parts, N_LOCKS)
    assert max(map(len, parts)) < 2.5 * 3000 / len(parts)


def test_parts_of_few_texts():
    assert [part.tolist() for part in divide(keys_of([1]), 8)] == [[0]]
    assert divide(keys_of([]), 8) == []
