"""The main job on real texts: needs SKSPACE_DATA and the default model."""

import csv
import gzip

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skspace import SpaceClassifier, TokenEncoder


def read(folder, split, n):
    path = folder / "trec" / f"{split}.csv.gz"
    if not path.is_file():
        pytest.skip(f"SKSPACE_DATA has no {path.relative_to(folder)}")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:n]
    return [row["text"] for row in rows], np.array([row["label"] for row in rows])


@pytest.mark.slow
def test_questions_are_told_apart_better_than_by_logistic_regression(minilm, data_folder):
    X, y = read(data_folder, "train", 1000)
    X_test, y_test = read(data_folder, "test", 500)
    control = make_pipeline(TokenEncoder(layer=-1, pooling="mean"), Normalizer(), LogisticRegression(max_iter=1000))
    baseline = control.fit(X, y).score(X_test, y_test)
    ours = SpaceClassifier(random_state=0).fit(X, y).score(X_test, y_test)
    assert ours > baseline + 0.03
    assert ours > 0.88
