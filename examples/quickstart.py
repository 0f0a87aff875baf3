"""
Quickstart
==========

Fit a classifier on a few hundred support messages, and see which tokens decided.

Needs no network and no data but what the package brings: ``python examples/quickstart.py``
"""

# %%
# Every message goes through a frozen transformer once; what is learned on top takes seconds.

import time

from sklearn.model_selection import train_test_split

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages
from skspace.inspection import token_contributions

began = time.perf_counter()
X, y = load_support_messages(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)

clf = SpaceClassifier(random_state=0).fit(X_train, y_train)
print(f"{len(X_train)} messages learned, {len(X_test)} held out: accuracy {clf.score(X_test, y_test):.2f}\n")

# %%
# A prediction is a sum over the tokens of the text. Here are the largest terms of three new messages.

messages = [
    "I was charged twice for the same kettle",
    "my parcel says delivered but there is nothing here",
    "The app crashes whenever I open the camera",
]
for message, proba, reasons in zip(
    messages, clf.predict_proba(messages), token_contributions(clf, messages), strict=True
):
    best = proba.argmax()
    tokens = ", ".join(f"{token} {value:+.2f}" for token, value in reasons.top(clf.classes_[best], 4))
    print(f"{message}\n    {clf.classes_[best]} ({proba[best]:.0%}), because of  {tokens}")

print(f"\n{time.perf_counter() - began:.0f} s in all")
