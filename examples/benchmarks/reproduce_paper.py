"""The published results of the Space Model (arXiv 2401.16638), run again, each beside controls.

The paper's settings: last layer, mean pooling, m = 3, Adam at 2e-4 without a schedule, weight decay .01, batches of 256
texts of at most 256 tokens, 5 epochs. Controls tell where a gain comes from:

- a dense head on the mean vector, and one on the vector of [CLS] (the paper's own baseline), by the same recipe, and
  one on the mean vector that is divided by the scale of mean vectors, which are shorter than tokens;
- logistic regression on the mean vector, its C and scaler chosen by five-fold cross-validation;
- the defaults of SpaceClassifier; the majority class.

imdb and hatexplain carry all of them, imdb-15 the dense heads for as many epochs, n_latent is read beside imdb.
Dense heads divide their vectors by the same scale as the Space Model does (root mean square of the training tokens).
The package trains with AdamW. Rows marked "Adam" take torch's Adam, whose weight decay is in the gradient, in a loop of
this script; "2023" are the losses of the tables published in November 2023: the label-free inter-space loss and the
summed intra-space loss (without the padding that entered it then). Published figures of that time stand beside both.

Rows, for --rows:

- imdb        frozen encoder, IMDB; the same models on HateXplain without training (hate speech and offensive count as
              negative, normal as positive), where balanced accuracy and AUROC tell an answer from a constant one
- imdb-15     the same for 15 epochs, with test curves over the epochs: stability is the deviation over seeds
- n_latent    m from 1 to 128, IMDB
- hatexplain  frozen encoder, three classes
- sma-tuned, imdb-tuned
              encoder and head trained end to end, `ConceptOperators` (m = 64 and 3) against a linear layer on the mean:
              5 epochs with the recipe of fine_tuning.py (AdamW, warm-up and decay, batches of 32, learning rate 5e-5;
              the paper's 2e-4 for batches of 256 is 7e-5 by the square root of the batch size, 2.5e-5 by the size)

Nothing is chosen on a test. IMDB's official test is used whole (the paper: 20,000 of its 25,000 texts), the other sets
have the paper's splits. "without repeated" leaves out test texts that stand in the training split, but for case, spaces
and punctuation (42 of SMA's 562). Every finished run is a line of --out, and is not run again by a second start.

    SKSPACE_DATA=path/to/data python examples/benchmarks/reproduce_paper.py --out paper.jsonl
        [--encoder bert-base-cased] [--rows imdb imdb-15 n_latent hatexplain sma-tuned imdb-tuned] [--seeds 5]
        [--methods "mean + dense" …] [--texts N] [--test-texts N]
    python examples/benchmarks/reproduce_paper.py --table paper.jsonl [more.jsonl ...]
"""

import argparse
import functools
import time
import warnings
from pathlib import Path

import common
import numpy as np
import torch
import transformers
from fine_tuning import MeanHead, SpaceHead, fine_tune, predict_logits
from frozen_controls import (
    DenseHead,
    ResultsFile,
    as_rows,
    constant,
    labelled,
    logistic_probe,
    mean_and_sd,
    read_results,
    repeated,
    sample,
    scores,
    softmax,
    train_head,
)
from skorch.callbacks import Callback

from skspace import SpaceClassifier, TokenEncoder
from skspace._model.concept_operators import ConceptOperators
from skspace._model.forward import each_batch
from skspace._model.losses import intra_space_loss, label_free_inter_space_loss
from skspace._training.labelled_batches import LabelledTexts
from skspace._training.starting_operators import _root_mean_square

LABELS = {
    "imdb": {"neg": 0, "pos": 1},
    "hatexplain": {"hatespeech": 0, "offensive": 1, "normal": 2},
    "hatexplain, zero-shot": {"hatespeech": 0, "offensive": 0, "normal": 1},
    "sma": {"0": 0, "1": 1},
}
PAPER = {
    "pooling": "mean",
    "n_latent": 3,
    "n_members": 1,
    "lr": 2e-4,
    "lr_schedule": "constant",
    "max_epochs": 5,
    "weight_decay": 0.01,
}
INTER, INTRA = {"inter_space_weight": 0.2}, {"intra_space_weight": 0.001}
N_LATENT = (1, 2, 3, 8, 16, 64, 128)
CURVE_TEXTS = 5000  # of the test; all of IMDB's after every epoch would take longer than the training
KEY = ("row", "method", "seed")
CONTROL = "mean + dense"  # what differences are to
COLUMNS = (
    "method",
    "accuracy",
    "macro-F1",
    "balanced accuracy",
    "AUROC",
    "cross-entropy",
    "accuracy / macro-F1 without repeated",
    f"accuracy − {CONTROL}, points",
    "published",
)


