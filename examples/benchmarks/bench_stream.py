"""A stream of chunks through partial_fit against fit with as many passes, on parts of the training splits.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_stream.py [--sets trec sma] [--seeds 0 1] [--chunks 256]

A fifth of a training split is held out; tests are not read. "half" fits on the first half and sends the second through
partial_fit, in one pass. Rates are shares of the default lr. What was seen: docs/growing_data.md.
"""

import argparse
import random

import numpy as np
from common import read

from skspace import SpaceClassifier, TokenEncoder

PASSES = (1, 3, 10)
LR = SpaceClassifier().lr


def train_and_held_out(name):
    X, y = read(name, "train")
    order = list(range(len(X)))
    random.Random(0).shuffle(order)
    vectors, y = TokenEncoder().transform([X[i] for i in order]), np.array(y)[order]
    cut = len(y) // 5
    return vectors[cut:].in_memory(), y[cut:], vectors[:cut].in_memory(), y[:cut]


def make(seed, **params):
    return SpaceClassifier("precomputed", random_state=seed, **params)


def stream(clf, X, y, size):
    for begin in range(0, len(y), size):
        clf.partial_fit(X[begin : begin + size], y[begin : begin + size])


def scores(X, y, X_held_out, y_held_out, sizes, rates, seed):
    """(way, rate, passes) -> accuracy on the held-out part."""
    found, half = {}, len(y) // 2
    for passes in PASSES:
        clf = make(seed, max_epochs=passes).fit(X, y)
        found["fit", "", passes] = clf.score(X_held_out, y_held_out)
    found["half, fit only", "", 10] = make(seed).fit(X[:half], y[:half]).score(X_held_out, y_held_out)
    for rate in rates:
        for size in sizes:
            clf = make(seed, lr=LR * rate, lr_schedule="constant")
            clf.partial_fit(X[:size], y[:size], classes=np.unique(y))
            stream(clf, X[size:], y[size:], size)
            for done in range(1, max(PASSES) + 1):
                if done > 1:
                    stream(clf, X, y, size)
                if done in PASSES:
                    found[f"chunks of {size}", rate, done] = clf.score(X_held_out, y_held_out)
            clf = make(seed).fit(X[:half], y[:half]).set_params(lr=LR * rate, lr_schedule="constant")
            stream(clf, X[half:], y[half:], size)
            found[f"half, chunks of {size}", rate, 1] = clf.score(X_held_out, y_held_out)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["trec", "sma"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0, 0.5, 0.25, 0.125])
    parser.add_argument("--chunks", nargs="+", type=int, default=[256, 1000])
    args = parser.parse_args()
    for name in args.sets:
        data = train_and_held_out(name)
        for seed in args.seeds:
            found = scores(*data, args.chunks, args.rates, seed)
            print(f"{name}: {len(data[1])} texts, {len(data[3])} held out, seed {seed}")
            for (way, rate, passes), accuracy in found.items():
                print(f"  {way:24} rate {rate!s:7} {passes:2} passes  {accuracy:.4f}", flush=True)


if __name__ == "__main__":
    main()
