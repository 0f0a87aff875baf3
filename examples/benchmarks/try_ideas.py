"""Ideas that might beat the Space Model as it is, each on validation splits; test splits are never read.

A plain training loop in torch with switches for what the package does not have: other kinds of attention, several
layers, standardised tokens, dropout of tokens or features, label smoothing, averaged weights, a linear path beside
tanh, operators that start in closed form. The line "base" is the package's default. With --per-class only so many texts
of each class are learned from, and logistic regression on mean vectors stands beside. Every finished (idea, set, texts
a class, seed) is a line of --out and is not run again; --table prints what is there.

    SKSPACE_DATA=path/to/data python examples/benchmarks/try_ideas.py --out ideas.jsonl [--sets trec sma …]
        [--ideas base "mean pooling" …] [--per-class 8 16 64] [--seeds 3]
    … try_ideas.py --out ideas.jsonl --table
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import common
import numpy as np
import torch
from choose_defaults import train_and_validation
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import nn

from skspace import SpaceClassifier, TokenEncoder
from skspace._model.concept_operators import _own_space_first
from skspace._model.kernels import segment_sum

SETS = ("trec", "sma", "mr", "covid_fake_news", "hatexplain", "banking77")
FEW = 1000  # validation texts that a fit on few texts is scored on, at most


@dataclasses.dataclass(frozen=True)
class Idea:
    """What a model is and how it is trained; the defaults are the package's."""

    layers: tuple = (0.67,)
    mix: str = "first"  # "members": each layer to some of the members; "scalar": a learned mean of the layers
    attention: str = "axis"  # one vector a latent axis; "space", "shared" by all spaces; "mean": none
    beside_mean: bool = False  # the plain mean of the concepts beside the weighted one
    skip: bool = False  # a linear map of the mean vector beside the spaces
    special: str = "keep"
    standardise: bool = False
    n_members: int = 4
    lr: float = 0.02
    weight_decay: float = 0.5
    attention_decay: float | None = None
    epochs: int = 10
    min_steps: int = 100
    batch_size: int = 256
    label_smoothing: float = 0.0
    token_dropout: float = 0.0
    feature_dropout: float = 0.0
    average: float = 0.0  # rate of an exponential mean of the weights
    start: str = "random"  # "means", "ridge": operators lean to a direction that tells the class from the rest


IDEAS = {
    "base": Idea(),
    "attention a space": Idea(attention="space"),
    "shared attention": Idea(attention="shared"),
    "mean pooling": Idea(attention="mean"),
    "mean beside attention": Idea(beside_mean=True),
    "linear path": Idea(skip=True),
    "standardised tokens": Idea(standardise=True),
    "no special tokens": Idea(special="drop"),
    "label smoothing .1": Idea(label_smoothing=0.1),
    "token dropout .2": Idea(token_dropout=0.2),
    "feature dropout .1": Idea(feature_dropout=0.1),
    "averaged weights .99": Idea(average=0.99),
    "batches of 128": Idea(batch_size=128),
    "batches of 32": Idea(batch_size=32),
    "decay 1": Idea(weight_decay=1.0),
    "decay 2": Idea(weight_decay=2.0),
    "decay 5": Idea(weight_decay=5.0),
    "attention's decay 5": Idea(attention_decay=5.0),
    "lr .005": Idea(lr=0.005),
    "lr .005, decay 2": Idea(lr=0.005, weight_decay=2.0),
    "50 steps": Idea(min_steps=50),
    "200 steps": Idea(min_steps=200),
    "8 members": Idea(n_members=8),
    "start: class means": Idea(start="means"),
    "start: ridge": Idea(start="ridge"),
    "start: ridge, decay 2": Idea(start="ridge", weight_decay=2.0),
    "start: ridge, 50 steps": Idea(start="ridge", min_steps=50),
    "layer 5 of 6": Idea(layers=(0.83,)),
    "last layer": Idea(layers=(1.0,)),
    "members on layers 4, 6": Idea(layers=(0.67, 1.0), mix="members"),
    "members on layers 3 to 6": Idea(layers=(0.5, 0.67, 0.83, 1.0), mix="members"),
    "mean of layers 3 to 6": Idea(layers=(0.5, 0.67, 0.83, 1.0), mix="scalar"),
}
PROBES = {"probe, last layer": 1.0, "probe, our layer": 0.67}

# ---------------------------------------------------------------- the model


