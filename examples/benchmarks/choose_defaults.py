"""Choose the defaults of SpaceClassifier on validation splits; the test splits are never read.

Every setting differs from the first in what its name says. A set without a validation split gives the last tenth of its
(shuffled) training texts. Prints a table of accuracies, one line a setting, and writes it as JSON.

    SKSPACE_DATA=path/to/data python examples/benchmarks/choose_defaults.py [--seeds 2] [--out results.json]
        [--encoder folder or name at the hub] [--sets trec …] [--only base "m 8" …]
"""

import argparse
import json
import os
import platform
import random
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from common import read

from skspace import SpaceClassifier, TokenEncoder

SETS = ("trec", "sma", "mr", "covid_fake_news", "hatexplain", "banking77")
BASE = {"lr": 0.02, "weight_decay": 0.5, "n_members": 4, "max_epochs": 10}
CHANGES = {
    "base": {},
    "1 member": {"n_members": 1},
    "8 members": {"n_members": 8},
    "mean pooling": {"pooling": "mean"},
    "lr .01": {"lr": 0.01},
    "lr .005": {"lr": 0.005},
    "5 epochs": {"max_epochs": 5},
    "15 epochs": {"max_epochs": 15},
    "decay .05": {"weight_decay": 0.05},
    "decay 2": {"weight_decay": 2.0},
    "m 4": {"n_latent": 4},
    "m 8": {"n_latent": 8},
    "m 16": {"n_latent": 16},
    "m 32": {"n_latent": 32},
    "intra .001": {"intra_space_weight": 1e-3},
    "intra .01": {"intra_space_weight": 1e-2},
    "inter .1": {"inter_space_weight": 0.1},
    "batch 128": {"batch_size": 128},
    "drop special": {"special_tokens": "drop"},
    "last layer": {"layer": -1},
    "layer .5": {"layer": 0.5},
    "layer .83": {"layer": 0.83},
}


def train_and_validation(name):
    X, y = read(name, "train")
    if (validation := read(name, "val")) is not None:
        return X, y, *validation
    order = list(range(len(X)))
    random.Random(0).shuffle(order)
    cut = len(X) // 10
    held_out, kept = order[:cut], order[cut:]
    return [X[i] for i in kept], [y[i] for i in kept], [X[i] for i in held_out], [y[i] for i in held_out]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--only", nargs="+", default=list(CHANGES))
    parser.add_argument("--base", type=json.loads, default={}, help="JSON of parameters that differ from BASE")
    parser.add_argument("--encoder", help="folder or name at the hub; the packaged MiniLM where left out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    machine += f", scikit-learn {sklearn.__version__}"
    print(f"# {machine}\n# base: {BASE | args.base}")
    print(f"{'':16}" + "".join(f"{name[:10]:>11}" for name in args.sets) + f"{'mean':>9}{'seconds':>9}", flush=True)
    data = {name: train_and_validation(name) for name in args.sets}
    results = {}
    for change in args.only:
        params = BASE | args.base | CHANGES[change]
        encoder = {name: params.pop(name) for name in ("layer", "special_tokens") if name in params}
        encoder |= {"model": args.encoder} if args.encoder else {}
        scores, began = {}, time.perf_counter()
        for name, (X, y, X_val, y_val) in data.items():
            clf = SpaceClassifier(TokenEncoder(**encoder), **params)
            scores[name] = [
                clf.set_params(random_state=seed).fit(X, y).score(X_val, y_val) for seed in range(args.seeds)
            ]
        seconds = time.perf_counter() - began
        means = [np.mean(values) for values in scores.values()]
        results[change] = {"params": params | encoder, "scores": scores, "seconds": seconds}
        print(
            f"{change:16}" + "".join(f"{mean:11.4f}" for mean in means) + f"{np.mean(means):9.4f}{seconds:9.0f}",
            flush=True,
        )
        if args.out:
            args.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
