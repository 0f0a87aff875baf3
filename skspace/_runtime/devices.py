"""Device and precision of computations, and what is different in a forked process."""

from __future__ import annotations

import os
import platform
import threading
from functools import cache
from pathlib import Path

import torch

__all__ = [
    "check_can_train", "check_not_lost", "pick_device", "pick_dtype", "precision", "prepare_process",
    "without_autocast",
]  # fmt: skip


def pick_device(device: str, *, estimator: str) -> torch.device:
    """Resolve ``"auto"``: CUDA where there is one, else the processor.

    Raises
    ------
    ValueError
        If there is no such device on this machine; it names the `estimator` that asked.
    """
    prepare_process()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
        if picked.type != "cuda" or not _lost_cuda():
            torch.empty(0, device=picked)  # whether it is there is known when something is put on it
    except (RuntimeError, AssertionError) as error:  # a torch that was built without CUDA asserts
        raise ValueError(
            f"The 'device' parameter of {estimator} must be 'auto' or a torch device that this machine has, such as "
            f"'cpu' or 'cuda:0'. Got {device!r} instead."
        ) from error
    return picked


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Resolve ``"auto"``: bfloat16 where the hardware multiplies it faster than float32, else float32.

    The answer comes from what the hardware says it can do rather than from a stopwatch, because it is part of the
    store's key: two processes on one machine must not disagree.
    """
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
    if device.type == "cuda":
        fast = _cuda_multiplies_bfloat16()
    elif device.type == "cpu":
        # AVX512-BF16 alone does not make it fast: Intel's cores start half as many of its instructions a cycle as of
        # float32's, and products took 1.9 times as long (examples/benchmarks/bench_encode.md). AMD's cores do not.
        fast = torch.backends.mkldnn.is_available() and (
            torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and not _is_intel())
        )
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def precision(dtype: torch.dtype, device: torch.device) -> str:
    """What is computed in, in words; part of the store's key, since a program may allow coarser products of float32."""
    name = str(dtype).removeprefix("torch.")
    matmul = getattr(torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn, "matmul", None)
    allowed = getattr(matmul, "fp32_precision", None)
    if allowed is None:  # before torch 2.9
        allowed = {"highest": "ieee", "high": "tf32"}.get(torch.get_float32_matmul_precision(), "bf16")
    return name if dtype != torch.float32 or allowed in ("none", "ieee") else f"{name}, products in {allowed}"


def without_autocast(device: torch.device) -> torch.autocast:
    """A program's `torch.autocast` around a call must change neither what is kept of texts nor a model."""
    return torch.autocast(device.type, enabled=False)


@cache  # for forks, which cannot ask any more
def _cuda_multiplies_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()


# ---------------------------------------------------------------- after a fork

_IMPORTED_IN = os.getpid()
_prepared = threading.local()  # a number of threads is a setting of one thread

_FORKED = "in a process that was forked from one that had used CUDA"
_SPAWNED = "Expected a process that is spawned (by multiprocessing's 'spawn' or joblib's 'loky')"


def prepare_process() -> None:
    """Let torch use one thread in a forked process, before the first computation in it.

    OpenMP's threads do not survive a fork, and a process that waits for them hangs. Whatever computes calls this, so
    that forks which never use this package keep their settings. Later changes by the program stay.
    """
    pid = os.getpid()
    if pid != _IMPORTED_IN and getattr(_prepared, "pid", None) != pid:
        _prepared.pid = pid
        torch.set_num_threads(1)


def check_not_lost(device: torch.device) -> None:
    """Refuse CUDA in a process that was forked from one that had used it: CUDA does not work there.

    Raises
    ------
    RuntimeError
    """
    if device.type == "cuda" and _lost_cuda():
        raise RuntimeError(
            f"CUDA cannot be used here, {_FORKED}. {_SPAWNED}, or device='cpu', or texts that were in the cache before "
            "the fork, as TokenEncoder.precompute leaves them."
        )


def check_can_train() -> None:
    """Refuse training in such a process, even on the processor: torch's optimisers ask CUDA there too.

    Raises
    ------
    RuntimeError
    """
    if _lost_cuda():
        raise RuntimeError(f"torch can train nothing here, {_FORKED}. {_SPAWNED}.")


def _lost_cuda() -> bool:
    # A bad fork alone does not tell: asking how many devices there are makes one, even if there are none.
    return bool(torch.cuda._initialized and torch.cuda._is_in_bad_fork())
