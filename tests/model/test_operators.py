"""ConceptOperators against the equations of its header, written out token by token in numpy."""

import numpy as np
import pytest
import torch

from skspace import ConceptOperators
from skspace._model import kernels
from skspace._model.kernels import PooledConcepts, _product, add_products, matmul_rows, segment_sum

D, K, M_LATENT, MEMBERS = 12, 3, 4, 2
LENGTHS = torch.tensor([3, 1, 0, 7, 2])


@pytest.fixture(params=[("attention", "linear"), ("mean", "linear"), ("attention", "alignment"), ("mean", "alignment")])
def operators(request):
    pooling, head = request.param
    generator = torch.Generator().manual_seed(0)
    module = ConceptOperators(
        D,
        K,
        M_LATENT,
        n_members=MEMBERS,
        pooling=pooling,
        head=head,
        scale=1.7,
        generator=generator,
        dtype=torch.float64,
    )
    with torch.no_grad():  # away from the start, where attention is the mean and A has a pattern
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.eval()


@pytest.fixture
def tokens():
    return torch.randn(int(LENGTHS.sum()), D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(module, E):
    """Logits of one text (T, d), one member after another."""
    logits = []
    for i in range(MEMBERS):
        W = module.operators[i].detach().numpy() / module.scale  # (K, d, m)
        C = np.stack([np.tanh(E @ W[k]) for k in range(K)], 1)  # (T, K, m)
        alpha = np.full(C.shape, 1 / max(1, len(E)))
        if module.pooling == "attention":
            a = module.queries[i].detach().numpy() / module.scale
            scores = np.exp(np.stack([E @ a[k] for k in range(K)], 1))
            alpha = scores / scores.sum(0)
        mu = (alpha * C).sum(0)  # (K, m)
        if module.head == "linear":
            logits.append(module.coef[i].detach().numpy() @ mu.ravel() + module.intercept[i].detach().numpy())
        else:
            logits.append(np.exp(module.log_slope[i].item()) * mu.mean(1))
    return np.stack(logits)


def test_forward_is_the_equations(operators, tokens):
    spaces = operators(tokens, LENGTHS)
    for i, E in enumerate(np.split(tokens.numpy(), np.cumsum(LENGTHS.numpy())[:-1])):
        np.testing.assert_allclose(spaces.logits[i].detach(), by_hand(operators, E), atol=1e-12)


def test_training_and_eval_agree(operators, tokens):
    evaluated = operators(tokens, LENGTHS).logits
    torch.testing.assert_close(operators.train()(tokens, LENGTHS).logits, evaluated)


def test_logits_are_sums_over_tokens(operators, tokens):
    spaces = operators(tokens, LENGTHS)
    coef, intercept = operators.as_linear()
    terms = (spaces.attention * spaces.concepts).flatten(1) @ coef.permute(0, 2, 1).flatten(0, 1)  # (n_tokens, K)
    logits = segment_sum(terms, LENGTHS) + intercept
    torch.testing.assert_close(logits, spaces.logits.mean(1), atol=1e-12, rtol=0)


def test_attention_sums_to_one(operators, tokens):
    attention = operators(tokens, LENGTHS).attention
    sums = segment_sum(attention, LENGTHS)
    torch.testing.assert_close(sums[LENGTHS > 0], torch.ones_like(sums[LENGTHS > 0]))


def test_one_token_has_weight_one(operators, tokens):
    spaces = operators(tokens[3:4], torch.tensor([1]))
    torch.testing.assert_close(spaces.centroids[0], spaces.concepts[0])


def test_no_token_gives_centroid_zero_and_logits_b(operators):
    spaces = operators(torch.empty(0, D, dtype=torch.float64), torch.tensor([0, 0]))
    assert (spaces.centroids == 0).all()
    expected = operators.intercept if operators.head == "linear" else torch.zeros(MEMBERS, K, dtype=torch.float64)
    torch.testing.assert_close(spaces.logits[1], expected)


def test_padding_enters_nothing_a_text_is_independent_of_its_company(operators, tokens):
    """Defect of the original: padding enters the mean, so a prediction depends on its batch."""
    whole = operators(tokens, LENGTHS).logits
    for i, E in enumerate(tokens.split(LENGTHS.tolist())):
        torch.testing.assert_close(operators(E, LENGTHS[i : i + 1]).logits[0], whole[i], atol=1e-12, rtol=0)


@pytest.mark.parametrize("d", [384, 1024])
@pytest.mark.parametrize("width", [1, 6, 96, 200])
def test_a_row_has_the_same_bits_in_any_company(width, d, threads):
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(3000, d, generator=generator), torch.randn(d, width, generator=generator)

    def same():
        alone = torch.cat([matmul_rows(rows[i : i + 1], weight) for i in range(40)])
        together = matmul_rows(rows, weight)
        return torch.equal(together[:40], alone) and torch.equal(matmul_rows(rows[7:1200], weight), together[7:1200])

    assert threads(same) == [True] * 5


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100])
def test_products_of_members_are_those_of_each(n):
    generator = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(3, n, 40, generator=generator), torch.randn(3, 40, 7, generator=generator)
    products = matmul_rows(rows, weight)
    torch.testing.assert_close(products, rows @ weight)
    for member in range(3):
        assert torch.equal(products[member], matmul_rows(rows[member], weight[member]))
    if n:
        assert torch.equal(products[:, :1], matmul_rows(rows[:, :1], weight))


