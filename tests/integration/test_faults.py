"""The cache as a whole where something goes wrong: processes killed, disks full, folders damaged, forbidden or hostile.

Real faults wherever they can be had. Other processes are forks of this one, so that none of them imports torch anew.
"""

import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import stat
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from tqdm.auto import tqdm

from skspace import TokenEncoder
from skspace._encoding import encoding_job, shared_in_process
from skspace._encoding.frozen_transformer import FrozenTransformer
from skspace._store import token_store as store_module
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "win32", reason="needs fork"),
    pytest.mark.usefixtures("limit"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

FORK = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)
SECONDS = 120  # none of what is waited for takes a tenth of it
BATCH_TOKENS = 64
UNWRITABLE = "The embedding cache cannot write to"
TEXTS = [f"the parcel {i} is late" for i in range(300)]
LABELS = [i % 2 for i in range(len(TEXTS))]
NAMESPACE = {"model": "tiny", "layer": 2}
D = 4


# ---------------------------------------------------------------- helpers


@contextmanager
def limited(seconds):
    """What hangs fails, with an exception that nobody takes for a fault of the disk."""

    def fail(signum, frame):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def limit():
    with limited(2 * SECONDS):
        yield


@pytest.fixture
def make(tiny_bert, tmp_path):
    """TokenEncoder with the tests' own defaults; on the processor, since CUDA does not survive a fork."""
    defaults = {"layer": 2, "max_length": 40, "dtype": "float32", "device": "cpu", "batch_tokens": BATCH_TOKENS}

    def make(model=tiny_bert, **params):
        return TokenEncoder(model, **(defaults | {"cache_dir": tmp_path / "cache"} | params))

    return make


@pytest.fixture
def expected(make):
    """The rows of TEXTS, made in peace."""
    return make(cache_dir=None).transform(TEXTS)


@pytest.fixture
def small_shards(monkeypatch):
    """A shard a batch, and merged as soon as there are a few."""
    constants = {"_FLUSH_SECONDS": -1.0, "SHARD_BYTES": 2**15, "SMALL_SHARD_BYTES": 2**13, "MAX_SMALL_SHARDS": 4}
    for module, name in itertools.product((encoding_job, store_module), constants):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, constants[name])


@pytest.fixture
def new_process(monkeypatch):
    """Call it to forget what this process knows of any store, as a new one does."""
    return lambda: monkeypatch.setattr(shared_in_process, "_caches", {})


@pytest.fixture
def children():
    """Starts functions in forks of this process; ends these with the test."""
    started = []

    def start(function, *args):
        receive, send = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_run, args=(send, function, args), daemon=True)
        process.start()
        send.close()
        started.append(process)
        return SimpleNamespace(process=process, receive=receive)

    yield start
    for process in started:
        process.kill()
        process.join()


def _run(send, function, args):
    try:
        send.send((function(*args), None))
    except BaseException:
        send.send((None, traceback.format_exc()))


def answer(child):
    """What the function of a child returned."""
    assert child.receive.poll(SECONDS), "a child hangs"
    try:
        value, error = child.receive.recv()
    except EOFError:
        child.process.join()
        pytest.fail(f"a child ended with {child.process.exitcode}")
    child.process.join(SECONDS)
    assert error is None, error
    return value


def kill(child):
    """True where it was still at work."""
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.join()
    return child.process.exitcode == -signal.SIGKILL


def counted(counts, slot, forward=FrozenTransformer.forward):
    """From now on add every row that goes through a model to a place in shared memory. For a child only."""

    def count(self, batch):
        counts[slot] += len(batch)
        return forward(self, batch)

    FrozenTransformer.forward = count


def assert_close(got, expected):
    """Equal but for the rounding of other batches."""
    assert got.lengths.tolist() == expected.lengths.tolist()
    np.testing.assert_allclose(got.values.astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)


def files_of(folder, besides=()):
    """Every path below a folder, but not below those `besides`, with what is there."""
    found = {}
    for path in Path(folder).iterdir():
        mode = path.lstat().st_mode
        found[str(path)] = path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
        if stat.S_ISDIR(mode) and path not in besides:
            found |= files_of(path, besides)
    return found


