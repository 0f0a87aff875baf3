"""Rare classes: what class weights and a moved threshold do to ours, beside logistic regression on the same encoder.

Sets as they are (davidson: 6, 17 and 77% of the texts), and sets of two classes of which one is thinned out to a
twentieth of all, in training and test alike, by each seed anew ("mr, 1 in 20"). Ours has its defaults, with and without
class_weight="balanced", and with two classes also inside scikit-learn's TunedThresholdClassifierCV by macro-F1. The
control is logistic regression on mean vectors of our layer, scaler and C by macro-F1 in five-fold cross-validation of
the training texts, with and without class weights and with such a threshold. Recall and average precision are those of
the rarest class.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_imbalance.py [--seeds 3] [--out file.json]
        [--methods "SpaceClassifier()" …]
"""

import argparse
import random
from pathlib import Path

import common
import numpy as np
from frozen_controls import mean_and_sd, probe_search
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, recall_score
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline

from skspace import SpaceClassifier, TokenEncoder

SETS = {"davidson": None, "mr": 20, "sst2": 20, "covid_fake_news": 20}
SCORES = ("accuracy", "macro-F1", "balanced accuracy", "recall", "average precision")


def data(name, one_in, seed):
    """Training and test texts with their labels, and the rarest label of the training texts."""
    parts = [common.read(name, split) for split in ("train", "test")]
    labels = sorted(set(parts[0][1]), key=parts[0][1].count)
    if one_in is not None:
        parts = [thinned(X, y, labels[0], one_in, seed) for X, y in parts]
    return *parts, labels[0]


def thinned(X, y, rare, one_in, seed):
    """All texts of the other class, and so many of the rare one that it is one in `one_in`."""
    of_rare = [i for i, label in enumerate(y) if label == rare]
    kept = set(random.Random(seed).sample(of_rare, (len(y) - len(of_rare)) // (one_in - 1)))
    chosen = [i for i, label in enumerate(y) if label != rare or i in kept]
    return [X[i] for i in chosen], [y[i] for i in chosen]


# ---------------------------------------------------------------- methods: (X, y, seed) to something fitted on texts


def ours(X, y, seed, **params):
    return SpaceClassifier(random_state=seed, **params).fit(X, y)


def balanced(X, y, seed):
    return ours(X, y, seed, class_weight="balanced")


def moved_threshold(X, y, seed):
    return TunedThresholdClassifierCV(SpaceClassifier(random_state=seed), scoring="f1_macro").fit(X, y)


def probe(X, y, seed, class_weight=None):
    """Scaler and C searched; a pipeline of the encoder and what was best."""
    encoder = TokenEncoder(pooling="mean")
    search = probe_search().set_params(
        scoring="f1_macro", estimator__classifier__class_weight=class_weight, estimator__classifier__max_iter=20_000
    )
    return make_pipeline(encoder, search.fit(encoder.transform(X), y).best_estimator_)


def balanced_probe(X, y, seed):
    return probe(X, y, seed, "balanced")


def moved_probe(X, y, seed):
    return TunedThresholdClassifierCV(probe(X, y, seed), scoring="f1_macro").fit(X, y)


METHODS = {
    "logistic regression": probe,
    "logistic regression, balanced": balanced_probe,
    "logistic regression, threshold": moved_probe,
    "SpaceClassifier()": ours,
    "SpaceClassifier(), balanced": balanced,
    "SpaceClassifier(), threshold": moved_threshold,
}

# ---------------------------------------------------------------- figures


def scores(model, X, y, rare):
    predicted = model.predict(X)
    is_rare = np.array(y) == rare
    figures = (
        np.mean(predicted == np.array(y)),
        f1_score(y, predicted, average="macro"),
        balanced_accuracy_score(y, predicted),
        recall_score(y, predicted, labels=[rare], average="macro"),
        average_precision_score(is_rare, model.predict_proba(X)[:, list(model.classes_).index(rare)]),
    )
    return dict(zip(SCORES, map(float, figures), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print(common.machine())
    results = {}
    for name in args.sets:
        one_in = SETS[name]
        draws = [data(name, one_in, seed) for seed in range(args.seeds)]
        (X, y), _, rare = draws[0]
        title = name if one_in is None else f"{name}, 1 in {one_in}"
        print(f"\n{title}: {len(X):,} training texts, {y.count(rare)} of the rarest class\n")
        print(f"| % | {' | '.join(SCORES)} |\n|---|{'---|' * len(SCORES)}")
        results[title] = {}
        for method in args.methods:
            fit = METHODS[method]
            if fit in (moved_probe, moved_threshold) and len(set(y)) > 2:
                continue
            n_runs = 1 if method.startswith("logistic") and one_in is None else args.seeds
            runs = [scores(fit(X, y, seed), *test, rare) for seed, ((X, y), test, rare) in enumerate(draws[:n_runs])]
            cells = [mean_and_sd([100 * run[score] for run in runs], ".1f", ".1f") for score in SCORES]
            print(f"| {method} | {' | '.join(cells)} |", flush=True)
            results[title][method] = runs
    common.save_results(args.out, {"figures": results})


if __name__ == "__main__":
    main()