# ---------------------------------------------------------------- what methods learn from


class Task:
    """A training set, the encoder, and tests by name."""

    def __init__(self, name, tests, args):
        self.name, self.encoder = name, args.encoder
        self.texts, self.targets = labelled(name, "train", LABELS[name], args.texts)
        self.n_classes = max(LABELS[name].values()) + 1
        everything, _ = labelled(name, "train", LABELS[name])
        self.tests, self._vectors = {}, {}
        for test in tests:
            texts, targets = labelled(test.split(",")[0], "test", LABELS[test], args.test_texts)
            self.tests[test] = texts, targets, ~repeated(texts, everything)

    def tokens(self, **layer):
        return TokenEncoder(self.encoder, **layer)

    @functools.cached_property
    def rows(self):
        """Token vectors of the last layer of the training texts."""
        return self.tokens(layer=-1).transform(self.texts)

    @functools.cached_property
    def scale(self):
        data = LabelledTexts(self.rows, torch.from_numpy(self.targets), torch.ones(len(self.rows)))
        return _root_mean_square(data, torch.float32)

    @functools.cached_property
    def curve_test(self):
        """Some texts of its own test, the same for all methods."""
        texts, targets, _ = self.tests[self.name]
        return sample(texts, targets, CURVE_TEXTS)

    @functools.cached_property
    def summary_token(self):
        """Where the token stands that sums up a text: XLNet puts it last."""
        from transformers import AutoConfig

        return -1 if AutoConfig.from_pretrained(self.encoder).model_type == "xlnet" else 0

    def vectors(self, kind, texts):
        """One vector a text, "mean" or "summary"; kept, since all seeds ask for those of the same lists."""
        key = kind, id(texts)
        if key not in self._vectors:
            mean = self.tokens(layer=-1, pooling="mean")
            self._vectors[key] = mean.transform(texts) if kind == "mean" else self._summary_vectors(texts)
        return self._vectors[key]

    def _summary_vectors(self, texts):
        rows = self.tokens(layer=-1).transform(texts)
        parts = [rows[begin : begin + 1024] for begin in range(0, len(rows), 1024)]
        places = [part.offsets[1:] - 1 if self.summary_token else part.offsets[:-1] for part in parts]
        vectors = [part.values[at].astype(np.float32) for part, at in zip(parts, places, strict=True)]
        return np.concatenate(vectors)


# ---------------------------------------------------------------- methods
#
# A task and a seed to a function from texts to probabilities, and what else the record should say.


def paper_space(task, seed, *, curve=False, **params):
    """SpaceClassifier with the paper's settings."""
    callbacks = [TestCurve(task)] if curve else None
    clf = SpaceClassifier(task.tokens(layer=-1), **PAPER | params, callbacks=callbacks, random_state=seed)
    clf.fit(task.texts, task.targets)
    return clf.predict_proba, {"curve": dict(clf.callbacks_)["TestCurve"].curve} if curve else {}


class TestCurve(Callback):
    """Scores on test texts after every epoch, in `curve`; they decide nothing."""

    def __init__(self, task):
        texts, self.targets = task.curve_test
        self.curve = []
        self.rows = task.tokens(layer=-1).transform(texts)

    def on_epoch_end(self, net, **kwargs):
        probabilities = space_probabilities(net.module_.operators.eval(), self.rows)
        self.curve.append(curve_point(self.targets, probabilities))


def curve_point(targets, probabilities):
    found = scores(targets, probabilities)
    return {name: found[name] for name in ("accuracy", "cross_entropy")}


def space_probabilities(operators, rows):
    logits = [spaces.logits.mean(1).cpu().numpy() for _, spaces in each_batch(operators, rows)]
    return softmax(np.concatenate(logits))


def space_by_adam(task, seed, *, inter=0.0, intra=0.0):
    """The same recipe from a start of the same kind, with torch's Adam and the losses of November 2023."""

    def loss(spaces, lengths, targets):
        total = torch.nn.functional.cross_entropy(spaces.logits[:, 0], targets)
        if inter:
            total = total + inter * label_free_inter_space_loss(spaces.centroids[:, 0])
        if intra:
            total = total + intra * intra_space_loss(spaces.concepts[:, 0], lengths, reduction="sum", eps=1e-9)
        return total

    operators = ConceptOperators(
        task.rows.n_features,
        task.n_classes,
        PAPER["n_latent"],
        pooling="mean",
        scale=task.scale,
        generator=torch.Generator().manual_seed(seed),
    )
    shares = np.bincount(task.targets, minlength=task.n_classes) / len(task.targets)
    operators.intercept.data += torch.from_numpy(shares).log().float()
    train_head(operators, task.rows, task.targets, loss, epochs=5, seed=seed, optimizer=torch.optim.Adam)
    return lambda texts: space_probabilities(operators, task.tokens(layer=-1).transform(texts)), {}