def recorded(function, *args):
    """What it returns, and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        value = function(*args)
    return value, [str(warning.message) for warning in record]


def store_of(encoder):
    """Another TokenStore on the store of an encoder; None where there is none yet."""
    folder = Path(encoder.cache_info()["folder"])
    if not (folder / "namespace.json").exists():
        assert list(folder.glob("*.safetensors")) == []
        return None
    namespace = json.loads((folder / "namespace.json").read_text())
    del namespace["format"]
    store = TokenStore(folder.parent.parent, namespace)
    assert store.folder == folder
    return store


def vectors_in(store, texts):
    """Each text's vectors as the store gives them, None where it has none."""
    found = store.lookup(text_keys(texts))
    vectors = []
    for segment, start, length in zip(found.segment, found.start, found.length, strict=True):
        if segment < 0:
            vectors.append(None)
            continue
        out = np.empty((length, found.segments[segment].shape[1]), np.float16)
        found.segments[segment].read_into(int(start), out)
        vectors.append(out)
    return vectors


def assert_stored(encoder, texts, expected, at_least=frozenset()):
    """All is sound and right and nothing is gone; the texts that are stored."""
    store = store_of(encoder)
    if store is None:
        assert not at_least
        return frozenset()
    assert store.verify() == 0
    vectors = vectors_in(store, texts)
    for got, wanted in zip(vectors, expected, strict=True):
        if got is not None:
            np.testing.assert_allclose(got.astype(np.float32), wanted.astype(np.float32), rtol=2**-10, atol=1e-5)
    stored = frozenset(text for text, got in zip(texts, vectors, strict=True) if got is not None)
    assert stored >= at_least
    return stored


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("n_deaths", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(make, tmp_path, expected, small_shards, children, new_process, n_deaths):
    """So many times after the first row, besides those before it, and what was done stays done."""
    rng = np.random.default_rng(0)
    shortest = min(len(names) for names, _ in make().tokenize(TEXTS))
    rows = list(expected)
    counts = FORK.RawArray("q", 1000)
    begun = FORK.RawArray("b", 1000)

    def encode(slot, folder):
        counted(counts, slot)
        begun[slot] = 1
        make(cache_dir=folder).transform(TEXTS)

    def start(slot, folder):
        child = children(encode, slot, folder)
        limit = time.monotonic() + SECONDS
        while not begun[slot] and time.monotonic() < limit:
            time.sleep(0.0005)
        return child

    began = time.monotonic()
    answer(start(0, tmp_path / "in peace"))
    seconds = time.monotonic() - began
    assert counts[0] == len(TEXTS)

    n_kills, slot, n_in_the_midst = 0, 0, 0
    for round_ in itertools.count():
        encoder, stored, first, kills_before = make(cache_dir=tmp_path / f"{round_}"), frozenset(), slot + 1, n_kills
        while n_in_the_midst < n_deaths:
            slot += 1
            child = start(slot, encoder.cache_dir)
            time.sleep(rng.uniform(0, seconds / 4))
            if not kill(child):
                break
            n_kills += 1
            n_in_the_midst += counts[slot] > 0
            new_process()
            stored = assert_stored(encoder, TEXTS, rows, stored)
        slot += 1
        answer(start(slot, encoder.cache_dir))  # nobody disturbs the last one
        new_process()
        assert_close(encoder.transform(TEXTS), expected)
        assert assert_stored(encoder, TEXTS, rows) == set(TEXTS)
        # One killed between writing a merged shard and deleting its parts leaves rows twice, until the next merge.
        assert encoder.cache_info()["n_distinct"] == len(TEXTS)
        in_flight = BATCH_TOKENS // shortest
        assert sum(counts[first : slot + 1]) <= len(TEXTS) + in_flight * (n_kills - kills_before)
        if n_in_the_midst == n_deaths:
            break
        assert n_kills < 500, "hardly a child is killed while it encodes"


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}


def changed_by(event, args):
    """The paths that an audit event is about to change."""
    if event == "open":
        path, _, flags = args
        return [path] if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else []
    return [arg for arg in args if isinstance(arg, (str, bytes, os.PathLike))] if event in CHANGES else []


