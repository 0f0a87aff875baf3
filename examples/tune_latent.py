"""
Tune on a real data set, from the command line
==============================================

Tune the number of latent axes, and count how many texts the encoder saw.

Reads $SKSPACE_DATA/DATASET/train.csv.gz and test.csv.gz (UTF-8, columns id,text,label).

    SKSPACE_DATA=path/to/data python examples/tune_latent.py trec
"""

import argparse
import csv
import gzip
import os
import sys
import time
from pathlib import Path

from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skspace import SpaceClassifier, TokenEncoder


def read(folder, split):
    path = folder / f"{split}.csv.gz"
    if not path.is_file():
        sys.exit(f"No file {path}. Set SKSPACE_DATA to a folder that holds DATASET/train.csv.gz and test.csv.gz.")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def transformers_is_loaded():
    return "transformers" in sys.modules


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="folder in $SKSPACE_DATA, such as trec")
    parser.add_argument("--n-latent", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--n-jobs", type=int, default=2)
    args = parser.parse_args()
    folder = Path(os.environ.get("SKSPACE_DATA", "data")) / args.dataset
    X, y = read(folder, "train")
    X_test, y_test = read(folder, "test")

    encoder = TokenEncoder()
    seen_before = encoder.cache_info()["n_texts"]
    began = time.perf_counter()
    search = GridSearchCV(
        SpaceClassifier(encoder, random_state=0),
        {"n_latent": args.n_latent},
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
        n_jobs=args.n_jobs,
    ).fit(X, y)
    seconds = time.perf_counter() - began

    results = search.cv_results_
    print(f"{args.dataset}: {len(X)} texts to learn from, 5 folds, {args.n_jobs} processes\n")
    print("n_latent   accuracy      sd   seconds a fit")
    for i, n_latent in enumerate(args.n_latent):
        mean, sd, fit = (results[f"{name}"][i] for name in ("mean_test_score", "std_test_score", "mean_fit_time"))
        print(f"{n_latent:8d}   {mean:8.4f}  {sd:.4f}  {fit:14.1f}")
    print(f"\nchosen: n_latent = {search.best_params_['n_latent']}, test accuracy {search.score(X_test, y_test):.4f}")

    # The search, the refit and the test score, in this process and in its workers.
    loaded = any([transformers_is_loaded(), *Parallel(args.n_jobs)([delayed(transformers_is_loaded)()] * args.n_jobs)])
    print(f"texts encoded: {encoder.cache_info()['n_texts'] - seen_before}, distinct texts: {len({*X, *X_test})}")
    print(f"transformers imported: {'yes' if loaded else 'no'}")
    print(f"search: {seconds:.0f} s")


if __name__ == "__main__":
    main()
