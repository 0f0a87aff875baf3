"""Markdown tables of what bench_accuracy.py has measured: scores, paired differences, seconds and memory."""

import common
import numpy as np
from bench_accuracy import ENCODED_BY, METHODS, SETS, WITHOUT_CHANCE, file_name, macro_f1

OURS = "space"
CONTROLS = ("TF-IDF", "probe, last layer", "probe, first token", "probe, our layer", "linear bottleneck")
N_DRAWS = 2000


def show(rows, out):
    """Print every table; `rows` maps (set, method, seed) to figures."""
    sets = [name for name in SETS if any(key[0] == name for key in rows)]
    methods = [method for method in METHODS if any(key[1] == method for key in rows)]
    for machine in sorted({row["machine"] for row in rows.values()}):
        print(f"{machine}\n")
    summary_table(rows, sets, out)
    for score in ("accuracy", "macro_f1", "accuracy_new", "calibration_error"):
        scores_table(rows, sets, methods, score)
    of_ours = [name for name in sets if values(rows, name, OURS, "accuracy")]
    own_table(rows, of_ours, out)
    for score in ("accuracy", "macro-F1"):
        differences_table(rows, sets, methods, out, score)
    picked_table(rows, sets, out)
    costs_table(rows, sets, methods)
    encoding_table(rows, of_ours)


def summary_table(rows, sets, out):
    """The table of README and docs/accuracy.md: accuracy, and processor seconds of learning alone."""
    print("## In short\n")
    line(
        "set",
        "classes",
        "probe, last layer",
        "best frozen control",
        "`SpaceClassifier()`",
        "fine-tuning",
        "seconds: ours",
        "fine-tuning",
    )
    line(*["---"] * 8)
    for name in sets:
        mean = {method: 100 * np.mean(values(rows, name, method, "accuracy") or np.nan) for method in METHODS}
        run = [method for method in CONTROLS if not np.isnan(mean[method])]
        best = max(run, key=mean.get, default=None)
        found = 100 * np.array(values(rows, name, OURS, "accuracy"))
        ours = cell(found, ".1f")
        if len(found) and run and found.mean() > mean[best]:
            value, *spread = ours.partition(" ")
            ours = f"**{value}**{''.join(spread)}"
        seconds = {method: total(rows, [name], method, "processor_seconds", "fit") for method in (OURS, "fine-tuning")}
        tuned = (
            [f"{mean['fine-tuning']:.1f}", f"{seconds['fine-tuning']:,.0f}"] if mean["fine-tuning"] > 0 else ["", ""]
        )
        line(
            name,
            n_classes(rows, name, out),
            f"{mean['probe, last layer']:.1f}" if "probe, last layer" in run else "",
            f"{mean[best]:.1f} ({best})" if run else "",
            ours,
            tuned[0],
            f"{seconds[OURS]:,.0f}" if len(found) else "",
            tuned[1],
        )
    print()


def n_classes(rows, name, out):
    """Of a set, from the labels that any of its runs has kept."""
    method = next(key[1] for key in rows if key[0] == name)
    return int(predictions(rows, name, method, out)[1].max()) + 1


def values(rows, name, method, figure):
    return [row[figure] for key, row in sorted(rows.items()) if key[:2] == (name, method)]


def line(*cells):
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def scores_table(rows, sets, methods, score):
    titles = {
        "accuracy": "Accuracy, %, mean ± standard deviation over seeds",
        "macro_f1": "Macro-F1, %",
        "accuracy_new": "Accuracy, %, without the test texts that stand in the training split",
        "calibration_error": "Expected calibration error, %, 15 bins",
    }
    print(f"## {titles[score]}\n")
    line("set", *methods)
    line(*["---"] * (len(methods) + 1))
    means = {method: [] for method in methods}
    for name in sets:
        cells = []
        for method in methods:
            found = 100 * np.array(values(rows, name, method, score))
            means[method].append(found.mean() if len(found) else np.nan)
            cells.append(cell(found))
        line(name, *cells)
    line("**mean**", *(f"**{np.mean(means[method]):.2f}**" if complete(means[method]) else "" for method in methods))
    print()


