"""Encoding side by side: precompute, joblib's backends, and a real Dask cluster over one shared store."""

import os
import time

import joblib
import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV

from skspace import SpaceClassifier, TokenEncoder
from skspace._encoding import encoding_job, precompute
from skspace.datasets import load_support_messages

TEXTS = [f"text {i} is short" for i in range(60)]


@pytest.fixture
def make(tiny_bert, tmp_path):
    def make(model=tiny_bert, **params):
        return TokenEncoder(model, **({"dtype": "float32", "cache_dir": tmp_path / "cache"} | params))

    return make


@pytest.fixture(scope="module")
def loky():
    """Workers that the tests share, for each imports torch, and that are gone afterwards."""
    yield
    get_reusable_executor().shutdown(wait=True)


def assert_encoded_once(encoder, texts):
    info = encoder.cache_info()
    assert info["n_texts"] == info["n_distinct"] == len(set(texts))


def assert_same_rows(encoder, texts):
    expected = TokenEncoder(encoder.model, dtype="float32", cache_dir=None).transform(texts)
    got = encoder.transform(texts)
    assert got.lengths.tolist() == expected.lengths.tolist()
    np.testing.assert_allclose(got.values.astype(np.float32), expected.values, rtol=2**-9, atol=1e-4)


# ---------------------------------------------------------------- precompute


def test_precompute_in_this_process(make):
    encoder = make()
    assert encoder.precompute([*TEXTS, *TEXTS[:7]]) == 60
    assert_encoded_once(encoder, TEXTS)
    assert_same_rows(encoder, TEXTS)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_precompute_side_by_side(make, backend):
    encoder = make()
    with joblib.parallel_config(backend):
        assert encoder.precompute(TEXTS, n_jobs=2) == 60
    assert_encoded_once(encoder, TEXTS)
    assert_same_rows(encoder, TEXTS)


@pytest.mark.parametrize("n_texts", [1, 2, 3])
def test_precompute_of_few_texts_side_by_side(make, n_texts):
    """A part may be a single text, which is not put off to be written with others."""
    encoder = make()
    assert encoder.precompute(TEXTS[:n_texts], n_jobs=2) == n_texts
    assert_encoded_once(encoder, TEXTS[:n_texts])


def test_precompute_encodes_what_is_missing_only(make):
    encoder = make()
    encoder.transform(TEXTS[:25])
    assert encoder.precompute(TEXTS) == 35
    assert encoder.precompute(TEXTS) == 0
    assert_encoded_once(encoder, TEXTS)


