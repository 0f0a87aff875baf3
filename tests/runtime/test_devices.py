"""What is computed on and in, and what a fork takes away. What needs a graphics card is in test_cuda."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import skspace
from skspace import SpaceClassifier, TokenEncoder
from skspace._runtime import devices
from skspace._runtime.devices import check_can_train, check_not_lost, pick_device, pick_dtype, precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LOST = r"CUDA cannot be used here, in a process that was forked .* Expected a process that is spawned .* device='cpu'"
NO_TRAINING = r"torch can train nothing here, in a process that was forked .* Expected a process that is spawned"


@pytest.mark.parametrize("there", [True, False])
def test_pick_device(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert pick_device("auto", estimator="E") == torch.device("cuda" if there else "cpu")
    assert pick_device("cpu", estimator="E") == CPU


@pytest.mark.parametrize(
    ("avx512", "amx", "mkldnn", "intel", "expected"),
    [
        (False, False, True, False, torch.float32),
        (True, False, True, False, torch.bfloat16),
        (True, False, True, True, torch.float32),  # has the instructions, and is faster without
        (True, True, True, True, torch.bfloat16),
        (False, True, True, False, torch.bfloat16),
        (True, True, False, False, torch.float32),
    ],
)
def test_pick_dtype_of_a_processor(monkeypatch, avx512, amx, mkldnn, intel, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    monkeypatch.setattr(devices, "_is_intel", lambda: intel)
    assert pick_dtype("auto", CPU) == expected
    assert pick_dtype("float32", CPU) == torch.float32
    assert pick_dtype("float16", CPU) == torch.float16


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "expected"),
    [
        ("vendor_id\t: GenuineIntel\n", "", True),
        ("vendor_id\t: AuthenticAMD\n", "", False),
        (None, "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", True),
        (None, "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", False),
    ],
)
def test_whose_processor_it_is(monkeypatch, tmp_path, cpuinfo, processor, expected):
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    monkeypatch.setattr(devices, "Path", lambda path: file)
    monkeypatch.setattr(devices.platform, "processor", lambda: processor)
    assert devices._is_intel.__wrapped__() is expected


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_pick_dtype_of_cuda(monkeypatch, fast, expected):
    # With emulation every device would say yes.
    devices._cuda_multiplies_bfloat16.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or fast)
    assert pick_dtype("auto", CUDA) == expected
    devices._cuda_multiplies_bfloat16.cache_clear()


def test_pick_dtype_elsewhere():
    assert pick_dtype("auto", torch.device("meta")) == torch.float32


# -------------------------------------------------------------------- after a fork


@pytest.fixture
def lost(monkeypatch):
    """As in a process that was forked from one that had used CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)


@pytest.mark.parametrize(("used", "bad", "lost"), [(True, True, True), (True, False, False), (False, True, False)])
def test_cuda_is_lost_only_if_it_was_used(monkeypatch, used, bad, lost):
    monkeypatch.setattr(torch.cuda, "_initialized", used)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: bad)
    assert devices._lost_cuda() is lost


IN_A_FORK = """
import multiprocessing, pickle, sys, threading
import numpy as np
import torch
from skspace import SpaceClassifier, TokenEncoder

def new_text(encoder):
    before = torch.get_num_threads()
    encoder.transform(["never seen", "nor this one, which is longer"])
    return before, torch.get_num_threads()

def in_thread(encoder):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(new_text(encoder)))
    thread.start()
    thread.join()
    return seen[0][1]

def own_number(encoder):
    new_text(encoder)
    torch.set_num_threads(2)
    return new_text(encoder)

def unused(encoder):
    return torch.get_num_threads()

def unpickled(encoder):
    return bool((pickle.loads(pickled).decision_function(X) == expected).all())

if __name__ == "__main__":
    torch.set_num_threads(3)
    encoder = TokenEncoder(sys.argv[1], cache_dir=sys.argv[2], dtype="float32", device="cpu")
    encoder.transform([f"text {i} of the parcel" for i in range(500)])
    X = np.random.default_rng(0).normal(size=(400, 600)).astype(np.float32)
    clf = SpaceClassifier("precomputed", max_epochs=1, n_members=8, device="cpu").fit(X, np.arange(400) % 4)
    pickled, expected = pickle.dumps(clf), clf.decision_function(X)
    torch.ones(700, 700) @ torch.ones(700, 700)  # whose threads no fork has
    context = multiprocessing.get_context("fork")
    for work in (unused, new_text, in_thread, own_number, unpickled):
        receive, send = context.Pipe(duplex=False)
        child = context.Process(target=lambda: send.send(work(encoder)), daemon=True)
        child.start()
        print(receive.recv() if receive.poll(30) else "hangs")
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="needs fork")
def test_a_fork_computes_with_one_thread_from_its_first_use_on(tiny_bert, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", IN_A_FORK, tiny_bert, str(tmp_path)]
    path = os.pathsep.join([str(Path(skspace.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert done.stdout.splitlines() == ["3", "(3, 1)", "1", "(2, 2)", "True", "3"], done.stderr


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_precision_is_what_the_program_allows(device, monkeypatch):
    backend = torch.backends.cuda if device == CUDA else torch.backends.mkldnn
    for allowed, name in (("none", ""), ("ieee", ""), ("tf32", ", products in tf32"), ("bf16", ", products in bf16")):
        monkeypatch.setattr(backend, "matmul", SimpleNamespace(fp32_precision=allowed))
        assert precision(torch.float32, device) == f"float32{name}"
        assert precision(torch.bfloat16, device) == "bfloat16"
    monkeypatch.setattr(backend, "matmul", SimpleNamespace())  # torch before 2.9
    for allowed, name in (("highest", ""), ("high", ", products in tf32"), ("medium", ", products in bf16")):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda allowed=allowed: allowed)
        assert precision(torch.float32, device) == f"float32{name}"


def test_lost_cuda(lost):
    # What vectors are stored under does not change with a fork.
    assert pick_device("auto", estimator="E") == CUDA
    assert pick_device("cuda", estimator="E") == CUDA
    check_not_lost(CPU)
    with pytest.raises(RuntimeError, match=LOST):
        check_not_lost(CUDA)
    with pytest.raises(RuntimeError, match=NO_TRAINING):
        check_can_train()


def test_what_is_cached_is_found_where_cuda_is_lost(tiny_bert, tmp_path, request):
    encoder = TokenEncoder(tiny_bert, cache_dir=tmp_path, dtype="float32")
    texts, y = ["a parcel is late", "my account was charged"] * 4, [0, 1] * 4
    clf = SpaceClassifier(encoder.set_params(device="cpu"), device="cpu", max_epochs=1).fit(texts, y)
    wanted = clf.predict(texts)
    request.getfixturevalue("lost")
    clf.encoder_.set_params(device="auto")
    np.testing.assert_array_equal(clf.predict(texts), wanted)
    with pytest.raises(RuntimeError, match=LOST):
        clf.predict(["another text"])
    with pytest.raises(RuntimeError, match=NO_TRAINING):
        clf.fit(texts, y)
