"""Disks that are full, forbidden or taken away; texts and folders from strangers; many threads on one classifier."""

import errno
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import subprocess
import threading
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import load_file, save_file

from skspace import SpaceClassifier, TokenEncoder, cache
from skspace._encoding import shared_in_process
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._files.atomic_write import write_beside
from skspace._store.key_index import lock_of, text_keys

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

TEXTS = [f"the parcel {i} is late" for i in range(60)]
LABELS = [i % 2 for i in range(60)]
UNWRITABLE = "The embedding cache cannot write to"


@pytest.fixture
def make(tiny_bert, tmp_path):
    defaults = {"layer": 2, "dtype": "float32", "device": "cpu"}  # CUDA does not survive a fork

    def make(model=tiny_bert, **params):
        return TokenEncoder(model, **(defaults | {"cache_dir": tmp_path / "cache"} | params))

    return make


@pytest.fixture
def expected(make):
    return make(cache_dir=None).transform(TEXTS)


def fitted(encoder):
    return SpaceClassifier(encoder, n_latent=2, n_members=1, max_epochs=3, random_state=0).fit(TEXTS, LABELS)


def in_child(function):
    """What a function returns, or where it fails, in a fork of this process that may be spoiled."""
    if torch.cuda.is_initialized():
        pytest.skip("an earlier test has used CUDA, after which torch can train nothing in a fork")
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def run():
        try:
            send.send((function(), None))
        except BaseException:
            send.send((None, traceback.format_exc()))

    process = context.Process(target=run)
    process.start()
    assert receive.poll(60), "the child hangs"
    value, error = receive.recv()
    process.join(60)
    assert error is None, error
    return value


def fit_and_messages(encoder):
    """Vectors, probabilities and warnings of a fit and a prediction."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probabilities = fitted(encoder).predict_proba(TEXTS)
        vectors = encoder.transform(TEXTS).values
    return vectors, probabilities, [str(warning.message) for warning in caught]


def assert_goes_on(encoder, expected, make, message=UNWRITABLE):
    """A fit warns once, and gives the model of a fit without a cache."""
    vectors, probabilities, messages = fit_and_messages(encoder)
    np.testing.assert_allclose(vectors.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    np.testing.assert_allclose(probabilities, fitted(make(cache_dir=None)).predict_proba(TEXTS), atol=1e-3)
    assert len(messages) == 1, messages
    assert messages[0].startswith(message)
    return messages[0]


# ---------------------------------------------------------------- disks


def test_file_size_limit(make, expected):
    """A quota that a real write runs into."""

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        return assert_goes_on(make(), expected, make)

    message = in_child(work)
    assert os.strerror(errno.EFBIG) in message
    assert "free some space or choose another folder with cache_dir or SKSPACE_CACHE_DIR" in message
    assert [path for path in Path(make().cache_dir).rglob("*") if path.name.endswith(".tmp")] == []
    assert make().cache_info()["n_texts"] == 0


def test_full_disk(make, expected, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        message = in_child(lambda: assert_goes_on(make(cache_dir=disk), expected, make))
        assert os.strerror(errno.ENOSPC) in message
        assert list(disk.rglob("*.tmp")) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def as_nobody(function):
    """In a child that may not do what root may."""

    def work():
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        return function()

    return in_child(work)


@pytest.fixture
def open_to_all(tmp_path, tiny_bert):
    """Folders that nobody can reach, and files that nobody can read, as far as the tests' own go."""
    if os.geteuid() != 0:
        return
    for folder in (tmp_path, Path(tiny_bert)):
        for path in (folder, *folder.parents[:-2]):
            path.chmod(path.stat().st_mode | 0o055)
        for path in folder.rglob("*"):
            path.chmod(path.stat().st_mode | 0o055)


def test_folder_that_may_only_be_read(make, expected, open_to_all, tmp_path):
    make().transform(TEXTS[:20])
    cache = tmp_path / "cache"
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(map(str, cache.rglob("*")))
    message = as_nobody(lambda: assert_goes_on(make(), expected, make))
    assert "Permission denied" in message
    assert sorted(map(str, cache.rglob("*"))) == before


