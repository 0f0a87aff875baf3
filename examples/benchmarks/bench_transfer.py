"""Generalisation: train on one set, test on its own test split and on those of other sets.

Sentiment: IMDB -> MR, SST-2 and (as in the paper) HateXplain, MR -> IMDB, SST-2. Toxicity: davidson, tweeteval_hate and
hatexplain, each on the other two. LABELS is the table of what counts as which class. Two things to know when reading:

- tweeteval's "hate" (against women and immigrants) is narrower than the union of hate speech and offensive language
  that davidson and hatexplain give: there, part of the gap is a gap between definitions.
- The sentences of SST-2 were drawn from MR, so MR -> SST-2 is not out of domain.

Test texts that stand in the training split (compared by letters and digits only, since SST-2 is tokenised otherwise
than MR) are left out of every score; how many is printed. Nothing is chosen on a test: the Space Models have their
defaults, the logistic regressions choose C and scaler by five-fold cross-validation, fine-tuning has a fixed recipe.

Every finished run is a line of --out, and the probabilities of class 1 are kept in an .npz of the same name; a second
start goes on where the first was interrupted. One process a file: give others an --out of their own, and all files to
--table. Tables give the mean ± standard deviation over seeds, and paired differences with 95% intervals from a
bootstrap over test texts and seeds, in points.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_transfer.py --out transfer.jsonl [--seeds 5]
        [--train imdb mr davidson tweeteval_hate hatexplain] [--methods space probe ...] [--texts N] [--test-texts N]
        [--no-fine-tuning] [--fine-tuning-seeds N]
    python examples/benchmarks/bench_transfer.py --table transfer.jsonl [more.jsonl ...]
"""

import argparse
import functools
import os
import time
import warnings
from pathlib import Path

import common
import numpy as np
import torch
import transformers
from fine_tuning import MeanHead, fine_tune, predict_logits
from frozen_controls import (
    ResultsFile,
    constant,
    labelled,
    logistic_probe,
    mean_and_sd,
    read_results,
    repeated,
    scores,
    softmax,
)

from skspace import SpaceClassifier, TokenEncoder

LABELS = {
    "sentiment": {
        "imdb": {"neg": 0, "pos": 1},
        "mr": {"neg": 0, "pos": 1},
        "sst2": {"negative": 0, "positive": 1},
        "hatexplain": {"hatespeech": 0, "offensive": 0, "normal": 1},
    },
    "toxicity": {
        "davidson": {"neither": 0, "offensive": 1, "hate_speech": 1},
        "tweeteval_hate": {"not-hate": 0, "hate": 1},
        "hatexplain": {"normal": 0, "offensive": 1, "hatespeech": 1},
    },
}
TESTS = {  # of every training set, its own first
    "imdb": ("sentiment", ("imdb", "mr", "sst2", "hatexplain")),
    "mr": ("sentiment", ("mr", "imdb", "sst2")),
    "davidson": ("toxicity", ("davidson", "tweeteval_hate", "hatexplain")),
    "tweeteval_hate": ("toxicity", ("tweeteval_hate", "davidson", "hatexplain")),
    "hatexplain": ("toxicity", ("hatexplain", "davidson", "tweeteval_hate")),
}
INTER, INTRA = {"inter_space_weight": 0.2}, {"intra_space_weight": 0.001}
METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "auroc")
KEY = ("train", "method", "seed")


# ---------------------------------------------------------------- methods
#
# Texts, targets and a seed to a function from texts to probabilities, and what else the record should say.


def space(texts, targets, seed, **weights):
    return SpaceClassifier(random_state=seed, **weights).fit(texts, targets).predict_proba, {}


def probe(texts, targets, seed, **layer):
    return logistic_probe(TokenEncoder(pooling="mean", **layer), texts, targets)


def fine_tuned(texts, targets, seed):
    head = functools.partial(MeanHead, n_classes=2)
    model = fine_tune(common.minilm_folder(), texts, torch.from_numpy(targets), head, lr=1e-4, seed=seed)
    return lambda texts: softmax(predict_logits(model, texts)), {}


def majority(texts, targets, seed):
    return constant(np.bincount(targets, minlength=2) / len(targets)), {}


def always(texts, targets, seed, *, answer):
    return constant(np.eye(2)[answer]), {}


SEEDED = {
    "space": space,
    "space+inter": functools.partial(space, **INTER),
    "space+intra": functools.partial(space, **INTRA),
    "space+both": functools.partial(space, **INTER, **INTRA),
    "fine-tuning": fine_tuned,
}
METHODS = {
    **SEEDED,
    "probe": functools.partial(probe, layer=-1),
    "probe, own layer": probe,
    "majority": majority,
    "always class 0": functools.partial(always, answer=0),
    "always class 1": functools.partial(always, answer=1),
}
COMPARED = (  # first minus second
    ("space+inter", "space"),
    ("space+intra", "space"),
    ("space+both", "space"),
    ("space", "probe"),
    ("space", "probe, own layer"),
    ("space", "fine-tuning"),
)


# ---------------------------------------------------------------- runs


