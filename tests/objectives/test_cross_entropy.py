"""Cross-entropy by pieces: its value and gradients against the written-out formula and torch's own loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpuday.objectives import _cross_entropy
from gpuday.objectives._cross_entropy import cross_entropy, piece, rows_of_a_piece

P, D, V = 23, 8, 50


@pytest.fixture
def case():
    """features, table, bias, labels and weights, the first three with gradients."""
    generator = torch.Generator().manual_seed(0)
    features, table, bias = (3 * torch.randn(*s, generator=generator) for s in ((P, D), (V, D), (V,)))
    labels, weights = torch.randint(0, V, (P,), generator=generator), torch.rand(P, generator=generator)
    return [t.requires_grad_() for t in (features, table, bias)], labels, weights


def plain(features, table, bias, labels, weights):
    """The same through logits that exist whole."""
    logits = F.linear(features, table, bias).float()
    return (F.cross_entropy(logits, labels, reduction="none") * weights).sum()


def gradients(loss, tensors):
    return torch.autograd.grad(loss, tensors)


def test_two_classes_by_hand():
    """Logits 0 and ln 3: the losses are ln 4 and ln 4 - ln 3, weighted by 2 and 0.5."""
    features, table = torch.ones(2, 1), torch.tensor([[0.0], [np.log(3.0)]])
    loss = cross_entropy(features, table, None, torch.tensor([0, 1]), torch.tensor([2.0, 0.5]))
    assert loss.item() == pytest.approx(2 * np.log(4) + 0.5 * (np.log(4) - np.log(3)), rel=1e-6)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 5, 23, 1000])
def test_value_and_gradients_are_those_of_whole_logits(case, monkeypatch, rows, with_bias):
    """In pieces of 1, 5 (the last one smaller), all, and more than all positions; with a bias and without."""
    (features, table, bias), labels, weights = case
    given = [features, table, bias] if with_bias else [features, table]
    bias = bias if with_bias else None
    monkeypatch.setitem(_cross_entropy.PIECE_BYTES, "cpu", rows * V * 4)
    loss, expected = (f(features, table, bias, labels, weights) for f in (cross_entropy, plain))
    torch.testing.assert_close(loss, expected)
    # Scaled, as gradient accumulation or a loss scale would.
    for gradient, reference in zip(gradients(3.0 * loss, given), gradients(3.0 * expected, given), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-5)


def test_gradients_pass_the_numerical_check():
    """In double precision, by finite differences; the softmax itself stays in fp32, hence the step."""
    generator = torch.Generator().manual_seed(1)
    features, table = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in ((3, 4), (6, 4)))
    labels, weights = torch.tensor([0, 5, 2]), torch.tensor([1.0, 0.0, 2.0])
    inputs = (features.requires_grad_(), table.requires_grad_())
    f = lambda x, w: cross_entropy(x, w, None, labels, weights).double()  # noqa: E731
    assert torch.autograd.gradcheck(f, inputs, eps=1e-2, atol=1e-3)


def test_bf16_sums_losses_and_table_gradients_in_fp32():
    """4,000 losses of ln 2 would stand still at 256 in bf16, and so would 4,000 gradients of one half."""
    features = torch.ones(4000, 1, dtype=torch.bfloat16)
    table = torch.zeros(2, 1, requires_grad=True)
    loss = cross_entropy(features, table, None, torch.zeros(4000, dtype=torch.int64), torch.ones(4000))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(4000 * np.log(2), rel=1e-5)
    (gradient,) = gradients(loss, [table])
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, torch.tensor([[-2000.0], [2000.0]]))


def test_large_logits_do_not_overflow():
    """The largest logit is taken out before the exponential."""
    features = torch.tensor([[1e4], [-1e4]])
    table = torch.tensor([[1.0], [0.0]], requires_grad=True)
    loss = cross_entropy(features, table, None, torch.tensor([1, 1]), torch.ones(2))
    assert loss.item() == pytest.approx(1e4)
    assert torch.isfinite(gradients(loss, [table])[0]).all()


def test_no_piece_holds_more_logits_than_its_share(case, monkeypatch):
    """With room for 7 positions, 23 go through in four pieces of 6, the last one padded."""
    (features, table, bias), labels, weights = case
    monkeypatch.setitem(_cross_entropy.PIECE_BYTES, "cpu", 7 * V * 4)
    seen = []

    def counting(part, *rest):
        seen.append(len(part))
        return piece(part, *rest)

    cross_entropy(features, table, bias, labels, weights, counting)
    assert seen == [6, 6, 6, 6]


@pytest.mark.parametrize(
    ("positions", "expected"),
    [(100, 100), (1024, 1024), (1025, 513), (2432, 811), (3264, 816)],
)
def test_pieces_are_even_and_fit(positions, expected):
    """16 MiB hold 1,024 positions of 8,192 bf16 logits; more are shared out evenly."""
    assert rows_of_a_piece(positions, 8192, "cpu", 2) == expected


def test_eight_mask_levels_compile_one_piece_each(monkeypatch):
    """As many as a recipe may have, several pieces a level: the compiler's limit of recompilations is not reached."""
    monkeypatch.setitem(_cross_entropy.PIECE_BYTES, "cpu", 7 * V * 4)
    graphs = []

    def captured(graph, inputs):
        graphs.append(inputs[0].shape)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(piece, backend=captured, dynamic=False, fullgraph=True)
    for positions in (23, 30, 33, 41, 12, 19, 51, 60):
        features, table = torch.ones(positions, D), torch.ones(V, D)
        cross_entropy(features, table, None, torch.zeros(positions, dtype=torch.int64), torch.ones(positions), compiled)
    torch.compiler.reset()
    assert len(graphs) == len(set(graphs)) <= 8
