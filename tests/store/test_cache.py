"""The cache folder as a whole: its limit, skspace.cache, and python -m skspace.cache."""

import hashlib
import os
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from skspace import TokenEncoder, cache
from skspace._files import open_files
from skspace._store import cache_folder as cache_folder_module
from skspace._store import shard
from skspace._store.cache_folder import CacheLimit, cache_folder, evict, shard_files
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore

D = 16


def vectors_of(text):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=(len(text.split()), D)).astype(np.float16)


def write(store, texts):
    store.write(text_keys(texts), [vectors_of(text) for text in texts], [False] * len(texts))


def used(path, seconds_ago):
    os.utime(path, ns=(time.time_ns() - int(seconds_ago * 1e9), path.stat().st_mtime_ns))


@pytest.fixture
def folder(tmp_path):
    """Two namespaces with three shards each; the shards of "a" were used longer ago."""
    for i, name in enumerate("ab"):
        store = TokenStore(tmp_path, {"model": name}, name)
        for j in range(3):
            write(store, [f"{name} {j} " + "word " * 50])
            used(
                sorted(shard_files(store.folder), key=lambda f: f.path.stat().st_mtime_ns)[-1].path, 5000 - 1000 * i - j
            )
    return tmp_path


def shards(folder):
    return sorted(folder.glob("v1/*/*.safetensors"))


def n_bytes(folder):
    return sum(path.stat().st_size for path in shards(folder))


def store_of(folder, name="a"):
    return TokenStore(folder, {"model": name}, name)


def found(store, texts):
    return (store.lookup(text_keys(texts)).segment >= 0).tolist()


# ---------------------------------------------------------------- last use


def test_looking_up_marks_what_was_used(folder, monkeypatch):
    monkeypatch.setattr(shard, "_TOUCH_SECONDS", 0.0)
    store = store_of(folder)
    text = "a 1 " + "word " * 50
    before = {file.path: file.last_used for file in shard_files(store.folder)}
    identity = {path: path.stat().st_mtime_ns for path in before}
    assert found(store, [text]) == [True]
    after = {file.path: file.last_used for file in shard_files(store.folder)}
    changed = [path for path in before if after[path] != before[path]]
    assert len(changed) == 1
    assert time.time() - after[changed[0]] < 60
    assert identity == {path: path.stat().st_mtime_ns for path in before}  # else it would have to be verified again


def test_marks_are_left_now_and_then_only(folder, monkeypatch):
    store, marks = store_of(folder), []
    utime = os.utime
    monkeypatch.setattr(os, "utime", lambda *args, **kwargs: marks.append(args) or utime(*args, **kwargs))
    for _ in range(5):
        found(store, ["a 1 " + "word " * 50])
    assert len(marks) == 1


# ---------------------------------------------------------------- evicting


