"""
Encode and search on a Dask cluster
===================================

The slow part of a large corpus is encoding it, and that can be spread over machines: they share a folder, and each text
is encoded by one of them. Here the cluster is two workers within this process; on a real one only the ``Client``
differs.

Needs ``pip install 'skspace[dask]'``. Without it joblib's own processes do the same work.
"""

# %%
# A cluster
# ---------
# ``processes=False`` keeps the workers within this process, as threads: nothing to start, and nothing that can be left
# behind. With a cluster elsewhere this would be ``Client("scheduler:8786")``.

import tempfile

import joblib
import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from skspace import SpaceClassifier, TokenEncoder
from skspace.datasets import load_support_messages

try:
    from distributed import Client
except ImportError:
    client, backend = None, "loky"
    print("dask.distributed is not installed: pip install 'skspace[dask]'. Going on with processes of joblib.")
else:
    client, backend = Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None), "dask"
    print(f"{len(client.scheduler_info()['workers'])} workers of dask")

# %%
# Encode
# ------
# All workers must see the cache under the same path: a shared disk, on a cluster. They get texts and give back counts;
# no vectors pass the scheduler.

X, y = load_support_messages(return_X_y=True)
X, y = X[:300], y[:300]
folder = tempfile.TemporaryDirectory()
encoder = TokenEncoder(cache_dir=folder.name)

with joblib.parallel_config(backend, n_jobs=2):
    print("encoded:", encoder.precompute(X))
    print("encoded by a second call:", encoder.precompute(X))

# %%
# Search
# ------
# The search is scikit-learn's own. Its fits go to the workers, which find all vectors in the cache.

clf = SpaceClassifier(encoder, n_members=1, random_state=0)
with joblib.parallel_config(backend, n_jobs=2):
    search = GridSearchCV(clf, {"n_latent": [2, 4, 8]}, cv=3).fit(X, y)

print("texts in the cache:", encoder.cache_info()["n_texts"])
print(f"chosen: {search.best_params_}")

# %%
# On the same vectors a seed gives the same model wherever it is trained, so a fit of the workers and one of this
# process have the same score.

values, means, deviations = (
    search.cv_results_[name] for name in ("param_n_latent", "mean_test_score", "std_test_score")
)
alone = GridSearchCV(clf, {"n_latent": [2]}, cv=3, refit=False).fit(X, y).cv_results_["mean_test_score"][0]
print("the same score without the cluster:", alone == means[0])

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
ax.errorbar(range(len(values)), means, yerr=deviations, fmt="o", color="#0072B2", capsize=4)
ax.set_xticks(range(len(values)), values)
ax.set(xlabel="n_latent", ylabel="accuracy", title="Mean and standard deviation of three folds")
ax.margins(x=0.2)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# At the end the client is closed, and the cluster that it has made with it.

if client is not None:
    client.close()
folder.cleanup()
