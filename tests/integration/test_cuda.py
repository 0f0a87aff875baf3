"""On a graphics card, where there is one; everything else is tested on whatever "auto" means there too."""

import multiprocessing
import traceback

import numpy as np
import pytest
import torch

from skspace import SpaceClassifier, TokenEncoder
from skspace._model.concept_operators import ConceptOperators
from skspace._model.kernels import expand_to_tokens, segment_sum

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

TEXTS = ["a parcel is late", "my account was charged twice", "short text", "the longer text was late"] * 8
LENGTHS = torch.tensor([3, 0, 1, 700, 40])


@pytest.mark.parametrize("params", [
    {},
    {"pooling": "mean"},
    {"head": "alignment"},
    {"inter_space_weight": 0.2, "intra_space_weight": 0.001},
    {"early_stopping": True},
])  # fmt: skip
def test_a_seed_gives_one_model(long_texts, params):
    found = [
        SpaceClassifier("precomputed", device="cuda", max_epochs=3, random_state=0, **params)
        .fit(*long_texts)
        .decision_function(long_texts[0])
        for _ in range(3)
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_learns_what_a_processor_learns(long_texts):
    fitted = [
        SpaceClassifier("precomputed", device=device, max_epochs=5, random_state=0).fit(*long_texts)
        for device in ("cuda", "cpu")
    ]
    np.testing.assert_allclose(*(clf.predict_proba(long_texts[0]) for clf in fitted), atol=0.05)
    assert {parameter.device.type for clf in fitted for parameter in clf.operators_.parameters()} == {"cpu"}


@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_of_a_processor(pooling, training):
    found = []
    for device in ("cpu", "cuda"):
        generator = torch.Generator().manual_seed(0)
        operators = ConceptOperators(8, 3, 2, n_members=2, pooling=pooling, generator=generator, dtype=torch.float64)
        tokens = torch.randn(int(LENGTHS.sum()), 8, generator=generator, dtype=torch.float64).to(device)
        tokens.requires_grad_()
        spaces = operators.to(device).train(training)(tokens, LENGTHS.to(device))
        (spaces.logits.square().sum() + spaces.concepts.square().sum()).backward()
        found.append([spaces.logits.detach(), tokens.grad, *(p.grad for p in operators.parameters())])
    for on_processor, on_card in zip(*found, strict=True):
        torch.testing.assert_close(on_card.cpu(), on_processor)


@pytest.mark.parametrize("function", [segment_sum, expand_to_tokens])
def test_sums_over_texts_have_gradients_of_gradients(function):
    lengths = torch.tensor([2, 0, 3], device="cuda")
    n = {segment_sum: 5, expand_to_tokens: 3}[function]
    values = torch.randn(n, 2, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: function(v.tanh(), lengths).square(), values)


def test_vectors_of_a_processor(tiny_bert):
    rows = [
        TokenEncoder(tiny_bert, cache_dir=None, dtype="float32", device=device).transform(TEXTS).values
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*(r.astype(np.float32) for r in rows), atol=5e-3)


def test_forks_find_what_is_cached_and_say_what_to_do_about_the_rest(tiny_bert, tmp_path):
    encoder = TokenEncoder(tiny_bert, cache_dir=tmp_path)
    y = [0, 1, 0, 1] * 8
    clf = SpaceClassifier(encoder, max_epochs=2).fit(TEXTS, y)
    wanted = clf.predict_proba(TEXTS)
    assert torch.cuda.is_initialized()

    def child(send):
        answers = []
        for work in (
            lambda: np.array_equal(clf.predict_proba(TEXTS), wanted),
            lambda: clf.predict(["another text"]),
            lambda: clf.fit(TEXTS, y),
        ):
            try:
                answers.append(str(work()))
            except BaseException:
                answers.append(traceback.format_exc())
        send.send(answers)

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(send,), daemon=True)
    process.start()
    assert receive.poll(120)
    found, missing, trained = receive.recv()
    process.join()
    assert found == "True"
    assert "RuntimeError: CUDA cannot be used here, in a process that was forked" in missing
    assert "RuntimeError: torch can train nothing here, in a process that was forked" in trained
