"""Large batches are learned from in parts, which nothing but the last bits tells."""

import numpy as np
import pytest
from skorch.callbacks import Callback

from skspace import RaggedArray, SpaceClassifier
from skspace._model.token_batches import TokenBatch
from skspace._training import skorch_net


@pytest.fixture(scope="module")
def data():
    """Texts of 0 to 8 tokens, weighted, in float64."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 9, 90)
    y = np.arange(90) % 3
    values = rng.normal(size=(lengths.sum(), 12)) + np.repeat(y, lengths)[:, None]
    return RaggedArray(values, np.cumsum([0, *lengths])), y, rng.uniform(0.2, 2, 90)


class _Seen(Callback):
    """The texts of every batch, of its parts, and of what came out of it."""

    def __init__(self):
        self.batches, self.outputs = [], []

    def on_batch_end(self, net, batch, y_pred, training, **kwargs):
        if training:
            self.batches.append(len(batch[0]))
            self.outputs.append(len(y_pred.logits))


@pytest.fixture
def parts(monkeypatch):
    """Texts of every part that was learned from, in order."""
    taken = []
    in_parts = TokenBatch.in_parts

    def noting(batch, n_parts):
        for chosen, part in in_parts(batch, n_parts):
            taken.append(len(part))
            yield chosen, part

    monkeypatch.setattr(TokenBatch, "in_parts", noting)
    return taken


def fitted(data, monkeypatch, at_once, y=None, **params):
    monkeypatch.setattr(skorch_net, "_NUMBERS_AT_ONCE", at_once)
    X, labels, weights = data
    clf = SpaceClassifier(
        "precomputed", device="cpu", n_latent=2, batch_size=30, max_epochs=4, random_state=0, **params
    )
    return clf.fit(X, labels if y is None else y, sample_weight=weights)


@pytest.mark.parametrize("params", [{}, {"pooling": "mean"}, {"head": "alignment"}, {"n_members": 1}])
@pytest.mark.parametrize("multilabel", [False, True])
def test_same_model_in_parts(data, monkeypatch, parts, params, multilabel):
    y = np.eye(3, dtype=int)[data[1]] if multilabel else None
    whole = fitted(data, monkeypatch, 2**60, y, **params)
    assert not parts
    divided = fitted(data, monkeypatch, 500, y, **params)
    assert len(parts) > 2 * 4 * 3  # of three batches in four epochs
    np.testing.assert_allclose(
        divided.decision_function(data[0]), whole.decision_function(data[0]), rtol=1e-6, atol=1e-9
    )
    for one, other in zip(divided.history_, whole.history_, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"])
        assert one["train_cross_entropy"] == pytest.approx(other["train_cross_entropy"])


@pytest.mark.parametrize("loss", ["inter_space_weight", "intra_space_weight"])
def test_losses_that_are_no_mean_over_texts_keep_batches_whole(data, monkeypatch, parts, loss):
    fitted(data, monkeypatch, 500, **{loss: 0.1})
    assert not parts


@pytest.mark.parametrize(("too_large", "expected"), [(1.4, None), (1.6, 15), (3, 10), (1e9, 1)])
def test_as_many_parts_as_a_batch_is_too_large(monkeypatch, parts, too_large, expected):
    texts = RaggedArray(np.random.default_rng(0).normal(size=(90 * 4, 12)), np.arange(0, 361, 4))
    n_numbers = 30 * 4 * 2 * 3 * 2 * 4  # texts, tokens, W and the attention, K, m, M
    fitted((texts, np.arange(90) % 3, None), monkeypatch, n_numbers / too_large)
    assert set(parts) == ({expected} if expected else set())


def test_callbacks_see_batches_not_parts(data, monkeypatch, parts):
    seen = _Seen()
    monkeypatch.setattr(_Seen, "__deepcopy__", lambda self, memo: self, raising=False)
    clf = fitted(data, monkeypatch, 500, callbacks=[seen])
    assert parts
    assert seen.batches == seen.outputs == [30] * 3 * len(clf.history_)
