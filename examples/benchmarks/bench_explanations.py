"""Explanations of HateXplain's posts: what people marked, what erasing words does, and what an explanation costs.

SpaceClassifier() is fitted on the training split. For a fixed random sample of test posts that are hateful or offensive
and in which most annotators marked some word, every method gives each word (as the data split them, at spaces) one
score for the class that the classifier predicts, be it right or wrong. explainers.py holds the methods,
explanation_measures.py the measures:

- plausibility against the words that most annotators marked: area under the precision-recall curve (mean over posts),
  token F1 and IOU F1 of the k largest scores, k being the mean number of marked words on the validation split, rounded;
- faithfulness: comprehensiveness and sufficiency, means over 1, 5, 10, 20 and 50% of the words (rounded up), of the
  predicted class's probability; words are erased and the text is encoded again;
- agreement: Spearman's correlation, a post, with what the predicted class's centred logit loses without the word;
- cost: seconds a text, one text after another, all methods in turns on each text.

Methods have variants, the sign kept or forgotten for instance. Tables show the plain one of each, and for each of the
three questions the one that answers it best on the validation split, by AUPRC, comprehensiveness and that correlation.
Differences to ours are paired, with 95% bootstrap intervals over posts.

Scores, measures and results are kept in the folder --out; what is there is not done again, so that a long run can be
stopped and gone on with. --table prints what is there. With one thread, as the figures of the page are:

    OMP_NUM_THREADS=1 SKSPACE_DATA=path/to/data python examples/benchmarks/bench_explanations.py --out folder
        [--posts 250] [--layers 0.67 1.0] [--methods ours LIME …] [--lime-samples 500]
    … bench_explanations.py --out folder --table
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import common
import explanation_measures as measures
import numpy as np
import torch
from explainers import METHODS, Post, Subject

DEFAULT_LAYER = 0.67
SLOW = ("LIME", "SHAP")  # fewer posts of the validation split, where they only choose among three variants

# ---------------------------------------------------------------- data and model


def posts(split, n=None):
    """A random sample of the posts with a rationale; a larger one contains the smaller."""
    rows = [row for row in common.read_rows("hatexplain", split) if row["label"] != "normal"]
    marks = [[np.array(json.loads(row[name]), bool) for name in ("rationale", "rationale_union")] for row in rows]
    found = [Post(row["id"], row["text"], *mark) for row, mark in zip(rows, marks, strict=True) if mark[0].any()]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:n]]


def mean_rationale():
    """k: marked words a post, rounded, on the whole validation split."""
    return round(float(np.mean([post.rationale.sum() for post in posts("val")])))


def subject(folder, layer, seed):
    """The classifier of a folder, fitted if it is not there yet."""
    from skspace import SpaceClassifier, TokenEncoder

    if not (folder / "model").exists():
        clf = SpaceClassifier(TokenEncoder(layer=layer), random_state=seed)
        clf.fit(*common.read("hatexplain", "train")).save_pretrained(folder / "model")
    return Subject(folder / "model", layer)


# ---------------------------------------------------------------- what is kept


class Log:
    """Lines of JSON, each under a key of its own."""

    def __init__(self, path, *key):
        self.path, self.key = path, key
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.rows = {self._key(row): row for row in map(json.loads, lines)}

    def _key(self, row):
        return tuple(row[name] for name in self.key)

    def add(self, rows):
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self.rows |= {self._key(row): row for row in rows}


def score_log(folder):
    return Log(folder / "scores.jsonl", "split", "method", "id")


def measure_log(folder):
    return Log(folder / "measures.jsonl", "split", "method", "variant", "id")


# ---------------------------------------------------------------- scores


def explain(subject, split, method, sample, log):
    """Scores of the posts that have none yet, kept one by one."""
    for post in sample:
        if (split, method, post.id) not in log.rows:
            began = time.perf_counter()
            scores = METHODS[method](subject, post)
            taken = time.perf_counter() - began
            scores = {variant: np.asarray(values, float).tolist() for variant, values in scores.items()}
            log.add([{"split": split, "method": method, "id": post.id, "seconds": taken, "scores": scores}])


# ---------------------------------------------------------------- measures


def measure(subject, split, method, variants, sample, scores, log, k):
    """Measures of the posts that have none yet; erased texts are encoded many at a time."""
    todo = [
        (post, variant, np.array(scores.rows[split, method, post.id]["scores"][variant]))
        for post in sample
        for variant in variants
        if (split, method, variant, post.id) not in log.rows
    ]
    for begin in range(0, len(todo), 100):
        part = todo[begin : begin + 100]
        erased = [measures.erasures(post, values, k) for post, _, values in part]
        texts = {text for of_post in erased for text in of_post.values()} | {post.text for post, _, _ in part}
        probability = dict(zip(sorted(texts), subject.probabilities(sorted(texts)), strict=True))
        log.add(
            [
                {"split": split, "method": method, "variant": variant, "id": post.id}
                | measures.plausibility(values, post.rationale, post.union, k)
                | _faithfulness(subject, probability, post, texts_of, len(values), k)
                | {"leave_one_out": _agreement(scores, split, post, values)}
                for (post, variant, values), texts_of in zip(part, erased, strict=True)
            ]
        )


def _faithfulness(subject, probability, post, texts, n_words, k):
    own = int(probability[post.text].argmax())
    of_class = {key: probability[text][own] for key, text in texts.items()}
    return measures.faithfulness(of_class, probability[post.text][own], n_words, k) | {"predicted": own}


def _agreement(scores, split, post, values):
    erased = scores.rows[split, "leave one out", post.id]["scores"]["signed"]
    return measures.rank_correlation(values, erased)


def variants_of(method, scores):
    return next(list(row["scores"]) for row in scores.rows.values() if row["method"] == method)


def of_variant(log, split, method, variant):
    """Measures by post."""
    return {key[3]: row for key, row in log.rows.items() if key[:3] == (split, method, variant)}


# ---------------------------------------------------------------- one layer


def run_layer(args, layer):
    folder = layer_folder(args.out, layer, args.seed)
    folder.mkdir(parents=True, exist_ok=True)
    examined, k = subject(folder, layer, args.seed), mean_rationale()
    examined.lime_samples = args.lime_samples
    scores, log = score_log(folder), measure_log(folder)
    check(examined, folder)
    # The first, since all others are compared with it.
    for method in sorted(args.methods, key=lambda name: name != "leave one out"):
        samples = {
            "val": posts("val", args.slow_val if method in SLOW else args.posts),
            "test": posts("test", args.posts),
        }
        for split, sample in samples.items():
            print(f"layer {layer}, {method}, {split}", time.strftime("%H:%M:%S"), flush=True)
            explain(examined, split, method, sample, scores)
            measure(examined, split, method, variants_of(method, scores), sample, scores, log, k)


def layer_folder(out, layer, seed):
    return out / f"layer-{layer}-seed-{seed}"


def check(examined, folder):
    """That all that stands in for the classifier is the classifier, but for rounding."""
    texts, labels = common.read("hatexplain", "test")
    expected = examined.cached.predict_proba(texts[:500])
    model = examined.differentiable
    with torch.inference_mode():
        logits = torch.cat([model(model.tokenize(text)[0]) for text in texts[:500]]).double()
    found = {
        "accuracy": float(np.mean(examined.cached.predict(texts) == np.array(labels))),
        "uncached": float(np.abs(examined.probabilities(texts[:500]) - expected).max()),
        "differentiable": float(np.abs(logits.softmax(1).numpy() - expected).max()),
    }
    (folder / "check.json").write_text(json.dumps(found) + "\n", "utf-8")
    print("largest difference of probabilities, and the accuracy:", found, flush=True)


# ---------------------------------------------------------------- cost


def cost(args):
    """Median seconds a text of each method; of many cached texts at once too."""
    from skspace.inspection import removal_order, token_contributions

    path = args.out / "cost.json"
    if path.exists():
        return
    examined = subject(layer_folder(args.out, DEFAULT_LAYER, args.seed), DEFAULT_LAYER, args.seed)
    examined.lime_samples = args.lime_samples
    ours = {
        "ours, cached": lambda post: token_contributions(examined.cached, [post.text])[0].merge(post.spans),
        "removal_order, cached": lambda post: removal_order(examined.cached, [post.text], [post.spans]),
        "removal_order, 2 candidates": lambda post: removal_order(
            examined.cached, [post.text], [post.spans], n_candidates=2
        ),
        **{
            f"removal_order, 2 candidates, {n} steps": lambda post, n=n: removal_order(
                examined.cached, [post.text], [post.spans], n_candidates=2, n_read=n
            )
            for n in (2, 3, 5)
        },
        "ours, cached, all variants": lambda post: METHODS["ours"](examined, post),
        "ours, not cached": lambda post: token_contributions(examined.uncached, [post.text])[0].merge(post.spans),
        "predict, cached": lambda post: examined.cached.predict([post.text]),
        "predict, not cached": lambda post: examined.uncached.predict([post.text]),
    }
    others = {name: lambda post, f=METHODS[name]: f(examined, post) for name in args.methods if name not in OURS}
    taken = {name: [] for name in ours | others}
    for i, post in enumerate(posts("test", args.cost_posts + 1)):
        for name, explain_post in (ours | others).items():
            began = time.perf_counter(), time.process_time()
            explain_post(post)
            if i:  # the first call of each loads what it needs
                taken[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    texts = common.read("hatexplain", "train")[0][:10_000]
    many = [common.seconds(lambda: token_contributions(examined.cached, texts)) for _ in range(3)]
    orders = [common.seconds(lambda: removal_order(examined.cached, texts)) for _ in range(3)]
    alone = {name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in taken.items()}
    figures = {"wall_and_processor": alone, "posts": args.cost_posts, "n": len(texts)}
    figures |= {"many": statistics.median(many), "many_orders": statistics.median(orders)}
    common.save_results(path, figures | {"threads": torch.get_num_threads(), "lime_samples": args.lime_samples})


# ---------------------------------------------------------------- tables

# Each measure belongs to a question, named by the measure that chooses the variant.
QUESTIONS = {
    "auprc": (
        "auprc",
        "token_f1",
        "average_precision",
        "auprc_union",
        "iou_p",
        "iou_r",
        "iou_single_p",
        "iou_single_r",
    ),
    "comprehensiveness": ("comprehensiveness", "sufficiency", "comprehensiveness_k", "sufficiency_k"),
    "leave_one_out": ("leave_one_out",),
}
COMPARED = ("auprc", "token_f1", "comprehensiveness", "sufficiency", "leave_one_out")
ANOTHER_QUESTION = "not normal"
OURS = ("ours", "ours, read again", "ours, first words read again")  # what all methods are compared with


def choose(method, log, variants, question):
    """The variant that does best on the validation split; of the random order all draws."""
    if method == "random":
        return variants
    rows = {variant: of_variant(log, "val", method, variant) for variant in variants if variant != ANOTHER_QUESTION}
    common_posts = set.intersection(*map(set, rows.values()))

    def worth(variant):
        return np.nanmean([rows[variant][post][question] for post in common_posts])

    return [max(rows, key=worth)]


def by_post(method, log, scores, kind, sample):
    """{post: {measure: value}} of these test posts, and the variants' names by question; draws are averaged.

    `kind` is "chosen", "plain" or a variant's name.
    """
    variants = variants_of(method, scores)
    found, names = {}, {}
    for question, of_question in QUESTIONS.items():
        chosen = choose(method, log, variants, question) if kind == "chosen" else [kind]
        chosen = variants if method == "random" else variants[:1] if kind == "plain" else chosen
        rows = [of_variant(log, "test", method, variant) for variant in chosen]
        names[question] = " ".join(chosen) if len(chosen) == 1 else ""
        for post in rows[0].keys() & sample:
            means = {name: float(np.mean([row[post][name] for row in rows])) for name in of_question}
            found.setdefault(post, {"predicted": rows[0][post]["predicted"]}).update(means)
    return found, names


def summary(method, found, kind, ours, kept):
    """Means over posts, and how much larger those of each of ours are, with intervals."""
    rows = {post: row for post, row in sorted(found[0].items()) if kept(row)}
    means = {name: float(np.nanmean([row[name] for row in rows.values()])) for name in sum(QUESTIONS.values(), ())}
    for name in ("iou", "iou_single"):
        means[f"{name}_f1"] = measures.f1(means[f"{name}_p"], means[f"{name}_r"])
    gaps = {
        one: {name: measures.interval([of_ours[post][name] - rows[post][name] for post in rows]) for name in COMPARED}
        for one, of_ours in ours.items()
    }
    return {
        "method": method,
        "kind": kind,
        "variants": found[1],
        "posts": len(rows),
        "means": means,
        "minus": gaps,
    }


def results(args):
    """A row a layer, kind, set of posts and method that has measures."""
    rows, sample = [], {post.id for post in posts("test", args.posts)}
    for layer in args.layers:
        folder = layer_folder(args.out, layer, args.seed)
        scores, log = score_log(folder), measure_log(folder)
        present = [name for name in METHODS if any(key[:2] == ("test", name) for key in log.rows)]
        for kind in ("chosen", "plain", ANOTHER_QUESTION) if "ours" in present else ():
            methods = [name for name in present if kind != ANOTHER_QUESTION or kind in variants_of(name, scores)]
            found = {name: by_post(name, log, scores, kind, sample) for name in methods}
            for group, kept in {"all": lambda row: True, "predicted hateful or offensive": _is_harmful}.items():
                ours = {name: found[name][0] for name in OURS if name in found}
                of_kind = [summary(name, found[name], kind, ours, kept) for name in methods]
                rows += [{"layer": layer, "group": group} | row for row in of_kind]
    return rows


def _is_harmful(row):
    return sorted(("normal", "offensive", "hatespeech"))[row["predicted"]] != "normal"


def show(args):
    rows = results(args)
    (args.out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    print(common.machine("captum", "lime", "shap"), "\n")
    for layer, kind, group in dict.fromkeys((row["layer"], row["kind"], row["group"]) for row in rows):
        part = [row for row in rows if (row["layer"], row["kind"], row["group"]) == (layer, kind, group)]
        print(f"Layer {layer}, {kind}, {group}: {part[0]['posts']} posts, k = {mean_rationale()}\n")
        show_means(part)
        for ours in part[0]["minus"]:
            show_gaps(part, ours)
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    if len(layers) == 2:
        show_layers(args, *layers)
    for layer in layers:
        show_variants(args, layer)
    show_cost(args)


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def show_means(rows):
    names = ("auprc", "token_f1", "iou_f1", "iou_single_f1", "auprc_union", "average_precision")
    more = ("comprehensiveness", "sufficiency", "comprehensiveness_k", "sufficiency_k", "leave_one_out")
    table(
        ["method", "variants", *names, *more],
        [
            [
                row["method"],
                "; ".join(dict.fromkeys(row["variants"].values())),
                *(f"{row['means'][name]:.3f}" for name in (*names, *more)),
            ]
            for row in rows
        ],
    )


def show_gaps(rows, ours):
    table(
        [f"{ours}, minus", *COMPARED],
        [
            [row["method"], *("{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["minus"][ours][name]) for name in COMPARED)]
            for row in rows
            if row["method"] != ours
        ],
    )


def show_layers(args, one, other):
    """The plain scores in one layer's classifier and in the other's, post by post."""
    sample = {post.id for post in posts("test", args.posts)}
    found = {}
    for layer in (one, other):
        folder = layer_folder(args.out, layer, args.seed)
        scores, log = score_log(folder), measure_log(folder)
        present = {key[1] for key in log.rows if key[0] == "test"}
        found[layer] = {name: by_post(name, log, scores, "plain", sample)[0] for name in present}
    lines = []
    for name in METHODS:
        if all(name in found[layer] for layer in found):
            a, b = (found[layer][name] for layer in (one, other))
            gaps = [measures.interval([a[post][m] - b[post][m] for post in sorted(a)]) for m in COMPARED]
            lines.append([name, *("{:+.3f} [{:+.3f}, {:+.3f}]".format(*gap) for gap in gaps)])
    table([f"plain, layer {one} minus layer {other}", *COMPARED], lines)


def show_variants(args, layer):
    """What was tried, on the validation split."""
    folder = layer_folder(args.out, layer, args.seed)
    log = measure_log(folder)
    lines = []
    for method, variant in dict.fromkeys(key[1:3] for key in log.rows if key[0] == "val" and key[1] != "random"):
        of_posts = of_variant(log, "val", method, variant).values()
        means = [f"{np.nanmean([row[name] for row in of_posts]):.3f}" for name in COMPARED]
        lines.append([method, variant, str(len(of_posts)), *means])
    table([f"layer {layer}, validation split", "variant", "posts", *COMPARED], lines)


def show_cost(args):
    if not (args.out / "cost.json").exists():
        return
    figures = json.loads((args.out / "cost.json").read_text("utf-8"))
    base = figures["wall_and_processor"]["ours, cached"]
    table(
        ["one text at a time", "wall ms", "processor ms", "to ours, cached: wall", "processor"],
        [
            [
                name,
                *(f"{1e3 * t:.2f}" for t in times),
                *(f"{t / of_ours:.1f}" for t, of_ours in zip(times, base, strict=True)),
            ]
            for name, times in figures["wall_and_processor"].items()
        ],
    )
    at_once = f"{figures['many']:.1f} s, removal_order {figures['many_orders']:.1f} s, {figures['threads']} threads"
    print(f"{figures['n']:,} cached texts at once: {at_once}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--posts", type=int, default=250, help="test posts, and validation posts to choose variants on")
    parser.add_argument("--slow-val", type=int, default=100, help="validation posts for LIME and SHAP")
    parser.add_argument("--layers", nargs="+", type=float, default=[DEFAULT_LAYER, 1.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--lime-samples", type=int, default=500)
    parser.add_argument("--cost-posts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the classifier")
    parser.add_argument("--no-cost", action="store_true", help="do not time")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if not args.table:
        for layer in args.layers:
            run_layer(args, layer)
        if not args.no_cost:
            cost(args)
    show(args)


if __name__ == "__main__":
    main()
