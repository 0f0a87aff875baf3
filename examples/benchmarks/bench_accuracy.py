"""Accuracy of the Space Model and of all that a user might pick instead, on the test splits of many sets.

Every (set, method, seed) runs in a process of its own and is kept in the folder --out: figures in results.jsonl, logits
or scores per test text beside it. What is there is not run again, so that a long run can be stopped and gone on with;
--table prints what is there. Methods whose result knows no chance run once and count for every seed.

What a probe tunes (scaling, C; TF-IDF's features; the bottleneck's weight decay), five-fold cross-validation tunes
on the training texts; its seconds contain that. Ours is not tuned; fine-tuning's rate and epochs are the same for all
sets. SetFit, where it is installed, gets one pair of each kind a text: as many passes over the texts as fine-tuning.

Seconds are wall time and processor time of learning, encoding left out and given by itself: `encode` is the time in
which the encoder makes the vectors that the method needs of the training texts, once, cached thereafter. Memory is the
largest resident set of the process.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_accuracy.py --out folder [--sets trec sma …]
        [--methods space "fine-tuning" …] [--seeds 5] [--encoder folder or name at the hub]
    … bench_accuracy.py --out folder --table
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import common
import numpy as np

SETS = (
    "trec",
    "sma",
    "mr",
    "sst2",
    "covid_fake_news",
    "hatexplain",
    "tweeteval_hate",
    "davidson",
    "banking77",
    "imdb_5000",
)
FINE_TUNING = {"lr": 1e-4, "epochs": 4}  # chosen on validation splits, see bench_accuracy.md

# ---------------------------------------------------------------- data


def splits(name):
    """(X, y) of train and test; labels as class numbers. imdb_5000: the first 5,000 of each, which are shuffled."""
    name, _, n = name.partition("_5")
    pairs = {part: common.read(name, part) for part in ("train", "test")}
    classes = np.unique(pairs["train"][1])
    kept = slice(5000 if n else None)
    return {part: (X[kept], np.searchsorted(classes, y[kept])) for part, (X, y) in pairs.items()}


# ---------------------------------------------------------------- methods
MODEL = {}  # of TokenEncoder, where it is not the default


def token_encoder(**params):
    from skspace import TokenEncoder

    return TokenEncoder(**MODEL, **params)


# From (data, seed) to scores (n_test, K), and what was chosen by cross-validation.


def majority(data, seed):
    (_, y), (X_test, _) = data["train"], data["test"]
    return np.tile(np.bincount(y) / len(y), (len(X_test), 1)), {}


def tf_idf(data, seed):
    """Words and pairs of words, with or without pieces of words, logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline, make_union

    words = {"ngram_range": (1, 2), "sublinear_tf": True, "min_df": 2}
    pieces = {"analyzer": "char_wb", "ngram_range": (2, 5), "sublinear_tf": True, "min_df": 2}
    features = [TfidfVectorizer(**words), make_union(TfidfVectorizer(**words), TfidfVectorizer(**pieces))]
    pipeline = Pipeline([("features", features[0]), ("classifier", LogisticRegression(max_iter=2000))])
    return tuned(pipeline, {"features": features, "classifier__C": [1.0, 10.0, 100.0]}, data)


def probe(layer, token):
    """Logistic regression on the mean of a layer's token vectors, or on the first one."""

    def method(data, seed):
        from frozen_controls import probe_search

        return searched(probe_search(), pooled(data, layer, token))

    return method


def pooled(data, layer, token):
    """Every part of the data as one vector a text."""
    encode(data, token_encoder(layer=layer))
    if token == "mean":
        encoder = token_encoder(layer=layer, pooling="mean")
        return {part: (encoder.transform(X), y) for part, (X, y) in data.items()}
    rows = {part: token_encoder(layer=layer).transform(X) for part, (X, _) in data.items()}
    first = {part: np.stack([row[0] for row in of_part]) for part, of_part in rows.items()}
    return {part: (first[part].astype(np.float32), y) for part, (_, y) in data.items()}


