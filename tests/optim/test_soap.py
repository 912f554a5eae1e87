"""SOAP one matrix at a time in double precision."""

import pytest
import torch

from gpuday.optim import Named
from gpuday.optim.soap import Soap

SIZE = 6


class Plain:
    """The algorithm as its paper and the authors' code have it: no stacks, no batches."""

    def __init__(self, w):
        self.w, self.m, self.v, self.t = w.double(), 0.0, torch.zeros(SIZE, SIZE).double(), 0
        self.l = self.r = torch.zeros(SIZE, SIZE).double()

    def measure(self, g):
        self.l, self.r = 0.9 * self.l + 0.1 * g @ g.T, 0.9 * self.r + 0.1 * g.T @ g

    def step(self, g, rate, interval):
        if self.t == 0:
            self.measure(g)
            self.ql, self.qr = (torch.linalg.eigh(s)[1].flip(1) for s in (self.l, self.r))
        else:
            self.m = 0.8 * self.m + 0.2 * g
            self.v = 0.9 * self.v + 0.1 * (self.ql.T @ g @ self.qr) ** 2
            m, v = self.m / (1 - 0.8**self.t), self.v / (1 - 0.9**self.t)
            self.w = self.w - rate * self.ql @ ((self.ql.T @ m @ self.qr) / v.sqrt()) @ self.qr.T
            self.measure(g)
            if self.t % interval == 0:
                left, right = (((s @ q) * q).sum(0) for s, q in ((self.l, self.ql), (self.r, self.qr)))
                i, j = left.argsort(descending=True), right.argsort(descending=True)
                self.v = self.v[i][:, j]
                self.ql = torch.linalg.qr((self.l @ self.ql)[:, i])[0]
                self.qr = torch.linalg.qr((self.r @ self.qr)[:, j])[0]
        self.t += 1


def gradient(seed):
    """A matrix with singular values apart from each other, so that its basis is one and no other."""
    generator = torch.Generator().manual_seed(seed)
    u, v = (torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator))[0] for _ in range(2))
    return (u * torch.linspace(1.0, 2.0, SIZE)) @ v


@pytest.mark.parametrize("interval", [1, 2, 10])
def test_soap_equals_one_matrix_at_a_time(interval):
    """Six steps, the bases turned after each, after every other, and never; two of the three matrices are fused."""
    start = torch.randn(3 * SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    parameters = [
        Named(name="qk.weight", tensor=torch.nn.Parameter(start[: 2 * SIZE].clone()), role="matrix", fused=2),
        Named(name="v.weight", tensor=torch.nn.Parameter(start[2 * SIZE :].clone()), role="matrix"),
        Named(name="v.bias", tensor=torch.nn.Parameter(torch.zeros(2)), role="vector"),
    ]
    knobs = {"lr": 0.05, "beta1": 0.8, "beta2": 0.9, "eps": 1e-18, "interval": interval, "weight_decay": 0.0}
    stepper, plain = Soap(**knobs).build(parameters), [Plain(w) for w in start.chunk(3)]
    for step in range(6):
        gradients = [gradient(10 * step + i) for i in range(3)]
        parameters[0].tensor.grad = torch.cat(gradients[:2])
        parameters[1].tensor.grad, parameters[2].tensor.grad = gradients[2], torch.zeros(2)
        stepper.step(1.0 - 0.1 * step, lambda: None)
        for one, g in zip(plain, gradients, strict=True):
            one.step(g.double(), 0.05 * (1.0 - 0.1 * step), interval)
    found = torch.cat([p.tensor.detach() for p in parameters[:2]]).double()
    torch.testing.assert_close(found, torch.cat([one.w for one in plain]), atol=2e-4, rtol=2e-4)
    assert (found - start).norm() > 0.5


def test_bases_stay_orthogonal(make_parameters, give_gradients):
    """Thirty turns in fp32, of matrices that are wide, tall and square: none adds stretch to an update."""
    parameters = make_parameters()
    stepper = Soap(interval=1).build(parameters)
    for step in range(30):
        give_gradients(parameters, step)
        stepper.step(1.0, lambda: None)
    bases = [tensor for name, tensor in stepper.state().items() if "basis" in name]
    assert len(bases) == 6
    for basis in bases:
        unit = torch.eye(basis.shape[1]).expand_as(basis)
        torch.testing.assert_close(basis.mT @ basis, unit, atol=1e-5, rtol=0.0)


def test_a_basis_that_is_not_found_begins_as_the_axes_and_turns_from_there(
    make_parameters, give_gradients, eigh_that_fails
):
    """The first update is Adam's then, and after it the basis is no longer the axes."""
    parameters = make_parameters("matrix")
    eigh_that_fails.at = {torch.float32, torch.float64}
    stepper = Soap(interval=1, eps=1e-18, weight_decay=0.0).build(parameters)
    give_gradients(parameters, 0)
    stepper.step(1.0, lambda: None)
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 1)
    stepper.step(1.0, lambda: None)
    for p, was in zip(parameters, before, strict=True):
        torch.testing.assert_close(p.tensor.detach(), was - 3e-3 * p.tensor.grad.sign(), atol=1e-6, rtol=1e-5)
    bases = [tensor for name, tensor in stepper.state().items() if "basis" in name]
    assert len(bases) == 6
    for basis in bases:
        unit = torch.eye(basis.shape[1]).expand_as(basis)
        torch.testing.assert_close(basis.mT @ basis, unit, atol=1e-5, rtol=0.0)
        assert (basis - unit).norm() > 0.1
