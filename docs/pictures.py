"""Make the pictures that README and pages show: python docs/pictures.py"""

from pathlib import Path

import matplotlib

from skspace import SpaceClassifier
from skspace.datasets import load_support_messages
from skspace.inspection import TokenContributionsDisplay

matplotlib.use("Agg")
texts, labels = load_support_messages(return_X_y=True)
clf = SpaceClassifier(random_state=0).fit(texts[:300], labels[:300])
message = "my parcel says delivered but there is nothing here, and I was charged twice for it"
display = TokenContributionsDisplay.from_estimator(clf, message)
display.figure_.savefig(Path(__file__).parent / "_static" / "why.png", dpi=110)