def cell(found, form=".2f"):
    if not len(found):
        return ""
    spread = f" ± {found.std(ddof=1):{form}}" if len(found) > 1 else ""
    return f"{found.mean():{form}}{spread}"


def complete(means):
    return not np.isnan(means).any()


def own_table(rows, sets, out):
    """Ours by itself, with intervals: to be held against a published figure, of which only the mean is known."""
    print(f"## `{OURS}`, %, with 95% intervals (draws of texts and seeds), of all texts and of new ones\n")
    print("New texts do not stand in the training split.\n")
    line("set", "accuracy", "macro-F1", "accuracy, new", "macro-F1, new")
    line(*["---"] * 5)
    for name in sets:
        predicted, y = predictions(rows, name, OURS, out)
        new = np.load(out / f"{file_name(name, OURS, 0)}.npz")["new"]
        cells = []
        for texts in (np.full(len(y), True), new):
            for measure, n_draws in ((accuracy, N_DRAWS), (quick_macro_f1, N_DRAWS // 10)):
                cells.append(own_interval(measure, y[texts], predicted[:, texts], n_draws))
        line(name, *cells)
    print()


def own_interval(measure, y, predicted, n_draws):
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(n_draws):
        texts, seeds = rng.integers(len(y), size=len(y)), rng.integers(len(predicted), size=len(predicted))
        drawn.append(mean_over_seeds(measure, y[texts], predicted[seeds][:, texts]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{100 * mean_over_seeds(measure, y, predicted):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


# ---------------------------------------------------------------- paired differences


def differences_table(rows, sets, methods, out, score):
    """Ours minus each other: the mean, and the 95% interval of a bootstrap over test texts and seeds."""
    others = [method for method in methods if method != OURS]
    n_draws = N_DRAWS if score == "accuracy" else N_DRAWS // 10
    title = f"{score[0].upper()}{score[1:]} of `{OURS}` minus that of …, points"
    print(f"## {title}, with 95% intervals ({n_draws:,} draws of texts and seeds)\n")
    line("set", *others)
    line(*["---"] * (len(others) + 1))
    draws = {method: [] for method in others}
    for name in sets:
        cells = []
        for method in others:
            if not values(rows, name, method, "accuracy") or not values(rows, name, OURS, "accuracy"):
                cells.append("")
                draws[method].append(None)
                continue
            drawn, seen = paired(rows, name, method, out, score)
            draws[method].append((drawn, seen))
            cells.append(interval(drawn, seen))
        line(name, *cells)
    cells = []
    for method in others:
        if any(drawn is None for drawn in draws[method]):
            cells.append("")
            continue
        mean = np.mean([drawn for drawn, _ in draws[method]], axis=0)
        cells.append(f"**{interval(mean, np.mean([seen for _, seen in draws[method]]))}**")
    line("**mean over the sets**", *cells)
    print()


def interval(drawn, seen):
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{100 * seen:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def paired(rows, name, method, out, score):
    """Draws of the difference, (N_DRAWS,), and the difference that was seen."""
    ours, y = predictions(rows, name, OURS, out)
    theirs, _ = predictions(rows, name, method, out)
    measure = accuracy if score == "accuracy" else macro_f1
    rng = np.random.default_rng(0)
    seen = mean_over_seeds(measure, y, ours) - mean_over_seeds(measure, y, theirs)
    if score != "accuracy":
        measure = quick_macro_f1
    drawn = []
    for _ in range(N_DRAWS if score == "accuracy" else N_DRAWS // 10):
        texts = rng.integers(len(y), size=len(y))
        a, b = (p[rng.integers(len(p), size=len(p))][:, texts] for p in (ours, theirs))
        drawn.append(mean_over_seeds(measure, y[texts], a) - mean_over_seeds(measure, y[texts], b))
    return np.array(drawn), seen


def mean_over_seeds(measure, y, predicted):
    return float(np.mean([measure(y, one) for one in predicted]))


def accuracy(y, predicted):
    return np.mean(y == predicted)


def quick_macro_f1(y, predicted):
    """As scikit-learn's, on class numbers."""
    n = int(max(y.max(), predicted.max())) + 1
    right = np.bincount(y[y == predicted], minlength=n)
    present = np.bincount(y, minlength=n) + np.bincount(predicted, minlength=n)
    return float(np.mean(2 * right[present > 0] / present[present > 0]))


def predictions(rows, name, method, out):
    """Of every seed, (n_seeds, n_test), and the labels."""
    seeds = sorted(key[2] for key in rows if key[:2] == (name, method))
    files = [np.load(out / f"{file_name(name, method, seed)}.npz") for seed in seeds]
    return np.stack([file["predicted"] for file in files]), files[0]["y"]


def picked_table(rows, sets, out):
    """Ours against the frozen control that cross-validation picks: the best one on the test is known too late."""
    run = [method for method in CONTROLS if any(key[1] == method for key in rows)]
    if not run:
        return
    print("## The frozen control that is best in five-fold cross-validation on the training texts, accuracy, %\n")
    line("set", *(f"{method}, cross-validated" for method in run), "picked", "its test", f"`{OURS}` minus it, points")
    line(*["---"] * (len(run) + 4))
    for name in sets:
        found = {
            method: 100 * np.array([row["cross_validated"] for row in values(rows, name, method, "chosen")])
            for method in run
        }
        if not all(map(len, found.values())):
            continue  # a control that was not run might have been picked
        means = {method: of_method.mean() for method, of_method in found.items()}
        picked = max(means, key=means.get)
        test = 100 * np.array(values(rows, name, picked, "accuracy"))
        gap = interval(*paired(rows, name, picked, out, "accuracy")) if values(rows, name, OURS, "accuracy") else ""
        line(name, *map(cell, found.values()), picked, cell(test), gap)
    print()


# ---------------------------------------------------------------- costs


def costs_table(rows, sets, methods):
    """Sums over the sets that every method has, so that columns can be compared."""
    shared = [name for name in sets if all(values(rows, name, method, "accuracy") for method in methods)]
    print(f"## Seconds to learn (median of seeds, summed over {', '.join(shared)}) and memory (largest of a run)\n")
    line("method", "wall", "processor", "encoding, wall", "peak resident MB", "seeds")
    line(*["---"] * 6)
    for method in methods:
        wall = total(rows, shared, method, "seconds", "fit")
        processor = total(rows, shared, method, "processor_seconds", "fit")
        encoding = total(rows, shared, ENCODED_BY.get(method, method), "seconds", "encode", np.max)
        peak = max(max(values(rows, name, method, "peak_mb")) for name in shared) if shared else np.nan
        counts = sorted({len(values(rows, name, method, "accuracy")) for name in shared})
        seeds = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else ""
        seeds = "1, knows no chance" if method in WITHOUT_CHANCE else seeds
        line(method, f"{wall:,.0f}", f"{processor:,.0f}", f"{encoding:,.0f}", f"{peak:,.0f}", seeds)
    print()


def encoding_table(rows, sets):
    """What comes before the first fit. A run that finds the cache full has no seconds to tell: the longest counts."""
    print(f"## Processor seconds of `{OURS}`: encoding all training texts, once, and a fit; peak resident MB\n")
    line("set", "encoding", "fit", "encoding to fit", "MB")
    line(*["---"] * 5)
    for name in sets:
        encoding = total(rows, [name], OURS, "processor_seconds", "encode", np.max)
        fit = total(rows, [name], OURS, "processor_seconds", "fit")
        ratio = f"{encoding / fit:.2f}" if fit else ""  # seconds of a graphics card's host are not counted
        line(name, f"{encoding:.1f}", f"{fit:.1f}", ratio, f"{max(values(rows, name, OURS, 'peak_mb')):,.0f}")
    print()


def total(rows, sets, method, figure, part, over_seeds=np.median):
    # Of processors: a graphics card's seconds beside a processor's would say nothing.
    rows = {key: row for key, row in rows.items() if common.CARD not in row["machine"]}
    parts = [[row.get(part, 0.0) for row in values(rows, name, method, figure)] for name in sets]
    return sum(float(over_seeds(of_set)) for of_set in parts if of_set)
