"""Choose the defaults of SpaceClassifier on validation splits; the test splits are never read.

Every setting differs from the first, the defaults, in what its name says. A set without a validation split gives the
first tenth of its shuffled training texts; imdb_5000 is the first 5,000 of IMDB's, and the next 1,000. Prints a table
of accuracies, one line a setting, with the mean difference from the first and its standard error over sets and seeds,
in points. Settings in --out are not run again.

    SKSPACE_DATA=path/to/data python examples/benchmarks/choose_defaults.py [--seeds 2] [--out results.json]
        [--encoder folder or name at the hub] [--sets trec …] [--only base "m 8" …]
"""

import argparse
import json
import random
import sys
from pathlib import Path

import bench_accuracy
import common
import numpy as np

from skspace import SpaceClassifier, TokenEncoder

SETS = [name for name in bench_accuracy.SETS if name != "imdb_5000"]
ENCODER = ("layer", "special_tokens", "max_length")
FEW_AXES = {"banking77": 2}  # of these sets n_latent="auto" is that, of the others 8
CHANGES = {
    "base": {},
    "layer .33": {"layer": 0.33},
    "layer .5": {"layer": 0.5},
    "layer .83": {"layer": 0.83},
    "last layer": {"layer": -1},
    "drop special": {"special_tokens": "drop"},
    "128 tokens": {"max_length": 128},
    "mean pooling": {"pooling": "mean"},
    "half the axes": {"axes": 0.5},
    "twice the axes": {"axes": 2},
    "1 member": {"n_members": 1},
    "2 members": {"n_members": 2},
    "8 members": {"n_members": 8},
    "lr .01": {"lr": 0.01},
    "lr .04": {"lr": 0.04},
    "constant, .005": {"lr_schedule": "constant", "lr": 0.005},
    "5 epochs": {"max_epochs": 5},
    "7 epochs": {"max_epochs": 7},
    "20 epochs": {"max_epochs": 20},
    "decay .1": {"weight_decay": 0.1},
    "decay 1": {"weight_decay": 1.0},
    "batch 64": {"batch_size": 64},
    "batch 128": {"batch_size": 128},
    "batch 512": {"batch_size": 512},
    "early stopping": {"early_stopping": True},
    "lr .04, batch 128": {"lr": 0.04, "batch_size": 128},
    "lr .04, 2x axes": {"lr": 0.04, "axes": 2},
    "inter .1": {"inter_space_weight": 0.1},
    "intra .001": {"intra_space_weight": 1e-3},
    "intra .01": {"intra_space_weight": 1e-2},
}


def train_and_validation(name):
    if name == "imdb_5000":
        X, y = common.read("imdb", "train")
        return X[:5000], y[:5000], X[5000:6000], y[5000:6000]
    X, y = common.read(name, "train")
    if (validation := common.read(name, "val")) is not None:
        return X, y, *validation
    order = list(range(len(X)))
    random.Random(0).shuffle(order)
    cut = len(X) // 10
    held_out, kept = order[:cut], order[cut:]
    return [X[i] for i in kept], [y[i] for i in kept], [X[i] for i in held_out], [y[i] for i in held_out]


def classifier(name, encoder, params):
    """For one set; `axes` is a factor to what n_latent="auto" is of it."""
    encoder = {key: params[key] for key in ENCODER if key in params} | encoder
    params = {key: value for key, value in params.items() if key not in ENCODER}
    if "axes" in params:
        params["n_latent"] = int(params.pop("axes") * FEW_AXES.get(name, 8))
    return SpaceClassifier(TokenEncoder(**encoder), **params)


def line(change, scores, base):
    """Means over seeds of every set, and of all differences from the base mean and standard error, in points."""
    means = [np.mean(values) for values in scores.values()]
    text = f"{change:18}" + "".join(f"{mean:11.4f}" for mean in means) + f"{np.mean(means):9.4f}"
    if scores is base:
        return text
    gaps = 100 * np.subtract([scores[name] for name in base], list(base.values()))  # (n_sets, n_seeds)
    return text + f"{gaps.mean():+9.2f} ± {gaps.std(ddof=1) / np.sqrt(gaps.size):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--only", nargs="+", default=list(CHANGES))
    parser.add_argument("--base", type=json.loads, default={}, help="JSON of parameters that differ from the defaults")
    parser.add_argument("--encoder", help="folder or name at the hub; the packaged MiniLM where left out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    key = {"sets": list(args.sets), "seeds": args.seeds, "base": args.base, "encoder": args.encoder}
    key["machine"] = common.machine()  # bfloat16 here and float32 there would be read as a difference of settings
    done = json.loads(args.out.read_text("utf-8")) if args.out and args.out.exists() else key | {"scores": {}}
    if done | key != done:
        sys.exit(f"{args.out} holds another search: {[done[name] for name in key]}, not {list(key.values())}.")
    done.pop("command", None)  # save_results writes that of this run
    names = "".join(f"{name[:10]:>11}" for name in args.sets)
    print(f"{common.machine()}\n\n{'':18}{names}{'mean':>9}  to base, points", flush=True)
    data = {name: train_and_validation(name) for name in args.sets}
    encoder = {"model": args.encoder} if args.encoder else {}
    for change in dict.fromkeys(["base", *args.only]):
        if change not in done["scores"]:
            done["scores"][change] = {name: [] for name in data}
            for name, (X, y, X_val, y_val) in data.items():
                clf = classifier(name, encoder, args.base | CHANGES[change])
                for seed in range(args.seeds):
                    score = clf.set_params(random_state=seed).fit(X, y).score(X_val, y_val)
                    done["scores"][change][name].append(score)
            if args.out:
                common.save_results(args.out, done)
        print(line(change, done["scores"][change], done["scores"]["base"]), flush=True)


if __name__ == "__main__":
    main()
