"""Muon against one matrix at a time in double precision, and against torch's own."""

import pytest
import torch

from gpuday.optim import Named
from gpuday.optim.adamw import Adamw
from gpuday.optim.muon import Muon, orthogonalise


def nothing():
    """A closure that is not asked."""
    raise AssertionError("Muon takes the gradients as they stand")


def rest():
    """One parameter that is no matrix and whose gradient is zero: AdamW wants something to hold."""
    extra = Named(name="extra.bias", tensor=torch.nn.Parameter(torch.zeros(2)), role="vector")
    extra.tensor.grad = torch.zeros(2)
    return [extra]


def newton_schulz(matrix):
    """Five quintic steps on one matrix in double precision, as Jordan et al. write them."""
    x = matrix.double()
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Plain:
    """One matrix, one momentum, no stacks: the definition."""

    def __init__(self, matrix, *, lr, momentum, nesterov, weight_decay):
        self.matrix, self.buffer = matrix.detach().double().clone(), torch.zeros_like(matrix, dtype=torch.float64)
        self.lr, self.momentum, self.nesterov, self.decay = lr, momentum, nesterov, weight_decay

    def step(self, gradient, multiplier):
        mu, gradient = self.momentum, gradient.double()
        self.buffer = mu * self.buffer + (1 - mu) * gradient
        update = (1 - mu) * gradient + mu * self.buffer if self.nesterov else self.buffer
        rows, columns = self.matrix.shape
        rate = self.lr * multiplier
        self.matrix = (1 - rate * self.decay) * self.matrix
        self.matrix -= rate * max(1.0, rows / columns) ** 0.5 * newton_schulz(update)


def with_singular_values(values, shape):
    """A matrix of this shape with the given singular values, its singular vectors drawn at random."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, len(values), generator=generator))[0] for n in shape)
    return (u * values) @ v.T


@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (32, 64), (32, 200)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape):
    """Between 0.6 and 1.3 where the input's spread over a factor of 20, square, tall or wide, at any scale."""
    matrix = with_singular_values(torch.linspace(0.05, 1.0, 32), shape)
    for scale in (1e-4, 1.0, 1e4):
        out = orthogonalise(scale * matrix[None])
        assert (out.shape, out.dtype) == ((1, *shape), torch.bfloat16)
        values = torch.linalg.svdvals(out.float())
        assert 0.6 <= values.min().item() and values.max().item() <= 1.3


