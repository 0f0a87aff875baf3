"""What the benchmarks of accuracy share: controls on frozen vectors, scores, and a file of results.

A trained method is a function from texts to class probabilities, (n_texts, n_classes); classes are numbers.
"""

import json
import random
import statistics
import sys
from pathlib import Path

import common
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skspace import RaggedArray
from skspace._training.labelled_batches import BatchIterator, LabelledTexts

__all__ = [
    "DenseHead",
    "ResultsFile",
    "as_rows",
    "constant",
    "labelled",
    "logistic_probe",
    "mean_and_sd",
    "probe_search",
    "read_results",
    "repeated",
    "sample",
    "scores",
    "softmax",
    "train_head",
]

FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


# ---------------------------------------------------------------- data


def labelled(name, split, numbers, n=None):
    """Texts and class numbers of a split, or of `n` of its texts; `numbers` says which label is which class."""
    read = common.read(name, split)
    if read is None:
        raise SystemExit(f"There is no {name}/{split}.csv.gz in the folder that SKSPACE_DATA names.")
    texts, labels = read
    if unknown := set(labels) - numbers.keys():
        raise SystemExit(f"{name}/{split}.csv.gz has labels that this benchmark does not know: {sorted(unknown)}.")
    return sample(texts, np.array([numbers[label] for label in labels]), n)


def sample(texts, targets, n):
    """The same `n` texts in every run, in the order of the file; all where there are no more."""
    if n is None or n >= len(texts):
        return texts, targets
    chosen = sorted(random.Random(0).sample(range(len(texts)), n))
    return [texts[i] for i in chosen], targets[chosen]


def repeated(texts, training_texts):
    """Which texts stand in the training set too, but for case, spaces and punctuation."""
    known = {_letters(text) for text in training_texts}
    return np.array([_letters(text) in known for text in texts])


def _letters(text):
    text = text.casefold().replace("-lrb-", "").replace("-rrb-", "")  # SST-2 writes brackets so
    return "".join(character for character in text if character.isalnum()) or text


# ---------------------------------------------------------------- controls


def constant(probabilities):
    """The same answer for every text."""
    return lambda texts: np.tile(np.asarray(probabilities, float), (len(texts), 1))


def probe_search():
    """Logistic regression behind a scaler; which one, and C, are chosen by accuracy in five-fold cross-validation."""
    pipeline = Pipeline([("scaler", Normalizer()), ("classifier", LogisticRegression(max_iter=5000))])
    grid = [
        {"scaler": [Normalizer()], "classifier__C": np.logspace(-1, 3, 9)},
        {"scaler": [StandardScaler()], "classifier__C": np.logspace(-4, 0, 9)},
    ]
    return GridSearchCV(pipeline, grid, cv=FOLDS, error_score="raise")


def logistic_probe(encoder, texts, targets):
    """`probe_search` on mean vectors; `encoder` is a TokenEncoder(pooling="mean")."""
    search = probe_search().fit(encoder.transform(texts), targets)
    chosen = {name: str(value) for name, value in search.best_params_.items()}
    return lambda texts: search.predict_proba(encoder.transform(texts)), {"chosen": chosen}


class DenseHead(torch.nn.Module):
    """A linear layer on one vector a text, divided by `scale` first as ConceptOperators divides its tokens."""

    def __init__(self, n_features, n_classes, scale, seed):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.linear = torch.nn.Linear(n_features, n_classes)
        self.scale = scale

    def forward(self, vectors, lengths=None):
        return self.linear(vectors / self.scale)


def as_rows(vectors):
    """One vector a text as a RaggedArray of texts of one token."""
    return RaggedArray(vectors, np.arange(len(vectors) + 1))


def train_head(head, rows, targets, loss, *, epochs, seed, optimizer=torch.optim.AdamW, after_epoch=None):
    """The paper's recipe: learning rate 2e-4, weight decay .01, batches of 256, no schedule.

    `loss(output of the head, lengths, targets)`; `after_epoch(head)` is called in eval mode after every epoch.
    """
    data = LabelledTexts(rows, torch.from_numpy(targets), torch.ones(len(rows)))
    batches = BatchIterator(data, 256, generator=torch.Generator().manual_seed(seed))
    optimizer = optimizer(head.parameters(), lr=2e-4, weight_decay=0.01)
    for _ in range(epochs):
        head.train()
        for batch, y in batches:
            optimizer.zero_grad()
            loss(head(batch.tokens, batch.lengths), batch.lengths, y["targets"]).backward()
            optimizer.step()
        head.eval()
        if after_epoch is not None:
            after_epoch(head)
    return head


# ---------------------------------------------------------------- scores


def softmax(logits):
    """Of an array (n_texts, n_classes), in double precision so that sure answers stay apart."""
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def scores(targets, probabilities):
    """All scores of one test; AUROC with two classes only."""
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    found = {
        "accuracy": float(np.mean(predicted == targets)),
        "macro_f1": float(f1_score(targets, predicted, labels=classes, average="macro", zero_division=0)),
        "balanced_accuracy": float(balanced_accuracy_score(targets, predicted)),
        "cross_entropy": float(log_loss(targets, probabilities, labels=classes)),
    }
    return found | ({"auroc": float(roc_auc_score(targets, probabilities[:, 1]))} if len(classes) == 2 else {})


def mean_and_sd(values, form=".4f", form_of_sd=".4f"):
    """Words for a table; the standard deviation where there are several values."""
    mean = f"{statistics.mean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):{form_of_sd}}" if len(values) > 1 else mean


# ---------------------------------------------------------------- results on disk


def read_results(path):
    """Headers (machine, command, settings) and records of a file of results."""
    if not Path(path).exists():
        raise SystemExit(f"There is no {path}: run the benchmark with --out first.")
    headers, records = [], []
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise SystemExit(
                f"Line {number} of {path} is no JSON: the run that wrote it was cut off. Delete it."
            ) from None
        (headers if "machine" in row else records).append(row)
    return headers, records


class ResultsFile:
    """A JSON line a finished run, so that an interrupted benchmark goes on where it was.

    Every start writes a line with machine, command and settings; other settings need another file.
    """

    def __init__(self, path, settings, key):
        self.path, self.key = Path(path), key
        headers, self.records = read_results(path) if self.path.exists() else ([], [])
        for header in headers:
            if header["settings"] != settings:
                raise SystemExit(f"{path} was made with {header['settings']}, not {settings}. Give another --out.")
        self._done = {self._key_of(record) for record in self.records}
        self._write({"machine": common.machine(), "command": " ".join(sys.argv), "settings": settings})

    def _key_of(self, record):
        return tuple(record[name] for name in self.key)

    def has(self, **key):
        return self._key_of(key) in self._done

    def add(self, record):
        self._write(record)
        self.records.append(record)
        self._done.add(self._key_of(record))

    def _write(self, row):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
