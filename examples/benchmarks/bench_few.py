"""Few examples of each class: ours against probes on the same frozen encoder, SetFit and full fine-tuning.

So many training texts of each class as --per-class says, drawn anew by each seed and the same for all methods; scored
on the whole test split. Ours has its defaults. Probes are logistic regression on L2-normalised mean vectors, C by
cross-validation on the few texts. SetFit (a package of its own: pip install setfit) has its authors' settings:
contrastive fine-tuning of the whole encoder on 20 pairs of texts a text, one epoch, batches of 16, then logistic
regression. Fine-tuning is that of bench_accuracy.py for 20 epochs (few texts make few steps) or so many more that
there are as many steps as its name says. Results are appended to --out and not run again; seconds are of learning and
predicting, encoding contained.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_few.py --out few.jsonl [--sets trec sma mr]
        [--per-class 8 16] [--seeds 2] [--methods space SetFit …]
    … bench_few.py --out few.jsonl --table [--sets …] [--per-class …]
"""

import argparse
import itertools
import json
import os
import time
from pathlib import Path

import common
import numpy as np
import torch
from fine_tuning import MeanHead, fine_tune, predict_logits
from set_fit import set_fit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from try_ideas import few

from skspace import SpaceClassifier, TokenEncoder

BATCH_SIZE = 32  # of fine-tuning

# ---------------------------------------------------------------- methods: (X, y, X_test, seed) to class numbers


def space(X, y, X_test, seed):
    return SpaceClassifier(TokenEncoder(cache_dir=None), random_state=seed).fit(X, y).predict(X_test)


def probe(layer):
    def method(X, y, X_test, seed):
        encoder = TokenEncoder(layer=layer, pooling="mean", cache_dir=None)
        folds = StratifiedKFold(min(5, int(np.bincount(y).min())), shuffle=True, random_state=seed)
        pipeline = make_pipeline(Normalizer(), LogisticRegression(max_iter=5000))
        search = GridSearchCV(pipeline, {"logisticregression__C": np.logspace(-1, 3, 9)}, cv=folds)
        return search.fit(encoder.transform(X), y).predict(encoder.transform(X_test))

    return method


def setfit(X, y, X_test, seed):
    return np.asarray(set_fit(X, y, seed, n_pairs=20).predict(list(X_test)))


def full_fine_tuning(min_steps=0):
    def method(X, y, X_test, seed):
        def head(n_features):
            return MeanHead(n_features, int(y.max()) + 1)

        epochs = max(20, -(-min_steps // -(-len(X) // BATCH_SIZE)))
        model = fine_tune(
            common.minilm_folder(),
            X,
            torch.from_numpy(y),
            head,
            lr=1e-4,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            seed=seed,
        )
        return predict_logits(model, X_test).argmax(1)

    return method


METHODS = {
    "probe, last layer": probe(-1),
    "probe, our layer": probe(0.67),
    "space": space,
    "fine-tuning": full_fine_tuning(),
    "fine-tuning, 100 steps": full_fine_tuning(100),
    "fine-tuning, 300 steps": full_fine_tuning(300),
    "SetFit": setfit,
}

# ---------------------------------------------------------------- runs


def run(name, per_class, seed, method):
    X, labels = common.read(name, "train")
    X_test, labels_test = common.read(name, "test")
    classes, y = np.unique(labels, return_inverse=True)
    y_test = np.searchsorted(classes, labels_test)
    X, y = few(X, y, per_class, seed)
    began = time.perf_counter()
    predicted = METHODS[method](X, y, X_test, seed)
    return {
        "accuracy": float(np.mean(predicted == y_test)),
        "macro_f1": float(f1_score(y_test, predicted, average="macro")),
        "seconds": time.perf_counter() - began,
    }


def read_results(path):
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {tuple(row["key"]): row for row in map(json.loads, lines)}


def print_table(found):
    """Mean accuracies over draws, one line a method; `space` minus it on the same draws, with standard error."""
    columns = sorted({key[1:3] for key in found}, key=lambda column: (column[1], column[0]))
    names = [f"{name}, {n}" for name, n in columns]
    print(f"| accuracy, % | {' | '.join(names)} | mean | `space` minus it | draws | seconds |")
    print(f"|---|{'---|' * (len(columns) + 4)}")
    for method in METHODS:
        draws = complete_draws(found, method, columns)  # {seed: accuracies of all columns}
        if not draws:
            continue
        means = np.mean(list(draws.values()), axis=0)
        seconds = np.median([row["seconds"] for key, row in found.items() if key[0] == method])
        cells = " | ".join(f"{mean:.1f}" for mean in means)
        gain = difference(complete_draws(found, "space", columns), draws) if method != "space" else ""
        print(f"| {method} | {cells} | {means.mean():.1f} | {gain} | {len(draws)} | {seconds:.0f} |")


def complete_draws(found, method, columns):
    """Accuracies in percent of the draws that were run in all columns, {seed: one of each column}."""
    seeds = sorted({key[3] for key in found})
    keys = {seed: [(method, *column, seed) for column in columns] for seed in seeds}
    return {
        seed: [100 * found[key]["accuracy"] for key in of_seed]
        for seed, of_seed in keys.items()
        if all(key in found for key in of_seed)
    }


def difference(ours, others):
    """Mean over columns and common draws, and the standard error over draws where there are several, in points."""
    gaps = [np.mean(ours[seed]) - np.mean(others[seed]) for seed in ours.keys() & others.keys()]
    if len(gaps) < 2:
        return "".join(f"{gap:+.1f}" for gap in gaps)
    return f"{np.mean(gaps):+.1f} ± {np.std(gaps, ddof=1) / np.sqrt(len(gaps)):.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=("trec", "sma", "mr"))
    parser.add_argument("--per-class", nargs="+", type=int, default=(8, 16))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--table", action="store_true", help="only print what --out holds of these sets and numbers")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if args.table:
        found = read_results(args.out).items()
        print_table({key: row for key, row in found if key[1] in args.sets and key[2] in args.per_class})
        return
    print(common.machine(), flush=True)
    for seed, per_class, name, method in itertools.product(range(args.seeds), args.per_class, args.sets, args.methods):
        key = method, name, per_class, seed
        if key not in read_results(args.out):
            row = {"key": key, **run(name, per_class, seed, method), "machine": common.machine()}
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