def dense(task, seed, *, kind, epochs=5, curve=False, own_scale=False):
    """A dense head on one vector a text, by the paper's recipe."""

    def loss(logits, lengths, targets):
        return torch.nn.functional.cross_entropy(logits, targets)

    def probabilities(head, vectors):
        with torch.inference_mode():
            return softmax(head(torch.from_numpy(vectors)).numpy())

    rows = as_rows(task.vectors(kind, task.texts))
    scale = float(np.sqrt(np.mean(np.square(rows.values)))) if own_scale else task.scale
    head = DenseHead(rows.n_features, task.n_classes, scale, seed)
    extras, after_epoch = {}, None
    if curve:
        texts, targets = task.curve_test
        curve_vectors, extras["curve"] = task.vectors(kind, texts), []

        def after_epoch(head):
            extras["curve"].append(curve_point(targets, probabilities(head, curve_vectors)))

    train_head(head, rows, task.targets, loss, epochs=epochs, seed=seed, after_epoch=after_epoch)
    return lambda texts: probabilities(head, task.vectors(kind, texts)), extras


def logistic_regression(task, seed):
    return logistic_probe(task.tokens(layer=-1, pooling="mean"), task.texts, task.targets)


def default_space(task, seed):
    return SpaceClassifier(task.tokens(), random_state=seed).fit(task.texts, task.targets).predict_proba, {}


def majority(task, seed):
    return constant(np.bincount(task.targets, minlength=task.n_classes) / len(task.targets)), {}


def fine_tuned(task, seed, *, make_head):
    """Encoder and head end to end."""
    head = functools.partial(make_head, n_classes=task.n_classes)
    model = fine_tune(task.encoder, task.texts, torch.from_numpy(task.targets), head, epochs=5, seed=seed)
    return lambda texts: softmax(predict_logits(model, texts)), {}


# ---------------------------------------------------------------- rows: a training set, tests, methods

LONG = {"curve": True, "max_epochs": 15}
CONTROLS = {"mean + logistic regression": logistic_regression, "SpaceClassifier()": default_space, "majority": majority}
FROZEN = {
    "Space, CE": paper_space,
    "Space, CE + inter": functools.partial(paper_space, **INTER),
    "Space, CE + intra": functools.partial(paper_space, **INTRA),
    "Space, CE + both": functools.partial(paper_space, **INTER, **INTRA),
    "Space, CE, Adam": space_by_adam,
    "Space, CE + inter of 2023, Adam": functools.partial(space_by_adam, inter=0.2),
    "Space, CE + intra of 2023, Adam": functools.partial(space_by_adam, intra=0.001),
    "Space, CE + both of 2023, Adam": functools.partial(space_by_adam, inter=0.2, intra=0.001),
    CONTROL: functools.partial(dense, kind="mean"),
    f"{CONTROL}, own scale": functools.partial(dense, kind="mean", own_scale=True),
    "CLS + dense": functools.partial(dense, kind="summary"),
    **CONTROLS,
}
ROWS = {
    "imdb": ("imdb", ("imdb", "hatexplain, zero-shot"), FROZEN),
    "imdb-15": (
        "imdb",
        ("imdb", "hatexplain, zero-shot"),
        {
            "Space, CE": functools.partial(paper_space, **LONG),
            "Space, CE + intra": functools.partial(paper_space, **LONG, **INTRA),
            "Space, CE + both": functools.partial(paper_space, **LONG, **INTER, **INTRA),
            CONTROL: functools.partial(dense, kind="mean", epochs=15, curve=True),
            "CLS + dense": functools.partial(dense, kind="summary", epochs=15, curve=True),
        },
    ),
    "n_latent": (
        "imdb",
        ("imdb",),
        {f"Space, CE, m = {m}": functools.partial(paper_space, n_latent=m) for m in N_LATENT},
    ),
    "hatexplain": ("hatexplain", ("hatexplain",), FROZEN),
    "sma-tuned": (
        "sma",
        ("sma",),
        {
            "Space, fine-tuned": functools.partial(fine_tuned, make_head=functools.partial(SpaceHead, n_latent=64)),
            "mean + dense, fine-tuned": functools.partial(fine_tuned, make_head=MeanHead),
            **CONTROLS,
        },
    ),
    "imdb-tuned": (
        "imdb",
        ("imdb",),
        {
            "Space, fine-tuned": functools.partial(fine_tuned, make_head=functools.partial(SpaceHead, n_latent=3)),
            "mean + dense, fine-tuned": functools.partial(fine_tuned, make_head=MeanHead),
        },
    ),
}
DETERMINISTIC = {"mean + logistic regression", "majority"}