def test_orthogonalising_keeps_the_singular_vectors():
    """U^T out V of the input's own U and V is nearly diagonal and positive: the polar factor, not any orthogonal matrix."""
    stack = torch.randn(2, 32, 48, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(stack, full_matrices=False)
    inner = u.mT @ orthogonalise(stack).float() @ vh.mT
    assert (inner.diagonal(dim1=1, dim2=2) > 0.6).all()
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 0.05


def test_every_matrix_of_a_stack_is_orthogonalised_on_its_own():
    """A matrix a million times larger beside it changes nothing; the input is left as it was."""
    stack = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    stack[1] *= 1e6
    before = stack.clone()
    out = orthogonalise(stack)
    for i in range(3):
        torch.testing.assert_close(out[i].double(), newton_schulz(stack[i]), atol=0.03, rtol=0.0)
    assert torch.equal(stack, before)


def test_a_zero_matrix_stays_zero():
    """No gradient, no update, no NaN."""
    assert not orthogonalise(torch.zeros(2, 4, 8)).any()


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_one_matrix_at_a_time(nesterov, make_parameters, give_gradients):
    """Five steps at changing rates; fused projections are taken apart first. Within the rounding of bf16 updates."""
    knobs = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    parameters = make_parameters("matrix")
    stepper = Muon(**knobs).build([*parameters, *rest()])
    references = [[Plain(piece, **knobs) for piece in p.tensor.chunk(p.fused)] for p in parameters]
    start = [p.tensor.detach().double().clone() for p in parameters]
    for step in range(5):
        multiplier = 1.0 - 0.15 * step
        give_gradients(parameters, step)
        for p, plain in zip(parameters, references, strict=True):
            for reference, gradient in zip(plain, p.tensor.grad.chunk(p.fused), strict=True):
                reference.step(gradient, multiplier)
        stepper.step(multiplier, nothing)
    for p, plain, was in zip(parameters, references, start, strict=True):
        expected = torch.cat([reference.matrix for reference in plain])
        moved, wanted = p.tensor.detach().double() - was, expected - was
        assert (moved - wanted).norm() < 0.02 * wanted.norm(), p.name


def test_muon_equals_torchs(make_parameters, give_gradients):
    """`torch.optim.Muon` has the same conventions but for fused matrices; both in bf16, five steps."""
    ours, theirs = make_parameters("matrix"), make_parameters("matrix")
    ours, theirs = [p for p in ours if p.fused == 1], [p for p in theirs if p.fused == 1]
    stepper = Muon(lr=0.05, momentum=0.9, weight_decay=0.1).build([*ours, *rest()])
    reference = torch.optim.Muon([p.tensor for p in theirs], lr=0.05, momentum=0.9, weight_decay=0.1)
    start = [p.tensor.detach().clone() for p in ours]
    for step in range(5):
        for parameters in (ours, theirs):
            give_gradients(parameters, step)
        stepper.step(1.0, nothing)
        reference.step()
    for mine, other, was in zip(ours, theirs, start, strict=True):
        assert (mine.tensor - other.tensor).norm() < 0.02 * (other.tensor - was).norm(), mine.name


def test_taking_apart_what_is_fused_matters():
    """Three stacked matrices equal three parameters, to the bit, and differ from one tall matrix."""
    values = torch.randn(96, 32, generator=torch.Generator().manual_seed(0))

    def run(pieces, fused):
        parameters = [
            Named(name=f"{i}.weight", tensor=torch.nn.Parameter(piece.clone()), role="matrix", fused=fused)
            for i, piece in enumerate(values.chunk(pieces))
        ]
        gradient = torch.randn(96, 32, generator=torch.Generator().manual_seed(1))
        for p, piece in zip(parameters, gradient.chunk(pieces), strict=True):
            p.tensor.grad = piece.clone()
        Muon(lr=0.1).build([*parameters, *rest()]).step(1.0, nothing)
        return torch.cat([p.tensor.detach() for p in parameters])

    stacked, apart, tall = run(1, 3), run(3, 1), run(1, 1)
    assert torch.equal(stacked, apart)
    assert (tall - stacked).abs().max() > 0.01


def test_everything_else_goes_to_the_rest(make_parameters, give_gradients):
    """Tables, norms and biases move as the configured AdamW moves them, at the same multiplier."""
    adamw = Adamw(lr=0.03, beta1=0.7, weight_decay=0.2)
    ours, theirs = make_parameters(), make_parameters()
    give_gradients(ours, 0)
    give_gradients(theirs, 0)
    others = [p for p in theirs if p.role != "matrix"]
    Muon(rest=adamw).build(ours).step(0.5, nothing)
    adamw.build(others).step(0.5, nothing)
    assert len(others) == 4
    mine = {p.name: p.tensor for p in ours}
    assert all(torch.equal(mine[p.name], p.tensor) for p in others)


def test_gradients_are_left_as_they_are(make_parameters, give_gradients):
    """Their norm may be looked at after the step."""
    parameters = make_parameters()
    give_gradients(parameters, 0)
    before = [p.tensor.grad.clone() for p in parameters]
    Muon().build(parameters).step(1.0, nothing)
    assert all(torch.equal(p.tensor.grad, was) for p, was in zip(parameters, before, strict=True))


def test_a_matrix_without_gradient_is_named(make_parameters, give_gradients):
    """A matrix that takes no part in the loss is a fault of the model, not to be passed over."""
    parameters = make_parameters()
    give_gradients(parameters, 0)
    parameters[3].tensor.grad = None
    with pytest.raises(RuntimeError, match=r"blocks\.0\.feedforward\.down\.weight took no part"):
        Muon().build(parameters).step(1.0, nothing)