def test_full_hit_in_a_folder_that_may_only_be_read(make, expected, open_to_all, tmp_path):
    make().transform(TEXTS)
    cache = tmp_path / "cache"
    for path in (cache, *cache.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    vectors, _, messages = as_nobody(lambda: fit_and_messages(make()))
    assert messages == []
    np.testing.assert_allclose(vectors.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)


def test_folder_without_permission(make, expected, open_to_all, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o700)
    encoder = make(cache_dir=tmp_path / "mine" / "cache")
    vectors, _, messages = as_nobody(lambda: fit_and_messages(encoder))
    np.testing.assert_allclose(vectors.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    assert ["cannot read" in messages[0], "cannot write to" in messages[1]] == [True, True]
    assert len(messages) == 2
    assert all("Permission denied" in message for message in messages)


@pytest.mark.parametrize("below", ["", "below"])
def test_path_that_is_a_file(make, expected, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    assert_goes_on(make(cache_dir=tmp_path / "file" / below), expected, make)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("when", ["before reading", "before the next text", "while encoding"])
def test_folder_deleted_while_in_use(make, expected, tmp_path, monkeypatch, when):
    encoder, cache = make(batch_tokens=64), tmp_path / "cache"
    if when == "while encoding":
        forward = FrozenTransformer.forward

        def delete(self, batch):
            shutil.rmtree(cache, ignore_errors=True)
            return forward(self, batch)

        monkeypatch.setattr(FrozenTransformer, "forward", delete)
    rows = encoder.transform(TEXTS)
    if when != "while encoding":
        shutil.rmtree(cache)
    if when == "before the next text":
        rows = encoder.transform(TEXTS)
    np.testing.assert_allclose(rows.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    monkeypatch.undo()
    assert encoder.transform(TEXTS).lengths.tolist() == expected.lengths.tolist()
    assert encoder.cache_info()["n_distinct"] == 60


def test_cache_dir_none_writes_nothing(make, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "SKSPACE_CACHE_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    fitted(make(cache_dir=None)).predict(TEXTS[:3])
    assert list(home.iterdir()) == []


# ---------------------------------------------------------------- models under one name


def change_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_exchanged_under_one_name(make, tiny_bert, tmp_path):
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    first = make(folder).transform(TEXTS)
    change_weights(folder)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    second = make(folder).transform(TEXTS)
    assert (first.values != second.values).any()
    np.testing.assert_array_equal(second.values, make(folder, cache_dir=None).transform(TEXTS).values)


def test_weights_exchanged_for_others_of_their_size_and_time(make, tiny_bert, tmp_path):
    """As whoever copies with the times kept may do it."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    first = make(folder).transform(TEXTS)
    times = os.stat(folder / "model.safetensors")
    change_weights(folder)
    os.utime(folder / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (first.values != make(folder).transform(TEXTS).values).any()


def test_weights_exchanged_between_digest_and_loading(make, tiny_bert, tmp_path, monkeypatch):
    """Their vectors must not be kept as those of the model that was there before."""
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    load = FrozenTransformer.__init__

    def load_later(self, *args, **params):
        change_weights(folder)
        load(self, *args, **params)

    monkeypatch.setattr(shared_in_process, "_transformers", {})
    monkeypatch.setattr(FrozenTransformer, "__init__", load_later)
    with pytest.raises(OSError, match=r"was changed while it was loaded. Run again when it is complete"):
        make(folder).transform(TEXTS)


def test_weights_overwritten_under_a_loaded_model(make, tiny_bert, tmp_path, monkeypatch):
    """Loaded weights may be a memory map of the file, which whoever copies another over it changes, or cuts short."""
    monkeypatch.setattr(shared_in_process, "_transformers", {})
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    encoder = make(folder, cache_dir=None)
    encoder.transform(TEXTS)
    (transformer,) = shared_in_process._transformers.values()
    batch = transformer.tokenize(TEXTS)
    before = transformer.forward(batch)
    path = folder / "model.safetensors"
    with open(path, "r+b") as file:  # in place
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    np.testing.assert_array_equal(transformer.forward(batch), before)
    os.truncate(path, 0)
    transformer.forward(batch)


def test_settings_of_the_program_do_not_change_what_is_kept(make):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = make().transform(TEXTS).values
    np.testing.assert_allclose(inside, make(cache_dir=None).transform(TEXTS).values, rtol=2**-9, atol=1e-4)
    strict, coarse = make().cache_info()["folder"], make(dtype="bfloat16").cache_info()["folder"]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert make().cache_info()["folder"] != strict
        assert make(dtype="bfloat16").cache_info()["folder"] == coarse
    finally:
        torch.set_float32_matmul_precision(before)
    assert make().cache_info()["folder"] == strict


@pytest.mark.parametrize(
    "change", [{"layer": 1}, {"max_length": 5}, {"dtype": "bfloat16"}, {"special_tokens": "drop"}], ids=str
)
@pytest.mark.filterwarnings("ignore:.* texts are longer than")
def test_one_cache_for_different_settings(make, change):
    for params in ({}, change, {}, change):
        rows, fresh = make(**params).transform(TEXTS), make(cache_dir=None, **params).transform(TEXTS)
        assert rows.lengths.tolist() == fresh.lengths.tolist()
        tolerance = 2e-2 if "dtype" in params else 1e-3
        np.testing.assert_allclose(rows.values.astype(float), fresh.values.astype(float), atol=tolerance)


# ---------------------------------------------------------------- texts from strangers

STRANGE = {
    "path": "../../etc/passwd",
    "absolute path": "/etc/passwd\0",
    "nul": "late\0parcel",
    "lone surrogate": "late \ud800 parcel",
    "right to left": "\u202eparcel\u202c العربية עברית",
    "combining": "e\u0301" * 50 + "Z̷͓͝a̸l̶g̷o̴",
    "joined emoji": "👩‍👩‍👧‍👦 🏳️‍🌈",
    "newlines": "\n" * 100_000,
    "10 MB": "parcel late " * 850_000,
    "template": "{0} %s ${HOME} <script>alert(1)</script>",
}


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE.keys())
@pytest.mark.filterwarnings("ignore:1 of .* texts are longer than")
def test_strange_text_through_the_cache(make, tmp_path, text):
    (tmp_path / "cache").mkdir()
    before = {path for path in tmp_path.rglob("*") if tmp_path / "cache" not in path.parents}
    encoder = make()
    first, second = encoder.transform(["parcel", text]), encoder.transform([text, "late"])
    np.testing.assert_array_equal(first[1], second[0])
    fresh = make(cache_dir=None).transform([text])
    np.testing.assert_allclose(first[1].astype(float), fresh[0].astype(float), rtol=2**-9, atol=1e-4)
    assert {path for path in tmp_path.rglob("*") if tmp_path / "cache" not in path.parents} == before


# ---------------------------------------------------------------- folders from strangers


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def header(raw):
    return len(raw).to_bytes(8, "little") + raw


HOSTILE = {
    "pickle": lambda trap: pickle.dumps(Trap(trap)),
    "numpy pickle": lambda trap: b"\x93NUMPY\x01\x00v\x00" + pickle.dumps(Trap(trap)),
    "tensor name that is a path": lambda trap: save({f"../../{trap.name}": np.zeros(3), str(trap): np.zeros(3)}),
    "metadata of other types": lambda trap: header(b'{"__metadata__": {"index": 5, "values": ["a"]}}'),
    "metadata that is no object": lambda trap: header(b'{"__metadata__": "x"}'),
    "deep header": lambda trap: header(b"[" * 60_000),
    "huge header": lambda trap: (2**63).to_bytes(8, "little") + b"{}",
    "numbers that are none": lambda trap: header(
        b'{"__metadata__": {}, "keys": {"dtype": "U8", "shape": [NaN, 16], "data_offsets": [0, Infinity]}}'
    ),
    "shape without end": lambda trap: header(
        json.dumps(
            {
                "__metadata__": {},
                **{
                    name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]}
                    for name, kind, shape in (
                        ("keys", "U8", [0, 16]),
                        ("offsets", "I64", [10**30]),
                        ("truncated", "U8", [0]),
                        ("values", "F16", [10**30, 10**30]),
                    )
                },
            }
        ).encode()
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_file(make, expected, tmp_path, how):
    encoder, trap = make(), tmp_path / "trap"
    encoder.transform(TEXTS[:10])
    folder = Path(encoder.cache_info()["folder"])
    (folder / ("0" * 64 + ".safetensors")).write_bytes(HOSTILE[how](trap))
    with pytest.warns(UserWarning, match=r"are damaged \(.*\); they are not used and are computed again"):
        rows = encoder.transform(TEXTS)
    np.testing.assert_allclose(rows.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    assert not trap.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}


def test_shard_name_that_leads_outside(make, expected, tmp_path):
    """A link is followed when it is read, but what it leads to is neither changed nor deleted."""
    encoder, outside = make(), tmp_path / "outside"
    outside.write_bytes(b"not ours")
    encoder.transform(TEXTS[:10])
    folder = Path(encoder.cache_info()["folder"])
    (folder / ("0" * 64 + ".safetensors")).symlink_to(outside)
    with pytest.warns(UserWarning, match="are damaged"):
        rows = encoder.transform(TEXTS)
    np.testing.assert_allclose(rows.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    encoder.clear_cache()
    assert outside.read_bytes() == b"not ours"


@pytest.mark.parametrize("what", ["locks", ".", "..", "one lock"])
def test_link_that_leads_outside(make, expected, tmp_path, what):
    """A folder of a stranger is not written through: neither the locks, nor the namespace, nor the version's folder."""
    encoder, outside = make(), tmp_path / "outside"
    encoder.transform(TEXTS[:10])
    lock = f"locks/{lock_of(text_keys(TEXTS[10:11]))[0]:02x}"
    place = Path(os.path.normpath(Path(encoder.cache_info()["folder"]) / (lock if what == "one lock" else what)))
    if what == "one lock":
        outside.write_text("mine")
        place.unlink(missing_ok=True)
    else:
        shutil.copytree(place, outside)
        (outside / "mine").write_text("mine")
        shutil.rmtree(place)
    before = {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()}
    place.symlink_to(outside)
    with pytest.warns(UserWarning, match=UNWRITABLE):
        rows = encoder.transform(TEXTS)
    np.testing.assert_allclose(rows.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    assert {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("what", [".", ".."])
def test_damage_behind_a_link_is_not_deleted(make, tmp_path, what):
    encoder = make()
    encoder.transform(TEXTS[:10])
    folder = Path(encoder.cache_info()["folder"])
    outside, place = tmp_path / "outside", Path(os.path.normpath(folder / what))
    shutil.move(place, outside)
    place.symlink_to(outside)
    theirs = (folder / f"{'a' * 64}.safetensors").resolve()
    theirs.write_bytes(b"not ours")
    with pytest.warns(UserWarning, match="are damaged"), pytest.warns(UserWarning, match=UNWRITABLE):
        encoder.transform(TEXTS)
    encoder.clear_cache()
    cache.clear(tmp_path / "cache")
    cache.evict(0, tmp_path / "cache")
    assert theirs.read_bytes() == b"not ours"


def test_temporary_name_that_leads_outside(make, tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    target = tmp_path / "shard"
    (tmp_path / f".shard.{os.getpid()}-{threading.get_ident()}.tmp").symlink_to(outside)
    write_beside(target, b"content")
    assert (target.read_bytes(), outside.read_text()) == (b"content", "mine")


# ---------------------------------------------------------------- many at once on one classifier


def test_predict_from_eight_threads(make):
    clf = fitted(make())
    texts = [*TEXTS, *(f"my account was charged {i} times" for i in range(60))]
    expected = fitted(make(cache_dir=None)).predict_proba(texts)
    results = {}
    barrier = threading.Barrier(8)

    def work(i):
        barrier.wait(60)
        try:
            mine = texts[i:] + texts[:i]
            results[i] = [np.roll(clf.predict_proba(mine), i, 0), *(clf.predict_proba([text]) for text in mine[:10])]
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in range(8):
        assert isinstance(results[i], list), results[i]
        np.testing.assert_allclose(results[i][0], expected, atol=1e-3)
        np.testing.assert_array_equal(results[i][0], results[0][0])  # all read the same vectors
        for j, one in enumerate(results[i][1:]):
            np.testing.assert_array_equal(one[0], results[i][0][(i + j) % len(texts)])


def test_predict_after_a_fork(make):
    clf = fitted(make())
    new = ["my account was charged twice", "text"]
    expected = clf.predict_proba([*TEXTS, *new])

    def work():
        return clf.predict_proba(TEXTS), clf.predict_proba(new), clf.predict_proba(["never seen is late"]).shape

    cached, also_cached, shape = in_child(work)
    np.testing.assert_array_equal(np.concatenate([cached, also_cached]), expected)
    assert shape == (1, 2)


def test_fork_while_another_thread_predicts(make):
    clf = fitted(make())
    stop = threading.Event()

    def keep_busy():
        for i in range(10_000):
            if stop.is_set():
                return
            clf.predict([f"text {i}", "the parcel"])

    thread = threading.Thread(target=keep_busy, daemon=True)
    thread.start()
    try:
        expected = clf.predict_proba(TEXTS)
        for i in range(5):
            np.testing.assert_array_equal(in_child(lambda: clf.predict_proba(TEXTS)), expected)
            assert in_child(lambda i=i: clf.predict([f"late {i}", "account"]).shape) == (2,)
    finally:
        stop.set()
        thread.join(60)


def test_fork_while_another_thread_changes_the_store(make):
    """The fork neither waits for the thread nor trusts what it may have left half changed."""
    encoder = make()
    expected = encoder.transform(TEXTS).values
    store = encoder._cache(encoder._files()).store
    inside, goes_on = threading.Event(), threading.Event()

    def change():
        with store._threads:
            index, store._index = store._index, None
            inside.set()
            assert goes_on.wait(60)
            store._index = index

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    assert inside.wait(60)
    try:
        np.testing.assert_array_equal(in_child(lambda: encoder.transform(TEXTS).values), expected)
    finally:
        goes_on.set()
        thread.join(60)
    np.testing.assert_array_equal(encoder.transform(TEXTS).values, expected)
