"""
Learn from a stream
===================

Messages come in, are labelled, and the classifier learns from each batch without going back to the old ones. Then what
people write about changes. And in the end, with all messages at hand, a fit that goes on from an earlier one.
"""

# %%
# A stream that changes
# ---------------------
# At first nobody sends anything back: the stream has four of the five kinds of messages. Then messages about returns
# come as well. A quarter of all messages is kept for testing.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import train_test_split

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages

X, y = load_support_messages(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
test = {"returns": y_test == "returns", "all others": y_test != "returns"}

others, returns = np.flatnonzero(y != "returns"), np.flatnonzero(y == "returns")
later = np.random.default_rng(0).permutation(np.concatenate([others[140:], returns]))
stream = np.concatenate([others[:140], later])
print(f"{len(stream)} messages; from number 140 on {len(returns)} of {len(later)} are about returns")

# %%
# One pass, twenty messages at a time
# -----------------------------------
# The first call names all classes that will ever come, though not all are there yet. Each message is learned from once.

clf = SpaceClassifier(random_state=0)
n_seen, accuracy = [], {kind: [] for kind in test}
for begin in range(0, len(stream), 20):
    batch = stream[begin : begin + 20]
    clf.partial_fit(X[batch], y[batch], classes=np.unique(y))
    n_seen.append(begin + len(batch))
    for kind, rows in test.items():
        accuracy[kind].append(clf.score(X_test[rows], y_test[rows]))
    if n_seen[-1] in (140, 200, 300):
        print(f"after {n_seen[-1]}: " + ", ".join(f"{kind} {scores[-1]:.2f}" for kind, scores in accuracy.items()))

# %%
# What a stream costs
# -------------------
# With the same messages at hand at once, ``fit`` may go over them as often as it likes.

whole = SpaceClassifier(random_state=0).fit(X, y)
reference = {kind: whole.score(X_test[rows], y_test[rows]) for kind, rows in test.items()}
print(f"passes over the messages: stream 1, fit {whole.n_iter_}")

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for kind, colour, marker in (("all others", "#0072B2", "o"), ("returns", "#D55E00", "s")):
    ax.plot(n_seen, accuracy[kind], marker=marker, color=colour, label=f"{kind} ({test[kind].sum()} test messages)")
    ax.axhline(reference[kind], color=colour, linestyle="--", linewidth=1, label=f"{kind}, fit on all at once")
ax.axvline(140, color="#999999", linestyle=":", label="first messages about returns")
ax.set(xlabel="messages learned", ylabel="share of test messages that is right", ylim=(-0.03, 1.03))
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# A kind that comes late is learned late: a model that is sure of four classes needs dozens of messages of the fifth
# until it believes in it. With 20 test messages about returns one more or less is five points, so small steps in that
# curve are chance.
#
# A set that grew
# ---------------
# If all labelled messages are kept, ``warm_start=True`` lets ``fit`` go on from the last model, with messages old and
# new. Here the first fit saw half of them. The second begins with a lower loss than a fresh one; whether that
# makes a better model in the end is another question.

half = train_test_split(np.arange(len(X)), train_size=0.5, stratify=y, random_state=0)[0]
warm = SpaceClassifier(warm_start=True, random_state=0).fit(X[half], y[half])
n_before = warm.n_iter_
warm.set_params(max_epochs=10).fit(X, y)
fresh = SpaceClassifier(max_epochs=10, random_state=0).fit(X, y)

print("pass   cross-entropy, warm   fresh")
for i, (one, other) in enumerate(zip(warm.history_[n_before:], fresh.history_, strict=True), 1):
    print(f"{i:4d}   {one['train_cross_entropy']:19.3f}   {other['train_cross_entropy']:5.3f}")
print(f"test accuracy: warm {warm.score(X_test, y_test):.2f}, fresh {fresh.score(X_test, y_test):.2f}")
