"""Memory that a process takes for encoding and then fitting the full IMDB training split, from an empty cache.

Anonymous memory is what the process itself asked for; pages of files (weights, cache) can be dropped by the system and
are part of the resident set only. A thread samples the first every 50 ms; the second is the kernel's own peak, begun
anew with each phase where the system allows it. Texts are read before the first phase, so that they are in the base.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_memory.py [--texts 25000] [--out results.json]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common

MB = 1e6


def status(name):
    """Bytes that /proc/self/status gives for RssAnon, VmHWM and the like."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status says nothing of {name}: this benchmark needs Linux.")


def forget_peak():
    """Let VmHWM begin anew; False where the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return False
    return True


class Peak:
    """Largest RssAnon within a with-block, sampled by a thread."""

    def __init__(self, interval=0.05):
        self.interval = interval

    def __enter__(self):
        self.own_resident = forget_peak()
        self.before = self.anonymous = status("RssAnon")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._end.set()
        self._thread.join()
        self.sample()
        self.resident = status("VmHWM")

    def _watch(self):
        while not self._end.wait(self.interval):
            self.sample()

    def sample(self):
        self.after = status("RssAnon")
        self.anonymous = max(self.anonymous, self.after)


def phase(phases, name, function):
    with Peak() as peak:
        began = time.perf_counter()
        result = function()
        seconds = time.perf_counter() - began
    phases[name] = {
        "seconds": seconds,
        "before": peak.before,
        "anonymous": peak.anonymous,
        "after": peak.after,
        "resident": peak.resident,
        "resident_of_this_phase": peak.own_resident,
    }
    return result


def texts_and_labels(split, n):
    """`n` texts of IMDB; its files are shuffled, so that a head is balanced."""
    texts, labels = common.read("imdb", split)
    return texts[:n], labels[:n]


def child(args):
    """All phases in this process, whose cache is empty; prints JSON."""
    phases = {}
    texts, labels = texts_and_labels("train", args.texts)
    new_texts, _ = texts_and_labels("test", args.predict)
    skspace = phase(phases, "import", import_skspace)
    encoder = skspace.TokenEncoder()
    phase(phases, "encode", lambda: encoder.transform(texts))
    clf = skspace.SpaceClassifier(encoder, random_state=0)
    cached = encoder.cache_info()
    phase(phases, "fit", lambda: clf.fit(texts, labels))
    phase(phases, f"predict {len(new_texts)} texts", lambda: clf.predict(new_texts))
    print(json.dumps({"phases": phases, "tokens": cached["n_tokens"], "bytes": cached["n_bytes"]}))


def import_skspace():
    import skspace

    skspace.SpaceClassifier, skspace.TokenEncoder  # noqa: B018 - names are imported when they are first used
    return skspace


def measure(args):
    with tempfile.TemporaryDirectory(prefix="skspace-memory-", dir=args.folder) as folder:
        command = [sys.executable, "-W", "ignore", __file__, "--child"]
        command += ["--texts", str(args.texts), "--predict", str(args.predict)]
        environment = os.environ | {"SKSPACE_CACHE_DIR": folder}
        output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=25_000)
    parser.add_argument("--predict", type=int, default=1000, help="new texts, of the test split")
    parser.add_argument("--folder", type=Path, help="where the temporary cache is made, instead of the system's place")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    print(f"{common.machine()}; {args.texts} texts of IMDB\n", flush=True)
    results = measure(args)
    print(
        "| phase | seconds | anonymous, before | peak | after | peak of the resident set |\n|---|---|---|---|---|---|"
    )
    for name, numbers in results["phases"].items():
        sizes = " | ".join(f"{numbers[key] / MB:,.0f} MB" for key in ("before", "anonymous", "after", "resident"))
        print(
            f"| {name} | {numbers['seconds']:.1f} | {sizes}{'' if numbers['resident_of_this_phase'] else ' so far'} |"
        )
    peak = max(numbers["anonymous"] for numbers in results["phases"].values())
    print(
        f"\n{results['tokens']:,} tokens encoded, {results['bytes'] / MB:,.0f} MB in the store; the peak of anonymous "
        f"memory, {peak / MB:,.0f} MB, is {peak / results['bytes']:.2f} of that."
    )
    common.save_results(args.out, results)


if __name__ == "__main__":
    main()
