"""
Probabilities, and what an error costs
======================================

A probability should be honest: of the texts to which it gives 80%, four in five should be what it says. And the most
probable class is the right answer only where all errors cost the same.

With ``SKSPACE_DATA`` set to a folder that has the set, the first part is about 600 snippets of film reviews (MR),
which are harder to tell; without, about the built-in messages.
"""

# %%
# Is it honest?
# -------------
# To have a probability for each text from a model that did not learn it, the texts are predicted in three folds. The
# same with scikit-learn's temperature scaling, which learns from held-out texts by one number how much to soften the
# logits; with ``ensemble=False`` it leaves one classifier to use.

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.metrics import confusion_matrix, log_loss, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV, cross_val_predict, train_test_split

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages

mr = Path(os.environ.get("SKSPACE_DATA", "")) / "mr" / "train.csv.gz"
if mr.is_file():
    import pandas as pd

    rows = pd.read_csv(mr, keep_default_na=False).sample(600, random_state=0)
    X, y = rows["text"].to_numpy(), rows["label"].to_numpy()
else:
    X, y = load_support_messages(return_X_y=True)

clf = SpaceClassifier(n_members=1, random_state=0)
models = {
    "as it is": clf,
    "temperature": CalibratedClassifierCV(clf, method="temperature", ensemble=False, cv=3),
}
probabilities = {name: cross_val_predict(model, X, y, cv=3, method="predict_proba") for name, model in models.items()}
for name, probability in probabilities.items():
    sure, right = probability.max(1), np.unique(y)[probability.argmax(1)] == y
    print(f"{name:12s} accuracy {right.mean():.3f}, mean probability of the answer {sure.mean():.3f}, "
          f"log loss {log_loss(y, probability):.3f}")  # fmt: skip

# %%
# The lower the log loss, the better. Scaling does not change the order of the classes, so accuracy stays what it was.
# Where answers were honest before, as on the built-in messages, it leaves them much as they were.
#
# In the reliability curve every text counts once for each class, and on the diagonal the probabilities are honest. So
# few texts make a rough curve: how many lie in each bin is drawn beneath.

is_class = (y[:, None] == np.unique(y)).ravel()
figure, (above, below) = plt.subplots(2, 1, figsize=(6, 6), height_ratios=[3, 1], sharex=True, layout="constrained")
for (name, probability), colour, marker in zip(probabilities.items(), ["#D55E00", "#0072B2"], "so", strict=True):
    CalibrationDisplay.from_predictions(
        is_class, probability.ravel(), n_bins=8, name=name, ax=above, color=colour, marker=marker
    )
    below.hist(probability.ravel(), bins=8, range=(0, 1), histtype="step", color=colour, linewidth=1.5)
above.set(xlabel="", ylabel="share of the class")
below.set(xlabel="predicted probability of a class", ylabel="how many", yscale="log")
plt.show()

# %%
# A rare class, and what it costs to miss it
# ------------------------------------------
# Support messages again. Say that faults must be seen the same day, and that a missed one costs as much as looking at
# ten messages for nothing. Half of the fault messages are left out, to make them rare.

X, y = load_support_messages(return_X_y=True)
keep = (y != "fault") | (np.cumsum(y == "fault") % 2 == 0)
X, is_fault = X[keep], np.where(y == "fault", 1, 0)[keep]
X_train, X_test, y_train, y_test = train_test_split(X, is_fault, test_size=0.4, stratify=is_fault, random_state=0)
print(f"{is_fault.mean():.0%} of {len(X)} messages are about a fault")


def cost(y, predicted):
    (_, false_alarms), (missed, _) = confusion_matrix(y, predicted, labels=[0, 1])
    return false_alarms + 10 * missed


# %%
# ``TunedThresholdClassifierCV`` looks for the cheapest threshold by cross-validation within the training texts.

tuned = TunedThresholdClassifierCV(
    clf, scoring=make_scorer(cost, greater_is_better=False), cv=4, store_cv_results=True
).fit(X_train, y_train)

probability = tuned.estimator_.predict_proba(X_test)[:, 1]
for name, threshold in {
    "one half": 0.5,
    "tuned": tuned.best_threshold_,
    "by arithmetic": 1 / (1 + 10),
}.items():
    predicted = (probability >= threshold).astype(int)
    (_, false_alarms), (missed, _) = confusion_matrix(y_test, predicted)
    print(f"{name:14s} threshold {threshold:.3f}: {missed} of {y_test.sum()} missed, {false_alarms} false alarms, "
          f"cost {cost(y_test, predicted)}")  # fmt: skip

# %%
# "By arithmetic" is the threshold that is best where probabilities are honest: to look costs one, not to look costs ten
# times the probability. It needs no tuning, but honest probabilities. The picture shows the cost on both sides.

thresholds = np.linspace(0.005, 0.995, 199)
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.step(
    tuned.cv_results_["thresholds"],
    -tuned.cv_results_["scores"] / (len(y_train) / 4) * 100,
    color="#0072B2",
    label="training texts, cross-validated",
)
ax.plot(
    thresholds,
    [cost(y_test, (probability >= threshold).astype(int)) / len(y_test) * 100 for threshold in thresholds],
    "--",
    color="#D55E00",
    label="test texts",
)
ax.axvline(tuned.best_threshold_, color="#0072B2", linestyle=":", label="tuned")
ax.axvline(1 / 11, color="black", linestyle="-.", label="by arithmetic")
ax.set(xlabel="threshold", ylabel="cost of 100 messages", xlim=(0, 1), ylim=(0, None))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