def store_one_by_one(encoder, text):
    """In a file of its own, until it is merged."""
    encoder.transform([text])
    encoder.cache_info()


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_every_change_of_a_file(make, tmp_path, small_shards, children, new_process, step):
    """In the midst of writing, renaming, merging and deleting; found out by counting up until nobody dies."""
    texts = TEXTS[:60]
    expected = make(cache_dir=None).transform(texts)
    rows = list(expected)

    def encode(n, folder):
        place = itertools.count(1)

        def hook(event, args):
            if any(os.fsdecode(path).startswith(str(folder)) for path in changed_by(event, args)) and next(place) == n:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        make(cache_dir=folder).transform(texts)

    for text in texts[:20]:
        store_one_by_one(make(cache_dir=tmp_path / "before"), text)
    for n in itertools.count(1, step):
        shutil.copytree(tmp_path / "before", tmp_path / f"{n}")
        encoder = make(cache_dir=tmp_path / f"{n}")
        child = children(encode, n, encoder.cache_dir)
        child.process.join(SECONDS)
        if child.process.exitcode == 0:
            answer(child)
            break
        assert child.process.exitcode == -signal.SIGKILL
        new_process()
        assert_stored(encoder, texts, rows, frozenset(texts[:20]))  # what was done before is still there
        assert_close(encoder.transform(texts), expected)
        new_process()
        assert assert_stored(encoder, texts, rows) == set(texts)
    assert n > 20


# ---------------------------------------------------------------- several at once


def encode_counted(make, counts, slot, barrier):
    counted(counts, slot)
    encoder = make()
    barrier.wait(SECONDS)
    rows = encoder.transform(TEXTS[slot:] + TEXTS[:slot])
    return rows.values[np.argsort(np.repeat(np.roll(np.arange(len(TEXTS)), -slot), rows.lengths), kind="stable")]