# Accuracy / macro-F1 as published, by row, test and method, then by encoder.
PUBLISHED = {
    ("imdb", "imdb"): {
        "Space, CE": {
            "distilbert-base-cased": ".8080 / .8079",
            "bert-base-cased": ".8110 / .8108",
            "bert-base-uncased": ".8175 / .8175",
            "xlnet-base-cased": ".8798 / .8797",
        },
        "CLS + dense": {
            "distilbert-base-cased": ".7852 / .7819",
            "bert-base-cased": ".6588 / .6555",
            "bert-base-uncased": ".7247 / .7213",
            "xlnet-base-cased": ".8160 / .8156",
        },
        "Space, CE + inter": {"distilbert-base-cased": ".7982"},
        "Space, CE + intra": {"distilbert-base-cased": ".7923"},
        "Space, CE + both": {"distilbert-base-cased": ".7852"},
    },
    ("imdb", "hatexplain, zero-shot"): {
        "Space, CE": {"encoder not named": ".5977 / .5040"},
        "Space, CE + inter": {"encoder not named": ".5961 / .5046"},
        "Space, CE + intra": {"encoder not named": ".5821 / .5187"},
        "Space, CE + both": {"encoder not named": ".5966 / .4994"},
        "CLS + dense": {"encoder not named": ".6013 / .4450"},
    },
    ("imdb-15", "imdb"): {
        "Space, CE": {"distilbert-base-cased": ".8265"},
        "Space, CE + both": {"distilbert-base-cased": ".8192"},
        "CLS + dense": {"distilbert-base-cased": ".8171"},
    },
    ("imdb-15", "hatexplain, zero-shot"): {
        "Space, CE": {"encoder not named": ".5961 / .5174"},
        "Space, CE + both": {"encoder not named": ".5935 / .5080"},
        "CLS + dense": {"encoder not named": ".5966 / .4868"},
    },
    ("n_latent", "imdb"): {
        "Space, CE, m = 3": {"distilbert-base-cased": ".8080 / .8079"},
        "Space, CE, m = 128": {"distilbert-base-cased": ".8322 / .8320"},
    },
    ("hatexplain", "hatexplain"): {
        "Space, CE": {"BERT": ".5296 / .4304"},
        "Space, CE + both": {"BERT": ".4173 / .2225"},
        "CLS + dense": {"BERT": ".4485 / .3314"},
    },
    ("sma-tuned", "sma"): {
        "Space, fine-tuned": {"bert-base-uncased": ".8309 / .8006"},
        "mean + dense, fine-tuned": {"bert-base-uncased, own head": ".8220 / .7484"},
    },
    ("imdb-tuned", "imdb"): {
        "Space, fine-tuned": {"xlnet-base-cased": ".9488 / .9487"},
        "mean + dense, fine-tuned": {"xlnet-base-cased, own head": ".9387 / .9386"},
    },
}


# ---------------------------------------------------------------- runs


def run(row, args, results):
    """All methods and seeds of a row that are not in the results yet."""
    name, tests, methods = ROWS[row]
    task = Task(name, tests, args)
    print(f"{row}: {len(task.texts)} training texts", flush=True)
    for method, learn in methods.items():
        if args.methods and method not in args.methods:
            continue
        for seed in [None] if method in DETERMINISTIC else range(args.seeds):
            if results.has(row=row, method=method, seed=seed):
                continue
            began = time.perf_counter()
            probabilities_of, extras = learn(task, seed)
            record = {"row": row, "method": method, "seed": seed, "fit_seconds": time.perf_counter() - began, **extras}
            record["tests"] = {test: test_scores(probabilities_of, *of_test) for test, of_test in task.tests.items()}
            results.add(record)
            found = ", ".join(f"{test} {figures['accuracy']:.4f}" for test, figures in record["tests"].items())
            print(f"{row}, {method}, seed {seed}: {found} ({record['fit_seconds']:.0f} s)", flush=True)


def test_scores(probabilities_of, texts, targets, new):
    """Scores of a test, and again without the texts that stand in the training split."""
    probabilities = probabilities_of(texts)
    found = {"n": len(texts), **scores(targets, probabilities), "n_new": int(new.sum())}
    without = scores(targets[new], probabilities[new])
    return found | {f"{name}_new": without[name] for name in ("accuracy", "macro_f1")}