@pytest.mark.parametrize("pooling", ["attention", "mean"])
@pytest.mark.parametrize("head", ["linear", "alignment"])
def test_a_text_has_the_same_bits_in_any_company(pooling, head):
    generator = torch.Generator().manual_seed(0)
    operators = ConceptOperators(D, 7, 16, n_members=3, pooling=pooling, head=head, generator=generator).eval()
    if pooling == "attention":
        operators.queries.normal_(generator=generator)
    lengths = torch.randint(0, 60, (80,), generator=generator)
    tokens = torch.randn(int(lengths.sum()), D, generator=generator)
    with torch.inference_mode():
        together = operators(tokens, lengths)
        for i, alone in enumerate(tokens.split(lengths.tolist())):
            assert torch.equal(operators(alone, lengths[i : i + 1]).logits[0], together.logits[i])


def test_attention_starts_as_the_plain_mean():
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    attention = ConceptOperators(D, K, M_LATENT, generator=generators[0])
    mean = ConceptOperators(D, K, M_LATENT, pooling="mean", generator=generators[1])
    tokens = torch.randn(5, D, generator=generators[0])
    torch.testing.assert_close(
        attention(tokens, torch.tensor([2, 3])).logits, mean(tokens, torch.tensor([2, 3])).logits
    )


def test_head_starts_zero_sum_with_the_own_space_first():
    coef = ConceptOperators(D, K, M_LATENT).coef[0].detach().unflatten(1, (K, M_LATENT))  # (K, K, m)
    own = torch.diagonal(coef, dim1=0, dim2=1)
    assert (own > 0).all()
    torch.testing.assert_close(coef.sum(0), torch.zeros(K, M_LATENT))
    torch.testing.assert_close(coef[0, 1], -coef[0, 0] / (K - 1))


@pytest.mark.parametrize(("d", "m", "K", "expected"), [(768, 3, 2, 4622), (768, 3, 3, 6942), (768, 128, 2, 197122)])
def test_number_of_parameters_is_the_papers(d, m, K, expected):
    module = ConceptOperators(d, K, m, pooling="mean")
    assert sum(p.numel() for p in module.parameters()) == expected


def test_fold_changes_no_probability_and_gives_one_meaning(operators, tokens):
    before = operators(tokens, LENGTHS).logits.softmax(-1)
    operators.fold(center=True)
    torch.testing.assert_close(operators(tokens, LENGTHS).logits.softmax(-1), before)
    assert operators.scale == 1.0
    if operators.head == "linear":
        coef = operators.coef.unflatten(2, (K, M_LATENT))
        assert (torch.diagonal(coef, dim1=1, dim2=2) >= 0).all()
        torch.testing.assert_close(operators.coef.sum(1), torch.zeros_like(operators.coef.sum(1)))
        torch.testing.assert_close(operators.intercept.sum(1), torch.zeros_like(operators.intercept.sum(1)))


