"""
Text beside other features
==========================

A text seldom comes alone: there is a date, a channel, a price. Two ways to give a text columns that stand beside
others, both with scikit-learn's own parts: the mean of its token vectors, and its places in the concept spaces.

Needs pandas.
"""

# %%
# A frame with a text and some numbers
# ------------------------------------
# The built-in messages have no columns but the text, so the numbers are taken from the text itself. They are weak, and
# stand for what a real system knows of a message.

import matplotlib.pyplot as plt
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

frame = load_support_messages(as_frame=True).frame
y = frame.pop("label")
frame["n_words"] = frame["text"].str.split().str.len()
frame["n_questions"] = frame["text"].str.count(r"\?")
frame["n_digits"] = frame["text"].str.count(r"\d")
numbers = ["n_words", "n_questions", "n_digits"]
frame.head(3)

# %%
# The mean of the token vectors
# -----------------------------
# ``TokenEncoder`` gives one vector a token. With ``pooling="mean"`` it gives one row a text, which is what
# ``ColumnTransformer`` and ``FeatureUnion`` can take. ``Normalizer`` brings the rows to the same length.

means = make_pipeline(TokenEncoder(pooling="mean"), Normalizer())
mean_features = ColumnTransformer([("text", means, "text"), ("numbers", StandardScaler(), numbers)])
mean_features.set_output(transform="pandas")
mean_features.fit_transform(frame).iloc[:3, [0, 1, 383, 384, 385, 386]].round(2)

# %%
# The concept spaces
# ------------------
# ``SpaceClassifier.transform`` gives a text's place in the space of every class. It learns from the labels, and
# scikit-learn passes them on. One member with two axes a class makes ten columns, named by class and axis.

spaces = SpaceClassifier(n_members=1, n_latent=2, random_state=0)
space_features = ColumnTransformer([("text", spaces, "text"), ("numbers", StandardScaler(), numbers)])
space_features.set_output(transform="pandas")
space_features.fit_transform(frame, y).head(3).round(2)

# %%
# Beware: on the texts that it was fitted on, these columns look better than they are on new ones, as with every
# transformer that has seen the labels. In a pipeline within cross-validation, as below, the test folds are new to it.
#
# Both at once
# ------------
# ``FeatureUnion`` lays the columns of several transformers of the same text side by side.

both = FeatureUnion([("mean", means), ("spaces", spaces)])
both_features = ColumnTransformer([("text", both, "text"), ("numbers", StandardScaler(), numbers)])

# %%
# Each with logistic regression in a pipeline, and the classifier by itself. The last expression of a cell shows itself
# in a notebook; of a pipeline that is this diagram.

models = {
    "numbers only": make_pipeline(ColumnTransformer([("numbers", StandardScaler(), numbers)]), LogisticRegression()),
    "mean vectors + numbers": make_pipeline(mean_features, LogisticRegression(C=10)),
    "concept spaces + numbers": make_pipeline(space_features, LogisticRegression(C=10)),
    "both + numbers": make_pipeline(both_features, LogisticRegression(C=10)),
    "SpaceClassifier, text only": make_pipeline(
        ColumnTransformer([("text", "passthrough", ["text"])]), SpaceClassifier(n_members=1, random_state=0)
    ),
}
models["both + numbers"]

# %%
# All of them on the same five folds. The encoder has seen each text once by now and is not asked again.

scores = {name: cross_val_score(model, frame, y, cv=5) for name, model in models.items()}
for name, score in scores.items():
    print(f"{name:27s} accuracy {score.mean():.3f}, standard deviation over the folds {score.std():.3f}")

# %%
# These numbers say little about the class. Whether yours help, such a comparison tells.

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for row, score in enumerate(scores.values()):
    ax.plot(score, [row] * len(score), "o", color="#56B4E9", label="one fold" if row == 0 else None)
    ax.plot(score.mean(), row, "|", color="black", markersize=16, label="mean" if row == 0 else None)
ax.set_yticks(range(len(scores)), list(scores))
ax.set_ylim(len(scores) - 0.5, -0.5)
ax.axvline(0.2, color="#999999", linestyle=":", label="guessing")
ax.set(xlabel="accuracy", xlim=(0, 1))
ax.legend(loc="center", bbox_to_anchor=(0.6, 0.5))
ax.spines[["top", "right"]].set_visible(False)
plt.show()
