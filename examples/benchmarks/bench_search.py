"""A grid search with 25 cross-validation fits and a refit, over an empty and a full cache, against four other ways.

Ours is GridSearchCV over 5 values of `n_latent`. Three peers get 5 values of C for LogisticRegression, on embeddings
that their pipeline computes anew in every fit and score: skrub's LLMEncoder (TextEncoder before skrub 0.11; without its
PCA to 30 components), sentence-transformers' encode, embetter's SentenceEncoder. Who embeds all texts by hand before
the search is spared that, and not measured here. The fourth way fine-tunes the encoder.

All read the same weights, at most 256 tokens a text, and get the same 5 stratified folds of the training split and
n_jobs=1. Each runs once, in a process of its own. Ours computes 4 of 6 layers, in bfloat16 where the processor has
it; the others compute all, in float32. Imports are not counted, loading the model in a search is.

Estimates: fine-tuning, always, is 26 times one fit on 4/5 of the texts (the refit sees more, and nothing is added for
scores); with --estimate the peers are 5.2 times the 5 fits and scores of the candidate in the middle.
For machines without a graphics card: fine-tuning would not use it.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_search.py [--sets sma trec] [--texts N] [--estimate]
        [--methods skspace skrub sentence-transformers embetter fine-tuning] [--out results.json]
"""

import argparse
import functools
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import common
import numpy as np
import pandas as pd
import torch
from fine_tuning import MeanHead, fine_tune, predict_logits
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skspace import SpaceClassifier, TokenEncoder

N_LATENT = [2, 4, 8, 12, 16]
C = [0.1, 1.0, 10.0, 100.0, 1000.0]
OURS = ("skspace, empty cache", "skspace, full cache")
FITS = 26  # 5 candidates x 5 folds and the refit
NEEDS = {
    "skspace": {},
    "skrub": {"skrub": "skrub>=0.11", "sentence_transformers": "sentence-transformers"},
    "sentence-transformers": {"sentence_transformers": "sentence-transformers"},
    "embetter": {"embetter": "embetter", "sentence_transformers": "sentence-transformers"},
    "fine-tuning": {},
}
PACKAGES = ("skspace", "skrub", "sentence-transformers", "embetter")


# ---------------------------------------------------------------- pipelines


@functools.cache
def sentence_transformer(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder)


class SentenceEmbeddings(TransformerMixin, BaseEstimator):
    """What most people would write around sentence-transformers."""

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return sentence_transformer(self.folder).encode(X)


def as_column(texts):
    return pd.Series(texts, name="text")


def embedder(method, folder):
    """Steps of a pipeline from texts to sentence embeddings."""
    if method == "skrub":
        from skrub import LLMEncoder

        return FunctionTransformer(as_column), LLMEncoder(folder, n_components=None)
    if method == "embetter":
        from embetter.text import SentenceEncoder

        return (SentenceEncoder(folder),)
    return (SentenceEmbeddings(folder),)


# ---------------------------------------------------------------- what is timed, each in a process of its own