def test_fold_without_centring_keeps_the_logits(operators, tokens):
    before = operators(tokens, LENGTHS).logits
    operators.fold(center=False)
    torch.testing.assert_close(operators(tokens, LENGTHS).logits, before)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [30.0, 1e6])
def test_large_scores_do_not_overflow(training, size):
    module = ConceptOperators(D, K, M_LATENT).train(training)
    with torch.no_grad():
        module.queries.add_(size)
    # scores of both signs in one batch, and a text without tokens
    spaces = module(torch.cat([torch.ones(3, D), -torch.ones(1, D)]), torch.tensor([3, 0, 1]))
    spaces.logits.sum().backward()
    assert torch.isfinite(spaces.logits).all()
    assert torch.isfinite(module.weight.grad).all()
    torch.testing.assert_close(spaces.centroids[[0, 2]], spaces.concepts[[0, 3]])
    assert (spaces.centroids[1] == 0).all()


def test_training_and_eval_have_the_same_gradient(tokens):
    gradients = []
    for training in (True, False):
        module = ConceptOperators(D, K, M_LATENT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        module.queries.normal_(generator=torch.Generator().manual_seed(1))
        module.train(training)(tokens, LENGTHS).logits.square().sum().backward()
        gradients.append(module.weight.grad)
    torch.testing.assert_close(*gradients)


def test_start_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    ConceptOperators(D, K, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


def by_parts(tokens, weight, lengths, attention):
    """What PooledConcepts gives, written down as its equations."""
    projected, *scores = weight.split(weight.shape[1] // (1 + attention), dim=1)
    concepts, means = torch.tanh(tokens @ projected), []
    for E, C in zip(tokens.split(lengths.tolist()), concepts.split(lengths.tolist()), strict=True):
        alpha = torch.softmax(E @ scores[0], 0) if attention else 1 / max(1, len(E))
        means.append((alpha * C).sum(0))
    return torch.stack(means), concepts


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("long", [1, 300])  # one block of rows, or several whose bounds are within texts
@pytest.mark.parametrize("scale", [1.0, 100.0])  # of the scores: exp of 100 and more needs care
@pytest.mark.parametrize("wanted", [(0,), (1,), (0, 1)])
def test_pooled_concepts_and_their_gradients(attention, long, scale, wanted, monkeypatch):
    monkeypatch.setattr(kernels, "_NUMBERS", 1)
    generator = torch.Generator().manual_seed(0)
    lengths = LENGTHS * long
    tokens = torch.randn(int(lengths.sum()), D, generator=generator, dtype=torch.float64)
    weight = torch.randn(D, (1 + attention) * 5, generator=generator, dtype=torch.float64)
    weight[:, 5:] *= scale
    found = []
    for function in (PooledConcepts.apply, by_parts):
        inputs = tokens.clone().requires_grad_(), weight.clone().requires_grad_()
        outputs = function(*inputs, lengths, attention)
        loss = sum((outputs[i] * torch.linspace(-1, 1, outputs[i].numel()).view_as(outputs[i])).sum() for i in wanted)
        found.append((*outputs, *torch.autograd.grad(loss, inputs)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


def test_large_scores_are_multiplied_once(monkeypatch):
    product, rows = kernels._product, []
    monkeypatch.setattr(kernels, "_NUMBERS", 1)
    monkeypatch.setattr(kernels, "_product", lambda *args, out: rows.append(len(out)) or product(*args, out=out))
    tokens = torch.full((1300, 1), 100.0)
    PooledConcepts.apply(tokens, torch.ones(1, 2), torch.tensor([1300]), True)
    assert rows == [512, 512, 276]


def test_gradients_of_gradients_are_there_in_eval_mode(operators, tokens):
    for training in (True, False):
        logits = operators.train(training)(tokens, LENGTHS).logits
        (gradient,) = torch.autograd.grad(logits.square().sum(), operators.weight, create_graph=True)
        if training:
            with pytest.raises(RuntimeError, match="once_differentiable"):
                gradient.square().sum().backward()
        else:
            gradient.square().sum().backward()
            assert operators.weight.grad.isfinite().all()


def test_scores_out_of_the_range_of_float32():
    """Means of float32 are those of float64, though exp of a score is infinite, or of every score of a text 0."""
    weight = torch.tensor([[1.0, 1.0]])
    for tokens in ([[-200.0], [-201.0]], [[-98.0], [-99.0]], [[200.0], [201.0]], [[300.0], [0.0]]):
        means, _ = PooledConcepts.apply(torch.tensor(tokens), weight, torch.tensor([2]), True)
        expected, _ = by_parts(torch.tensor(tokens).double(), weight.double(), torch.tensor([2]), True)
        torch.testing.assert_close(means.double(), expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n_tokens", [12, 14])
def test_lengths_that_do_not_add_up(operators, training, n_tokens):
    tokens = torch.zeros(n_tokens, D, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"add up to the number of tokens, {n_tokens}. Got lengths that add up to 13"):
        operators.train(training)(tokens, LENGTHS)


@pytest.mark.parametrize("n", [0, 5, 512, 1300])
def test_training_multiplies_in_few_shapes(n, monkeypatch):
    mm, rows = torch.mm, []
    monkeypatch.setattr(torch, "mm", lambda left, right, out: rows.append(len(left)) or mm(left, right, out=out))
    generator = torch.Generator().manual_seed(n)
    tokens, weight = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((n, D), (D, 7)))
    torch.testing.assert_close(_product(tokens, weight, tokens.new_empty(n, 7)), tokens @ weight)
    assert rows == [n // 512 * 512]


@pytest.mark.parametrize("n", [0, 5, 512, 1300])
def test_products_are_added(n):
    generator = torch.Generator().manual_seed(n)
    left, right = (torch.randn(n, width, generator=generator, dtype=torch.float64) for width in (7, D))
    total = torch.ones(7, D, dtype=torch.float64)
    add_products(total, left, right)
    torch.testing.assert_close(total, 1 + left.T @ right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "width"), [(3085, 192), (6405, 64), (1500, 12)])
def test_added_products_have_the_same_bits_on_any_number_of_threads(dtype, n, width, threads):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, columns, generator=generator).to(dtype) for columns in (width, 384))

    def added():
        total = torch.zeros(width, 384)
        add_products(total, left, right)
        return total

    one, *others = threads(added)
    assert one.any()
    assert all(torch.equal(one, other) for other in others)


def test_gradient_of_the_tokens_is_that_of_eval(tokens):
    gradients = []
    for training in (True, False):  # a script that trains the encoder too wants it
        module = ConceptOperators(D, K, M_LATENT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        inputs = tokens.clone().requires_grad_()
        module.train(training)(inputs, LENGTHS).logits.square().sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients)


def test_products_in_the_dtype_of_the_tokens():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((64,), 20)
    tokens = torch.randn(64 * 20, 384, generator=generator).to(torch.bfloat16)
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        module = ConceptOperators(384, K, M_LATENT, generator=torch.Generator().manual_seed(1)).train()
        logits = module(tokens.to(dtype), lengths).logits
        logits.square().sum().backward()
        assert logits.dtype == module.weight.grad.dtype == torch.float32
        found.append((logits.detach(), module.weight.grad))
    (logits, gradient), (expected, its_gradient) = found
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, atol=0.01, rtol=0.01)
    assert torch.nn.functional.cosine_similarity(gradient.flatten(), its_gradient.flatten(), dim=0) > 0.999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "atention"}, r"'pooling' parameter .* must be 'attention' or 'mean'\. Got 'atention' instead"),
        ({"head": "liner"}, r"'head' parameter .* must be 'linear' or 'alignment'\. Got 'liner' instead"),
        ({"head": None}, r"'head' parameter .* Got None instead"),
    ],
)
def test_misspelt_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConceptOperators(8, 2, 3, **arguments)
