"""For whom does a classifier err? HateXplain's validation and test posts by target group, and the words behind it.

A post belongs to a group if at least two of its three annotators named it as the target. The classifier has the
defaults and learns from the training split; "hatespeech" and "offensive" count as an alarm. Groups with fewer than 20
harmless posts are left out of the table: their rates would say nothing.

Words are masked in the output, but for names of groups, since many of them are slurs; --plain shows them. The figures
are those of one data set, whose annotators have their own views of what is harmless.

    SKSPACE_DATA=path/to/data python examples/benchmarks/bench_groups.py [--plain] [--seed 0]
"""

import argparse
import csv
import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path

import common
from scipy.stats import spearmanr

from skspace import SpaceClassifier
from skspace.inspection import group_errors, polarization

GROUPS = (
    "African",
    "Islam",
    "Women",
    "Jewish",
    "Homosexual",
    "Refugee",
    "Arab",
    "Caucasian",
    "Men",
    "Hispanic",
    "Asian",
)
NAMES = {
    *(
        "women",
        "woman",
        "men",
        "man",
        "black",
        "blacks",
        "white",
        "whites",
        "jew",
        "jews",
        "jewish",
        "muslim",
        "muslims",
    ),
    *(
        "islam",
        "islamic",
        "gay",
        "gays",
        "lesbian",
        "refugee",
        "refugees",
        "immigrant",
        "immigrants",
        "asian",
        "asians",
    ),
    *(
        "arab",
        "arabs",
        "african",
        "africans",
        "hispanic",
        "mexican",
        "mexicans",
        "homosexual",
        "girls",
        "girl",
        "trans",
    ),
}
MIN_NEGATIVE = 20


def posts(split):
    path = Path(os.environ["SKSPACE_DATA"]) / "hatexplain" / f"{split}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def targeted(post):
    """Groups that at least two annotators named."""
    named = Counter(group for annotator in json.loads(post["targets"]) for group in set(annotator))
    return {group for group, n in named.items() if n >= 2}


def shown(word, plain):
    return word if plain or word in NAMES or len(word) < 4 else word[0] + "*" * (len(word) - 2) + word[-1]


def percent(rate, interval):
    return f"{100 * rate:.0f} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="do not mask words")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train, held_out = posts("train"), posts("val") + posts("test")
    X, labels = [post["text"] for post in train], [post["label"] for post in train]
    clf = SpaceClassifier(random_state=args.seed).fit(X, labels)
    texts, y = [post["text"] for post in held_out], [post["label"] for post in held_out]
    targets = [targeted(post) for post in held_out]
    masks = {group: [group in named for named in targets] for group in GROUPS}
    rows = group_errors(clf, texts, y, masks, positive=["hatespeech", "offensive"])
    print(common.machine(), "\n")
    print("| group | posts | harmless | false alarms, % | missed, % | words behind the false alarms |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        if row.n_negative >= MIN_NEGATIVE:
            words = ", ".join(f"{shown(word, args.plain)} {value:+.2f}" for word, value in row.drivers)
            alarms = percent(row.false_positive_rate, row.false_positive_interval)
            missed = percent(row.false_negative_rate, row.false_negative_interval)
            print(f"| {row.group} | {row.n_texts:,} | {row.n_negative:,} | {alarms} | {missed} | {words} |")
    began = time.perf_counter()
    pulls = polarization(clf, X, "hatespeech", "normal", min_count=20)
    print(f"\n{len(pulls.words):,} words over {len(train):,} posts in {time.perf_counter() - began:.1f} s\n")
    print("| word | times | to the logit of hatespeech beyond normal | alignment |")
    print("|---|---|---|---|")
    of_groups = [i for i, word in enumerate(pulls.words) if word in NAMES]
    for i in of_groups:
        print(f"| {pulls.words[i]} | {pulls.counts[i]} | {pulls.contributions[i]:+.2f} | {pulls.alignments[i]:+.3f} |")
    print("\n| trained with | accuracy | alignment and contribution, rank correlation over words |\n|---|---|---|")
    pulled = SpaceClassifier(inter_space_weight=0.2, random_state=args.seed).fit(X, labels)
    pulls_of_pulled = polarization(pulled, X, "hatespeech", "normal", min_count=20)
    for name, one, found in (
        ("no inter-space loss", clf, pulls),
        ("inter_space_weight=0.2", pulled, pulls_of_pulled),
    ):
        agreement = spearmanr(found.alignments, found.contributions).statistic
        print(f"| {name} | {one.score(texts, y):.3f} | {agreement:.2f} |")


if __name__ == "__main__":
    main()
