"""What training costs above its arithmetic, how it grows, and what a grid search adds.

The bare loop is what anyone would write for one run: batches that lie ready in memory as float32 tensors, one product
for the operators and one for the attention, tanh, softmax and sums over a text's tokens, linear head, cross-entropy,
backward, AdamW. No shuffling, no history, and no gathering but where searches are compared. Vectors are random numbers;
the search is over MR's texts ($SKSPACE_DATA), whose embeddings are in a cache of its own before anything is timed.
Every ratio is of two things timed in turns; their medians count.

    python examples/benchmarks/bench_fit.py [--only memory products parts store growth search] [--epochs 3]
        [--repeats 5] [--folder where/4 GB/have/room] [--out results.json]
"""

import argparse
import cProfile
import pstats
import tempfile
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import common
import numpy as np
import torch
from bench_memory import MB, Peak
from bench_store import Corpus, as_ragged, write
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skspace import RaggedArray, SpaceClassifier, TokenEncoder
from skspace._training import skorch_net

N_FEATURES = 384
N_LATENT = (2, 4, 8, 12, 16)
SHAPES = ((5_000, 12, 6), (8_000, 25, 2), (15_000, 28, 3), (2_000, 200, 2))  # texts, their mean length, classes

# ---------------------------------------------------------------- the bare loop


