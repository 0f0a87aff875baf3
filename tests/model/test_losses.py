"""The losses against numbers worked out by hand, and each known defect of the original by name."""

import math

import pytest
import torch

from skspace._model.losses import inter_space_loss, intra_space_loss, label_free_inter_space_loss

# Two texts of two and one token, two classes, one axis.
CONCEPTS = torch.tensor([[[0.5], [-0.2]], [[0.1], [-0.6]], [[0.9], [0.3]]])  # (3, 2, 1)
LENGTHS = torch.tensor([2, 1])
TARGETS = torch.tensor([[1, 0], [0, 1]])


def test_inter_space_loss_by_hand():
    # text 0: means .3, -.4; own 1 - .3 = .7, other 1 - .4 = .6. text 1: own 1 - .3 = .7, other 1 + .9 = 1.9.
    expected = 0.5 * (0.7 + 0.7) / 2 + 0.5 * (0.6 + 1.9) / 2
    assert inter_space_loss(CONCEPTS, LENGTHS, TARGETS).item() == pytest.approx(expected)


def test_inter_space_loss_weighs_texts():
    expected = 0.5 * (3 * 0.7 + 0.7) / 4 + 0.5 * (3 * 0.6 + 1.9) / 4
    loss = inter_space_loss(CONCEPTS, LENGTHS, TARGETS, torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(expected)


def test_inter_space_loss_on_centroids():
    centroids = torch.tensor([[[0.8], [0.0]], [[0.0], [0.4]]])
    expected = 0.5 * (0.2 + 0.6) / 2 + 0.5 * (1.0 + 1.0) / 2
    assert inter_space_loss(CONCEPTS, LENGTHS, TARGETS, centroids=centroids).item() == pytest.approx(expected)


def test_inter_space_loss_averages_over_the_other_classes():
    concepts = torch.tensor([[[0.4], [-1.0], [0.0], [0.5]]])  # one token, four classes
    expected = 0.5 * 0.6 + 0.5 * (0.0 + 1.0 + 1.5) / 3
    loss = inter_space_loss(concepts, torch.tensor([1]), torch.tensor([[1, 0, 0, 0]]))
    assert loss.item() == pytest.approx(expected)


def test_inter_space_loss_several_labels():
    concepts = torch.tensor([[[0.4], [0.2], [-0.5]]])
    expected = 0.5 * (0.6 + 0.8) / 2 + 0.5 * 0.5
    assert inter_space_loss(concepts, torch.tensor([1]), torch.tensor([[1, 1, 0]])).item() == pytest.approx(expected)


def test_multilabel_batch_without_positives_contributes_zero_instead_of_nan():
    concepts = torch.zeros(2, 2, 1, requires_grad=True)
    loss = inter_space_loss(concepts, torch.tensor([1, 1]), torch.zeros(2, 2))
    assert loss.item() == pytest.approx(0.5)  # the other side alone: ½ (1 + 0)
    loss.backward()
    assert torch.isfinite(concepts.grad).all()
    everything = inter_space_loss(concepts, torch.tensor([1, 1]), torch.ones(2, 2))
    assert everything.item() == pytest.approx(0.5)


def test_intra_space_loss_by_hand():
    # text 0 alone has two tokens: Var(.5, .1) = .08, Var(-.2, -.6) = .08
    assert intra_space_loss(CONCEPTS, LENGTHS).item() == pytest.approx(1 / 0.081)
    original = intra_space_loss(CONCEPTS, LENGTHS, reduction="sum", eps=1e-9)
    assert original.item() == pytest.approx(2 / (0.08 + 1e-9))


def test_intra_space_loss_weighs_texts():
    concepts = torch.tensor([[[0.0]], [[1.0]], [[0.0]], [[0.5]]])
    loss = intra_space_loss(concepts, torch.tensor([2, 2]), torch.tensor([1.0, 3.0]), eps=0.5)
    assert loss.item() == pytest.approx((1 / (0.5 + 0.5) + 3 / (0.125 + 0.5)) / 4)


def test_intra_space_loss_does_not_grow_with_the_number_of_axes():
    """Defect of the original: 15, 47, 98 for 3, 64, 128 axes."""
    concepts = torch.rand(10, 2, 3, generator=torch.Generator().manual_seed(0))
    wider = concepts.repeat(1, 1, 40)
    lengths = torch.tensor([10])
    torch.testing.assert_close(intra_space_loss(wider, lengths), intra_space_loss(concepts, lengths))
    original = [intra_space_loss(c, lengths, reduction="sum", eps=1e-9) for c in (concepts, wider)]
    torch.testing.assert_close(original[1], 40 * original[0])


def test_intra_space_loss_of_one_token_texts_is_zero_instead_of_nan():
    concepts = torch.rand(2, 2, 3, requires_grad=True)
    loss = intra_space_loss(concepts, torch.tensor([1, 1]))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(concepts.grad).all()
    # a text of one token beside others does not count either
    torch.testing.assert_close(intra_space_loss(CONCEPTS, LENGTHS), intra_space_loss(CONCEPTS[:2], torch.tensor([2])))


def test_intra_space_loss_is_bounded_for_equal_tokens():
    loss = intra_space_loss(torch.full((4, 2, 3), 0.5), torch.tensor([4]))
    assert loss.item() == pytest.approx(1000, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Defect of the original: an epsilon of 1e-9 underflows."""
    half = torch.full((4, 2, 3), 0.5, dtype=dtype)
    for loss in (intra_space_loss(half, torch.tensor([4])), inter_space_loss(half, torch.tensor([4]), TARGETS[:1])):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)


def test_losses_of_a_text_do_not_depend_on_its_company():
    """Defect of the original: padding enters the mean, the variance and the inter-space term."""
    one = CONCEPTS[:2], LENGTHS[:1], TARGETS[:1]
    # An empty text is all that padding could be here, and it changes nothing.
    padded = CONCEPTS[:2], torch.tensor([2, 0]), TARGETS
    torch.testing.assert_close(inter_space_loss(*padded), inter_space_loss(*one))
    torch.testing.assert_close(intra_space_loss(*padded[:2]), intra_space_loss(*one[:2]))
    # The loss of two texts is the mean of theirs.
    both = inter_space_loss(CONCEPTS, LENGTHS, TARGETS)
    each = [inter_space_loss(CONCEPTS[2:], LENGTHS[1:], TARGETS[1:]), inter_space_loss(*one)]
    torch.testing.assert_close(both, torch.stack(each).mean())


def test_inter_on_tokens_opposes_intra_and_on_centroids_less():
    """Tokens at ±1 minimise the one and maximise the other; centroids leave the tokens room."""
    tokens = torch.tensor([[[1.0]], [[0.2]]])  # spread, centroid .6
    squeezed = torch.tensor([[[0.6]], [[0.6]]])
    lengths, targets = torch.tensor([2]), torch.tensor([[1]])
    assert intra_space_loss(tokens, lengths) < intra_space_loss(squeezed, lengths)
    own = [inter_space_loss(c, lengths, targets, centroids=torch.tensor([[[0.6]]])).item() for c in (tokens, squeezed)]
    assert own[0] == own[1]


def test_label_free_inter_space_loss_by_hand():
    centroids = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]], [[0.0, 1.0], [0.5, 0.5], [0.0, 0.0]]])
    # batch means (.5, .5), (.5, .5), (0, 0): products .5, 0, 0
    expected = 1 / (1 - math.tanh(0.5)) + 1 + 1
    assert label_free_inter_space_loss(centroids).item() == pytest.approx(expected, rel=1e-6)


def test_unknown_reduction():
    with pytest.raises(ValueError, match=r"must be 'mean' or 'sum'. Got 'max' instead"):
        intra_space_loss(CONCEPTS, LENGTHS, reduction="max")