class Scores:
    """Targets and probabilities of class 1 of every test text that counts, in one .npz."""

    def __init__(self, path):
        self.path, self.arrays = Path(path), {}
        if self.path.exists():
            with np.load(self.path) as file:
                self.arrays = dict(file)

    def write(self):
        """Whole or not at all: a process may be killed within."""
        beside = self.path.with_suffix(".tmp.npz")
        np.savez(beside, **self.arrays)
        os.replace(beside, self.path)


def name_of(*parts):
    return "|".join(map(str, parts))


def tests_of(train, n_test_texts):
    """Texts and targets of every test set, without what stands in the training split."""
    task, names = TESTS[train]
    training_texts, _ = labelled(train, "train", LABELS[task][train])
    tests = {}
    for name in names:
        texts, targets = labelled(name, "test", LABELS[task][name], n_test_texts if name == "imdb" else None)
        drop = repeated(texts, training_texts)
        tests[name] = [text for text, dropped in zip(texts, drop, strict=True) if not dropped], targets[~drop]
        print(f"{train} -> {name}: {len(texts)} test texts, {drop.sum()} of them in the training split: left out")
    return tests


def run(train, args, results, kept):
    """All methods and seeds that are not in the results yet."""
    tests = tests_of(train, args.test_texts)
    texts, targets = labelled(train, "train", LABELS[TESTS[train][0]][train], args.texts)
    print(f"{train}: trained on {len(texts)} texts, {targets.mean():.3f} of them of class 1\n", flush=True)
    for method in args.methods:
        n_seeds = args.fine_tuning_seeds if method == "fine-tuning" else args.seeds
        for seed in range(n_seeds) if method in SEEDED else [None]:
            if results.has(train=train, method=method, seed=seed):
                continue
            began = time.perf_counter()
            probabilities_of, extras = METHODS[method](texts, targets, seed)
            fitted = time.perf_counter()
            record = {"train": train, "method": method, "seed": seed, **extras, "tests": {}}
            for name, (test_texts, test_targets) in tests.items():
                probabilities = probabilities_of(test_texts)
                kept.arrays[name_of(train, name, "targets")] = test_targets
                kept.arrays[name_of(train, name, method, seed)] = probabilities[:, 1]
                record["tests"][name] = {"n": len(test_texts), **scores(test_targets, probabilities)}
            record |= {"fit_seconds": fitted - began, "score_seconds": time.perf_counter() - fitted}
            kept.write()  # first, so that no record is without its scores
            results.add(record)
            found = ", ".join(f"{name} {figures['accuracy']:.4f}" for name, figures in record["tests"].items())
            print(f"{train}, {method}, seed {seed}: {found} ({record['fit_seconds']:.0f} s)", flush=True)


# ---------------------------------------------------------------- bootstrap


class Resampled:
    """METRICS of several runs on the same resamples of the test texts, as (n_resamples, n_seeds, 4) by method."""

    def __init__(self, targets, probabilities, n_resamples=1000):
        rng = np.random.default_rng(0)
        self.n = n_resamples
        self.seeds = {method: list(runs) for method, runs in probabilities.items()}
        self.methods = {
            method: np.empty((n_resamples, len(runs), len(METRICS))) for method, runs in probabilities.items()
        }
        # Where each probability stands among the distinct ones; that is all that AUROC asks of it.
        places = {
            method: [np.unique(run, return_inverse=True)[1] for run in runs.values()]
            for method, runs in probabilities.items()
        }
        for i in range(n_resamples):
            counts = np.bincount(rng.integers(len(targets), size=len(targets)), minlength=len(targets))
            for method, runs in probabilities.items():
                for j, run in enumerate(runs.values()):
                    self.methods[method][i, j] = counted_scores(targets, run > 0.5, places[method][j], counts)

    def difference(self, first, second):
        """Metrics of `first` minus those of `second`, seeds resampled too, (n_resamples, 4).

        Space Models of one seed share their start and batches: their seeds are drawn in pairs.
        """
        rng = np.random.default_rng(1)
        paired = first.startswith("space") and second.startswith("space")
        common_seeds = [seed for seed in self.seeds[first] if seed in self.seeds[second]]
        seeds = [common_seeds if paired else self.seeds[method] for method in (first, second)]
        draws = [rng.integers(len(of_method), size=(self.n, len(of_method))) for of_method in seeds]
        draws[1] = draws[0] if paired else draws[1]
        means = []
        for method, of_method, drawn in zip((first, second), seeds, draws, strict=True):
            places = np.array([self.seeds[method].index(seed) for seed in of_method])[drawn]  # (n, n_seeds)
            means.append(np.take_along_axis(self.methods[method], places[:, :, None], 1).mean(1))
        return means[0] - means[1]


def counted_scores(targets, predicted, places, counts):
    """METRICS where text i is there counts[i] times; scikit-learn's own take a hundred times as long."""
    confusion = np.bincount(2 * targets + predicted, weights=counts, minlength=4).reshape(2, 2)
    right, n_true, n_predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1 = 2 * right / np.maximum(n_true + n_predicted, 1)
    recall = right / np.maximum(n_true, 1)
    negative, positive = (np.bincount(places, weights=counts * (targets == k)) for k in (0, 1))
    below = np.cumsum(negative) - negative / 2  # ties count half
    auroc = (positive * below).sum() / max(1, n_true[0] * n_true[1])
    return right.sum() / counts.sum(), f1.mean(), recall.mean(), auroc


