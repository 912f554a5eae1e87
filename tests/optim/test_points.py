"""Gradients at other points: the estimate of the Hessian's diagonal against the exact one."""

import pytest
import torch

from gpuday.optim import Named, Refused
from gpuday.optim._points import hessian_diagonal, moved


def problem(loss, start):
    """A parameter, what computes the loss's gradients there, and the exact Hessian in double precision."""
    p = Named(name="w", tensor=torch.nn.Parameter(start), role="vector")

    def gradients(*, clip=True):
        p.tensor.grad = None
        loss(p.tensor).backward()

    gradients()
    return p, gradients, torch.autograd.functional.hessian(loss, start.double())


def quadratic(w):
    """Curvature along directions that are no axes."""
    a = torch.tensor([[3.0, 1.0, -0.5], [1.0, 2.0, 0.25], [-0.5, 0.25, -1.0]], dtype=w.dtype)
    return 0.5 * w @ a @ w


def logistic(w):
    """The mean loss of a logistic regression on forty rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64).to(w.dtype)
    y = (torch.rand(40, generator=generator) < 0.5).to(w.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y)


@pytest.mark.parametrize(("loss", "size"), [(quadratic, 3), (logistic, 5)])
def test_the_mean_of_many_samples_is_the_exact_diagonal(loss, size):
    """Four hundred samples, within four standard errors of signs: the squares of the Hessian's other elements."""
    start = torch.randn(size, generator=torch.Generator().manual_seed(1))
    p, gradients, exact = problem(loss, start)
    samples = [hessian_diagonal([p], gradients, distance=1e-2, seed=0, draw=i)["w"] for i in range(400)]
    spread = (exact - torch.diag(exact.diagonal())).norm(dim=1)
    error = (torch.stack(samples).double().mean(dim=0) - exact.diagonal()).abs()
    assert (error < 4 * spread / 400**0.5 + 1e-3 * exact.diagonal().abs()).all()
    assert (torch.stack(samples).std(dim=0) < 1.2 * spread + 1e-3).all()


def test_one_sample_is_exact_where_the_hessian_is_diagonal():
    """Whatever the signs: only other elements of a row make noise."""
    curvature = torch.tensor([5.0, 0.1, -2.0, 0.0])
    p, gradients, _ = problem(lambda w: 0.5 * (curvature * w * w).sum(), torch.tensor([1.0, -2.0, 0.5, 3.0]))
    for draw in range(5):
        found = hessian_diagonal([p], gradients, distance=0.1, seed=0, draw=draw)["w"]
        torch.testing.assert_close(found, curvature, atol=1e-5, rtol=1e-5)


def test_weights_and_gradients_are_left_to_the_bit():
    """Also where the closure refuses, at the second of the two points."""
    p, gradients, _ = problem(quadratic, torch.tensor([0.1, 0.7, -1.3]))
    weights, gradient = p.tensor.detach().clone(), p.tensor.grad.clone()
    hessian_diagonal([p], gradients, distance=0.3, seed=0, draw=0)
    assert torch.equal(p.tensor.detach(), weights)
    assert torch.equal(p.tensor.grad, gradient)
    asked = []

    def refuse_the_second(**_):
        asked.append(p.tensor.detach().clone())
        if len(asked) == 2:
            raise Refused("loss is not finite")
        gradients()

    with pytest.raises(Refused):
        hessian_diagonal([p], refuse_the_second, distance=0.3, seed=0, draw=0)
    assert torch.equal(p.tensor.detach(), weights)
    torch.testing.assert_close(asked[0] - weights, weights - asked[1])


def test_another_draw_has_other_signs_and_the_same_draw_the_same():
    """They depend on the number alone, so that all ranks move their weights alike."""
    p, gradients, _ = problem(quadratic, torch.tensor([0.1, 0.7, -1.3]))
    found = [hessian_diagonal([p], gradients, distance=0.1, seed=0, draw=draw)["w"] for draw in (0, 0, *range(1, 9))]
    assert torch.equal(found[0], found[1])
    assert any(not torch.allclose(other, found[0], rtol=0.01) for other in found[2:])


def test_another_seed_has_other_signs():
    """Runs with several seeds are to differ in this noise too."""
    p, gradients, _ = problem(quadratic, torch.tensor([0.1, 0.7, -1.3]))
    found = [hessian_diagonal([p], gradients, distance=0.1, seed=seed, draw=0)["w"] for seed in range(8)]
    assert any(not torch.allclose(other, found[0], rtol=0.01) for other in found[1:])


def test_weights_that_were_moved_come_back_as_they_were():
    """Adding and taking away would round; and a fault inside the block brings them back too."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 1e-8]))
    before = weight.detach().clone()
    with pytest.raises(ZeroDivisionError), moved([weight], [torch.tensor([1.0, 3.0])], torch.tensor(2.0)):
        assert weight.tolist() == [3.0, 6.0]
        raise ZeroDivisionError
    assert torch.equal(weight.detach(), before)