class Bare:
    """The same model and steps on batches that lie ready."""

    def __init__(self, batches, n_classes, n_latent=8, n_members=4):
        self.batches, self.shape = batches, (n_members, n_classes, n_latent)
        width = n_members * n_classes * n_latent
        n_features = batches[0][0].shape[1]
        self.operators = torch.randn(n_features, width) / n_features**0.5
        self.queries = torch.zeros(n_features, width)
        self.coef = torch.randn(n_members, n_classes, n_classes * n_latent)
        self.intercept = torch.zeros(n_members, n_classes)
        parameters = [self.operators, self.queries, self.coef, self.intercept]
        self.optimizer = torch.optim.AdamW([p.requires_grad_() for p in parameters], lr=0.02, weight_decay=0.5)

    def epoch(self):
        for tokens, texts, n_texts, targets in self.batches:
            weights = torch.exp(tokens @ self.queries)  # (n_tokens, M * K * m)
            concepts = torch.tanh(tokens @ self.operators)
            total = weights.new_zeros(n_texts, weights.shape[1]).index_add(0, texts, weights)
            centroids = weights.new_zeros(n_texts, weights.shape[1]).index_add(0, texts, weights * concepts) / total
            M, K, m = self.shape
            logits = torch.einsum("nmf,mkf->nmk", centroids.view(n_texts, M, K * m), self.coef) + self.intercept
            loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets[:, None].expand(-1, M))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def ready(rows, y, batch_size=256):
    """A set as batches for the bare loop."""
    batches = []
    for indices in np.array_split(np.arange(len(rows)), -(-len(rows) // batch_size)):
        part = rows[indices]
        texts = np.repeat(np.arange(len(indices)), part.lengths)
        tokens = torch.from_numpy(part.values.astype(np.float32))
        batches.append((tokens, torch.from_numpy(texts), len(indices), torch.from_numpy(y[indices])))
    return batches


def made_up(n_texts, mean_length, n_classes, seed=0):
    """Random vectors of texts of different length, and labels."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(1, rng.poisson(mean_length, n_texts))
    values = rng.standard_normal((int(lengths.sum()), N_FEATURES), np.float32).astype(np.float16)
    return RaggedArray(values, np.cumsum([0, *lengths])), rng.integers(n_classes, size=n_texts)


def classifier(epochs, **params):
    return SpaceClassifier("precomputed", max_epochs=epochs, random_state=0, **params)


def print_machine():
    print(f"{common.machine()}; {torch.get_num_threads()} threads\n", flush=True)


# ---------------------------------------------------------------- in memory


def memory(args):
    """Seconds of an epoch, ours and bare, for sets of a few shapes."""
    print("| texts x tokens, classes | tokens/s of a fit | bare loop | fit to bare, speed | set-up, s |")
    print("|---|---|---|---|---|")
    results = {}
    for n_texts, length, n_classes in SHAPES:
        rows, y = made_up(n_texts, length, n_classes)
        bare = Bare(ready(rows, y), n_classes)
        times = common.in_turns(
            args.repeats,
            one=lambda rows=rows, y=y: classifier(1).fit(rows, y),
            more=lambda rows=rows, y=y: classifier(1 + args.epochs).fit(rows, y),
            bare=lambda bare=bare: [bare.epoch() for _ in range(args.epochs)],
        )
        tokens = args.epochs * int(rows.lengths.sum())
        ours, other = tokens / (times["more"] - times["one"]), tokens / times["bare"]
        set_up = times["one"] - (times["more"] - times["one"]) / args.epochs
        results[f"{n_texts} x {length}, {n_classes}"] = {"ours": ours, "bare": other, "set_up": set_up}
        print(
            f"| {n_texts:,} x {length}, {n_classes} | {ours:,.0f} | {other:,.0f} | {ours / other:.2f} | {set_up:.2f} |",
            flush=True,
        )
    return results


# ---------------------------------------------------------------- bfloat16


def products(args):
    """Seconds of a fit with the products of training in float32 and in bfloat16, on the same vectors."""
    print("\n| texts x tokens, classes | products in float32, s | in bfloat16, s | ratio |\n|---|---|---|---|")
    results = {}
    for n_texts, length, n_classes in (*SHAPES, (9_000, 14, 77)):
        data = made_up(n_texts, length, n_classes)

        def fit(dtype, data=data):
            # Made-up vectors come from no encoder that could have computed them in bfloat16.
            with mock.patch("skspace._classifier._product_dtype", return_value=dtype):
                classifier(args.epochs).fit(*data)

        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        times = common.in_turns(args.repeats, **{name: partial(fit, dtype) for name, dtype in dtypes.items()})
        results[f"{n_texts} x {length}, {n_classes}"] = times
        both = f"{times['float32']:.2f} | {times['bfloat16']:.2f} | {times['float32'] / times['bfloat16']:.2f}"
        print(f"| {n_texts:,} x {length}, {n_classes} | {both} |", flush=True)
    return results


def parts(args):
    """Seconds and memory of a fit with large batches whole and in parts."""
    print("\n| texts x tokens, classes, n_latent | whole, s | MB | in parts, s | MB |\n|---|---|---|---|---|")
    results = {}
    for n_texts, length, n_classes, n_latent in ((2_000, 200, 2, 8), (1_000, 200, 2, 64), (500, 200, 77, 8)):
        data = made_up(n_texts, length, n_classes)
        sizes = {"whole": 2**60, "parts": skorch_net._NUMBERS_AT_ONCE}

        def fit(name, data=data, n_latent=n_latent, sizes=sizes):
            with mock.patch("skspace._training.skorch_net._NUMBERS_AT_ONCE", sizes[name]):
                classifier(args.epochs).set_params(n_latent=n_latent).fit(*data)

        times = common.in_turns(args.repeats, **{name: partial(fit, name) for name in sizes})
        added = {}
        for name in ("parts", "whole"):  # the larger last: what malloc keeps of it would hide the other
            with Peak() as peak:
                fit(name)
            added[name] = (peak.anonymous - peak.before) / MB
        cells = " | ".join(f"{times[name]:.2f} | {added[name]:,.0f}" for name in sizes)
        results[f"{n_texts} x {length}, {n_classes}, {n_latent}"] = {"seconds": times, "added_mb": added}
        print(f"| {n_texts:,} x {length}, {n_classes}, {n_latent} | {cells} |", flush=True)
    return results


# ---------------------------------------------------------------- from a store


def store(args):
    """A store of IMDB's size: an epoch of a fit, reading its bytes, and the bare loop on a part of it."""
    corpus = Corpus(args.store_texts, 208, N_FEATURES)
    with tempfile.TemporaryDirectory(prefix="skspace-fit-", dir=args.folder) as folder:
        found = write(Path(folder), corpus.blocks()).lookup(corpus.keys)
        rows = as_ragged(found, N_FEATURES)
        y = np.random.default_rng(0).integers(2, size=len(rows))
        part = rows[np.arange(0, len(rows), len(rows) // 1000)]
        bare = Bare(ready(part, y[: len(part)]), 2)

        def read():
            for indices in np.array_split(np.random.default_rng(1).permutation(len(rows)), len(rows) // 256):
                rows[indices].values  # noqa: B018 - reading is what is timed

        with Peak() as peak:
            times = common.in_turns(
                max(1, args.repeats // 2),
                one=lambda: classifier(1).fit(rows, y),
                two=lambda: classifier(2).fit(rows, y),
                read=read,
                bare=bare.epoch,
            )
    scale = len(rows) / len(part)
    epoch, read_seconds, bare_seconds = times["two"] - times["one"], times["read"], times["bare"] * scale
    slower = max(read_seconds, bare_seconds)
    tokens = int(rows.lengths.sum())
    print(f"\n| {len(rows):,} texts, {tokens:,} tokens, {rows.nbytes / 1e9:.1f} GB in the store | seconds |\n|---|---|")
    print(f"| an epoch of a fit | {epoch:.1f} |\n| reading the same bytes in random batches | {read_seconds:.1f} |")
    print(f"| bare loop, from {len(part):,} texts in memory | {bare_seconds:.1f} |")
    print(f"| epoch to the slower of the two | {epoch / slower:.2f} |")
    added = (peak.anonymous - peak.before) / MB
    print(f"\nAnonymous memory added at the peak: {added:,.0f} MB.", flush=True)
    return {"epoch": epoch, "read": read_seconds, "bare": bare_seconds, "ratio": epoch / slower, "added_mb": added}


# ---------------------------------------------------------------- growth


def growth(args):
    """Seconds of a fit where one thing is doubled at a time, to those of the middle of each row."""
    base = {"n_texts": 4_000, "mean_length": 24, "n_classes": 4, "n_latent": 8}
    print("\n| seconds of a fit of 5 epochs, to the base's | ÷ 4 | ÷ 2 | base | x 2 | x 4 |\n|---|---|---|---|---|---|")
    rows = {
        "texts (of as many tokens)": lambda f: base | {"n_texts": int(base["n_texts"] * f)},
        "tokens a text": lambda f: base | {"mean_length": base["mean_length"] * f},
        "texts, for the same tokens": lambda f: (
            base | {"n_texts": int(base["n_texts"] * f), "mean_length": base["mean_length"] / f}
        ),
        "classes": lambda f: base | {"n_classes": max(2, int(base["n_classes"] * f))},
        "n_latent": lambda f: base | {"n_latent": int(base["n_latent"] * f)},
    }
    results = {}
    for name, change in rows.items():
        fits = {}
        for factor in (0.25, 0.5, 1, 2, 4):
            shape = change(factor)
            clf = classifier(5, n_latent=shape.pop("n_latent"))
            data = made_up(**shape)
            fits[str(factor)] = lambda clf=clf, data=data: clf.fit(*data)
        times = common.in_turns(args.repeats, **fits)
        results[name] = {factor: seconds / times["1"] for factor, seconds in times.items()}
        cells = " | ".join(f"{ratio:.2f}" for ratio in results[name].values())
        print(f"| {name} | {cells} |", flush=True)
    print("\nFour classes divided by four are two classes: there must be two.")
    return results


# ---------------------------------------------------------------- grid search


def search(args):
    """5 values of n_latent x 5 folds against 25 bare loops on the same folds, one core; and with n_jobs=2.

    The searches are given texts and find their embeddings in the store, in every fit and every scoring anew; the bare
    loops read their folds from it too.
    """
    with tempfile.TemporaryDirectory(prefix="skspace-search-", dir=args.folder) as folder:
        encoder = TokenEncoder(cache_dir=folder)
        X, labels = common.read("mr", "train")
        order = np.random.default_rng(0).permutation(len(X))[: args.search_texts]  # they come sorted by class
        X, labels = [X[i] for i in order], [labels[i] for i in order]
        return timed_search(args, encoder, X, np.unique(labels, return_inverse=True)[1])


def timed_search(args, encoder, X, y):
    rows = encoder.transform(X)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(X, y))
    epochs = 10
    threads = torch.get_num_threads()

    def bare():
        for n_latent in N_LATENT:
            for training, _ in folds:
                loop = Bare(ready(rows[training], y[training]), 2, n_latent)
                for _ in range(epochs):
                    loop.epoch()

    def grid(n_jobs):
        clf = SpaceClassifier(encoder, max_epochs=epochs, random_state=0)
        search = GridSearchCV(clf, {"n_latent": list(N_LATENT)}, cv=folds, n_jobs=n_jobs, refit=False)
        search.fit(X, y)

    def on_one_core(function):
        torch.set_num_threads(1)
        function()
        torch.set_num_threads(threads)

    times = common.in_turns(
        max(1, args.repeats // 2),
        bare=lambda: on_one_core(bare),
        one=lambda: on_one_core(lambda: grid(1)),
        two=lambda: grid(2),
    )
    print(f"\n| {len(rows):,} texts, 25 fits of {epochs} epochs | seconds | to bare |\n|---|---|---|")
    names = {"bare": "bare loops, 1 thread", "one": "GridSearchCV, n_jobs=1, 1 thread", "two": "n_jobs=2"}
    for key, name in names.items():
        print(f"| {name} | {times[key]:.1f} | {times[key] / times['bare']:.2f} |", flush=True)
    print(f"\nn_jobs=2 is {times['one'] / times['two']:.2f} times as fast as one job on one core.")
    profile = cProfile.Profile()
    on_one_core(lambda: profile.runcall(grid, 1))
    shares = where_it_goes(pstats.Stats(profile))
    print("\nOf the search with one job and one thread, by a profile that itself takes time:\n")
    print("| what | seconds | % |\n|---|---|---|")
    for name, taken in shares.items():
        print(f"| {name} | {taken:.1f} | {100 * taken / shares['all']:.1f} |", flush=True)
    return {**times, "profile": shares}


def where_it_goes(stats):
    """Cumulative seconds of the parts of a search; none of them holds another but "all"."""
    parts = {  # file, function, and the caller that counts
        "all": ("_search.py", "fit", None),
        "steps of training": ("skorch/net.py", "train_step", None),
        "embeddings of the training texts, found and read": ("_classifier.py", "_encode", "_learn"),
        "their scale": ("starting_operators.py", "_root_mean_square", None),
        "scoring the held-out texts": ("_validation.py", "_score", None),
        "cloning": ("sklearn/base.py", "clone", "_fit_and_score"),
    }
    seconds = dict.fromkeys(parts, 0.0)
    for (file, _, function), (_, _, _, cumulative, callers) in stats.stats.items():
        for name, (ending, called, caller) in parts.items():
            if file.endswith(ending) and function == called:
                by_caller = [figures[3] for (_, _, calling), figures in callers.items() if calling == caller]
                seconds[name] += sum(by_caller) if caller else cumulative
    return seconds


PARTS = {"memory": memory, "products": products, "parts": parts, "store": store, "growth": growth, "search": search}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--store-texts", type=int, default=25_000)
    parser.add_argument("--search-texts", type=int, default=4_500)
    parser.add_argument("--folder", help="where the store is written")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # early epochs of one step each
    print_machine()
    common.save_results(args.out, {name: PARTS[name](args) for name in args.only})


if __name__ == "__main__":
    main()
