"""Several labels a text: GoEmotions, 28 labels, against one logistic regression a label on the same frozen encoder.

The control gets mean-pooled vectors (last layer and our layer), with and without class weights; scaler (length one, or
each feature standardised) and C are those of the best macro-F1 on the validation split. Ours has its defaults, with and
without class weights. All are scored at the threshold of one half, and again with one threshold a label that is best on
the validation split; the control may have another scaler and C for each of the two. Test texts are read once.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_multilabel.py [--texts N] [--seeds 3] [--out file.json]
        [--controls]
"""

import argparse
import time
import warnings
from pathlib import Path

import common
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, Normalizer, StandardScaler

from skspace import SpaceClassifier, TokenEncoder

CONTROLS = [(Normalizer(), C) for C in np.logspace(-1, 3, 5)] + [(StandardScaler(), C) for C in np.logspace(-4, 0, 5)]
THRESHOLDS = np.arange(0.05, 0.95, 0.05)


def split(name, n=None):
    texts, labels = common.read("goemotions", name)
    return texts[:n], [label.split("|") for label in labels[:n]]


def data(n):
    (X, y), (X_val, y_val), (X_test, y_test) = split("train", n), split("val"), split("test")
    binarizer = MultiLabelBinarizer().fit(y)
    return (X, binarizer.transform(y)), (X_val, binarizer.transform(y_val)), (X_test, binarizer.transform(y_test))


def best_thresholds(y, probability):
    """For every label the threshold with the highest F1, (n_classes,)."""
    f1 = np.array([f1_score(y, probability > t, average=None, zero_division=0) for t in THRESHOLDS])
    return THRESHOLDS[f1.argmax(0)]


def scores(y, probability, thresholds=0.5):
    predicted = probability > thresholds
    return {average: f1_score(y, predicted, average=average, zero_division=0) for average in ("micro", "macro")}


def figures(y_val, validation, y_test, test):
    """F1 of the test split both ways, and what macro-F1 the validation split has."""
    found = {}
    for how, thresholds in (("half", 0.5), ("tuned", best_thresholds(y_val, validation))):
        found[how] = scores(y_test, test, thresholds) | {"validation": scores(y_val, validation, thresholds)["macro"]}
    return found


def control(layer, class_weight, training, held_out, test):
    encoder = TokenEncoder(layer=layer, pooling="mean")
    vectors = [encoder.transform(X) for X, _ in (training, held_out, test)]
    runs = []
    for scaler, C in CONTROLS:
        # Of the solvers the one that comes to its end whatever C is, where texts are many more than features.
        model = LogisticRegression(C=C, max_iter=1000, class_weight=class_weight, solver="newton-cholesky")
        pipeline = make_pipeline(scaler, OneVsRestClassifier(model))
        began = time.perf_counter()
        pipeline.fit(vectors[0], training[1])
        run = {"scaler": type(scaler).__name__, "C": float(C), "seconds": time.perf_counter() - began}
        validation, tested = (pipeline.predict_proba(vectors[i]) for i in (1, 2))
        runs.append(run | figures(held_out[1], validation, test[1], tested))
    best = {how: max(runs, key=lambda run, how=how: run[how]["validation"]) for how in ("half", "tuned")}
    return {
        **{how: run[how] for how, run in best.items()},
        "chosen": {how: f"{run['scaler']}, C={run['C']:g}" for how, run in best.items()},
        "seconds": sum(run["seconds"] for run in runs),
    }


def ours(seed, class_weight, training, held_out, test):
    for X, _ in (training, held_out, test):
        TokenEncoder().transform(X)
    began = time.perf_counter()
    clf = SpaceClassifier(class_weight=class_weight, random_state=seed).fit(*training)
    seconds = time.perf_counter() - began
    validation, tested = clf.predict_proba(held_out[0]), clf.predict_proba(test[0])
    return figures(held_out[1], validation, test[1], tested) | {"seconds": seconds}


def line(name, runs):
    """Means over seeds, ± standard deviation of macro-F1."""
    cells = [name]
    for how in ("half", "tuned"):
        for average in ("micro", "macro"):
            found = np.array([100 * run[how][average] for run in runs])
            cells.append(f"{found.mean():.2f}" + (f" ± {found.std(ddof=1):.2f}" if len(found) > 1 else ""))
    cells += [f"{np.median([run['seconds'] for run in runs]):.0f}", "; ".join(runs[0].get("chosen", {}).values())]
    print(f"| {' | '.join(cells)} |", flush=True)
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, help="the first N training texts only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--controls", action="store_true", help="these alone")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Label .* is present in (all|no|none)")
    parts = data(args.texts)
    print(f"{common.machine()}\n\n{len(parts[0][0]):,} training texts, {parts[0][1].shape[1]} labels\n")
    print("| F1, % | micro, at ½ | macro, at ½ | micro, tuned | macro, tuned | seconds of learning | chosen |")
    print("|---|---|---|---|---|---|---|")
    results = {}
    for weight in (None, "balanced"):
        weighted = f", {weight}" if weight else ""
        for layer, which in ((-1, "last layer"), (0.67, "our layer")):
            name = f"one logistic regression a label, {which}{weighted}"
            results[name] = line(name, [control(layer, weight, *parts)])
        if args.controls:
            continue
        name = f"SpaceClassifier(){weighted}"
        results[name] = line(name, [ours(seed, weight, *parts) for seed in range(args.seeds)])
    common.save_results(args.out, {"figures": results})


if __name__ == "__main__":
    main()
