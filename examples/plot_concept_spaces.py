"""
Look into the concept spaces
============================

Each class has a space of its own, into which every token of a text is projected. With three axes a space can be drawn
as it is: the picture of the paper. Then: which words the axes are about, how the spaces lie to each other, and how the
losses went.
"""

# %%
# Three axes a class
# ------------------
# ``n_members=1`` for one space a class instead of an ensemble of four; ``n_latent=3`` for three axes.
# ``early_stopping`` holds some texts out, so that the history at the end has a second curve.

import matplotlib.pyplot as plt

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages
from skspace.inspection import (
    ConceptSpaceDisplay,
    ConceptTokensDisplay,
    TrainingHistoryDisplay,
    concept_tokens,
    space_geometry,
)

texts, labels = load_support_messages(return_X_y=True)
settings = {"n_latent": 3, "n_members": 1, "early_stopping": True, "random_state": 0}
clf = SpaceClassifier(**settings).fit(texts[:300], labels[:300])
print(f"accuracy on {len(texts[300:])} messages held out: {clf.score(texts[300:], labels[300:]):.2f}")

# %%
# The messages that were not learned from, in the space of the class ``delivery``. Each point is the centroid of a
# message's tokens. The axes run from -1 to 1.

ConceptSpaceDisplay.from_estimator(clf, texts[300:], labels[300:], label="delivery", n_components=3)
plt.show()

# %%
# On paper two dimensions are easier to read: the first two principal components. On the right every single token of
# the same messages. Most tokens say nothing about delivery, whatever the message is about.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for ax, on in zip(axes, ["texts", "tokens"], strict=True):
    display = ConceptSpaceDisplay.from_estimator(clf, texts[300:], labels[300:], label="delivery", on=on, ax=ax)
    ax.set_title(f"The {on} in the space of delivery")
axes[0].get_legend().remove()
plt.show()

# %%
# What the axes are about
# -----------------------
# ``concept_tokens`` looks for the words that push an axis, or a class as a whole, most. In brackets stands how often a
# word occurs; words that occur less than three times are left out.

concepts = concept_tokens(clf, texts, top=6)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
ConceptTokensDisplay.from_concepts(concepts, label="delivery", ax=axes[0])
ConceptTokensDisplay.from_concepts(concepts, label="delivery", axis=0, ax=axes[1])
plt.show()

print("axis 0 of delivery, with the occurrence that pushes it most:")
for word in concepts.axis("delivery", 0)[:3]:
    print(f"  {word.value:+.2f} (activation {word.activation:+.2f})  {word.example}")
print("what the axes of delivery weigh:", concepts.weights[0, list(clf.classes_).index("delivery")].round(1))

# %%
# How the spaces lie to each other
# --------------------------------
# ``space_geometry`` measures how many of the three axes of a space are in use (effective rank, 1 to 3), and how much
# two spaces differ: 0 if they order the tokens alike, 1 if what one says tells nothing of the other. The intra-space
# loss pulls the tokens of a text apart within each space; here it is with that loss and without.

models = {"without the loss": clf}
models["intra_space_weight=0.05"] = SpaceClassifier(intra_space_weight=0.05, **settings).fit(texts[:300], labels[:300])

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    geometry = space_geometry(model, texts[300:])
    ranks = ", ".join(f"{rank:.1f}" for rank in geometry.effective_ranks)
    print(f"{name}: accuracy {model.score(texts[300:], labels[300:]):.2f}, effective ranks {ranks}")
    image = ax.imshow(geometry.distances, vmin=0, vmax=1, cmap="cividis")
    ax.set_xticks(range(5), geometry.classes, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(5), geometry.classes)
    ax.set_title(name)
    for i in range(5):
        for j in range(5):
            distance = geometry.distances[i, j]
            ax.text(j, i, f"{distance:.2f}", ha="center", va="center", color="black" if distance > 0.6 else "white")
figure.colorbar(image, ax=axes, label="distance between spaces", shrink=0.8)
plt.show()

# %%
# The loss does what it says: more of the axes are in use. It does not make the spaces differ more from each other; here
# they differ less.
#
# How the losses went
# -------------------
# Terms are drawn without their weights. The dotted line is the epoch that was kept.

TrainingHistoryDisplay.from_estimator(models["intra_space_weight=0.05"])
plt.show()