# ---------------------------------------------------------------- tables


def by_method(records, row):
    """Records of a row by method and seed, in the order of ROWS."""
    of_row = [record for record in records if record["row"] == row]
    found = {
        method: {record["seed"]: record for record in of_row if record["method"] == method} for method in ROWS[row][2]
    }
    return {method: runs for method, runs in found.items() if runs}


def print_scores(row, test, found, encoder):
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for method, runs in found.items():
        tests = {seed: record["tests"][test] for seed, record in runs.items()}
        figures = list(tests.values())
        cells = [
            mean_and_sd([one[metric] for one in figures]) if metric in figures[0] else ""
            for metric in ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "cross_entropy")
        ]
        cells.append(
            " / ".join(f"{np.mean([one[name] for one in figures]):.4f}" for name in ("accuracy_new", "macro_f1_new"))
        )
        cells += [difference(method, tests, found, test), published(row, test, method, encoder)]
        print(f"| {method} | {' | '.join(cells)} |")
    print()


def difference(method, tests, found, test):
    """Accuracy minus the dense head's on the mean, seed by seed; a method without seeds against each of them."""
    control = next((name for name in found if name.startswith(CONTROL)), method)
    if control == method:
        return ""
    pairs = [
        (tests.get(seed, tests.get(None)), record["tests"][test])
        for seed, record in found[control].items()
        if seed in tests or None in tests
    ]
    if not pairs:
        return ""
    values = [100 * (one["accuracy"] - other["accuracy"]) for one, other in pairs]
    return f"{np.mean(values):+.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def published(row, test, method, encoder):
    """The figure of the encoder at hand, else those of all encoders."""
    figures = PUBLISHED[row, test].get(method.removesuffix(", Adam").removesuffix(" of 2023"), {})
    own = figures.get(Path(encoder).name)
    return own or "; ".join(f"{name} {figure}" for name, figure in figures.items())


def print_curves(found):
    curves = {method: [record["curve"] for record in runs.values()] for method, runs in found.items()}
    for metric in ("accuracy", "cross_entropy"):
        print(f"Test {metric.replace('_', '-')} by epoch, {CURVE_TEXTS:,} texts at most, mean ± sd over seeds:\n")
        print(f"| epoch | {' | '.join(curves)} |\n|---|{'---|' * len(curves)}")
        for epoch in range(15):
            cells = [mean_and_sd([curve[epoch][metric] for curve in of_method]) for of_method in curves.values()]
            print(f"| {epoch + 1} | {' | '.join(cells)} |")
        print()


def print_tables(paths):
    """Tables of each file by itself: an encoder each."""
    for path in paths:
        headers, records = read_results(path)
        for line in dict.fromkeys(f"{header['machine']}; {header['settings']}" for header in headers):
            print(f"{line}\n")
        for row in ROWS:
            found = by_method(records, row)
            if not found:
                continue
            for test in ROWS[row][1]:
                figures = next(iter(next(iter(found.values())).values()))["tests"][test]
                print(
                    f"## {row}: tested on {test}, {figures['n']:,} texts, {figures['n_new']:,} of them not repeated\n"
                )
                print_scores(row, test, found, headers[0]["settings"]["encoder"])
            if row == "imdb-15":
                print_curves(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="JSON lines; finished runs in it are not run again")
    what.add_argument("--table", nargs="+", type=Path, help="only print the tables of such files")
    parser.add_argument("--encoder", help="folder or name at the hub; the packaged MiniLM where left out")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--methods", nargs="+", choices=list(FROZEN), help="of the first rows, as the tables name them")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--texts", type=int, help="train on N texts only")
    parser.add_argument("--test-texts", type=int, help="test on N texts only, for a trial")
    args = parser.parse_args()
    if args.table:
        print_tables(args.table)
        return
    warnings.filterwarnings("ignore", message=".*were truncated")  # IMDB's; 256 tokens is the paper's setting
    settings = {"encoder": args.encoder or "all-MiniLM-L6-v2", "texts": args.texts, "test_texts": args.test_texts}
    args.encoder = args.encoder or str(common.minilm_folder())
    transformers.utils.logging.disable_progress_bar()
    print(f"{common.machine()}; {torch.get_num_threads()} threads\n")
    results = ResultsFile(args.out, settings, KEY)
    for row in args.rows:
        run(row, args, results)
    print_tables([args.out])


if __name__ == "__main__":
    main()
