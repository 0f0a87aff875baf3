"""Latency of a prediction, one text at a time, against the bare forward pass of its encoder, and whether it stays so.

First table: each text of a set passes through `predict` (new to the cache; without a cache; cached), through the
encoder alone (transformers' own tokenizer and model, cut off at the same layer, in the same dtype, nothing else) and
through the model call alone. Who comes first changes from text to text, since the first finds nothing of a text in the
processor's caches. Second table: new short texts one after another, into one cache folder, with a bare pass now and
then so that a machine that slows down can be told from a classifier that does. Linux only.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_latency.py [--texts 300] [--set hatexplain]
        [--calls 10000] [--out results.json]
"""

import argparse
import os
import tempfile
from pathlib import Path

import common
import numpy as np
import torch
from bench_memory import MB, status
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

FITTED_ON = 200  # support messages
BARE_EVERY = 10  # calls of the second table

# ---------------------------------------------------------------- the encoder alone


class BareEncoder:
    """The transformer of an encoder as one would write it with transformers: cut off at the same layer, same dtype."""

    def __init__(self, encoder):
        files = encoder._files_to_load()  # the only private names: where the model is, and what "auto" means here
        self.dtype = encoder._dtype(files, encoder._device())
        self.max_length = encoder.max_length
        self.tokenizer = AutoTokenizer.from_pretrained(files.folder)
        self.model = AutoModel.from_pretrained(
            files.folder, dtype=self.dtype, num_hidden_layers=encoder._layer(files)
        ).eval()

    def inputs(self, text):
        return self.tokenizer(text, truncation=True, max_length=self.max_length, return_tensors="pt")

    def model_call(self, inputs):
        with torch.inference_mode():
            return self.model(**inputs).last_hidden_state

    def forward(self, text):
        return self.model_call(self.inputs(text))


# ---------------------------------------------------------------- one text at a time


def fitted(cache_dir, args):
    messages, labels = load_support_messages(return_X_y=True)
    encoder = TokenEncoder(dtype=args.dtype, cache_dir=cache_dir)
    return SpaceClassifier(encoder, random_state=0).fit(messages[:FITTED_ON], labels[:FITTED_ON])


def new_texts(name, n):
    """Distinct texts of a test split, none twice: a second call would find it in the cache."""
    texts = list(dict.fromkeys(common.read(name, "test")[0]))
    if len(texts) < n:
        raise SystemExit(f"{name} has {len(texts)} distinct test texts, fewer than --texts {n}.")
    return texts[:n]


def one_by_one(folder, args):
    """Seconds of each way for each text."""
    texts = [*warm_up(args.warm_up), *new_texts(args.set, args.texts)]
    cached, uncached = fitted(folder, args), fitted(None, args)
    bare = BareEncoder(TokenEncoder(dtype=args.dtype, cache_dir=None))
    ways = {
        "predict, new, cache on": cached.predict,
        "predict, no cache": uncached.predict,
        "tokenise and model call": lambda texts: bare.forward(texts[0]),
    }
    taken = {name: [] for name in (*ways, "predict, cached", "model call")}
    for number, text in enumerate(texts):
        for name in np.roll(list(ways), number):
            taken[name].append(common.seconds(lambda way=ways[name], text=text: way([text])))
        taken["predict, cached"].append(common.seconds(lambda text=text: cached.predict([text])))
        inputs = bare.inputs(text)
        taken["model call"].append(common.seconds(lambda inputs=inputs: bare.model_call(inputs)))
    return {name: seconds[args.warm_up :] for name, seconds in taken.items()}


def warm_up(n):
    """Texts that do not count: the first calls of a process are slower."""
    return [f"warm-up number {i}" for i in range(n)]


def print_one_by_one(taken, args):
    base, call = np.median(taken["tokenise and model call"]), np.median(taken["model call"])
    summary = {}
    print(f"| one text of {args.set} at a time | median | p95 | to tokenise and model call | to model call |")
    print("|---|---|---|---|---|")
    for name, seconds in taken.items():
        median, p95 = np.median(seconds), np.quantile(seconds, 0.95)
        summary[name] = {"median": median, "p95": p95, "to_forward": median / base, "to_model_call": median / call}
        print(f"| {name} | {median * 1e3:.2f} ms | {p95 * 1e3:.2f} ms | {median / base:.2f} | {median / call:.2f} |")
    return summary


# ---------------------------------------------------------------- one call after another


def short_texts(n):
    """`n` different messages of a few words."""
    messages = load_support_messages().data
    return [f"{' '.join(messages[i % len(messages)].split()[:6])} {i}" for i in range(n)]


def state_of(folder, began_with):
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {
        "files": len(files),
        "shards": sum(path.suffix == ".safetensors" for path in files),
        "bytes": sum(path.stat().st_size for path in files),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "anonymous_growth": status("RssAnon") - began_with,
    }


def call_after_call(folder, args):
    """Calls in groups; for each group the median latency, what is in the folder and what the process holds."""
    clf = fitted(folder, args)
    bare = BareEncoder(TokenEncoder(dtype=args.dtype, cache_dir=None))
    clf.predict(["The first call."])
    print(
        "\n| calls, cache on | median | p95 | to tokenise and model call | files | of them shards | MB | open files "
        "| anonymous memory |\n|---|---|---|---|---|---|---|---|---|"
    )
    began_with = status("RssAnon")
    rows, calls, passes = [], [], []
    for number, text in enumerate(short_texts(args.calls), 1):
        calls.append(common.seconds(lambda text=text: clf.predict([text])))
        if number % BARE_EVERY == 0:
            passes.append(common.seconds(lambda text=text: bare.forward(text)))
        if number % args.group == 0:
            median = np.median(calls)
            row = {"calls": number, "median": median, "p95": np.quantile(calls, 0.95)}
            rows.append(row | {"to_forward": median / np.median(passes)} | state_of(folder, began_with))
            print_group(rows[-1])
            calls, passes = [], []
    return rows


def print_group(row):
    print(
        f"| {row['calls']:,} | {row['median'] * 1e3:.2f} ms | {row['p95'] * 1e3:.2f} ms | {row['to_forward']:.2f} "
        f"| {row['files']} | {row['shards']} | {row['bytes'] / MB:.1f} | {row['descriptors']} "
        f"| {row['anonymous_growth'] / MB:+.1f} MB |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--set", default="hatexplain")
    parser.add_argument("--calls", type=int, default=10_000, help="of the second table; 0 leaves it out")
    parser.add_argument("--group", type=int, default=1000, help="calls a row of the second table")
    parser.add_argument("--warm-up", type=int, default=20, help="texts before the first table that do not count")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    logging.set_verbosity_error()  # a report on the weights of the layers cut off
    logging.disable_progress_bar()
    print(f"{common.machine()}; {torch.get_num_threads()} threads\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="skspace-latency-") as folder:
        results = {"one by one": print_one_by_one(one_by_one(folder, args), args)}
    with tempfile.TemporaryDirectory(prefix="skspace-latency-") as folder:
        rows = call_after_call(folder, args) if args.calls >= args.group else []
    if rows:
        results["call after call"] = rows
        results["last to first"] = rows[-1]["median"] / rows[0]["median"]
        results["last to first, by bare passes"] = rows[-1]["to_forward"] / rows[0]["to_forward"]
        print(
            f"\nMedian of the last {args.group:,} calls to that of the first: {results['last to first']:.2f}; "
            f"divided by bare passes: {results['last to first, by bare passes']:.2f}."
        )
    common.save_results(args.out, results)


if __name__ == "__main__":
    main()