def test_precompute_again_after_an_interruption(make, monkeypatch):
    encoder, write = make(), []

    def interrupt(self, *args, **kwargs):
        if len(write) == 2:
            raise KeyboardInterrupt
        write.append(args)
        return original(self, *args, **kwargs)

    original = encoding_job.TokenStore.write
    with monkeypatch.context() as patch:
        patch.setattr(encoding_job.TokenStore, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encoder.precompute(TEXTS)
    done = encoder.cache_info()["n_texts"]
    assert 0 < done < 60
    assert encoder.precompute(TEXTS) == 60 - done
    assert_encoded_once(encoder, TEXTS)


def test_precompute_divides_the_work(make, monkeypatch):
    sizes = []
    original = precompute._encode_part
    monkeypatch.setattr(
        precompute, "_encode_part", lambda encoder, texts: sizes.append(len(texts)) or original(encoder, texts)
    )
    make().precompute(TEXTS)
    assert sum(sizes) == 60
    assert len(sizes) == 4
    assert max(sizes) <= 30


def test_precompute_does_not_depend_on_the_folder_of_the_workers(make, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.chdir(os.path.dirname(tiny_bert))
    encoder = make(os.path.basename(tiny_bert), cache_dir="here", cache_max_bytes=10**9)
    workers = encoder._for_workers()
    assert workers.model == tiny_bert
    assert workers.cache_dir == os.path.join(os.path.dirname(tiny_bert), "here")
    assert workers.cache_max_bytes == 10**9
    monkeypatch.setenv("SKSPACE_CACHE_DIR", str(tmp_path / "said"))
    monkeypatch.setenv("SKSPACE_CACHE_MAX_BYTES", "12345")
    workers = make(cache_dir="auto")._for_workers()
    assert (workers.cache_dir, workers.cache_max_bytes) == (str(tmp_path / "said"), 12345)


def test_precompute_needs_a_cache(make):
    with pytest.raises(ValueError, match=r"precompute needs a cache. Got cache_dir=None instead; give it a folder"):
        make(cache_dir=None).precompute(TEXTS)


def test_precompute_of_no_texts(make):
    with pytest.raises(ValueError, match="at least one text"):
        make().precompute([])


def test_precompute_warns_of_truncated_texts_once(make):
    with pytest.warns(UserWarning, match=r"2 of 4 texts are longer than max_length=5") as warned:
        make(max_length=5).precompute(["late", "parcel", *["the parcel is late and was charged"] * 2])
    assert len(warned) == 1


def test_workers_that_write_elsewhere(make, tmp_path, monkeypatch):
    elsewhere = make(cache_dir=tmp_path / "elsewhere")
    monkeypatch.setattr(TokenEncoder, "_for_workers", lambda self: elsewhere)
    with pytest.raises(
        OSError, match=r"60 of 60 texts are not in the cache .* Give a cache_dir that all of them share"
    ):
        make().precompute(TEXTS)


# ---------------------------------------------------------------- threads of the workers


def test_processes_do_not_fight_for_cores(make, loky, tmp_path, monkeypatch):
    """joblib tells its workers how many threads they may have; torch must have listened, and nobody else decided."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(precompute, "_encode_part", counting_threads(precompute._encode_part, tmp_path))
    assert make().precompute(TEXTS, n_jobs=2) == 60
    n_threads = {path.name: int(path.read_text()) for path in tmp_path.glob("worker *")}
    assert len(n_threads) == 2
    assert set(n_threads.values()) == {max(1, joblib.cpu_count() // 2)}


def counting_threads(encode_part, folder):
    def encode_and_count(encoder, texts):
        n_encoded = encode_part(encoder, texts)
        (folder / f"worker {os.getpid()}").write_text(str(torch.get_num_threads()))
        latest = time.monotonic() + 120
        while len(list(folder.glob("worker *"))) < 2 and time.monotonic() < latest:
            time.sleep(0.05)  # the other may still be starting: leave parts to it
        return n_encoded

    return encode_and_count


# ---------------------------------------------------------------- a cluster


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)], ids="{} processes".format)
def cluster(request, tmp_path):
    """A real cluster of two workers' threads, in as many processes as given."""
    distributed = pytest.importorskip("distributed")
    settings = {
        "distributed.worker.daemon": False,
        "temporary-directory": str(tmp_path / "dask"),
        "distributed.admin.tick.limit": "60s",
    }
    import dask

    size = {"n_workers": request.param, "threads_per_worker": 2 // request.param}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(**size, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def bytes_on_the_wire(monkeypatch):
    """Sizes of the messages that scheduler and client, which live in this process, send and receive."""
    tcp = pytest.importorskip("distributed.comm.tcp")
    sizes, write, from_frames = [], tcp.TCP.write, tcp.from_frames

    async def counted_write(self, *args, **kwargs):
        n_bytes = await write(self, *args, **kwargs)
        sizes.append(n_bytes)
        return n_bytes

    async def counted_from_frames(frames, **kwargs):
        sizes.append(sum(memoryview(frame).nbytes for frame in frames))
        return await from_frames(frames, **kwargs)

    monkeypatch.setattr(tcp.TCP, "write", counted_write)
    monkeypatch.setattr(tcp, "from_frames", counted_from_frames)
    return sizes


def search_over_n_latent(encoder):
    clf = SpaceClassifier(encoder, max_epochs=1, n_members=1, random_state=0)
    return GridSearchCV(clf, {"n_latent": [2, 4]}, cv=2)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # distributed's, when its event loop ends
def test_dask(minilm, tmp_path, bytes_on_the_wire, cluster):
    texts, labels = load_support_messages(return_X_y=True)
    texts, labels = texts[:150], labels[:150]
    encoder = TokenEncoder(str(minilm), layer=1, dtype="float32", cache_dir=tmp_path / "cache")
    with joblib.parallel_config("dask"):
        bytes_on_the_wire.clear()
        assert encoder.precompute(texts, n_jobs=-1) == len(set(texts))
        precompute_bytes = sum(bytes_on_the_wire)
        bytes_on_the_wire.clear()
        search = search_over_n_latent(encoder).fit(texts, labels)
        search_bytes = sum(bytes_on_the_wire)
    assert_encoded_once(encoder, texts)
    vectors, n_tasks = encoder.cache_info()["n_bytes"], 8
    assert precompute_bytes < 4 * sum(len(text.encode()) for text in texts) + n_tasks * 20_000
    assert precompute_bytes < vectors / 10
    assert search_bytes < vectors / 5
    alone = search_over_n_latent(encoder).fit(texts, labels)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    n_threads = cluster.run(torch.get_num_threads)
    assert set(n_threads.values()) == {1}  # Dask says so to its workers' processes, and torch must have listened


def test_ray(make):
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        encoder = make()
        with joblib.parallel_config("ray"):
            assert encoder.precompute(TEXTS, n_jobs=2) == 60
        assert_encoded_once(encoder, TEXTS)
        assert_same_rows(encoder, TEXTS)
    finally:
        ray.shutdown()