class Model(nn.Module):
    """ConceptOperators with switches."""

    def __init__(self, idea, n_features, n_classes, prior, generator):
        super().__init__()
        self.idea, self.shape = idea, (idea.n_members, n_classes, SpaceClassifier()._n_latent(n_classes))
        M, K, m = self.shape
        start = torch.randn(M, K, n_features, m, generator=generator) / math.sqrt(n_features)
        self.operators = nn.Parameter(start)
        spaces, axes = {"axis": (K, m), "space": (K, 1), "shared": (1, 1), "mean": (0, 0)}[idea.attention]
        self.queries = nn.Parameter(torch.zeros(M, spaces, n_features, axes))
        coef = _own_space_first(K, m).float().repeat_interleave(1 + idea.beside_mean, 1)
        self.coef = nn.Parameter(coef.repeat(M, 1, 1))
        self.intercept = nn.Parameter(prior.repeat(M, 1))
        self.shares = nn.Parameter(torch.zeros(len(idea.layers)))
        self.linear = nn.Parameter(torch.zeros(n_features, K))

    @torch.no_grad()
    def lean_to(self, directions):
        """Turn every axis of a class's operator half way to the class's direction (K, d); lengths stay 1 or so."""
        unit = nn.functional.normalize(directions, dim=1)[None, :, :, None]  # (1, K, d, 1)
        self.operators.mul_(math.sqrt(0.5)).add_(math.sqrt(0.5) * unit)

    def forward(self, layers, lengths):
        """Logits (n_texts, M, K) of the token vectors of every layer, (n_tokens, d) each."""
        if self.idea.mix == "scalar":
            layers = [sum(share * tokens for share, tokens in zip(self.shares.softmax(0), layers, strict=True))]
        concepts = torch.tanh(self._project(layers, self.operators))  # (n_tokens, M, K, m)
        per_text = lengths[:, None, None, None]
        centroids = mean = segment_sum(concepts, lengths) / per_text
        if self.idea.attention != "mean":
            weights = torch.exp(self._project(layers, self.queries).clamp(-30, 30))
            centroids = segment_sum(weights * concepts, lengths) / segment_sum(weights, lengths)
        if self.idea.beside_mean:
            centroids = torch.cat([centroids, mean], -1)
        logits = torch.einsum("nmf,mkf->nmk", centroids.flatten(2), self.coef) + self.intercept
        if self.idea.skip:
            logits = logits + (segment_sum(layers[0], lengths) / lengths[:, None] @ self.linear)[:, None]
        return logits

    def _project(self, layers, weights):
        """Each layer by the weights (M, spaces, d, axes) of its members."""
        parts = weights.chunk(len(layers))
        products = [
            (tokens @ part.permute(2, 0, 1, 3).flatten(1)).unflatten(1, (len(part), *part.shape[1::2]))
            for tokens, part in zip(layers, parts, strict=True)
        ]
        return torch.cat(products, 1)

    def parameter_groups(self):
        idea = self.idea
        decay = {"queries": idea.weight_decay if idea.attention_decay is None else idea.attention_decay}
        decay |= {"operators": idea.weight_decay, "coef": idea.weight_decay, "linear": idea.weight_decay}
        return [{"params": [p], "weight_decay": decay.get(name, 0.0)} for name, p in self.named_parameters()]


# ---------------------------------------------------------------- learning


class Inputs:
    """Texts of a set as token vectors of one layer or several, scaled by the training texts."""

    def __init__(self, texts, idea):
        encoders = [TokenEncoder(layer=layer, special_tokens=idea.special) for layer in idea.layers]
        self.rows = [encoder.transform(texts).in_memory() for encoder in encoders]
        self.shifts, self.scales = [0.0] * len(encoders), [1.0] * len(encoders)

    def scaled_like(self, training, standardise):
        for i, rows in enumerate(training.rows):
            some = torch.from_numpy(rows.values[:200_000].astype(np.float32))
            self.shifts[i] = some.mean(0) if standardise else 0.0
            self.scales[i] = some.std(0) if standardise else some.square().mean().sqrt()
        return self

    def batch(self, indices):
        parts = [rows[indices.numpy()] for rows in self.rows]
        lengths = torch.from_numpy(parts[0].lengths)
        tokens = [torch.from_numpy(part.values).float() for part in parts]
        return [(t - s) / r for t, s, r in zip(tokens, self.shifts, self.scales, strict=True)], lengths


def drop_out(layers, lengths, idea, generator):
    if idea.token_dropout:
        texts = torch.arange(len(lengths)).repeat_interleave(lengths)
        kept = torch.rand(len(texts), generator=generator) > idea.token_dropout
        kept[torch.cumsum(lengths, 0) - lengths] = True  # a text keeps its first token
        layers, lengths = [tokens[kept] for tokens in layers], torch.bincount(texts[kept], minlength=len(lengths))
    if idea.feature_dropout:
        kept = torch.rand(layers[0].shape[1], generator=generator) > idea.feature_dropout
        layers = [tokens * kept / (1 - idea.feature_dropout) for tokens in layers]
    return layers, lengths


def class_directions(inputs, y, n_classes, kind):
    """From mean vectors in closed form, (K, d): a class's mean minus that of all, or ridge regression on the class."""
    layers, lengths = inputs.batch(torch.arange(len(y)))
    pooled = segment_sum(layers[0], lengths) / lengths[:, None]  # (n_texts, d)
    pooled = pooled - pooled.mean(0)
    belongs = nn.functional.one_hot(y, n_classes).float()
    if kind == "means":
        return belongs.T @ pooled / belongs.sum(0)[:, None]
    return torch.from_numpy(Ridge(alpha=len(y) * 0.01).fit(pooled.numpy(), belongs.numpy()).coef_).float()


