"""How good scores of words are: against what people marked, and against what the classifier does without the words.

Plausibility as in ERASER (DeYoung et al. 2020) and HateXplain (Mathew et al. 2021), faithfulness as in
ERASER, all on words. Of ties, the word that stands first counts as the larger.
"""

import numpy as np
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)  # of the words, rounded up; ERASER's


def top(scores, k):
    """Which words are among the k of the largest scores."""
    chosen = np.zeros(len(scores), bool)
    chosen[np.argsort(-scores, kind="stable")[:k]] = True
    return chosen


# ---------------------------------------------------------------- plausibility


def plausibility(scores, rationale, union, k):
    """Of one text, {measure: value}."""
    chosen = top(scores, k)
    both = (chosen & rationale).sum()
    precision, recall = both / chosen.sum(), both / rationale.sum()
    merged, single = runs(chosen), [(i, i + 1) for i in np.flatnonzero(chosen)]
    return {
        "auprc": auprc(rationale, scores),
        "average_precision": float(average_precision_score(rationale, scores)),
        "auprc_union": auprc(union, scores),
        "token_f1": float(2 * precision * recall / (precision + recall)) if both else 0.0,
        **{f"iou_{name}": value for name, value in zip("pr", overlaps(merged, runs(rationale)), strict=True)},
        **{f"iou_single_{name}": value for name, value in zip("pr", overlaps(single, runs(rationale)), strict=True)},
    }


def auprc(marked, scores):
    """Area under the precision-recall curve by trapezia, which is what ERASER takes."""
    precision, recall, _ = precision_recall_curve(marked, scores)
    return float(auc(recall, precision))


def runs(chosen):
    """Neighbouring words as spans, [begin, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def overlaps(predicted, true):
    """Precision and recall of spans; one is right that shares half of what it and a true one cover together."""
    right = sum(max(_iou(p, t) for t in true) >= 0.5 for p in predicted)
    return right / len(predicted), right / len(true)


def _iou(a, b):
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# ---------------------------------------------------------------- faithfulness


def erasures(post, scores, k):
    """The texts that faithfulness asks about: {(what is left, how many words were chosen): text}."""
    n = len(scores)
    texts = {}
    for size in sorted({*sizes(n), min(k, n)}):
        chosen = top(scores, size)
        texts["without", size] = post.keeping(~chosen)
        texts["only", size] = post.keeping(chosen)
    return texts


def sizes(n_words):
    return [max(1, int(np.ceil(share * n_words))) for share in SHARES]


def faithfulness(probability, full, n_words, k):
    """Of one text: `probability` of the predicted class for each key of `erasures`, and of the whole text."""
    k = min(k, n_words)
    mean = {left: np.mean([probability[left, size] for size in sizes(n_words)]) for left in ("without", "only")}
    return {
        "comprehensiveness": float(full - mean["without"]),
        "sufficiency": float(full - mean["only"]),
        "comprehensiveness_k": float(full - probability["without", k]),
        "sufficiency_k": float(full - probability["only", k]),
    }


def rank_correlation(a, b):
    """Spearman's; undefined (nan) where one of the two says the same of all words."""
    from scipy.stats import rankdata

    ranks = rankdata(a), rankdata(b)
    if min(rank.std() for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


# ---------------------------------------------------------------- chance


def interval(differences, seed=0, draws=10_000):
    """Mean of paired differences and its 95% bootstrap interval over texts."""
    differences = np.asarray(differences)[np.isfinite(differences)]
    generator = np.random.default_rng(seed)
    means = [differences[generator.integers(len(differences), size=len(differences))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)
