"""Whether the nearest training texts in concept space are evidence: do they have the label that is predicted, or right?

Of the test texts of some sets, without those that stand in the training split, the five training texts nearest to each
by `skspace.inspection.neighbors`: the share that has the predicted label, also where the prediction is wrong, the share
that has the right one, and the accuracy of their vote. Beside it the same of the nearest by mean embeddings, of the
classifier's layer and of the last, and of texts drawn by chance.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_neighbors.py [--sets trec hatexplain banking77]
"""

import argparse
import statistics

import common
import numpy as np
from frozen_controls import repeated
from sklearn.neighbors import NearestNeighbors

from skspace import SpaceClassifier, TokenEncoder
from skspace.inspection import neighbors

N = 5


def nearest_means(layer, texts, reference):
    """By cosine, which is what embeddings are compared by."""
    encoder = TokenEncoder(layer=layer, pooling="mean")
    index = NearestNeighbors(n_neighbors=N, metric="cosine").fit(encoder.transform(reference))
    return index.kneighbors(encoder.transform(texts), return_distance=False)


def vote(labels):
    """The most frequent, of equals that of the nearest."""
    return statistics.mode(labels.tolist())


def row(name, of_neighbors, predicted, true):
    wrong = predicted != true
    cells = [
        (of_neighbors == predicted[:, None]).mean(),
        (of_neighbors == predicted[:, None])[wrong].mean(),
        (of_neighbors == true[:, None]).mean(),
        np.mean([vote(labels) == label for labels, label in zip(of_neighbors, true, strict=True)]),
    ]
    print(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["trec", "hatexplain", "banking77"])
    args = parser.parse_args()
    print(f"{common.machine()}\n")
    for name in args.sets:
        X, y = common.read(name, "train")
        texts, true = common.read(name, "test")
        kept = ~repeated(texts, X)
        texts, true = [text for text, keep in zip(texts, kept, strict=True) if keep], np.array(true)[kept]
        clf = SpaceClassifier(random_state=0).fit(X, y)
        predicted, y = clf.predict(texts), np.array(y)
        near = neighbors(clf, texts, X, y, n_neighbors=N)
        chance = np.random.default_rng(0).choice(y, size=(len(texts), N))
        print(f"{name}: {len(texts)} test texts, accuracy {np.mean(predicted == true):.3f}\n")
        print(
            "| nearest by | with the predicted label | where it is wrong | with the right label | accuracy of a vote |"
        )
        print("|---|---|---|---|---|")
        row("concept space", np.array([one.labels for one in near]), predicted, true)
        for layer in (0.67, -1):
            row(f"mean embeddings, layer {layer}", y[nearest_means(layer, texts, X)], predicted, true)
        row("chance", chance, predicted, true)
        print()


if __name__ == "__main__":
    main()
