"""TokenStore: what goes in comes out, and whatever happens to the files, never a wrong vector and never a crash."""

import errno
import gc
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from filelock import FileLock
from safetensors.numpy import load_file, save

from skspace import RaggedArray
from skspace._store import merging, namespace_folder
from skspace._store import shard as shard_module
from skspace._store import token_store as store_module
from skspace._store.key_index import text_keys
from skspace._store.token_store import MAX_PENDING, MAX_SMALL_SHARDS, TokenStore

NAMESPACE = {"model": "tiny", "layer": 2}
D = 4
DAMAGED = r"are damaged \(.*\); they are not used and are computed again"


def vectors_of(text, n_features=D):
    """The made-up token vectors of a text: as many tokens as words, numbers that depend on the text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=(len(text.split()), n_features)).astype(np.float16)


def write(store, texts, truncated=None):
    truncated = [False] * len(texts) if truncated is None else truncated
    return store.write(text_keys(texts), [vectors_of(text) for text in texts], truncated)


def filled(cache_dir, texts, **kwargs):
    store = TokenStore(cache_dir, NAMESPACE)
    write(store, texts, **kwargs)
    return store


def fresh(store):
    """Another store on the same folder, as another process has it: it knows nothing and has verified nothing."""
    return TokenStore(store.folder.parent.parent, store.namespace)


def found_in(store, texts):
    """Each text's vectors as the store gives them, None where it has none."""
    found = store.lookup(text_keys(texts))
    vectors = []
    for segment, start, length in zip(found.segment, found.start, found.length, strict=True):
        if segment < 0:
            vectors.append(None)
            continue
        out = np.empty((length, D), np.float16)
        if isinstance(found.segments[segment], np.ndarray):  # not written yet
            out[:] = found.segments[segment][start : start + length]
        else:
            found.segments[segment].read_into(int(start), out)
        vectors.append(out)
    return vectors


def assert_found(store, texts):
    for text, vectors in zip(texts, found_in(store, texts), strict=True):
        assert vectors is not None, f"{text!r} is missing"
        np.testing.assert_array_equal(vectors, vectors_of(text))


def assert_missing(store, texts):
    assert found_in(store, texts) == [None] * len(texts)


def as_ragged(lookup, n_features=D):
    assert not len(lookup.missing)
    return RaggedArray.from_segments(
        lookup.segments, lookup.segment, lookup.start, lookup.length, n_features=n_features, dtype=np.float16
    )


@contextmanager
def one_warning(match):
    """Exactly one warning, of this text."""
    with pytest.warns(UserWarning, match=match) as record:
        yield
    assert [str(warning.message) for warning in record[1:]] == []


def shards_of(store):
    return sorted(store.folder.glob("*.safetensors"))


def only_shard(store):
    [path] = shards_of(store)
    return path


def header_of(raw):
    """The header of a safetensors file, and where its data begin."""
    n_header = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + n_header]), 8 + n_header


def with_header(raw, header):
    """The file with another header before the same data."""
    _, begin = header_of(raw)
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + raw[begin:]


def flip(raw, position, mask=1):
    return raw[:position] + bytes([raw[position] ^ mask]) + raw[position + 1 :]


def place_of(raw, tensor):
    """First and last position of a tensor in the file."""
    header, begin = header_of(raw)
    first, stop = header[tensor]["data_offsets"]
    return begin + first, begin + stop - 1


