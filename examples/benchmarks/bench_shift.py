"""How far the test of each set is from its training texts: can they be told apart, and do labels follow the same rule?

Of each split up to --texts are drawn, as many of both, without test texts that stand in the training split. "Told
apart" is the AUROC of logistic regression that is asked from which split a text is, by five-fold cross-validation: .5
where it cannot say. Then accuracies of three classifiers: trained and tested within the training texts, by five-fold
cross-validation; within the test texts likewise; and trained on the former, tested on the latter. A set whose labels
can be learned within either split, but not from one for the other, has a test of another kind.

This looks at tests and explains results; nothing is chosen by it. Every finished set is a line of --out.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_shift.py --out shift.jsonl [--sets sma …] [--texts 2000]
    … bench_shift.py --out shift.jsonl --table
"""

import argparse
import json
from pathlib import Path

import common
import numpy as np
from choose_defaults import SETS
from frozen_controls import repeated, sample
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skspace import SpaceClassifier, TokenEncoder

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)
WITHIN = ("within training", "within test", "training to test")


def tf_idf():
    return make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression(C=10.0, max_iter=2000))


def probe():
    encoder = TokenEncoder(pooling="mean")
    return make_pipeline(encoder, StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def space():
    return SpaceClassifier(random_state=0)


METHODS = {"TF-IDF": tf_idf, "probe, our layer": probe, "space": space}


def draw(name, n):
    """As many texts and labels of the training split as of the test, `n` of each at most."""
    (X, y), (X_test, y_test) = (common.read(name, split) for split in ("train", "test"))
    new = np.flatnonzero(~repeated(X_test, X))
    X_test, y_test = sample([X_test[i] for i in new], np.array(y_test)[new], n)
    return *sample(X, np.array(y), len(X_test)), X_test, y_test


def told_apart(X, X_test):
    """AUROC of telling the split of a text, by what the classifiers read: words, and mean vectors."""
    texts, split = [*X, *X_test], np.repeat([0, 1], [len(X), len(X_test)])
    by = {"words": tf_idf(), "vectors": probe()}
    chances = {name: cross_val_predict(clf, texts, split, cv=FOLDS, method="predict_proba") for name, clf in by.items()}
    return {name: float(roc_auc_score(split, chance[:, 1])) for name, chance in chances.items()}


def accuracies(make, X, y, X_test, y_test):
    found = (
        accuracy_score(y, cross_val_predict(make(), X, y, cv=FOLDS)),
        accuracy_score(y_test, cross_val_predict(make(), X_test, y_test, cv=FOLDS)),
        accuracy_score(y_test, make().fit(X, y).predict(X_test)),
    )
    return dict(zip(WITHIN, map(float, found), strict=True))


def run(name, n):
    X, y, X_test, y_test = draw(name, n)
    classes, counts = np.unique(y_test, return_counts=True)
    largest = classes[counts.argmax()]
    return {
        "set": name,
        "texts": len(X),
        "share of the test's largest class": [float(np.mean(labels == largest)) for labels in (y, y_test)],
        "told apart": told_apart(X, X_test),
        "accuracy": {method: accuracies(make, X, y, X_test, y_test) for method, make in METHODS.items()},
        "machine": common.machine(),
    }


def print_table(rows):
    columns = [f"{method}: {way}" for method in METHODS for way in WITHIN]
    head = ["set", "texts", "told apart by words", "by vectors", "largest class, training", "test", *columns]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        shares = [f"{100 * share:.0f}" for share in row["share of the test's largest class"]]
        cells = [f"{100 * row['accuracy'][method][way]:.1f}" for method in METHODS for way in WITHIN]
        apart = [f"{value:.2f}" for value in row["told apart"].values()]
        print(f"| {' | '.join([row['set'], str(row['texts']), *apart, *shares, *cells])} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--table", action="store_true", help="only print what --out holds")
    args = parser.parse_args()
    lines = args.out.read_text("utf-8").splitlines() if args.out.exists() else []
    rows = [json.loads(line) for line in lines]
    for name in [] if args.table else args.sets:
        if name not in [row["set"] for row in rows]:
            rows.append(run(name, args.texts))
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(common.machine())
    print_table(rows)


if __name__ == "__main__":
    main()