def encode(data, encoder):
    """Fill the cache; of what is in it already, the time of reading."""
    with Clock("encode"):
        encoder.transform(data["train"][0])


def tuned(estimator, grid, data):
    """Scores on the test of what is best in five-fold cross-validation on the training texts, and what that is."""
    from frozen_controls import FOLDS
    from sklearn.model_selection import GridSearchCV

    return searched(GridSearchCV(estimator, grid, cv=FOLDS, error_score="raise"), data)


def searched(search, data):
    with Clock("fit"):
        search.fit(*data["train"])
    chosen = {name: str(value) for name, value in search.best_params_.items()}
    return search.predict_proba(data["test"][0]), {"chosen": chosen, "cross_validated": search.best_score_}


def bottleneck(data, seed):
    """A linear map of rank K * m on the mean of our layer, without tanh, trained as ours, weight decay tuned."""
    from linear_bottleneck import LinearBottleneck

    grid = {"weight_decay": [0.0, 0.01, 0.05, 0.2, 0.5, 2.0]}
    return tuned(LinearBottleneck(random_state=seed), grid, pooled(data, 0.67, "mean"))


def space(encoder_params=(), **params):
    def method(data, seed):
        from skspace import SpaceClassifier

        encoder = token_encoder(**dict(encoder_params))
        encode(data, encoder)
        clf = SpaceClassifier(encoder, random_state=seed, **params)
        with Clock("fit"):
            clf.fit(*data["train"])
        return clf.predict_proba(data["test"][0]), {}

    return method


def calibrated_space(data, seed):
    """Its logits divided by a temperature that five-fold cross-validation gives."""
    from sklearn.calibration import CalibratedClassifierCV

    from skspace import SpaceClassifier

    encode(data, token_encoder())
    clf = SpaceClassifier(token_encoder(), random_state=seed)
    clf = CalibratedClassifierCV(clf, method="temperature", cv=5, ensemble=False)
    with Clock("fit"):
        clf.fit(*data["train"])
    return clf.predict_proba(data["test"][0]), {}


def full_fine_tuning(data, seed):
    import torch
    from fine_tuning import MeanHead, fine_tune, predict_logits

    X, y = data["train"]
    n_classes = int(y.max()) + 1
    with Clock("fit"):
        model = fine_tune(
            MODEL.get("model") or common.minilm_folder(),
            X,
            torch.from_numpy(y),
            lambda n_features: MeanHead(n_features, n_classes),
            seed=seed,
            **FINE_TUNING,
        )
    return predict_logits(model, data["test"][0]), FINE_TUNING


def whole_set_fit(data, seed):
    from set_fit import set_fit

    with Clock("fit"):
        model = set_fit(*data["train"], seed, n_pairs=1)
    return np.asarray(model.predict_proba(list(data["test"][0]))), {"n_pairs": 1}


PAPER = {"n_latent": 3, "n_members": 1, "pooling": "mean", "lr": 2e-4, "lr_schedule": "constant", "max_epochs": 5}
METHODS = {
    "majority": majority,
    "TF-IDF": tf_idf,
    "probe, last layer": probe(-1, "mean"),
    "probe, first token": probe(-1, "first"),
    "space": space(),
    "space, calibrated": calibrated_space,
    "space, paper's setting": space({"layer": -1}, weight_decay=0.01, **PAPER),
    "probe, our layer": probe(0.67, "mean"),
    "linear bottleneck": bottleneck,
    "fine-tuning": full_fine_tuning,
    "SetFit": whole_set_fit,
}
DEFAULT_METHODS = [name for name in METHODS if name != "SetFit" or importlib.util.find_spec("setfit")]
# The cache is one for all methods: the first of a layer fills it.
ENCODED_BY = {"probe, first token": "probe, last layer", "space, paper's setting": "probe, last layer"} | dict.fromkeys(
    ("probe, our layer", "linear bottleneck", "space, calibrated"), "space"
)
WITHOUT_CHANCE = ("majority", "TF-IDF", "probe, last layer", "probe, our layer", "probe, first token")

