"""SpaceClassifier() against logistic regression on mean-pooled last-layer embeddings, same frozen encoder, test splits.

The control is what most people would write: the encoder's last layer, mean over tokens, L2-normalised, scikit-learn's
LogisticRegression with C=1. Embeddings come from the cache where they are there; seconds are those of fit and score.

    SKSPACE_DATA=path/to/data python examples/benchmarks/against_logistic_regression.py [--sets trec sma mr] [--seeds 3]
"""

import argparse
import os
import platform
import time

import numpy as np
import sklearn
import torch
from common import read
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skspace import SpaceClassifier, TokenEncoder


def scores(clf, X, y, X_test, y_test):
    """Accuracy, macro-F1 and seconds of fit and score."""
    began = time.perf_counter()
    predicted = clf.fit(X, y).predict(X_test)
    seconds = time.perf_counter() - began
    return np.mean(predicted == np.array(y_test)), f1_score(y_test, predicted, average="macro"), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["trec", "sma", "mr"])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}; {args.seeds} seeds\n"
    )
    print("| set | logistic regression | | `SpaceClassifier()` | | difference |\n|---|---|---|---|---|---|")
    print("| | accuracy / macro-F1 | seconds | accuracy ± sd / macro-F1 | seconds | accuracy |")
    control = make_pipeline(
        TokenEncoder(layer=-1, pooling="mean"), Normalizer(), LogisticRegression(C=1.0, max_iter=1000)
    )
    differences = []
    for name in args.sets:
        data = *read(name, "train"), *read(name, "test")
        TokenEncoder().transform([*data[0], *data[2]])  # so that both are timed on a full cache
        TokenEncoder(layer=-1).transform([*data[0], *data[2]])
        accuracy, f1, seconds = scores(control, *data)
        ours = np.array([scores(SpaceClassifier(random_state=seed), *data) for seed in range(args.seeds)])
        mean, sd = ours.mean(0), ours[:, 0].std(ddof=1)
        differences.append(mean[0] - accuracy)
        print(
            f"| {name} | {accuracy:.4f} / {f1:.4f} | {seconds:.1f} | {mean[0]:.4f} ± {sd:.4f} / {mean[1]:.4f} "
            f"| {mean[2]:.1f} | {differences[-1]:+.4f} |",
            flush=True,
        )
    print(f"| mean | | | | | {np.mean(differences):+.4f} |")


if __name__ == "__main__":
    main()