# ---------------------------------------------------------------- tables


def by_method(records, test):
    """Figures by method and seed."""
    found = {}
    for record in records:
        found.setdefault(record["method"], {})[record["seed"]] = record["tests"][test]
    return {method: found[method] for method in METHODS if method in found}


def print_scores(train, records):
    _, tests = TESTS[train]
    print("| trained on | tested on | n | method | accuracy | macro-F1 | balanced accuracy | AUROC | gap, points |")
    print("|---|---|---|---|---|---|---|---|---|")
    for test in tests:
        for method, runs in by_method(records, test).items():
            cells = [mean_and_sd([figures[metric] for figures in runs.values()]) for metric in METRICS]
            own = by_method(records, train)[method]
            gaps = [
                f"{100 * np.mean([own[seed][metric] - runs[seed][metric] for seed in runs]):+.1f}" for metric in METRICS
            ]
            n = next(iter(runs.values()))["n"]
            cells = [train, test, f"{n:,}", method, *cells, "" if test == train else " / ".join(gaps)]
            print(f"| {' | '.join(cells)} |")
    print()


def print_differences(train, records, kept):
    _, tests = TESTS[train]
    resampled = {}
    for test in tests:
        runs = {
            method: {seed: kept[name_of(train, test, method, seed)] for seed in found}
            for method, found in by_method(records, test).items()
        }
        resampled[test] = Resampled(kept[name_of(train, test, "targets")], runs)
    print("| trained on | tested on | difference | accuracy | macro-F1 | balanced accuracy | AUROC | gap in accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for test in tests:
        for first, second in COMPARED:
            if first not in resampled[test].methods or second not in resampled[test].methods:
                continue
            here, own = ((point(records, name, first, second), resampled[name]) for name in (test, train))
            cells = [train, test, f"{first} − {second}"]
            drawn = here[1].difference(first, second)
            cells += [interval(here[0][i], drawn[:, i]) for i in range(len(METRICS))]
            gap = own[1].difference(first, second)[:, 0] - drawn[:, 0]
            cells.append("" if test == train else interval(own[0][0] - here[0][0], gap))
            print(f"| {' | '.join(cells)} |")
    print()


def point(records, test, first, second):
    """Difference of the means over seeds, METRICS in order."""
    runs = by_method(records, test)
    means = [
        np.mean([[figures[metric] for metric in METRICS] for figures in runs[method].values()], axis=0)
        for method in (first, second)
    ]
    return means[0] - means[1]


def interval(difference, drawn):
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{100 * difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def print_tables(paths):
    """All tables, from one file or several."""
    records, kept, settings = [], {}, []
    for path in paths:
        headers, found = read_results(path)
        if found and not Path(path).with_suffix(".npz").exists():
            raise SystemExit(f"The probabilities that belong to {path} are missing: it needs its .npz beside it.")
        records += found
        kept |= Scores(Path(path).with_suffix(".npz")).arrays
        settings += [header["settings"] for header in headers]
        for line in dict.fromkeys(f"{header['machine']}; {header['settings']}" for header in headers):
            print(line)
    if any(other != settings[0] for other in settings):
        raise SystemExit("These files were made with different settings; they cannot share a table.")
    print("\nThe gap is in-domain minus out-of-domain: accuracy / macro-F1 / balanced accuracy / AUROC.\n")
    for train in TESTS:
        if of_train := [record for record in records if record["train"] == train]:
            print_scores(train, of_train)
            print_differences(train, of_train, kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="JSON lines; finished runs in it are not run again")
    what.add_argument("--table", nargs="+", type=Path, help="only print the tables of such files")
    parser.add_argument("--train", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fine-tuning-seeds", type=int, help="fewer for the slowest method")
    parser.add_argument("--no-fine-tuning", action="store_true")
    parser.add_argument("--texts", type=int, help="train on N texts only")
    parser.add_argument("--test-texts", type=int, help="test on N texts of IMDB only")
    args = parser.parse_args()
    if args.table:
        print_tables(args.table)
        return
    if args.fine_tuning_seeds is None:
        args.fine_tuning_seeds = args.seeds
    if args.no_fine_tuning:
        args.methods = [method for method in args.methods if method != "fine-tuning"]
    warnings.filterwarnings("ignore", message=".*were truncated")  # IMDB's; 256 tokens is the setting
    transformers.utils.logging.disable_progress_bar()
    print(f"{common.machine()}; {torch.get_num_threads()} threads\n")
    results = ResultsFile(args.out, {"texts": args.texts, "test_texts": args.test_texts}, KEY)
    kept = Scores(args.out.with_suffix(".npz"))
    for train in args.train:
        run(train, args, results, kept)
    print_tables([args.out])


if __name__ == "__main__":
    main()