def test_evict_takes_the_least_recently_used(folder):
    size = n_bytes(folder) // 6
    evicted = evict(4 * size + size // 2, folder)
    assert len(evicted) == 2
    assert {file.path.parent.name[0] for file in evicted} == {"a"}
    assert len(shards(folder)) == 4
    assert not any(file.path.exists() for file in evicted)
    assert evict(4 * size + size // 2, folder) == []


def test_evict_dry_run(folder):
    assert len(evict(0, folder, dry_run=True)) == 6
    assert len(shards(folder)) == 6
    assert len(evict(0, folder)) == 6
    assert shards(folder) == []


def test_evicting_leaves_a_reader_alone(folder):
    store = store_of(folder)
    texts = [f"a {j} " + "word " * 50 for j in range(3)]
    looked_up = store.lookup(text_keys(texts))
    evict(0, folder)
    for i, text in enumerate(texts):
        out = np.empty((looked_up.length[i], D), np.float16)
        looked_up.segments[looked_up.segment[i]].read_into(looked_up.start[i], out)
        np.testing.assert_array_equal(out, vectors_of(text))
    assert found(store, texts) == [False] * 3
    write(store, texts)
    assert found(store, texts) == [True] * 3


def test_evicting_while_another_process_reads(folder):
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout.readline() == "looked up\n"
    evict(0, folder)
    assert shards(folder) == []
    answer, _ = reader.communicate("go\n", timeout=60)
    assert reader.returncode == 0
    assert float(answer) == pytest.approx(float(vectors_of("a 1 " + "word " * 50).astype(float).sum()), abs=1e-6)


READER = """
import sys
import numpy as np
from skspace._store.key_index import text_keys
from skspace._store.token_store import TokenStore
found = TokenStore(sys.argv[1], {"model": "a"}, "a").lookup(text_keys(["a 1 " + "word " * 50]))
print("looked up", flush=True)
sys.stdin.readline()
out = np.empty((int(found.length[0]), 16), np.float16)
found.segments[0].read_into(int(found.start[0]), out)
print(repr(float(out.astype(float).sum())))
"""


def test_foreign_files_are_not_evicted(folder, tmp_path):
    foreign = [
        folder / "v1" / "notes.txt",
        folder / "v1" / "mine" / "photo.jpg",
        folder / "v0" / ("0" * 64 + ".safetensors"),
    ]
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")
    (folder / "v1" / "link").symlink_to(tmp_path, target_is_directory=True)
    link = store_of(folder).folder / ("1" * 64 + ".safetensors")
    link.symlink_to(outside)
    assert len(evict(0, folder)) == 6
    assert all(path.read_bytes() == b"foreign" for path in foreign)
    assert outside.read_bytes() == b"outside"


def test_evict_where_there_is_nothing(tmp_path):
    assert evict(0, tmp_path / "nothing") == []
    (tmp_path / "file").write_text("x")
    assert evict(0, tmp_path / "file") == []


# ---------------------------------------------------------------- the limit of an encoder


TEXTS = [f"text {i} is short" for i in range(120)]


def encoder(model, folder, **params):
    return TokenEncoder(model, dtype="float32", cache_dir=folder, **params)


def test_encoding_keeps_the_cache_under_its_limit(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder_module, "_BUSY_SECONDS", -1.0)
    limit = 30_000
    enc = encoder(tiny_bert, tmp_path, cache_max_bytes=limit)
    for begin in range(0, 120, 10):
        rows = enc.transform(TEXTS[begin : begin + 10])
        assert rows.values.shape[1] == 32
        assert n_bytes(tmp_path) <= 1.1 * limit
        time.sleep(0.01)  # time stamps that differ
    assert enc.transform(TEXTS[-10:]).lengths.min() > 0
    assert found(TokenStore(tmp_path, enc._cache(enc._files()).store.namespace), TEXTS[-10:]) == [True] * 10
    assert found(TokenStore(tmp_path, enc._cache(enc._files()).store.namespace), TEXTS[:10]) == [False] * 10


def test_limit_smaller_than_one_call_is_told_once(tiny_bert, tmp_path):
    enc = encoder(tiny_bert, tmp_path, cache_max_bytes=5_000)
    expected = encoder(tiny_bert, None).transform(TEXTS[:40])
    message = (
        r"is full: what is used at one time is more than its limit of .* Raise cache_max_bytes or SKSPACE_CACHE_MAX"
    )
    with pytest.warns(UserWarning, match=message):
        rows = enc.transform(TEXTS[:40])
    enc.transform(TEXTS[40:80])  # without another warning
    np.testing.assert_allclose(rows.values, expected.values, rtol=2**-9, atol=1e-4)


def test_no_limit(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setenv("SKSPACE_CACHE_MAX_BYTES", "1")
    encoder(tiny_bert, tmp_path, cache_max_bytes=None).transform(TEXTS)
    assert n_bytes(tmp_path) > 20_000


@pytest.mark.filterwarnings("ignore:The embedding cache in .* is full")
def test_limit_from_the_environment(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setenv("SKSPACE_CACHE_MAX_BYTES", "1K")
    encoder(tiny_bert, tmp_path).transform(TEXTS)
    assert n_bytes(tmp_path) <= 1024


@pytest.mark.parametrize("said", ["plenty", "-1", "0", "1.5", "1e9"])
def test_bad_limit_in_the_environment(tiny_bert, tmp_path, monkeypatch, said):
    monkeypatch.setenv("SKSPACE_CACHE_MAX_BYTES", said)
    with pytest.raises(
        ValueError, match=f"SKSPACE_CACHE_MAX_BYTES must be a number of bytes, .* Got '{re.escape(said)}'"
    ):
        encoder(tiny_bert, tmp_path).transform(TEXTS)


def test_a_process_looks_at_the_folder_now_and_then(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(CacheLimit, "_look", lambda self: looks.append(1))
    limit = CacheLimit(tmp_path, 100 * 2**30)
    for _ in range(9):
        limit.written(100 * 2**20)
    assert len(looks) == 3  # at the first write, and after every three
    small = CacheLimit(tmp_path, 1000)
    looks.clear()
    for _ in range(10):
        small.written(50)
    assert len(looks) == 5


def test_temporary_files_of_dead_processes_are_removed(folder):
    dead, alive = (store_of(folder).folder / f".{n * 64}.safetensors.123-456.tmp" for n in "01")
    for path in (dead, alive):
        path.write_bytes(b"half a shard")
    os.utime(dead, (time.time() - 7200,) * 2)
    CacheLimit(folder, 10**9).written(1)
    assert not dead.exists()
    assert alive.exists()
    os.utime(alive, (time.time() - 7200,) * 2)
    evict(10**9, folder, dry_run=True)
    assert alive.exists()
    evict(10**9, folder)
    assert not alive.exists()


def test_folder_that_cannot_be_listed(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_folder_module.os, "scandir", refuse)
    limit = CacheLimit(folder, 10)
    with pytest.warns(UserWarning, match="cannot be kept under its limit .*Permission denied"):
        limit.written(100)
    with warnings.catch_warnings():
        limit.written(100)


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path / "said"))
    assert cache_folder() == cache_folder("auto") == tmp_path / "said"
    monkeypatch.delenv("SKSPACE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    if sys.platform.startswith("linux"):
        assert cache_folder() == tmp_path / "home" / "skspace"
    monkeypatch.chdir(tmp_path)
    assert cache_folder("here") == tmp_path / "here"


@pytest.mark.parametrize("said", ["~nobody-of-that-name/x", "a\0b", "\ud800"])
def test_cache_folder_that_cannot_be_told(said):
    with pytest.raises(ValueError, match=r"The cache folder cannot be told \(.*\): cache_dir is .*. Set cache_dir or"):
        cache_folder(said)


def test_no_home(monkeypatch):
    monkeypatch.delenv("SKSPACE_CACHE_DIR", raising=False)

    def no_home(*args, **kwargs):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_dir", no_home)
    with pytest.raises(ValueError, match=r"could not determine the home directory\): cache_dir is 'auto'"):
        cache_folder()


# ---------------------------------------------------------------- from Python


def test_info(folder):
    described = cache.info(folder)
    assert [d["namespace"] for d in described] == [{"model": "a"}, {"model": "b"}]
    assert sum(d["n_bytes"] for d in described) == n_bytes(folder)
    assert [d["n_shards"] for d in described] == [3, 3]
    assert described[0]["last_used"] < described[1]["last_used"] < time.time()
    assert cache.info(folder / "nothing") == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 2}', b'{"format": 1, "model": "other"}', b"[" * 100_000, b"\xff"],
)
def test_description_that_says_something_else(folder, content):
    (store_of(folder).folder / "namespace.json").write_bytes(content)
    described = cache.info(folder)
    assert [d["namespace"] for d in described] == [None, {"model": "b"}]
    with pytest.warns(
        UserWarning, match=r"3 files in .* cannot be checked, .* clear\(namespace='a-\w+'\) deletes them"
    ):
        assert cache.verify(folder) == 0
    assert cache.clear(folder) > 0
    assert shards(folder) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipe_in_place_of_the_description(folder):
    description = store_of(folder).folder / "namespace.json"
    description.unlink()
    os.mkfifo(description)
    assert [d["namespace"] for d in cache.info(folder)] == [None, {"model": "b"}]


@pytest.mark.filterwarnings("ignore:The cached embeddings in .* are damaged")
def test_verify(folder):
    assert cache.verify(folder) == 0
    damaged = shards(folder)[1]
    raw = bytearray(damaged.read_bytes())
    raw[-1] ^= 1
    damaged.write_bytes(raw)
    assert cache.verify(folder, dry_run=True) == 1
    assert len(shards(folder)) == 6
    assert cache.verify(folder) == 1
    assert len(shards(folder)) == 5
    assert cache.verify(folder) == 0


def test_evict_from_python(folder):
    total = n_bytes(folder)
    assert cache.evict(0, folder, dry_run=True) == total == n_bytes(folder)
    assert 0 < cache.evict(total // 2, folder) < total
    assert n_bytes(folder) <= total // 2
    with pytest.raises(ValueError, match=r"max_bytes must be 0 or more. Got -1 instead"):
        cache.evict(-1, folder)


def test_clear(folder):
    name = store_of(folder).folder.name
    total, there = n_bytes(folder), n_bytes(folder) // 2
    assert cache.clear(folder, namespace=name, dry_run=True) == there
    assert n_bytes(folder) == total
    assert cache.clear(folder, namespace=name) == there
    assert n_bytes(folder) == total - there
    assert cache.clear(folder) == total - there
    assert shards(folder) == []
    assert cache.clear(folder / "nothing") == 0


@pytest.mark.parametrize("name", ["nothing", "..", "../..", "/", ""])
def test_clear_of_no_such_namespace(folder, name):
    with pytest.raises(
        ValueError, match=rf"namespace must be one of those in .*: a-\w+, b-\w+. Got '{re.escape(name)}'"
    ):
        cache.clear(folder, namespace=name)
    assert len(shards(folder)) == 6


def test_clear_of_a_namespace_where_there_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"\(there is none\). Got 'a' instead"):
        cache.clear(tmp_path, namespace="a")


# ---------------------------------------------------------------- from a shell


def shell(*arguments, strict=True, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error" if strict else "ignore", "-m", "skspace.cache", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_shell_on_no_folder_and_on_an_empty_one(folder, tmp_path):
    missing = tmp_path / "missing"
    assert f"cache folder: {missing} (does not exist yet)\n" in shell("--cache-dir", missing, "info").stdout
    assert not missing.exists()
    shell("--cache-dir", folder, "clear")
    assert re.search(r"0 B +0 files  empty  a-\w+\n", shell("--cache-dir", folder, "info").stdout)


def test_help_says_where_dry_run_goes():
    assert "accept --dry-run after their name" in " ".join(shell("--help").stdout.split())


def test_shell(folder):
    result = shell("--cache-dir", folder, "info")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"3 files  last used \d{4}-\d\d-\d\d \d\d:\d\d  a-\w+\n +model a\n", result.stdout)
    assert "in all" in result.stdout
    assert shell("evict", "1", "--dry-run", SKSPACE_CACHE_DIR=str(folder)).stdout.endswith("KiB would be deleted\n")
    assert len(shards(folder)) == 6
    assert "all files are sound" in shell("--cache-dir", folder, "verify").stdout
    description = store_of(folder).folder / "namespace.json"
    kept = description.read_bytes()
    description.unlink()
    result = shell("--cache-dir", folder, "verify", strict=False)
    assert (result.stdout, result.returncode) == ("3 files not checked\n", 1)
    description.write_bytes(kept)
    assert shell("--cache-dir", folder, "clear", store_of(folder).folder.name).stdout.endswith("KiB deleted\n")
    assert len(shards(folder)) == 3
    assert shell("--cache-dir", folder, "evict", "1K").returncode == 0
    assert shards(folder) == []
    assert "0 B deleted" in shell("--cache-dir", folder, "clear").stdout


def test_shell_needs_no_model(folder):
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, skspace.cache as c; c._main(['info']); print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        env=os.environ | {"SKSPACE_CACHE_DIR": str(folder)},
        check=True,
    )
    assert loaded.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: command"),
        (("evict",), "required: max_bytes"),
        (("evict", "much"), "a size such as 500M or 20G is expected, got 'much'"),
        (("evict", "-3"), "a size such as 500M or 20G|unrecognized arguments|required: max_bytes"),
        (("clear", "nothing"), "namespace must be one of those in"),
        (("burn",), "invalid choice: 'burn'"),
    ],
)
def test_shell_with_wrong_arguments(folder, arguments, message):
    result = shell("--cache-dir", folder, *arguments)
    assert result.returncode == 2
    assert re.search(message, result.stderr)
    assert len(shards(folder)) == 6