@pytest.mark.parametrize("shards", ["large", "small"])
def test_processes_that_start_together_encode_each_text_once(make, expected, shards, children, request):
    if shards == "small":
        request.getfixturevalue("small_shards")
    make().tokenize(TEXTS[:1])  # loads the model
    counts, barrier = FORK.RawArray("q", 4), FORK.Barrier(4)
    started = [children(encode_counted, make, counts, slot, barrier) for slot in range(4)]
    for child in started:
        np.testing.assert_allclose(answer(child).astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    assert len(TEXTS) <= sum(counts) <= 1.05 * len(TEXTS)
    assert_stored(make(), TEXTS, list(expected), frozenset(TEXTS))
    info = make().cache_info()
    assert info["n_distinct"] == len(TEXTS)
    assert info["n_texts"] <= 1.05 * len(TEXTS)


@pytest.mark.parametrize("shards", ["large", "small"])
def test_threads_that_start_together_encode_each_text_once(make, expected, shards, monkeypatch, request):
    if shards == "small":
        request.getfixturevalue("small_shards")
    seen, results, forward = [], {}, FrozenTransformer.forward

    def count(self, batch):
        seen.extend(batch)
        return forward(self, batch)

    monkeypatch.setattr(FrozenTransformer, "forward", count)
    barrier, encoder = threading.Barrier(8), make()

    def work(i):
        mine = clone(encoder)
        barrier.wait(SECONDS)
        try:
            results[i] = mine.transform(TEXTS[i:])
        except BaseException as error:
            results[i] = error

    in_threads(work, 8)
    for i in range(8):
        assert_close(results[i], expected[i:])
    assert len(TEXTS) <= len(seen) <= 1.05 * len(TEXTS)
    info = encoder.cache_info()
    assert info["n_distinct"] == len(TEXTS)
    assert info["n_texts"] <= 1.05 * len(TEXTS)


def in_threads(work, n):
    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_killed_while_it_encodes_and_others_wait(make, expected, small_shards, children):
    make().tokenize(TEXTS[:1])
    counts = FORK.RawArray("q", 4)

    def hang():
        forward = FrozenTransformer.forward

        def stop(self, batch):
            if counts[0] > 50:
                time.sleep(2 * SECONDS)
            return forward(self, batch)

        counted(counts, 0, stop)
        make().transform(TEXTS)

    def encode(slot):
        counted(counts, slot)
        return make().transform(TEXTS).values

    holder = children(hang)
    limit = time.monotonic() + SECONDS
    while counts[0] <= 50 and time.monotonic() < limit:
        time.sleep(0.001)
    others = [children(encode, slot) for slot in (1, 2, 3)]
    time.sleep(0.3)  # until they wait
    assert kill(holder)
    for child in others:
        np.testing.assert_allclose(answer(child).astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)
    assert sum(counts) <= 1.05 * len(TEXTS) + BATCH_TOKENS // 4
    assert counts[0] > 50
    assert_stored(make(), TEXTS, list(expected), frozenset(TEXTS))


def test_fork_of_a_process_that_is_killed_while_it_encodes(make, expected, small_shards, children):
    """The fork has inherited whatever was open, the lock too."""
    make().tokenize(TEXTS[:1])
    encoding, go = FORK.Event(), FORK.Event()
    receive, send = FORK.Pipe(duplex=False)

    def hang(self, batch):
        encoding.set()
        time.sleep(2 * SECONDS)

    def hold():
        forward, FrozenTransformer.forward = FrozenTransformer.forward, hang
        threading.Thread(target=make().transform, args=(TEXTS,), daemon=True).start()
        encoding.wait(SECONDS)
        if os.fork() == 0:
            FrozenTransformer.forward = forward
            signal.alarm(SECONDS)  # nobody waits for it
            go.wait(SECONDS)
            send.send(make().transform(TEXTS).values)
            os._exit(0)
        time.sleep(2 * SECONDS)

    holder = children(hold)
    assert encoding.wait(SECONDS)
    time.sleep(0.3)  # until it has forked
    assert kill(holder)
    go.set()
    assert receive.poll(20), "the fork waits for a lock that nobody else holds"
    np.testing.assert_allclose(receive.recv().astype(np.float32), expected.values, rtol=2**-10, atol=1e-5)


def test_lock_of_tqdm_may_be_held_by_a_dead_process(make):
    """It is one for all forks of a process, and nobody opens it for a dead one."""
    with tqdm.get_lock():
        thread = threading.Thread(target=make().transform, args=(TEXTS[:10],), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()


# ---------------------------------------------------------------- damage of every kind


def made_up(text):
    """The vectors of a text in a store without a model."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=(len(text.split()), D)).astype(np.float16)


def write(store, texts):
    store.write(text_keys(texts), [made_up(text) for text in texts], [False] * len(texts))


SHARDS = [[f"shard {i} " + "word " * (j % 4) + f"{j}" for j in range(5)] for i in range(5)]
STORED = [text for texts in SHARDS for text in texts]
IS_SHARD = "[0-9a-f]" * 64 + ".safetensors"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A cache folder with a store of five shards, a store of another namespace, and which texts lie in which file."""
    cache = tmp_path_factory.mktemp("template") / "cache"
    store, other = TokenStore(cache, NAMESPACE), TokenStore(cache, {**NAMESPACE, "layer": 3})
    texts_of = {}
    for texts in SHARDS:
        write(store, texts)
        [name] = {path.name for path in store.folder.glob(IS_SHARD)} - texts_of.keys()
        texts_of[name] = texts
    other.write(text_keys(STORED), [made_up(text) + 1 for text in STORED], [False] * len(STORED))
    other.write(text_keys(STORED[:3]), [made_up(text) + 1 for text in STORED[:3]], [False] * 3)
    TokenStore(cache, NAMESPACE).lookup(text_keys([*STORED, "unknown"]))  # whatever a reader leaves there
    return SimpleNamespace(cache=cache, folder=store.folder.name, other=other.folder.name, texts_of=texts_of)


def victim(world):
    """One of the shards, from now on not counted upon."""
    name = world.names[world.rng.integers(len(world.names))]
    world.touched.add(name)
    return world.folder / name


def new_name(world):
    return world.folder / f"{world.rng.bytes(32).hex()}.safetensors"


def victim_or_new(world):
    return victim(world) if world.rng.integers(2) else new_name(world)


def content(path):
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(2**20)


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path, raw):
    """Another content in the same file, if it is one."""
    if path.is_symlink() or not path.is_file():
        remove(path)
    path.write_bytes(raw)


def flip_bits(world):
    path = victim(world)
    raw = bytearray(content(path) or b"nothing")
    for position in world.rng.integers(8 * len(raw), size=world.rng.integers(1, 9)):
        raw[position // 8] ^= 1 << (position % 8)
    put(path, raw)


def cut(world):
    path = victim(world)
    raw = content(path)
    put(path, raw[: world.rng.integers(len(raw) + 1)])


def lengthen(world):
    path = victim(world)
    put(path, content(path) + world.rng.bytes(100))


def make_sparse(world):
    path = victim(world)
    put(path, content(path))
    os.truncate(path, 2**36)


def empty(world):
    put(victim_or_new(world), b"")


def put_random_bytes(world):
    put(victim_or_new(world), world.rng.bytes(world.rng.integers(1, 3000)))


def put_other_header(world):
    path = victim(world)
    length = int(world.rng.choice([0, 1, 7, 2**16, 2**31, 2**63 - 1]))
    put(path, length.to_bytes(8, "little") + content(path)[8:])


def put_another_shard(world):
    put(victim_or_new(world), content(victim(world)))


def exchange_shards(world):
    one, two = victim(world), victim(world)
    one_raw, two_raw = content(one), content(two)
    put(one, two_raw)
    put(two, one_raw)


def put_shard_of_another_namespace(world):
    paths = sorted(world.other.glob(IS_SHARD))
    path = paths[world.rng.integers(len(paths))]
    put((victim(world), new_name(world), world.folder / path.name)[world.rng.integers(3)], path.read_bytes())


def put_folder(world):
    path = victim_or_new(world)
    remove(path)
    path.mkdir()
    if world.rng.integers(2):
        (path / "file").write_text("not ours")


def put_link(world):
    path = victim_or_new(world)
    targets = ["nowhere", "folder", "file", "shard", "/dev/null", "/dev/zero", "pipe", path]
    remove(path)
    path.symlink_to(world.outside / targets[world.rng.integers(len(targets))])


def put_hard_link(world):
    path, source = new_name(world), victim(world)
    if source.is_file():
        os.link(source, path)


def put_pipe(world):
    path = victim_or_new(world)
    remove(path)
    os.mkfifo(path)


def put_foreign_file(world):
    names = ["README", ".DS_Store", "a\nb.safetensors", os.fsdecode(b"\xff.safetensors"), f"{'A' * 64}.safetensors"]
    put(world.folder / names[world.rng.integers(len(names))], world.rng.bytes(50))


def put_foreign_folder(world):
    (world.folder / "folder" / "below").mkdir(parents=True, exist_ok=True)


def leave_temporary_file(world):
    name = new_name(world).name if world.rng.integers(2) else world.names[0]
    raw = (world.folder.parent / world.other.name / "namespace.json").read_bytes() if world.rng.integers(2) else b""
    put(world.folder / f".{name}.{world.rng.integers(1, 99999)}-{world.rng.integers(1, 99999)}.tmp", raw)


def spoil_what_else_is_there(world):
    """The description, locks, whatever the store keeps beside the shards."""
    names = sorted({p.name for p in world.folder.iterdir()} - set(world.names) | {"lock", "namespace.json"})
    names = [name for name in names if not Path(name).match(IS_SHARD)]
    path = world.folder / names[world.rng.integers(len(names))]
    how = world.rng.integers(5)
    raw = content(path)
    remove(path)
    if how == 1:
        path.mkdir()
    elif how == 2:
        path.symlink_to(world.outside / "nowhere")
    elif how >= 3:
        path.write_bytes([world.rng.bytes(64), raw[: len(raw) // 2]][how - 3])


def put_other_format(world):
    folder = world.folder.parent.parent / f"v{world.rng.choice([0, 2, 11])}" / world.folder.name
    folder.mkdir(parents=True, exist_ok=True)
    for name in world.names:
        (folder / name).write_bytes(world.rng.bytes(100))


def rename(world):
    path, endings = victim(world), ["", ".safetensors.bak", ".SAFETENSORS"]
    if path.exists():
        others = [new_name(world), *(world.folder / f"{world.rng.bytes(32).hex()}{ending}" for ending in endings)]
        os.rename(path, others[world.rng.integers(len(others))])


def delete(world):
    remove(victim(world))


ACTS = [
    flip_bits,
    flip_bits,  # the likeliest
    cut,
    lengthen,
    make_sparse,
    empty,
    put_random_bytes,
    put_other_header,
    put_another_shard,
    exchange_shards,
    put_shard_of_another_namespace,
    put_folder,
    put_link,
    put_hard_link,
    put_pipe,
    put_foreign_file,
    put_foreign_folder,
    leave_temporary_file,
    spoil_what_else_is_there,
    put_other_format,
    rename,
    delete,
]


def assert_right_or_missing(store, texts):
    """The texts that are missing."""
    vectors = vectors_in(store, texts)
    for text, got in zip(texts, vectors, strict=True):
        if got is not None:
            np.testing.assert_array_equal(got, made_up(text))
    return [text for text, got in zip(texts, vectors, strict=True) if got is None]


def assert_one_warning_a_file(messages):
    said = Counter()
    for message in messages:
        assert "are damaged (" in message or "The embedding cache cannot read " in message, message
        said[message.split(".safetensors")[0]] += 1
    assert set(said.values()) <= {1}, messages


def faults_of(case, template, folder):
    """Do the acts, then ask; the acts, how many texts were missing, what was warned of, and the first error."""
    rng = np.random.default_rng(case)
    cache, outside = folder / "cache", folder / "outside"
    shutil.copytree(template.cache, cache)
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("not ours")
    os.mkfifo(outside / "pipe")
    names = sorted(template.texts_of)
    shutil.copy(template.cache / "v1" / template.folder / names[0], outside / "shard")
    parent = cache / "v1"
    world = SimpleNamespace(
        rng=rng, folder=parent / template.folder, other=parent / template.other, outside=outside, names=names
    )
    world.touched = set()
    knows_it = TokenStore(cache, NAMESPACE)
    if case % 3 == 0:
        knows_it.lookup(text_keys(STORED))  # has verified everything before
    acts = [ACTS[i] for i in rng.choice(len(ACTS), rng.integers(1, 4))]
    for act in acts:
        act(world)
    around = files_of(folder, [world.folder])
    untouched = {text for name in set(names) - world.touched for text in template.texts_of[name]}
    missing, messages = [], []
    try:
        store = knows_it if case % 3 == 0 else TokenStore(cache, NAMESPACE)
        missing, messages = recorded(assert_right_or_missing, store, STORED)
        assert untouched.isdisjoint(missing), "what nobody touched is missing"
        again, more = recorded(assert_right_or_missing, store, [*STORED, "unknown"])
        assert again == [*missing, "unknown"]
        _, at_writing = recorded(write, store, missing[::-1]) if missing else (None, [])
        left, at_last = recorded(assert_right_or_missing, store, STORED)
        assert left == [], f"{len(left)} texts were written and not found"
        assert_one_warning_a_file([*messages, *more, *at_writing, *at_last])
        for _ in range(2):
            other = TokenStore(cache, NAMESPACE)
            left, there = recorded(assert_right_or_missing, other, STORED)
            # Who had the index in memory may have used a file of which nobody else can make sense.
            assert untouched.isdisjoint(left), "what nobody touched is missing in another store"
            _, at_writing = recorded(write, other, left[::-1]) if left else (None, [])
            _, at_verifying = recorded(other.verify)
            info, at_info = recorded(other.info)
            assert info["n_distinct"] == len(STORED)
            assert_one_warning_a_file([*there, *at_writing, *at_verifying, *at_info])
        assert left == [], f"{len(left)} texts were written and not found by another"
        assert files_of(folder, [world.folder]) == around, "something outside has changed"
        error = None
    except (Exception, pytest.fail.Exception) as caught:
        error = caught
    return [act.__name__ for act in acts], len(missing), messages, error


PARTS = [range(120), *(pytest.param(range(first, 1200, 4), marks=pytest.mark.slow) for first in range(120, 124))]


@pytest.mark.parametrize("cases", PARTS, ids=str)
def test_a_thousand_damaged_folders(template, tmp_path, cases):
    """One to three acts each: the right vectors or none, and what is missing can be written again."""
    n_missing, n_warnings, problems = 0, 0, []
    for case in cases:
        with limited(3):
            acts, n, messages, error = faults_of(case, template, tmp_path / f"{case}")
        n_missing, n_warnings = n_missing + n, n_warnings + len(messages)
        if error is not None:
            problems.append(f"case {case}, {acts}: {type(error).__name__}: {str(error).splitlines()[0]}")
        shutil.rmtree(tmp_path / f"{case}")
        if len(problems) == 8:
            break
    assert problems == []
    assert n_missing > 5 / 3 * len(cases)
    assert n_warnings > len(cases) / 3
