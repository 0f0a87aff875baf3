"""
Save, load, serve
=================

What a fit learns is small, and so is what is saved: a folder of three files, without the encoder, that loads without
running any code of its own.
"""

# %%
# Save
# ----

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

X, y = load_support_messages(return_X_y=True)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name) / "support-classifier"

# The vectors are kept in a folder of their own only so that they can be weighed below.
encoder = TokenEncoder(cache_dir=Path(temporary.name) / "cache")
clf = SpaceClassifier(encoder, random_state=0).fit(X[:300], y[:300])
accuracy = clf.score(X[300:], y[300:])
clf.save_pretrained(folder, metrics={"accuracy": round(accuracy, 2)})

for path in sorted(folder.iterdir()):
    print(f"{path.stat().st_size / 1000:7.1f} kB  {path.name}")

# %%
# ``README.md`` is a model card for people: labels, metrics, the encoder.
#
# Load
# ----
# The loaded classifier is fitted, and its probabilities are the same to the last bit.

loaded = SpaceClassifier.from_pretrained(folder, encoder=encoder)
print("equal to the bit:", np.array_equal(loaded.predict_proba(X), clf.predict_proba(X)))

# %%
# ``encoder=`` may be left out; it is given here for the cache's folder, which is a matter of this machine and not
# saved.
#
# Serve
# -----
# A service is another process, which knows the folder and nothing else. This one keeps no vectors of its users' texts.
# The first text loads the encoder, so a real service predicts something before its first request.

service = """
import json, sys
from skspace import SpaceClassifier, TokenEncoder

clf = SpaceClassifier.from_pretrained(sys.argv[1], encoder=TokenEncoder(cache_dir=None))
for line in sys.stdin:
    text = json.loads(line)
    (probability,) = clf.predict_proba([text])
    best = probability.argmax()
    print(json.dumps({"label": clf.classes_[best], "probability": round(float(probability[best]), 3)}))
"""
messages = ["where is my parcel?", "I forgot my password"]
answer = subprocess.run(
    [sys.executable, "-c", service, str(folder)],
    input="".join(json.dumps(message) + "\n" for message in messages),
    capture_output=True,
    text=True,
    check=True,
)
for message, line in zip(messages, answer.stdout.splitlines(), strict=True):
    print(message, "->", line)

# %%
# What is not saved
# -----------------
# The encoder's weights: the folder says which model it was, and a digest that tells another from it. Nor the texts,
# their vectors, or where the cache of this machine is.

saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
print("encoder:", json.dumps(saved["encoder"], indent=1))

# %%
# Nor what JSON cannot hold; that is an error that names it, and not a classifier that quietly differs.

try:
    SpaceClassifier(encoder, random_state=np.random.RandomState(0), max_epochs=1).fit(X[:50], y[:50]).save_pretrained(
        folder, overwrite=True
    )
except (TypeError, ValueError) as error:
    print(error)

# %%
# A pickle holds such things too. But it runs whatever code is in it when it is loaded: load only your own.
#
# Sizes
# -----
# Next to what they came from. A classifier does not grow with the texts; the vectors do.

sizes = {
    "the 400 texts": sum(len(text.encode()) for text in X),
    "their token vectors, in the cache": encoder.cache_info()["n_bytes"],
    "the saved folder": sum(path.stat().st_size for path in folder.iterdir()),
    "a pickle of the classifier": len(pickle.dumps(clf)),
}
figure, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
bars = ax.barh(list(sizes), [size / 1000 for size in sizes.values()], color="#0072B2")
ax.bar_label(bars, [f"{size / 1000:,.0f} kB" for size in sizes.values()], padding=4)
ax.set(xscale="log", xlabel="kB, logarithmic", xlim=(10, 50_000))
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
plt.show()

temporary.cleanup()