def in_own_process(function, *args):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def import_everything(method):
    """Also what is imported at first use only."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.AutoTokenizer.from_pretrained(common.minilm_folder())
    transformers.AutoModel.from_pretrained(common.minilm_folder())
    for module in NEEDS[method]:
        importlib.import_module(module)


def folds():
    return StratifiedKFold(5, shuffle=True, random_state=0)


def search_space(texts, labels, cache_dir):
    import_everything("skspace")
    encoder = TokenEncoder(common.minilm_folder(), cache_dir=cache_dir)
    search = GridSearchCV(SpaceClassifier(encoder, random_state=0), {"n_latent": N_LATENT}, cv=folds(), n_jobs=1)
    seconds = common.seconds(lambda: search.fit(texts, labels))
    return {**figures(seconds, search), "texts_in_cache": encoder.cache_info()["n_texts"]}


def search_peer(method, texts, labels, estimate):
    import_everything(method)
    candidates = C[len(C) // 2 :][:1] if estimate else C
    pipeline = make_pipeline(*embedder(method, str(common.minilm_folder())), LogisticRegression(max_iter=1000))
    search = GridSearchCV(
        pipeline, {"logisticregression__C": candidates}, cv=folds(), n_jobs=1, refit=not estimate, error_score="raise"
    )
    seconds = common.seconds(lambda: search.fit(texts, labels))
    return figures(seconds * (FITS / 5 if estimate else 1), search, estimate)


def figures(seconds, search, estimate=False):
    scores = search.cv_results_["mean_test_score"]
    ((name, best),) = search.cv_results_["params"][scores.argmax()].items()
    best = f"{name.split('__')[-1]}={best:g}"
    how = f"estimated from {best} alone" if estimate else f"measured; best {best}"
    return {"seconds": seconds, "accuracy": float(scores.max()), "how": how}


def fine_tune_once(texts, labels):
    import_everything("fine-tuning")
    texts = np.array(texts, dtype=object)
    classes, targets = np.unique(labels, return_inverse=True)
    training, held_out = next(folds().split(texts, labels))
    began = time.perf_counter()
    model = fine_tune(
        common.minilm_folder(),
        texts[training].tolist(),
        torch.from_numpy(targets[training]),
        lambda n_features: MeanHead(n_features, len(classes)),
        epochs=3,
    )
    seconds = time.perf_counter() - began
    predicted = predict_logits(model, texts[held_out].tolist()).argmax(1)
    accuracy = float(np.mean(predicted == targets[held_out]))
    return {"seconds": seconds * FITS, "accuracy": accuracy, "how": "estimated from 1 fit (accuracy: 1 fold)"}


# ---------------------------------------------------------------- tables


def present(methods):
    """Those whose packages are there; a line about each of the others."""
    kept = []
    for method in methods:
        missing = [package for name, package in NEEDS[method].items() if importlib.util.find_spec(name) is None]
        if missing:
            print(f"{method} is skipped: pip install {' '.join(map(repr, missing))}\n")
        else:
            kept.append(method)
    return kept


def installed(packages):
    return [name for name in packages if any(importlib.metadata.distributions(name=name))]


def measurements(methods, texts, labels, estimate):
    """Figures by row, one method after the other; ours first, since the ratios are to it."""
    if "skspace" in methods:
        with tempfile.TemporaryDirectory() as cache_dir:
            yield {row: in_own_process(search_space, texts, labels, cache_dir) for row in OURS}
    for method in methods:
        if method == "fine-tuning":
            yield {method: in_own_process(fine_tune_once, texts, labels)}
        elif method != "skspace":
            row = f"{method} + LogisticRegression"
            yield {row: in_own_process(search_peer, method, texts, labels, estimate)}


def table(name, methods, n_texts, estimate):
    """Print one set's table and give its figures."""
    texts, labels = common.read(name, "train")
    texts, labels = texts[:n_texts], np.array(labels[:n_texts])
    n_distinct = len(set(texts))
    print(f"{name}: {len(texts)} texts, {n_distinct} of them distinct, {len(set(labels))} classes\n")
    print("| method | seconds | ÷ ours, empty cache | ÷ ours, full cache | best accuracy, 5 folds | |")
    print("|---|---|---|---|---|---|", flush=True)
    found = {}
    for rows in measurements(methods, texts, labels, estimate):
        found |= rows
        for row, figure in rows.items():
            ratios = [f"{figure['seconds'] / found[ours]['seconds']:.1f}" if ours in found else "" for ours in OURS]
            cells = [row, f"{figure['seconds']:.1f}", *ratios, f"{figure['accuracy']:.4f}", figure["how"]]
            print(f"| {' | '.join(cells)} |", flush=True)
    if "skspace" in methods:
        cold, warm = (found[ours]["texts_in_cache"] for ours in OURS)
        print(f"\nskspace embedded {cold} texts over the empty cache, {warm - cold} over the full one.")
    print()
    return {"n_texts": len(texts), "n_distinct": n_distinct, "methods": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["sma", "trec"])
    parser.add_argument("--texts", type=int, help="the first N training texts only")
    parser.add_argument("--methods", nargs="+", choices=NEEDS, default=list(NEEDS))
    parser.add_argument("--estimate", action="store_true", help="one candidate of each peer, times 5.2")
    parser.add_argument("--out", help="JSON file for the figures")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"  # for the processes that measure
    packages = installed(PACKAGES)
    print(f"{common.machine(*packages)}; {torch.get_num_threads()} threads\n")
    methods = present(args.methods)
    sets = {name: table(name, methods, args.texts, args.estimate) for name in args.sets}
    versions = {name: importlib.metadata.version(name) for name in packages}
    common.save_results(args.out, {"packages": versions, "threads": torch.get_num_threads(), "sets": sets})


if __name__ == "__main__":
    main()
