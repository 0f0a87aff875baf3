"""
Tune without encoding anything twice
====================================

A search fits a classifier dozens of times, and every fold and candidate reads the same texts again. The encoder does
not: its token vectors are kept, so each text goes through it once. This script counts.
"""

# %%
# The texts, and an encoder with an empty cache
# ---------------------------------------------
# The cache is a folder of its own only so that the counts below begin at zero. In your own work leave ``cache_dir``
# out: what one script has encoded, the next one finds.

import tempfile

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV, ValidationCurveDisplay, train_test_split

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

X, y = load_support_messages(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)

folder = tempfile.TemporaryDirectory()
encoder = TokenEncoder(cache_dir=folder.name)
print(f"{len(set(X_train))} distinct training texts, {encoder.cache_info()['n_texts']} in the cache")

# %%
# A first search
# --------------
# ``n_latent`` is the number of axes of each class's space. Four values and three folds are twelve fits, and one more on
# all training texts with the best value. ``n_members=1`` trains one model instead of an ensemble of four: a good
# bargain while searching.

clf = SpaceClassifier(encoder, n_members=1, random_state=0)
search = GridSearchCV(clf, {"n_latent": [1, 2, 4, 8]}, cv=3).fit(X_train, y_train)

print("n_latent  accuracy  standard deviation over the folds")
for n_latent, mean, sd in zip(
    search.cv_results_["param_n_latent"],
    search.cv_results_["mean_test_score"],
    search.cv_results_["std_test_score"],
    strict=True,
):
    print(f"{n_latent:8d}  {mean:8.3f}  {sd:.3f}")
print(f"\nchosen: {search.best_params_}, test accuracy {search.score(X_test, y_test):.2f}")

# %%
# Differences that are smaller than the standard deviation say little, and nor does a test of 100 messages settle them.
#
# Thirteen fits and the test, and yet every text was encoded once:

encoded = encoder.cache_info()["n_texts"]
print(f"texts encoded: {encoded}, distinct texts: {len(set(X))}")

# %%
# What a second search costs
# --------------------------
# Only the fits. The same goes for any tool of scikit-learn that fits again and again; here `ValidationCurveDisplay`
# with the weight decay, nine fits.

display = ValidationCurveDisplay.from_estimator(
    search.best_estimator_,
    X_train,
    y_train,
    param_name="weight_decay",
    param_range=[0.05, 0.5, 5.0],
    cv=3,
    score_name="accuracy",
)
# Colours that colour-blind readers tell apart, and markers.
for line, band, colour, marker in zip(display.lines_, display.fill_between_, ["#0072B2", "#D55E00"], "os", strict=True):
    line.set(color=colour, marker=marker)
    band.set_color(colour)
display.ax_.legend(loc="center left")
display.ax_.set_title("Mean and standard deviation of three folds")
plt.show()

print(f"texts encoded by the second search: {encoder.cache_info()['n_texts'] - encoded}")

# %%
# Parameters of the encoder can be searched too, as ``encoder__layer``. That is another matter: vectors of another
# layer are other vectors, so each value costs one more encoding of all texts, once.

folder.cleanup()