@pytest.mark.parametrize(("text", "expected"), [("12", 12), ("3k", 3072), ("500M", 500 * 2**20), ("2G", 2**31)])
def test_sizes(text, expected):
    assert cache._size(text) == expected


@pytest.mark.parametrize(
    ("n_bytes", "expected"), [(0, "0 B"), (2048, "2 KiB"), (3 * 2**30, "3 GiB"), (2**40, "1.02e+03 GiB")]
)
def test_readable_sizes(n_bytes, expected):
    assert cache._readable(n_bytes) == expected


# ---------------------------------------------------------------- more shards than a process may have open


def test_more_shards_than_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "_max_open_files", lambda: 3)
    store = TokenStore(tmp_path, {"model": "a"})
    texts = [f"{i} some words" for i in range(12)]
    for text in texts:
        write(store, [text])
    looked_up = store.lookup(text_keys(texts))
    assert len(looked_up.segments) == 12
    ours = [reader._file for reader in looked_up.segments]
    for _ in range(2):
        for i, text in enumerate(texts):
            out = np.empty((looked_up.length[i], D), np.float16)
            looked_up.segments[looked_up.segment[i]].read_into(looked_up.start[i], out)
            np.testing.assert_array_equal(out, vectors_of(text))
            assert sum(file._file[0] >= 0 for file in ours) <= 3


