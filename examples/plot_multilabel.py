"""
Several labels a text
=====================

A matrix of zeros and ones as ``y`` means that a text may have several labels, or none. Each label then has a
probability of its own, and a threshold of its own.

With ``SKSPACE_DATA`` set to a folder that has the set, these are 2,500 comments of GoEmotions (27 emotions and
"neutral"). Without, they are made from the built-in messages, see below.
"""

# %%
# The texts
# ---------
# The built-in messages have one label each. Customers do write about two things at once, though, so here two messages
# are put together, and the text has the labels of both; every third one stays alone. Real texts are less tidy: take it
# for a demonstration, not for a measurement. Training and test messages are parted *before* they are put together, so
# that no test text holds anything that was learned.

import os
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, Normalizer

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages


def put_together(texts, labels, n, random_state=0):
    """n texts of one or two messages, and the labels of each."""
    random = np.random.default_rng(random_state)
    pairs = [random.choice(len(texts), 2, replace=False) for _ in range(n)]
    chosen = [pair[: 1 if i % 3 == 0 else 2] for i, pair in enumerate(pairs)]
    return [" ".join(texts[pair]) for pair in chosen], [sorted(set(labels[pair])) for pair in chosen]


goemotions = Path(os.environ.get("SKSPACE_DATA", "")) / "goemotions" / "train.csv.gz"
if goemotions.is_file():
    import pandas as pd

    rows = pd.read_csv(goemotions, keep_default_na=False, nrows=2500)
    X, labels = rows["text"].tolist(), rows["label"].str.split("|").tolist()
    X_train, X_test, labels_train, labels_test = train_test_split(X, labels, test_size=0.3, random_state=0)
else:
    X, y = load_support_messages(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
    X_train, labels_train = put_together(X_train, y_train, 400)
    X_test, labels_test = put_together(X_test, y_test, 200)

# Labels with fewer than 20 training texts are left out: too few to learn from, and to say how well.
counts = Counter(label for row in labels_train for label in row)
frequent = sorted(label for label, n in counts.items() if n >= 20)
binarizer = MultiLabelBinarizer(classes=frequent)
Y_train, Y_test = (
    binarizer.fit_transform([[k for k in row if k in frequent] for row in rows]) for rows in (labels_train, labels_test)
)
print(f"{len(X_train)} texts to learn from, {len(X_test)} to test, {Y_train.shape[1]} labels, "
      f"{Y_train.sum(1).mean():.2f} a text")  # fmt: skip
print(f"{labels_test[1]}: {X_test[1]}")

# %%
# Ours, and one logistic regression a label
# -----------------------------------------
# The second gets the mean of the same token vectors.

models = {
    "SpaceClassifier": SpaceClassifier(random_state=0),
    "logistic regressions": make_pipeline(
        TokenEncoder(pooling="mean"), Normalizer(), OneVsRestClassifier(LogisticRegression(C=10))
    ),
}

# %%
# Thresholds
# ----------
# ``predict`` cuts at one half. Rare labels seldom reach that, and a lower threshold finds more of them. Thresholds are
# chosen on texts that were held out from training, never on the test.

X_fit, X_held_out, Y_fit, Y_held_out = train_test_split(X_train, Y_train, test_size=0.3, random_state=0)
candidates = np.arange(0.05, 0.96, 0.05)


def f1(Y, probability, threshold, average):
    return f1_score(Y, probability > threshold, average=average, zero_division=0)


probabilities, thresholds = {}, {}
for name, model in models.items():
    held_out = model.fit(X_fit, Y_fit).predict_proba(X_held_out)
    by_label = np.array([f1(Y_held_out, held_out, candidate, None) for candidate in candidates])
    thresholds[name] = candidates[by_label.argmax(0)]
    probabilities[name] = model.predict_proba(X_test)

print("                          micro-F1         macro-F1")
print("threshold             one half  own    one half  own")
for name, probability in probabilities.items():
    figures = [f1(Y_test, probability, t, average) for average in ("micro", "macro") for t in (0.5, thresholds[name])]
    print("{:21} {:.3f}    {:.3f}  {:.3f}     {:.3f}".format(name, *figures))

# %%
# Micro-F1 counts every label of every text alike, so it is mostly about the frequent labels; macro-F1 is the mean over
# the labels. A threshold of its own for each label is itself learned, from few texts where the label is rare.
#
# One threshold for all labels, moved along, shows how much of the difference lies there:

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, average in zip(axes, ("micro", "macro"), strict=True):
    for (name, probability), colour, style in zip(
        probabilities.items(), ["#0072B2", "#D55E00"], ["-", "--"], strict=True
    ):
        ax.plot(candidates, [f1(Y_test, probability, t, average) for t in candidates], style, color=colour, label=name)
    ax.axvline(0.5, color="#999999", linestyle=":")
    ax.set(xlabel="threshold", title=f"{average}-F1")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set(ylabel="F1 on the test texts", ylim=(0, 1))
axes[1].legend(loc="lower left")
plt.show()

# %%
# Label by label, at each label's own threshold; in brackets the number of test texts that have it.

figure, ax = plt.subplots(figsize=(7, 1.5 + 0.3 * len(frequent)), layout="constrained")
for (name, probability), colour, marker in zip(probabilities.items(), ["#0072B2", "#D55E00"], "os", strict=True):
    ax.plot(f1(Y_test, probability, thresholds[name], None), frequent, marker, color=colour, label=name)
ax.set_yticks(range(len(frequent)), [f"{k} ({n})" for k, n in zip(frequent, Y_test.sum(0), strict=True)])
ax.set(xlabel="F1 on the test texts", xlim=(-0.02, 1.02))
ax.set_ylim(-0.5, len(frequent) - 0.5)
ax.grid(axis="y", color="#EEEEEE")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
