"""
Why this prediction
===================

A logit of this classifier is a sum over the tokens of the text. ``token_contributions`` takes the sum apart: exactly,
without gradients or sampling. It also shows, at the end, what such a number does *not* say.
"""

# %%
# One message
# -----------

import matplotlib.pyplot as plt

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages
from skspace.inspection import TokenContributionsDisplay, token_contributions

texts, labels = load_support_messages(return_X_y=True)
clf = SpaceClassifier(random_state=0).fit(texts[:300], labels[:300])

message = "I was charged twice for the refurbished kettle, please refund the second payment"
(why,) = token_contributions(clf, [message])
print(why.to_text(n=6))

# %%
# The parts add up to the logits, for every class:

error = abs(why.contributions.sum(axis=0) + why.bias - why.logits).max()
print(f"largest difference between sum and logit: {error:.0e}")

# %%
# Words, and parts of your own
# ----------------------------
# The tokenizer cuts rare words into pieces. ``words`` puts them together, and the sum stays what it is.

print("tokens:", why.tokens)
print("words: ", why.words().tokens)

# %%
# ``merge`` puts together whatever you name by its place in the text: phrases, sentences, the words of another
# tokenizer.

comma = message.index(",")
halves = why.merge([(0, comma), (comma, len(message))])
for part, contribution in halves.top("billing"):
    print(f"{contribution:+.2f}  {part}")

# %%
# What belongs to no part stays as it is, such as ``[SEP]``, the end of the text: such tokens carry a part of the sum
# too.
#
# In a notebook
# -------------
# An explanation shows itself as HTML, with the predicted class open; ``save_html`` writes it as a page of its own.
# Blue and underlined is for the class, orange and dotted against it.

why.words()

# %%
# As a picture
# ------------
# The same with matplotlib, for the three classes with the largest logits.

TokenContributionsDisplay.from_estimator(clf, message)
plt.show()

# %%
# What a contribution is not
# --------------------------
# It is what came in at a *position*, and the vector there has seen its neighbours. So the same word contributes
# different amounts in different company:

returns = clf.classes_.tolist().index("returns")
for text in ["please refund the payment", "please refund the payment, the parcel came back to you", "refund"]:
    one = token_contributions(clf, [text])[0].words()
    value = one.contributions[one.tokens.index("refund"), returns]
    print(f"refund {value:+.2f} for 'returns' in: {text}")

# %%
# And it is not what the logit would lose without the word. To know that, leave the word out and predict again: the
# vectors of all that is left change too. Words that matter little either way have no name in the picture.

words = why.words()
column = clf.classes_.tolist().index(why.predicted[0])
spans = [(begin, end) for begin, end in words.spans if begin < end]
without = [message[:begin] + message[end:] for begin, end in spans]
loss = [why.logits[column] - one.logits[column] for one in token_contributions(clf, without)]
contribution = words.contributions[[begin < end for begin, end in words.spans], column]

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ax.axhline(0, color="#CCCCCC", linewidth=0.8)
ax.scatter(contribution, loss, color="#0072B2")
for x, y, (begin, end) in zip(contribution, loss, spans, strict=True):
    if max(abs(x), abs(y)) > 0.3:
        ax.annotate(message[begin:end], (x, y), xytext=(4, 4), textcoords="offset points")
ax.axline((0, 0), slope=1, color="#999999", linestyle=":", label="if both were the same")
ax.set(
    xlabel=f"contribution to the logit of {why.predicted[0]}",
    ylabel="what the logit loses without the word",
    title="A contribution is not the effect of leaving the word out",
)
ax.margins(x=0.12, y=0.1)
ax.legend()
ax.spines[["top", "right"]].set_visible(False)
plt.show()