def learn(idea, inputs, y, n_classes, seed):
    generator = torch.Generator().manual_seed(seed)
    prior = torch.bincount(y, minlength=n_classes).float().div(len(y)).log()
    model = Model(idea, inputs.rows[0].n_features, n_classes, prior, generator)
    if idea.start != "random":
        model.lean_to(class_directions(inputs, y, n_classes, idea.start))
    n_batches = -(-len(y) // idea.batch_size)
    epochs = max(idea.epochs, math.ceil(idea.min_steps / n_batches))
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=idea.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, idea.lr, total_steps=epochs * n_batches + 1)
    average = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(epochs * n_batches):
        if step % n_batches == 0:
            order = torch.randperm(len(y), generator=generator).tensor_split(n_batches)
        indices = order[step % n_batches]
        logits = model(*drop_out(*inputs.batch(indices), idea, generator))
        targets = y[indices, None].expand(-1, idea.n_members)
        smoothing = idea.label_smoothing
        nn.functional.cross_entropy(logits.transpose(1, 2), targets, label_smoothing=smoothing).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        for mean, parameter in zip(average, model.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - min(idea.average, step / (step + 10)))
    if idea.average:
        for mean, parameter in zip(average, model.parameters(), strict=True):
            parameter.data.copy_(mean)
    return model


@torch.inference_mode()
def predict_logits(model, inputs):
    parts = torch.arange(len(inputs.rows[0])).split(1024)
    return torch.cat([model(*inputs.batch(indices)).mean(1) for indices in parts])


# ---------------------------------------------------------------- runs


def few(X, y, per_class, seed):
    """At most so many texts of each class, drawn by the seed."""
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(y == k) for k in range(int(y.max()) + 1)]
    chosen = np.sort(np.concatenate([rng.permutation(p)[:per_class] for p in places]))
    return [X[i] for i in chosen], y[chosen]


def run(name, per_class, seed, idea):
    """Scores on the validation split of one idea, or of a probe."""
    X, labels, X_val, labels_val = train_and_validation(name)
    classes, y = np.unique(labels, return_inverse=True)
    y_val = np.searchsorted(classes, labels_val)
    if per_class:
        X, y = few(X, y, per_class, seed)
        X_val, y_val = X_val[:FEW], y_val[:FEW]
    if idea in PROBES:
        encoder = TokenEncoder(layer=PROBES[idea], pooling="mean")
        probe = make_pipeline(Normalizer(), LogisticRegression(C=10.0, max_iter=2000))
        began = time.perf_counter()
        predicted = probe.fit(encoder.transform(X), y).predict(encoder.transform(X_val))
        return scores(y_val, predicted, time.perf_counter() - began)
    idea = IDEAS[idea]
    inputs = Inputs(X, idea)
    inputs.scaled_like(inputs, idea.standardise)
    began = time.perf_counter()
    model = learn(idea, inputs, torch.from_numpy(y), len(classes), seed)
    seconds = time.perf_counter() - began
    logits = predict_logits(model, Inputs(X_val, idea).scaled_like(inputs, idea.standardise))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(y_val)).item()
    return {**scores(y_val, logits.argmax(1).numpy(), seconds), "cross_entropy": loss}


def scores(y, predicted, seconds):
    f1 = float(f1_score(y, predicted, average="macro"))
    return {"accuracy": float(np.mean(y == predicted)), "macro_f1": f1, "seconds": seconds}


def read_results(path):
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {tuple(row["key"]): row for row in map(json.loads, lines)}


def print_table(found):
    """Mean accuracy over seeds: one line an idea, one column a set and number of texts."""
    columns = list(dict.fromkeys((name, n) for _, name, n, _ in found))
    print(f"| accuracy, % | {' | '.join(name + (f', {n} a class' if n else '') for name, n in columns)} | mean | ± |")
    print(f"|---|{'---|' * len(columns)}---|---|")
    base = None
    for idea in (*PROBES, *IDEAS):
        cells = [
            {key[3]: 100 * row["accuracy"] for key, row in found.items() if key[0] == idea and key[1:3] == column}
            for column in columns
        ]
        if not all(cells):
            continue
        means = [np.mean(list(of_column.values())) for of_column in cells]
        base = means if idea == "base" else base
        gain = f"{np.mean(means) - np.mean(base):+.2f}" if base else ""
        print(f"| {idea} | {' | '.join(f'{mean:.2f}' for mean in means)} | {np.mean(means):.2f} | {gain} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ideas", nargs="+", default=list(IDEAS), choices=[*IDEAS, *PROBES])
    parser.add_argument("--per-class", nargs="+", type=int, default=[0], help="0: all texts")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        print_table(read_results(args.out))
        return
    print(common.machine(), flush=True)
    for seed in range(args.seeds):
        for per_class in args.per_class:
            for name in args.sets:
                for idea in args.ideas:
                    key = (idea, name, per_class, seed)
                    if key in read_results(args.out):
                        continue
                    row = {"key": key, **run(name, per_class, seed, idea), "machine": common.machine()}
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    print_table(read_results(args.out))


if __name__ == "__main__":
    main()