@pytest.fixture
def run_python():
    """Starts another process that imports what this one tests; ends it with the test."""
    processes = []

    def run(code, *args):
        root = os.path.dirname(os.path.dirname(os.path.dirname(store_module.__file__)))
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-c", code, *map(str, args)]
        environment = {**os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------- keys and names


def test_text_keys():
    texts = ["abc", "", "Grüße 🎉", "abc"]
    keys = text_keys(texts)
    assert keys.shape == (4, 2)
    assert keys.dtype == np.uint64
    assert [key.tobytes() for key in keys] == [hashlib.blake2b(t.encode(), digest_size=16).digest() for t in texts]
    assert keys[0].tobytes().hex() == "cf4ab791c62b8d2b2109c90275287816"  # a store of today is read tomorrow
    assert text_keys([]).shape == (0, 2)
    assert len(np.unique(text_keys(["a", "A", " a", "a ", "á", "a\u0301"]), axis=0)) == 6


def test_folder_depends_on_the_namespace_alone(tmp_path):
    folder = TokenStore(tmp_path, {"model": "a", "layer": 1}).folder
    assert folder == TokenStore(str(tmp_path), {"layer": 1, "model": "a"}).folder
    assert folder.parent == tmp_path / "v1"
    others = [{"model": "a", "layer": 2}, {"model": "b", "layer": 1}, {"model": "a"}, {"model": "a", "layer": "1"}, {}]
    assert len({folder, *(TokenStore(tmp_path, other).folder for other in others)}) == 6


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/x", "..", "", "a b\n\x00ü", "x" * 1000, "C:\\x"])
def test_readable_name_stays_in_the_folder(name, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE, name)
    assert store.folder.parent == tmp_path / "v1"
    assert store.folder.resolve().parent == (tmp_path / "v1").resolve()
    write(store, ["some words"])
    assert_found(TokenStore(tmp_path, NAMESPACE, name), ["some words"])


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert TokenStore("~/cache", NAMESPACE).folder.parent == tmp_path / "cache" / "v1"


def test_relative_folder_survives_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = TokenStore("cache", NAMESPACE)
    write(store, ["some words"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_found(store, ["some words"])


def test_making_a_store_touches_nothing(tmp_path):
    store = TokenStore(tmp_path / "cache", NAMESPACE)
    assert_missing(store, ["some words"])
    assert list(tmp_path.iterdir()) == []


def test_namespace_json(tmp_path):
    store = filled(tmp_path, ["some words"])
    assert json.loads((store.folder / "namespace.json").read_text()) == {"format": 1, **NAMESPACE}


# ---------------------------------------------------------------- writing and finding

TEXTS = ["one", "two words", "", "and now four words", "   "]  # two of them without a token


def test_round_trip(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    segment, offsets = write(store, TEXTS)
    assert offsets.tolist() == [0, 1, 3, 3, 7, 7]
    out = np.empty((7, D), np.float16)
    segment.read_into(0, out)
    np.testing.assert_array_equal(out, np.concatenate([vectors_of(text) for text in TEXTS]))
    for seen in (store, fresh(store)):
        assert_found(seen, TEXTS)
        assert_found(seen, [TEXTS[3], TEXTS[0], TEXTS[3]])


@pytest.mark.parametrize("texts", [["a text of words"], [""], ["", "  "]])
def test_round_trip_of_few(texts, tmp_path):
    store = filled(tmp_path, texts)
    assert_found(store, texts)
    assert_found(fresh(store), texts)


def test_lookup(tmp_path):
    store = filled(tmp_path, TEXTS)
    found = fresh(store).lookup(text_keys(["unknown", "two words", "", "unknown too", "and now four words"]))
    assert found.missing.tolist() == [0, 3]
    assert found.segment.tolist() == [-1, 0, 0, -1, 0]
    assert found.length.tolist() == [0, 2, 0, 0, 4]
    assert found.start[[1, 4]].tolist() == [1, 3]
    assert found.truncated.tolist() == [False] * 5
    assert len(found.segments) == 1
    assert found.segments[0].shape == (7, D)
    assert found.segments[0].dtype == np.float16


def test_lookup_of_nothing(tmp_path):
    found = filled(tmp_path, TEXTS).lookup(text_keys([]))
    assert len(found.missing) == len(found.segment) == len(found.segments) == 0


def test_texts_of_several_shards(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    for text in TEXTS:
        write(store, [text])
    assert_found(store, TEXTS)
    assert_found(fresh(store), TEXTS[::-1])


def test_what_another_writes_is_found_later(tmp_path):
    reader, writer = TokenStore(tmp_path, NAMESPACE), TokenStore(tmp_path, NAMESPACE)
    assert_missing(reader, ["first text"])
    write(writer, ["first text"])
    assert_found(reader, ["first text"])
    write(writer, ["second text"])
    assert_found(reader, ["second text", "first text"])


def test_an_old_listing_will_do_for_a_while(tmp_path):
    reader, writer = TokenStore(tmp_path, NAMESPACE), TokenStore(tmp_path, NAMESPACE)
    keys = text_keys(["first text"])
    assert len(reader.lookup(keys, max_age=60.0).missing) == 1  # and lists the folder, which it never did
    write(writer, ["first text"])
    assert len(reader.lookup(keys, max_age=60.0).missing) == 1
    assert len(reader.lookup(keys, max_age=1e-9).missing) == 0


def test_what_another_clears_is_missing(tmp_path):
    store = filled(tmp_path, TEXTS)
    other = fresh(store)
    assert_found(other, TEXTS)
    store.clear()
    assert other.info()["n_texts"] == 0
    assert_missing(other, TEXTS)


def test_namespaces_never_share(tmp_path):
    first, second = TokenStore(tmp_path, {"layer": 1}), TokenStore(tmp_path, {"layer": 2})
    write(first, ["some words"])
    assert_missing(second, ["some words"])
    second.write(text_keys(["some words"]), [np.ones((2, D), np.float16)], [False])
    assert_found(fresh(first), ["some words"])
    np.testing.assert_array_equal(found_in(fresh(second), ["some words"])[0], np.ones((2, D)))


def test_truncated_flag_survives(tmp_path):
    flags = [True, False, True, False, False]
    store = filled(tmp_path, TEXTS, truncated=flags)
    for seen in (store, fresh(store)):
        assert seen.lookup(text_keys(TEXTS)).truncated.tolist() == flags
        assert seen.lookup(text_keys([*TEXTS[::-1], "unknown"])).truncated.tolist() == [*flags[::-1], False]


def test_keys_that_share_their_first_half(tmp_path):
    keys = np.array([[7, 3], [7, 1], [5, 1], [7, 2], [9, 1]], np.uint64)
    values = [np.full((i, D), i, np.float16) for i in range(5)]
    store = TokenStore(tmp_path, NAMESPACE)
    store.write(keys, values, [False] * 5)
    asked = np.array([[7, 2], [7, 4], [9, 1], [7, 3], [9, 2], [7, 1], [1, 1], [2**64 - 1, 1]], np.uint64)
    for seen in (store, fresh(store)):
        found = seen.lookup(asked)
        assert found.missing.tolist() == [1, 4, 6, 7]
        assert found.length[[0, 2, 3, 5]].tolist() == [3, 4, 0, 1]
        np.testing.assert_array_equal(as_ragged(seen.lookup(asked[[0, 5, 2]])).values[:, 0], [3, 3, 3, 1, 4, 4, 4, 4])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_is_refused(bad, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    values = [np.ones((2, D), np.float16), np.ones((1, D), np.float16)]
    values[1][0, 2] = bad
    with pytest.raises(ValueError, match=r"TokenStore keeps finite float16 values only\. Got inf or NaN instead"):
        store.write(text_keys(["a", "b"]), values, [False, False])
    assert_missing(fresh(store), ["a", "b"])


def test_text_written_twice_is_found(tmp_path):
    store = filled(tmp_path, ["same text"])
    write(store, ["same text", "other text"])
    assert_found(fresh(store), ["same text", "other text"])


# ---------------------------------------------------------------- RaggedArray over a lookup


def test_ragged_array_reads_the_store(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    for texts in (TEXTS[:2], TEXTS[2:], ["a later text"]):
        write(store, texts)
    order = ["a later text", *TEXTS[::-1], "a later text"]
    ragged = as_ragged(fresh(store).lookup(text_keys(order)))
    assert len(ragged) == 7
    for got, text in zip(ragged, order, strict=True):
        np.testing.assert_array_equal(got, vectors_of(text))
    np.testing.assert_array_equal(ragged.values, np.concatenate([vectors_of(text) for text in order]))


def test_ragged_array_over_a_lookup_pickles_small(tmp_path):
    text = " ".join(map(str, range(20_000)))
    store = filled(tmp_path, [text, "other words"])
    ragged = as_ragged(store.lookup(text_keys([text, "other words"])))
    pickled = pickle.dumps(ragged)
    assert ragged.nbytes > 100_000
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again[0], vectors_of(text))
    np.testing.assert_array_equal(again[1], vectors_of("other words"))


def test_large_values_are_verified_piece_by_piece(tmp_path):
    values = (np.arange(9 * 2**19) % 2039).astype(np.float16).reshape(9, 2**19)
    store = TokenStore(tmp_path, NAMESPACE)
    store.write(text_keys(["nine tokens"]), [values], [False])
    found = fresh(store).lookup(text_keys(["nine tokens"]))
    np.testing.assert_array_equal(as_ragged(found, n_features=2**19).values, values)
    path = only_shard(store)
    with open(path, "r+b") as file:
        file.seek(place_of(path.read_bytes()[: 2**16], "values")[1])
        file.write(b"\x01")
    with one_warning(DAMAGED):
        assert fresh(store).lookup(text_keys(["nine tokens"])).missing.tolist() == [0]


@pytest.mark.parametrize("platform", ["short reads", "no preadv"])
def test_reading_is_complete_on_every_platform(platform, tmp_path, monkeypatch):
    store = filled(tmp_path, TEXTS)
    if platform == "no preadv":
        monkeypatch.delattr(shard_module.os, "preadv", raising=False)
    else:
        pread = os.pread

        def few_bytes(file, buffers, position):
            data = pread(file, min(5, len(buffers[0])), position)
            buffers[0][: len(data)] = data
            return len(data)

        monkeypatch.setattr(shard_module.os, "preadv", few_bytes, raising=False)
    assert_found(fresh(store), TEXTS)


def test_files_are_closed_when_nobody_reads_any_more(tmp_path):
    found = filled(tmp_path, TEXTS).lookup(text_keys(TEXTS))
    ragged = as_ragged(found)[:2]
    (file,) = found.segments[0]._file._file
    del found
    gc.collect()
    os.fstat(file)
    del ragged
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


# ---------------------------------------------------------------- merging


def test_number_of_files_stays_bounded(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(200)]
    flags = [i % 3 == 0 for i in range(200)]
    write(store, texts[:1], flags[:1])
    early = as_ragged(store.lookup(text_keys(texts[:1])))  # read again after its shard has been merged away
    other = fresh(store)
    assert_found(other, texts[:1])
    counts = set()
    for text, flag in zip(texts[1:], flags[1:], strict=True):
        write(store, [text], [flag])
        counts.add(len(shards_of(store)))
    assert 1 < max(counts) <= MAX_SMALL_SHARDS + 1
    assert_found(store, texts)
    assert_found(fresh(store), texts)
    assert fresh(store).lookup(text_keys(texts)).truncated.tolist() == flags
    assert fresh(store).info()["n_texts"] == 200
    np.testing.assert_array_equal(early[0], vectors_of(texts[0]))
    assert_found(other, texts)  # it knew a shard that is no more


def test_number_of_files_stays_bounded_over_processes(tmp_path):
    texts = [f"text number {i}" for i in range(2 * MAX_SMALL_SHARDS)]
    for text in texts:
        write(TokenStore(tmp_path, NAMESPACE), [text])  # each knows no shard but its own
    assert len(shards_of(TokenStore(tmp_path, NAMESPACE))) <= MAX_SMALL_SHARDS
    assert_found(TokenStore(tmp_path, NAMESPACE), texts)


def test_large_shards_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "SMALL_SHARD_BYTES", 200)  # every shard is larger
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(MAX_SMALL_SHARDS + 5)]
    for text in texts:
        write(store, [text])
    assert len(shards_of(store)) == len(texts)
    assert_found(fresh(store), texts)


def test_merge_drops_a_damaged_shard_and_keeps_the_rest(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(MAX_SMALL_SHARDS)]
    write(store, texts[:1])
    damaged = only_shard(store)
    for text in texts[1:]:
        write(store, [text])
    raw = damaged.read_bytes()
    damaged.write_bytes(flip(raw, place_of(raw, "values")[0]))
    os.utime(damaged, ns=(1, 1))
    with one_warning(DAMAGED):
        write(store, ["one more"])
    assert len(shards_of(store)) == 1
    assert_found(fresh(store), [*texts[1:], "one more"])
    assert_missing(fresh(store), texts[:1])


# ---------------------------------------------------------------- texts that come one at a time


def write_later(store, text, truncated=False):
    store.write_later(text_keys([text]), vectors_of(text), truncated)


def test_single_texts_are_written_together(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(MAX_PENDING - 1)]
    for text in texts:
        write_later(store, text)
        assert_found(store, [text])  # one at a time: out of memory
    assert shards_of(store) == []
    write_later(store, "one more text")
    assert len(shards_of(store)) == 1
    assert_found(fresh(store), [*texts, "one more text"])


def test_what_is_written_later_is_what_was_given(tmp_path):
    """Whoever changes the array that it gave, or was given, changes nothing else."""
    store = TokenStore(tmp_path, NAMESPACE)
    vectors = vectors_of("some words")
    store.write_later(text_keys(["some words"]), vectors, False)
    vectors *= 2
    found = store.lookup(text_keys(["some words"]))
    found.segments[found.segment[0]][:] = 0
    assert_found(store, ["some words"])
    store.write_pending()
    assert_found(fresh(store), ["some words"])


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.lookup(text_keys(["some words", "others"])),
        lambda store: store.info(),
        lambda store: store.verify(),
        lambda store: store.write_pending(),
    ],
    ids=["look-up of several", "info", "verify", "write_pending"],
)
def test_single_texts_are_written_before_anything_else(use, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    write_later(store, "some words", truncated=True)
    use(store)
    assert_found(fresh(store), ["some words"])
    assert fresh(store).lookup(text_keys(["some words"])).truncated.tolist() == [True]
    assert store.info()["n_texts"] == 1


def test_look_up_of_another_single_text_leaves_what_is_pending(tmp_path):
    store = filled(tmp_path, ["from before"])
    write_later(store, "some words", truncated=True)
    assert_found(store, ["from before"])
    assert_missing(store, ["never heard of"])
    assert store.lookup(text_keys(["some words"])).truncated.tolist() == [True]
    assert len(shards_of(store)) == 1


def test_clear_forgets_what_is_pending(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    write_later(store, "some words")
    store.clear()
    store.write_pending()
    assert_missing(store, ["some words"])


def test_child_leaves_what_is_pending_to_its_parent(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    write_later(store, "some words")
    store.after_fork()
    store.write_pending()
    assert shards_of(store) == []


def test_pending_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    store = TokenStore(tmp_path / "file", NAMESPACE)
    with one_warning("cannot write to"):
        write_later(store, "some words")
        assert_found(store, ["some words"])
        store.write_pending()


def test_folder_that_was_removed_is_not_made_again_at_exit(tmp_path):
    store = TokenStore(tmp_path / "cache", NAMESPACE)
    write_later(store, "some words")
    shutil.rmtree(tmp_path / "cache")
    store.write_pending(at_exit=True)
    assert not (tmp_path / "cache").exists()
    write_later(store, "some words")
    store.write_pending(at_exit=True)
    assert_found(fresh(store), ["some words"])


# ---------------------------------------------------------------- privacy


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_private_permissions(tmp_path):
    umask = os.umask(0)  # the most open there is
    try:
        store = TokenStore(tmp_path / "cache", NAMESPACE)
        with store.encoding(text_keys(["some words"])):
            write(store, TEXTS)
    finally:
        os.umask(umask)
    for folder in (tmp_path / "cache", store.folder.parent, store.folder, store.folder / "locks"):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".safetensors", ".json"}
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_no_text_in_any_file(tmp_path):
    texts = ["confidential-matter of mister smith", "Geheimnis-Größe"]
    store = TokenStore(tmp_path, NAMESPACE)
    with store.encoding(text_keys(["some words"])):
        write(store, texts)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) >= 2
    for path in paths:
        for word in ("confidential-matter", "smith", "Geheimnis-Größe", "Geheimnis"):
            for encoding in ("utf-8", "utf-16-le"):
                assert word.encode(encoding) not in path.read_bytes()
            assert word not in str(path)


# ---------------------------------------------------------------- the right to encode

WAITER = """
import sys
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore
store = TokenStore(sys.argv[1], {"model": "tiny", "layer": 2})
missing = lambda: len(store.lookup(text_keys(["some words"])).missing)
print("missing before:", missing(), flush=True)
with store.encoding(text_keys(["some words"])):
    print("missing inside:", missing(), flush=True)
"""

HOLDER = """
import sys
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore
with TokenStore(sys.argv[1], {"model": "tiny", "layer": 2}).encoding(text_keys(["some words"])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_process_waits_and_finds_what_was_encoded(tmp_path, run_python):
    store = TokenStore(tmp_path, NAMESPACE)
    with store.encoding(text_keys(["some words"])):
        waiter = run_python(WAITER, tmp_path)
        assert waiter.stdout.readline() == "missing before: 1\n"
        threading.Event().wait(0.3)  # time enough to go in, were it let in
        write(store, ["some words"])
    assert waiter.stdout.readline() == "missing inside: 0\n"
    waiter.communicate()
    assert waiter.returncode == 0


def test_killed_holder_does_not_block(tmp_path, run_python):
    holder = run_python(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    entered = threading.Event()

    def wait():
        with TokenStore(tmp_path, NAMESPACE).encoding(text_keys(["some words"])):
            entered.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    assert not entered.wait(0.2)
    holder.kill()
    assert entered.wait(30)
    waiter.join(30)


def test_threads_take_turns(tmp_path):
    inside, most = [], []

    def encode(text):
        store = TokenStore(tmp_path, NAMESPACE)
        with store.encoding(text_keys(["some words"])):
            inside.append(text)
            most.append(len(inside))
            threading.Event().wait(0.02)
            write(store, [text])
            inside.remove(text)

    texts = [f"text number {i}" for i in range(6)]
    threads = [threading.Thread(target=encode, args=(text,), daemon=True) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 6
    assert_found(TokenStore(tmp_path, NAMESPACE), texts)


def test_lock_is_free_after_an_error(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    with pytest.raises(RuntimeError, match="out of memory"), store.encoding(text_keys(["some words"])):
        raise RuntimeError("out of memory")
    with fresh(store).encoding(text_keys(["some words"])):
        write(store, ["some words"])


def test_reading_and_writing_need_no_lock(tmp_path, run_python):
    holder = run_python(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    store = filled(tmp_path, TEXTS)
    assert_found(fresh(store), TEXTS)
    assert holder.poll() is None


def test_one_store_in_several_threads(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    errors = []

    def work(number):
        try:
            for i in range(20):
                write(store, [f"thread {number} text {i}"])
                assert_found(store, [f"thread {number} text {j}" for j in range(i + 1)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert_found(fresh(store), [f"thread {number} text {i}" for number in range(4) for i in range(20)])


# ---------------------------------------------------------------- damage

FOREIGN = {
    "emptied": lambda raw: b"",
    "one byte": lambda raw: raw[:1],
    "length of the header only": lambda raw: raw[:8],
    "half the header": lambda raw: raw[:100],
    "header only": lambda raw: raw[: header_of(raw)[1]],
    "last byte gone": lambda raw: raw[:-1],
    "first byte gone": lambda raw: raw[1:],
    "length of the header flipped": lambda raw: flip(raw, 0),
    "header flipped": lambda raw: flip(raw, raw.index(b"offsets")),
    "zeros": lambda raw: bytes(len(raw)),
    "text": lambda raw: b"This is no shard. " * 50,
    "HTML": lambda raw: b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "pickle": lambda raw: pickle.dumps({"keys": [1, 2, 3]}),
    "a number": lambda raw: np.arange(100).tobytes(),
    "header of 0 bytes": lambda raw: bytes(8) + raw[8:],
    "header of 2^63 bytes": lambda raw: (2**63).to_bytes(8, "little") + raw[8:],
    "header of 2^64 - 1 bytes": lambda raw: b"\xff" * 8 + raw[8:],
    "header of 70 000 bytes": lambda raw: (70_000).to_bytes(8, "little") + b" " * 80_000,
    "header to the end": lambda raw: (len(raw) - 8).to_bytes(8, "little") + raw[8:],
    "header past the end": lambda raw: (len(raw) - 7).to_bytes(8, "little") + raw[8:],
    **{
        f"{tensor} flipped, {where}": lambda raw, tensor=tensor, end=end: flip(raw, place_of(raw, tensor)[end])
        for tensor in ("offsets", "keys", "truncated", "values")
        for end, where in enumerate(["first", "last"])
    },
}

HEADERS = {
    "no JSON": lambda h: b"{'keys': 3}",
    "no UTF-8": lambda h: b'{"__metadata__": "\xff\xfe"}',
    "nested deeply": lambda h: b"[" * 60_000,
    "a long number": lambda h: b'{"__metadata__": ' + b"9" * 60_000 + b"}",
    "padded with 70 000 spaces": lambda h: json.dumps(h).encode() + b" " * 70_000,
    "a list": lambda h: [h],
    "null": lambda h: None,
    "empty": lambda h: {},
    "no metadata": lambda h: {k: v for k, v in h.items() if k != "__metadata__"},
    "metadata null": lambda h: {**h, "__metadata__": None},
    "metadata a list": lambda h: {**h, "__metadata__": ["index", "values"]},
    "metadata empty": lambda h: {**h, "__metadata__": {}},
    "no index digest": lambda h: {**h, "__metadata__": {**h["__metadata__"], "index": None}},
    "no values digest": lambda h: {**h, "__metadata__": {**h["__metadata__"], "values": None}},
    "values digest a list": lambda h: {**h, "__metadata__": {**h["__metadata__"], "values": [h]}},
    "other values digest": lambda h: {**h, "__metadata__": {**h["__metadata__"], "values": "0" * 64}},
    **{
        f"{tensor}: {what}": lambda h, tensor=tensor, change=change: {**h, tensor: change(h[tensor])}
        for tensor in ("keys", "offsets", "truncated", "values")
        for what, change in {
            "null": lambda entry: None,
            "a str": lambda entry: "F16",
            "a list": lambda entry: [entry],
            "no shape": lambda entry: {**entry, "shape": None},
            "shape a str": lambda entry: {**entry, "shape": "33"},
            "shape of str": lambda entry: {**entry, "shape": [str(n) for n in entry["shape"]]},
            "shape of float": lambda entry: {**entry, "shape": [float(n) for n in entry["shape"]]},
            "shape of bool": lambda entry: {**entry, "shape": [True, *entry["shape"]]},
            "shape of lists": lambda entry: {**entry, "shape": [entry["shape"]]},
            "shape negative": lambda entry: {**entry, "shape": [-1, -1, *entry["shape"]]},
            "shape NaN": lambda entry: {**entry, "shape": [float("nan"), *entry["shape"]]},
            "shape huge": lambda entry: {**entry, "shape": [2**62, *entry["shape"]]},
            "shape beyond 64 bits": lambda entry: {**entry, "shape": [2**64 + 1, *entry["shape"]]},
            "shape of 400 digits": lambda entry: {**entry, "shape": [10**400]},
            "shape and extent huge": lambda entry: {**entry, "shape": [2**60], "data_offsets": [0, 2**60]},
            "shape one less": lambda entry: {**entry, "shape": [entry["shape"][0] - 1, *entry["shape"][1:]]},
            "other dtype": lambda entry: {**entry, "dtype": "F32"},
            "dtype null": lambda entry: {**entry, "dtype": None},
            "no extent": lambda entry: {**entry, "data_offsets": None},
            "extent of three": lambda entry: {**entry, "data_offsets": [0, 1, 2]},
            "extent of str": lambda entry: {**entry, "data_offsets": ["0", "1"]},
            "extent negative": lambda entry: {**entry, "data_offsets": [n - 10_000 for n in entry["data_offsets"]]},
            "extent past the end": lambda entry: {**entry, "data_offsets": [n + 10_000 for n in entry["data_offsets"]]},
            "extent backward": lambda entry: {**entry, "data_offsets": entry["data_offsets"][::-1]},
        }.items()
    },
    "values: shifted": lambda h: {**h, "values": {**h["values"], "data_offsets": [0, 56]}},
    "values: flat": lambda h: {**h, "values": {**h["values"], "shape": [7 * D]}},
    "values: three dimensions": lambda h: {**h, "values": {**h["values"], "shape": [7, D, 1]}},
    "values: no dimension": lambda h: {**h, "values": {**h["values"], "shape": [], "data_offsets": [0, 2]}},
    "values: transposed": lambda h: {**h, "values": {**h["values"], "shape": [D, 7]}},
    "values: huge by zero": lambda h: {**h, "values": {**h["values"], "shape": [10**30, 0], "data_offsets": [0, 0]}},
    "values: none": lambda h: {**h, "values": {**h["values"], "shape": [0, D], "data_offsets": [0, 0]}},
}


def assert_damage_is_noticed(store, texts):
    """One warning that names the file, the texts count as missing, the file is gone, and the store works on."""
    path = only_shard(store)
    with one_warning(rf"^The cached embeddings in {re.escape(str(path))} {DAMAGED}"):
        assert_missing(store, texts)
    assert not path.exists()
    assert_missing(store, texts)  # and no second warning, which would be an error here
    write(store, texts)
    assert_found(store, texts)
    assert_found(fresh(store), texts)


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_damaged_file(change, tmp_path):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    path.write_bytes(change(path.read_bytes()))
    assert_damage_is_noticed(fresh(store), TEXTS)


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_damaged_header(change, tmp_path):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    raw = path.read_bytes()
    header, _ = header_of(raw)
    changed = with_header(raw, change(header))
    assert changed != with_header(raw, header)
    path.write_bytes(changed)
    assert_damage_is_noticed(fresh(store), TEXTS)


def test_the_helpers_alone_do_no_damage(tmp_path):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    raw = path.read_bytes()
    path.write_bytes(with_header(raw, header_of(raw)[0]))
    assert path.read_bytes() != raw  # other spaces, so that it was in fact written anew
    assert_found(fresh(store), TEXTS)


def forge(store, texts, values, **parts):
    """Put a shard with `parts` that do not fit, but with right checksums, into the store."""
    offsets = np.cumsum([0, *(len(text.split()) for text in texts)])
    tensors = {
        "keys": text_keys(texts).view(np.uint8).reshape(-1, 16),
        "offsets": np.asarray(parts.get("offsets", offsets), "<i8"),
        "truncated": np.asarray(parts.get("truncated", [False] * len(texts)), np.uint8),
    }
    values_digest = hashlib.sha256(values).hexdigest()
    index_digest = shard_module._index_digest(store.digest, *tensors.values(), values.shape, values_digest)
    metadata = {"index": index_digest, "values": values_digest, "namespace": store.digest}
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / f"{index_digest}.safetensors").write_bytes(save({**tensors, "values": values}, metadata))


def test_forged_shard_with_nothing_wrong(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    forge(store, TEXTS, np.concatenate([vectors_of(text) for text in TEXTS]))
    assert_found(store, TEXTS)


@pytest.mark.parametrize(
    "offsets", [[0, 1, 3, 3, 7], [0, 1, 3, 3, 7, 7, 7], [0, 1, 3, 3, 6, 6], [0, 1, 3, 3, 7, 8], []]
)
def test_forged_shard_with_parts_that_do_not_fit(offsets, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    forge(store, TEXTS, np.concatenate([vectors_of(text) for text in TEXTS]), offsets=offsets)
    assert_damage_is_noticed(store, TEXTS)


def test_values_exchanged_together_with_their_checksum(tmp_path):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    raw = path.read_bytes()
    raw = flip(raw, place_of(raw, "values")[0])
    header, begin = header_of(raw)
    first, stop = header["values"]["data_offsets"]
    header["__metadata__"]["values"] = hashlib.sha256(raw[begin + first : begin + stop]).hexdigest()
    path.write_bytes(with_header(raw, header))
    assert_damage_is_noticed(fresh(store), TEXTS)


def test_width_of_no_values(tmp_path):
    store = filled(tmp_path, ["", " "])
    path = only_shard(store)
    raw = path.read_bytes()
    header, _ = header_of(raw)
    header["values"]["shape"] = [0, D + 1]
    path.write_bytes(with_header(raw, header))
    assert_damage_is_noticed(fresh(store), ["", " "])


def test_file_cut_short_between_index_and_values(tmp_path):
    store = filled(tmp_path, TEXTS)
    other = fresh(store)
    assert other.info()["n_texts"] == len(TEXTS)  # has read the index, not the values
    os.truncate(only_shard(store), 100)
    assert_damage_is_noticed(other, TEXTS)


def test_safetensors_reads_our_files(tmp_path):
    store = filled(tmp_path, TEXTS)
    tensors = load_file(only_shard(store))
    np.testing.assert_array_equal(tensors["values"], np.concatenate([vectors_of(text) for text in TEXTS]))
    np.testing.assert_array_equal(tensors["offsets"], np.cumsum([0, *(len(vectors_of(text)) for text in TEXTS)]))
    np.testing.assert_array_equal(tensors["keys"], text_keys(TEXTS).view(np.uint8))
    assert {name: (array.dtype, array.shape[0]) for name, array in tensors.items() if name == "truncated"} == {
        "truncated": (np.dtype(np.uint8), len(TEXTS))
    }


def test_vectors_of_different_widths(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    with pytest.raises(ValueError, match=r"needs vectors of one length\. Got arrays of different widths"):
        store.write(text_keys(["a", "b"]), [np.ones((2, 3), np.float16), np.ones((2, 4), np.float16)], [False, False])


def test_foreign_safetensors_file_under_a_shard_name(tmp_path):
    store = filled(tmp_path, TEXTS)
    only_shard(store).write_bytes(save({"weight": np.ones((3, 4), np.float32)}, {"format": "pt"}))
    assert_damage_is_noticed(fresh(store), TEXTS)


def test_shard_of_another_namespace(tmp_path):
    store = filled(tmp_path, TEXTS)
    other = TokenStore(tmp_path, {**NAMESPACE, "layer": 3})
    other.write(text_keys(TEXTS), [vectors_of(text) + 1 for text in TEXTS], [False] * len(TEXTS))
    shutil.copy(only_shard(other), store.folder)
    with one_warning(r"or it belongs to another encoder\); they are not used"):
        assert_found(fresh(store), [*TEXTS])
        assert_missing(fresh(store), ["unknown"])
    only_shard(store).unlink()
    shutil.copy(only_shard(other), store.folder)
    with pytest.warns(UserWarning, match=r"or it belongs to another encoder"):
        assert_missing(store, TEXTS)
    assert len(shards_of(other)) == 1  # the original stays


def test_one_damaged_shard_of_several(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    write(store, ["the first text"])
    damaged = only_shard(store)
    write(store, ["the second text"])
    raw = damaged.read_bytes()
    damaged.write_bytes(flip(raw, place_of(raw, "values")[1], 0x80))
    store = fresh(store)
    with one_warning(DAMAGED):
        [first, second] = found_in(store, ["the first text", "the second text"])
    assert first is None
    np.testing.assert_array_equal(second, vectors_of("the second text"))


def test_text_that_is_also_in_a_sound_shard_is_found(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    write(store, ["same text"])
    damaged = only_shard(store)
    write(store, ["same text", "other text"])
    raw = damaged.read_bytes()
    damaged.write_bytes(flip(raw, place_of(raw, "values")[0]))
    store = fresh(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which of the two is asked first is not said
        assert_found(store, ["same text", "other text"])


def test_damage_done_after_the_shard_was_verified(tmp_path):
    store = filled(tmp_path, TEXTS)
    assert_found(store, TEXTS)
    path = only_shard(store)
    raw = path.read_bytes()
    path.write_bytes(flip(raw, place_of(raw, "values")[0]))
    os.utime(path, ns=(1, 1))  # as any later writing does
    assert_damage_is_noticed(store, TEXTS)


def test_verification_reads_the_values_once(tmp_path, monkeypatch):
    store = filled(tmp_path, TEXTS)
    digested = []
    digest = shard_module.Reader.digest
    monkeypatch.setattr(shard_module.Reader, "digest", lambda self: digested.append(self.path) or digest(self))
    assert_found(store, TEXTS)
    assert digested == []  # it has written them itself
    other = fresh(store)
    for _ in range(3):
        assert_found(other, TEXTS)
    assert digested == [only_shard(store)]


def test_damage_is_not_forgotten_where_nothing_can_be_removed(tmp_path, monkeypatch):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    raw = path.read_bytes()
    path.write_bytes(flip(raw, place_of(raw, "values")[0]))

    def refuse(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "unlink", refuse)
    store = fresh(store)
    with one_warning(DAMAGED):
        for _ in range(3):
            assert_missing(store, TEXTS)
    assert path.exists()


def test_file_cut_short_while_it_is_read(tmp_path):
    store = filled(tmp_path, TEXTS)
    ragged = as_ragged(store.lookup(text_keys(TEXTS)))
    np.testing.assert_array_equal(ragged[3], vectors_of(TEXTS[3]))
    os.truncate(only_shard(store), 100)
    with pytest.raises(OSError, match=r"The cached embeddings in .* were cut short while they were in use\. Run again"):
        _ = ragged.values
    with pytest.raises(OSError, match=r"were cut short while they were in use"):
        _ = ragged[3]
    assert ragged[2].shape == (0, D)  # asks nothing of the file
    assert_damage_is_noticed(fresh(store), TEXTS)


def test_file_changed_while_it_is_read(tmp_path):
    store = filled(tmp_path, TEXTS)
    ragged, path = as_ragged(store.lookup(text_keys(TEXTS))), only_shard(store)
    sent = pickle.dumps(ragged)
    raw = path.read_bytes()
    spoiled = flip(raw, place_of(raw, "values")[0])
    with open(path, "r+b") as file:  # in place, as no process of ours does
        file.write(spoiled)
    os.utime(path, ns=(1, 1))
    with pytest.raises(OSError, match=r"The cached embeddings in .* were changed while they were in use\. Run again"):
        _ = ragged.values
    with pytest.raises(OSError, match=r"were changed while they were in use"):
        pickle.loads(sent)
    path.write_bytes(raw)  # another identity, as on another machine, but the right content
    os.utime(path, ns=(2, 2))
    np.testing.assert_array_equal(pickle.loads(sent)[3], vectors_of(TEXTS[3]))


def test_random_damage(tmp_path):
    """Bytes flipped and ends cut at random: the right vectors or none, one warning or none, nothing else."""
    texts = [f"text {i} " + "word " * 12 for i in range(3)]
    flags = [True, False, True]
    store = filled(tmp_path, texts, truncated=flags)
    path = only_shard(store)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    n_noticed = 0
    for trial in range(300):
        position = int(rng.integers(len(raw)))
        damaged = raw[:position] if trial % 5 == 0 else flip(raw, position, int(rng.integers(1, 256)))
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            seen = fresh(store)
            found = found_in(seen, texts)
            truncated = seen.lookup(text_keys(texts)).truncated
        if found[0] is None:
            n_noticed += 1
            assert found == [None, None, None], trial
            assert len(record) == 1, trial
            assert "are damaged" in str(record[0].message), trial
        else:  # a byte that says nothing: padding, the copy of the namespace in the metadata
            assert record == [], trial
            assert truncated.tolist() == flags, trial
            for text, vectors in zip(texts, found, strict=True):
                np.testing.assert_array_equal(vectors, vectors_of(text), err_msg=str(trial))
    assert n_noticed > 200


# ---------------------------------------------------------------- what else lies in the folder


def test_foreign_files_and_folders_are_left_alone(tmp_path):
    store = filled(tmp_path, TEXTS)
    for name in ("README.txt", "model.safetensors", f"{'A' * 64}.safetensors", f"{'0' * 64}.safetensors.bak", "0" * 64):
        (store.folder / name).write_bytes(b"not ours")
    (store.folder / "folder").mkdir()
    (store.folder.parent / "another-namespace").mkdir()
    foreign = {path for path in store.folder.iterdir() if path.suffix != ".safetensors" or path.stem[0] in "mA"}
    other = fresh(store)
    assert_found(other, TEXTS)
    assert_missing(other, ["unknown"])
    assert other.verify() == 0
    assert other.info()["n_shards"] == 1
    other.clear()
    assert set(store.folder.iterdir()) == foreign


def test_leftover_temporary_files_are_ignored(tmp_path):
    store = filled(tmp_path, TEXTS)
    path = only_shard(store)
    for content, name in (
        (b"", ".a"),
        (path.read_bytes()[:50], path.name),
        (path.read_bytes(), f"{'0' * 64}.safetensors"),
    ):
        (store.folder / f".{name}.123-456.tmp").write_bytes(content)
    other = fresh(store)
    assert_found(other, TEXTS)
    assert_missing(other, ["unknown"])
    assert (other.info()["n_shards"], other.verify()) == (1, 0)


def test_folder_under_a_shard_name(tmp_path):
    store = filled(tmp_path, TEXTS)
    (store.folder / f"{'0' * 64}.safetensors").mkdir()
    other = fresh(store)
    with one_warning(r"The embedding cache cannot read .*0000.*; what is in it is computed again"):
        for _ in range(3):
            assert_found(other, TEXTS)
            assert_missing(other, ["unknown"])


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="symbolic links")
def test_dangling_link_under_a_shard_name(tmp_path):
    store = filled(tmp_path, TEXTS)
    (store.folder / f"{'0' * 64}.safetensors").symlink_to(tmp_path / "gone")
    assert_found(fresh(store), TEXTS)
    assert_missing(fresh(store), ["unknown"])


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    store = fresh(filled(tmp_path, TEXTS))

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(namespace_folder.os, "scandir", refuse)
    with one_warning(r"cannot read .*Permission denied.*; what is in it is computed again"):
        for _ in range(3):
            assert_missing(store, TEXTS)


# ---------------------------------------------------------------- a disk that refuses


def assert_works_without_disk(store):
    """One warning, and the vectors come back from memory."""
    with one_warning(r"The embedding cache cannot write to .*The work goes on without it"):
        with store.encoding(text_keys(["some words"])):
            segment, offsets = write(store, TEXTS)
        with store.encoding(text_keys(["some words"])):
            write(store, ["more words"])
    assert isinstance(segment, np.ndarray)
    assert offsets.tolist() == [0, 1, 3, 3, 7, 7]
    np.testing.assert_array_equal(segment, np.concatenate([vectors_of(text) for text in TEXTS]))
    assert_missing(store, TEXTS)


@pytest.mark.parametrize("below", ["", "below/it"])
def test_cache_folder_is_a_file(below, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = TokenStore(tmp_path / "file" / below, NAMESPACE)
    assert_missing(store, TEXTS)
    assert_works_without_disk(store)
    assert store.info()["n_texts"] == store.verify() == 0
    store.clear()
    assert (tmp_path / "file").read_text() == "not a folder"


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_no_space_when_renaming(tmp_path, monkeypatch):
    store = TokenStore(tmp_path, NAMESPACE)
    with monkeypatch.context() as patch:
        patch.setattr(shard_module.os, "replace", no_space)
        assert_works_without_disk(store)
    assert [path.name for path in store.folder.iterdir() if path.name != "lock"] == []  # nothing half-written
    write(store, TEXTS)  # there is space again
    assert_found(fresh(store), TEXTS)


def test_no_space_when_writing(tmp_path, monkeypatch):
    def full(file, parts):
        os.write(file, parts[0][:100])
        no_space()

    store = filled(tmp_path, ["from before"])
    before = set(store.folder.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(shard_module.os, "writev", full, raising=False)
        assert_works_without_disk(store)
    assert set(store.folder.iterdir()) - before <= {store.folder / "locks"}
    assert_found(fresh(store), ["from before"])


@pytest.mark.parametrize("platform", ["short writes", "no writev"])
def test_writing_on_other_platforms(tmp_path, monkeypatch, platform):
    if platform == "no writev":
        monkeypatch.delattr(shard_module.os, "writev", raising=False)
    else:

        def few_bytes(file, parts):
            return os.write(file, b"".join(parts)[:1000])

        monkeypatch.setattr(shard_module.os, "writev", few_bytes, raising=False)
    assert_found(fresh(filled(tmp_path, TEXTS)), TEXTS)


def test_more_parts_than_one_call_takes(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(2500)]
    write(store, texts)
    assert store.verify() == 0
    assert_found(fresh(store), texts[::100])


def test_no_space_when_merging(tmp_path, monkeypatch):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(MAX_SMALL_SHARDS + 1)]
    for text in texts[:-1]:
        write(store, [text])
    calls = []

    def fails(*args):
        calls.append(args)
        return no_space()

    monkeypatch.setattr(merging, "write_shard", fails)
    with one_warning(r"cannot write to .*No space left on device"):
        write(store, texts[-1:])
    assert len(calls) == 1
    assert_found(store, texts)
    assert_found(fresh(store), texts)


@pytest.mark.parametrize("error", [NotImplementedError("no flock here"), OSError(errno.ENOLCK, "No locks available")])
def test_disk_without_locks(error, tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    store = TokenStore(tmp_path, NAMESPACE)
    with one_warning(r"The disk of the embedding cache .* has no file locks \(.*(no flock here|No locks available)\)"):
        for text in TEXTS:
            with store.encoding(text_keys(["some words"])):
                write(store, [text])
    assert_found(fresh(store), TEXTS)


def test_disk_without_flock(tmp_path, monkeypatch):
    """filelock's own way out, files whose being there is the lock, would wait for those of the dead for ever."""
    store = filled(tmp_path, TEXTS[:1])
    with store.encoding(text_keys(TEXTS)):
        pass  # leaves its files, as every holder does

    def no_flock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_flock)
    with one_warning(r"has no file locks \(.*Function not implemented\)"), store.encoding(text_keys(TEXTS)) as held:
        assert held
        write(store, TEXTS[1:])
    assert_found(fresh(store), TEXTS)


# ---------------------------------------------------------------- care


def test_info(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    empty = {"folder": str(store.folder), "n_texts": 0, "n_distinct": 0, "n_tokens": 0, "n_bytes": 0, "n_shards": 0}
    assert store.info() == empty
    write(store, TEXTS)
    write(store, ["one", "five"])
    size = sum(path.stat().st_size for path in shards_of(store))
    expected = {**empty, "n_texts": 7, "n_distinct": 6, "n_tokens": 9, "n_bytes": size, "n_shards": 2}
    assert store.info() == fresh(store).info() == expected


def test_verify(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    assert store.verify() == 0
    paths = []
    for text in ("text one", "text two", "text three", "text four"):
        write(store, [text])
        paths += [path for path in shards_of(store) if path not in paths]
    assert store.verify() == fresh(store).verify() == 0
    for path, tensor in ((paths[0], "values"), (paths[2], "keys")):
        raw = path.read_bytes()
        stat = path.stat()
        path.write_bytes(flip(raw, place_of(raw, tensor)[0]))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a disk that rots leaves the time alone
    with pytest.warns(UserWarning, match=DAMAGED) as record:
        assert store.verify() == 2
    assert len(record) == 2
    assert set(shards_of(store)) == {paths[1], paths[3]}
    assert store.verify() == 0
    assert_found(store, ["text two", "text four"])
    assert_missing(store, ["text one", "text three"])


def test_verify_counts_what_is_damaged_and_nothing_else(tmp_path, monkeypatch):
    """Not what others write, merge and clear meanwhile, nor what is no file of ours."""
    store = filled(tmp_path, TEXTS)
    (store.folder / f"{'0' * 64}.safetensors").mkdir()
    refresh = store._refresh

    def and_others_write():
        new = refresh()
        write(fresh(store), ["one more text"])
        next(path for path in shards_of(store) if path.is_file()).unlink()
        return new

    monkeypatch.setattr(store, "_refresh", and_others_write)
    with pytest.warns(UserWarning, match=r"The embedding cache cannot read .*0000"):
        assert store.verify() == 0


def test_clear(tmp_path):
    store, other = TokenStore(tmp_path, {"layer": 1}), TokenStore(tmp_path, {"layer": 2})
    store.clear()
    write(store, TEXTS)
    write(other, TEXTS)
    ragged = as_ragged(store.lookup(text_keys(TEXTS)))
    store.clear()
    assert shards_of(store) == []
    assert_missing(store, TEXTS)
    assert_missing(fresh(store), TEXTS)
    assert store.info()["n_texts"] == 0
    assert_found(other, TEXTS)
    np.testing.assert_array_equal(ragged[3], vectors_of(TEXTS[3]))  # whoever reads goes on reading
    write(store, TEXTS)
    assert_found(store, TEXTS)


MORE_HEADERS = {
    "truncated without dimension": (["x"], lambda h: h["truncated"].update(shape=[])),
    "keys upright": (["x"], lambda h: h["keys"].update(shape=[16, 1])),
    "too many dimensions": (TEXTS, lambda h: h["keys"].update(shape=[*h["keys"]["shape"], *[1] * 80])),
    "keys zero by huge": (TEXTS, lambda h: h["keys"].update(shape=[0, 10**30], data_offsets=[0, 0])),
    "offsets zero by huge": (TEXTS, lambda h: h["offsets"].update(shape=[2**62, 2**62, 0], data_offsets=[0, 0])),
    "offsets two-dimensional": (["x"], lambda h: h["offsets"].update(shape=[2, 1])),
    "truncated two-dimensional": (["x"], lambda h: h["truncated"].update(shape=[1, 1])),
}


@pytest.mark.parametrize(("texts", "change"), MORE_HEADERS.values(), ids=MORE_HEADERS.keys())
def test_shapes_of_the_index(texts, change, tmp_path):
    store = filled(tmp_path, texts)
    path = only_shard(store)
    header, _ = header_of(path.read_bytes())
    change(header)
    path.write_bytes(with_header(path.read_bytes(), header))
    assert_damage_is_noticed(fresh(store), texts)


@pytest.mark.parametrize(
    "parts",
    [
        {"offsets": [0, 9, 3, 3, 7, 7]},
        {"offsets": [0, -1, 3, 3, 7, 7]},
        {"offsets": [1, 1, 3, 3, 7, 7]},
        {"truncated": []},
        {"truncated": [False] * 6},
    ],
)
def test_forged_parts(parts, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    forge(store, TEXTS, np.concatenate([vectors_of(text) for text in TEXTS]), **parts)
    assert_damage_is_noticed(store, TEXTS)


def test_merge_of_the_only_sound_shard_keeps_it(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    for i in range(MAX_SMALL_SHARDS):
        write(store, [f"text number {i}"])
    for path in shards_of(store):
        raw = path.read_bytes()
        path.write_bytes(flip(raw, place_of(raw, "values")[0]))
        os.utime(path, ns=(1, 1))
    with pytest.warns(UserWarning, match=DAMAGED):
        write(store, ["one more"])
    assert_found(fresh(store), ["one more"])


def test_merge_after_another_process_cleared_everything(tmp_path, monkeypatch):
    store = TokenStore(tmp_path, NAMESPACE)
    for i in range(MAX_SMALL_SHARDS):
        write(store, [f"text number {i}"])
    refresh = TokenStore._refresh

    def cleared_after_listing(self):
        new = refresh(self)
        for path in shards_of(self):
            path.unlink()
        return new

    monkeypatch.setattr(TokenStore, "_refresh", cleared_after_listing)
    segment, _ = write(store, ["one more"])
    out = np.empty((2, D), np.float16)
    segment.read_into(0, out)
    np.testing.assert_array_equal(out, vectors_of("one more"))


@pytest.mark.parametrize("n", [1, 2])
def test_columns_first_values(n, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    store.write(
        text_keys(["two words", "one"][:n]),
        [np.asfortranarray(vectors_of(t)) for t in ["two words", "one"][:n]],
        [False] * n,
    )
    assert_found(fresh(store), ["two words", "one"][:n])


@pytest.mark.parametrize(("n_values", "n_flags"), [(1, 2), (3, 2), (2, 1), (2, 3)])
def test_write_of_uneven_parts(n_values, n_flags, tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    with pytest.raises(ValueError, match=r"one array and one flag a text"):
        store.write(text_keys(["a", "b"]), [vectors_of("x")] * n_values, [False] * n_flags)
    assert not store.folder.exists()


def test_disk_that_spoils_what_is_written(tmp_path, monkeypatch):
    write_beside = shard_module.write_beside
    monkeypatch.setattr(shard_module, "write_beside", lambda path, *parts: write_beside(path, b"".join(parts)[:-1]))
    store = TokenStore(tmp_path, NAMESPACE)
    with pytest.warns(UserWarning, match=r"cannot write"):
        segment, _ = write(store, TEXTS)
    np.testing.assert_array_equal(segment, np.concatenate([vectors_of(text) for text in TEXTS]))


def test_clear_passes_over_a_folder_and_takes_temporary_files(tmp_path):
    store = filled(tmp_path, TEXTS)
    folder = store.folder / f"{'0' * 64}.safetensors"
    folder.mkdir()
    (store.folder / f".{'0' * 64}.safetensors.1-2.tmp").write_bytes(b"half a shard")
    store.clear()
    assert {path.name for path in store.folder.iterdir()} == {"namespace.json", folder.name}


@pytest.mark.parametrize(("dtype", "n_features"), [(np.float32, D), (np.float16, D // 2)])
def test_reader_refuses_another_kind_of_array(dtype, n_features, tmp_path):
    segment, _ = write(TokenStore(tmp_path, NAMESPACE), ["two words"])
    with pytest.raises(ValueError, match=r"float16"):
        segment.read_into(0, np.empty((1, n_features), dtype))


def test_pickled_slice_leaves_files_behind_that_it_does_not_need(tmp_path):
    store = TokenStore(tmp_path, NAMESPACE)
    texts = [f"text number {i}" for i in range(20)]
    for text in texts:
        write(store, [text])
    ragged = as_ragged(store.lookup(text_keys(texts)))
    assert len(pickle.dumps(ragged[[3]])) < 0.3 * len(pickle.dumps(ragged))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ragged[[3]]))[0], vectors_of(texts[3]))


def test_pickled_rows_whose_file_was_merged_or_cleared(tmp_path):
    """What a process can read it can pickle: the rows travel by value then."""
    store = TokenStore(tmp_path, NAMESPACE)
    write(store, ["two words"])
    ragged = as_ragged(store.lookup(text_keys(["two words"])))
    fresh(store).clear()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ragged))[0], vectors_of("two words"))


def test_the_readable_name_is_not_part_of_the_address(tmp_path):
    write(TokenStore(tmp_path, NAMESPACE, "before"), ["two words"])
    assert_found(TokenStore(tmp_path, NAMESPACE, "after"), ["two words"])


def test_rows_that_stand_twice_are_merged_into_one(tmp_path, monkeypatch):
    """As a process leaves them that was killed between writing a merged shard and deleting its parts."""
    texts = [f"text number {i}" for i in range(MAX_SMALL_SHARDS)]
    store = TokenStore(tmp_path, NAMESPACE)
    for i, text in enumerate(texts):
        write(store, [text], [i % 2 == 0])
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "unlink", lambda path, missing_ok=False: None)
        write(store, ["one more"])
    assert fresh(store).info()["n_texts"] == 2 * MAX_SMALL_SHARDS + 1 + 1
    again = fresh(store)
    write(again, ["another one"])
    info = fresh(store).info()
    assert info["n_texts"] == info["n_distinct"] == MAX_SMALL_SHARDS + 2
    assert_found(fresh(store), [*texts, "one more", "another one"])
    assert fresh(store).lookup(text_keys(texts)).truncated.tolist() == [i % 2 == 0 for i in range(MAX_SMALL_SHARDS)]
