"""Products of training: what dtype they are taken in, and that the number of threads is not to be seen in a model."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from skspace import RaggedArray, SpaceClassifier, TokenEncoder, _classifier
from skspace._model.concept_operators import ConceptOperators
from skspace._model.token_batches import token_batches
from skspace._training import train as train_module
from skspace._training.labelled_batches import BatchIterator, LabelledTexts, in_bfloat16


def products_in(monkeypatch, dtype):
    monkeypatch.setattr(_classifier, "_product_dtype", lambda *args: dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_model_for_any_number_of_threads(long_texts, threads, monkeypatch, dtype):
    products_in(monkeypatch, dtype)
    clf = SpaceClassifier("precomputed", max_epochs=3, random_state=0)
    one, *others = threads(lambda: clf.fit(*long_texts).decision_function(long_texts[0]))
    assert all(np.array_equal(one, other) for other in others)


def test_products_in_bfloat16_learn_the_same(long_texts, monkeypatch):
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        products_in(monkeypatch, dtype)
        clf = SpaceClassifier("precomputed", max_epochs=5, random_state=0).fit(*long_texts)
        assert clf.concept_operators_.dtype == np.float32
        found.append(clf.predict_proba(long_texts[0]))
    assert not np.array_equal(*found)
    np.testing.assert_allclose(*found, atol=0.02)


def test_vectors_cast_once_or_batch_by_batch_give_the_same_model(long_texts, monkeypatch):
    products_in(monkeypatch, torch.bfloat16)
    cast, found = [], []
    monkeypatch.setattr(train_module, "in_bfloat16", lambda rows: cast.append(len(rows)) or in_bfloat16(rows))
    for limit in (2**29, 0):
        monkeypatch.setattr(train_module, "_MAX_BYTES_IN_MEMORY", limit)
        clf = SpaceClassifier("precomputed", max_epochs=3, random_state=0)
        found.append(clf.fit(*long_texts).decision_function(long_texts[0]))
    assert cast == [160]
    assert np.array_equal(*found)


def test_callbacks_get_the_vectors_as_they_were_given(long_texts, monkeypatch):
    products_in(monkeypatch, torch.bfloat16)
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            seen.append(dataset_train.rows.in_memory().values)

    SpaceClassifier("precomputed", max_epochs=1, random_state=0, callbacks=[Look()]).fit(*long_texts)
    assert np.array_equal(np.sort(seen[0], axis=None), np.sort(long_texts[0].values, axis=None))


def test_only_products_are_in_bfloat16():
    """The mean over three tokens is a third of their sum, which no third in bfloat16 is."""
    operators = ConceptOperators(8, 2, 3, pooling="mean").train()
    spaces = operators(torch.ones(3, 8, dtype=torch.bfloat16), torch.tensor([3]))
    torch.testing.assert_close(spaces.centroids[0], spaces.concepts.mean(0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "fast", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("bfloat16", True, torch.bfloat16),
        ("float32", True, torch.float32),
        ("float16", True, torch.float32),
        ("auto", False, torch.float32),
        ("bfloat16", False, torch.float32),  # vectors from a cache that another machine has filled
        ("precomputed", True, torch.float64),
    ],
)
def test_bfloat16_where_the_vectors_are_and_it_is_faster(monkeypatch, tiny_bert, dtype, fast, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    asked = []
    monkeypatch.setattr(_classifier, "train", lambda training_set, *args, **kwargs: asked.append(training_set) or 1 / 0)
    texts, y = ["the parcel", "my account"], [0, 1]
    encoder = dtype if dtype == "precomputed" else TokenEncoder(tiny_bert, dtype=dtype, cache_dir=None, device="cpu")
    clf = SpaceClassifier(encoder, device="cpu")
    with pytest.raises(ZeroDivisionError):
        clf.fit(np.eye(2) if dtype == "precomputed" else texts, y)
    assert asked[0].product_dtype == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batches_are_cast_to_the_bit(long_texts, dtype):
    rows, _ = long_texts
    batches = list(token_batches(rows, 1300, dtype, "cpu"))
    assert len(batches) > 1
    cast = torch.cat([batch.tokens for _, batch in batches])
    assert torch.equal(cast, torch.from_numpy(rows.values).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_batches_in_the_same_memory_hold_their_own_texts(dtype):
    lengths = np.array([0, 0, 3, 1, 700, 2, 1300, 0, 1])  # the first batch empty, a later one larger than those before
    values = np.arange(lengths.sum() * 2, dtype=np.float16).reshape(-1, 2) / 8
    rows = RaggedArray(values, np.cumsum([0, *lengths]))
    data = LabelledTexts(rows, torch.arange(9), torch.ones(9))
    n_tokens = 0
    for batch, y in BatchIterator(data, 2, dtype=dtype):
        expected = torch.from_numpy(rows[y["targets"].numpy()].values).to(dtype)
        assert torch.equal(batch.tokens, expected)
        n_tokens += len(batch.tokens)
    assert n_tokens == lengths.sum()