# ---------------------------------------------------------------- one run


class Clock:
    """Wall and processor seconds of the parts of a run, by name."""

    taken: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.began = time.perf_counter(), time.process_time()

    def __exit__(self, *error):
        wall, processor = Clock.taken.get(self.name, (0.0, 0.0))
        now = time.perf_counter(), time.process_time()
        Clock.taken[self.name] = wall + now[0] - self.began[0], processor + now[1] - self.began[1]


def run_one(name, method, seed, out):
    """Run, and write figures and scores."""
    data = splits(name)
    with Clock("all"):
        scores, chosen = METHODS[method](data, seed)
    predicted, y = scores.argmax(1), data["test"][1]
    seen = set(data["train"][0])
    new = np.array([text not in seen for text in data["test"][0]])
    row = {
        "set": name,
        "method": method,
        "seed": seed,
        "accuracy": float(np.mean(predicted == y)),
        "macro_f1": macro_f1(y, predicted),
        "accuracy_new": float(np.mean(predicted[new] == y[new])),
        "macro_f1_new": macro_f1(y[new], predicted[new]),
        "n_test": len(y),
        "n_new": int(new.sum()),
        "auroc": auroc(y, scores),
        "calibration_error": calibration_error(probabilities(scores), y),
        "seconds": {part: wall for part, (wall, _) in Clock.taken.items()},
        "processor_seconds": {part: processor for part, (_, processor) in Clock.taken.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "chosen": chosen,
        "encoder": MODEL.get("model", "all-MiniLM-L6-v2"),
        "machine": common.machine(),
    }
    np.savez_compressed(
        out / f"{file_name(name, method, seed)}.npz", predicted=predicted.astype(np.int16), y=y, new=new
    )
    with (out / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def macro_f1(y, predicted):
    from sklearn.metrics import f1_score

    return float(f1_score(y, predicted, average="macro"))


def auroc(y, scores):
    """Of two classes; None with more."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, scores[:, 1] - scores[:, 0])) if scores.shape[1] == 2 else None


def probabilities(scores):
    """Rows that sum to 1 as they are; logits through the softmax."""
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-4):
        return scores
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def calibration_error(probability, y, n_bins=15):
    """Expected calibration error of the winning class, bins of equal width."""
    confidence, right = probability.max(1), probability.argmax(1) == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [np.mean(bins == b) * abs(right[bins == b].mean() - confidence[bins == b].mean()) for b in np.unique(bins)]
    return float(np.sum(gaps))


def file_name(name, method, seed):
    return f"{name}-{method.replace(' ', '_').replace(',', '')}-{seed}"


# ---------------------------------------------------------------- many runs


def results(out):
    path = out / "results.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {(row["set"], row["method"], row["seed"]): row for row in map(json.loads, lines)}


def run_all(args):
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for method in args.methods:
            for name in args.sets:
                if (seed and method in WITHOUT_CHANCE) or (name, method, seed) in results(args.out):
                    continue
                print(f"{name}, {method}, seed {seed}", flush=True)
                one = [sys.executable, __file__, "--out", str(args.out), "--one", name, method, str(seed)]
                one += ["--encoder", args.encoder] if args.encoder else []
                subprocess.run(one, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--methods", nargs="+", default=DEFAULT_METHODS, choices=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--encoder", help="the packaged MiniLM where left out; give it an --out of its own")
    parser.add_argument("--one", nargs=3, metavar=("SET", "METHOD", "SEED"), help="run this one in this process")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.encoder:
        MODEL["model"] = args.encoder
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
    if args.one:
        run_one(args.one[0], args.one[1], int(args.one[2]), args.out)
    elif args.table:
        import accuracy_tables

        accuracy_tables.show(results(args.out), args.out)
    else:
        run_all(args)


if __name__ == "__main__":
    main()