def test_file_that_was_closed_and_has_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "_max_open_files", lambda: 1)
    store = TokenStore(tmp_path, {"model": "a"})
    for text in ("first words", "second words"):
        write(store, [text])
    looked_up = store.lookup(text_keys(["first words", "second words"]))
    evict(0, tmp_path)
    closed = next(reader for reader in looked_up.segments if reader._file._file[0] < 0)
    with pytest.raises(FileNotFoundError, match=r"have gone: cleared, evicted or merged .* Transform the texts again"):
        closed.read_all()


def test_file_that_was_closed_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(open_files, "_max_open_files", lambda: 1)
    store = TokenStore(tmp_path, {"model": "a"})
    for text in ("first words", "second words"):
        write(store, [text])
    looked_up = store.lookup(text_keys(["first words", "second words"]))
    closed = next(reader for reader in looked_up.segments if reader._file._file[0] < 0)
    raw = closed.path.read_bytes()
    closed.path.unlink()
    closed.path.write_bytes(raw[:-2] + b"\0\0")
    with pytest.raises(FileNotFoundError, match="have gone"):
        closed.read_all()


@pytest.mark.parametrize(("limit", "expected"), [(1024, 512), (1, 1), (-1, 2**15)])
def test_half_of_the_files_are_the_programs(monkeypatch, limit, expected):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (limit, limit))
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    assert open_files._max_open_files() == expected


def test_no_limit_is_known_on_windows(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert open_files._max_open_files() == 256
