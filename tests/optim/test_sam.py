"""SAM: the two steps of its paper by hand."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.optim import Named, Refused
from gpuday.optim.muon import Muon
from gpuday.optim.sam import Sam
from gpuday.optim.sgd import Sgd

PLAIN = Sgd(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
CURVATURES = (torch.tensor([1.0, 4.0, -2.0]), torch.tensor([0.5, 3.0]))


def bowl():
    """Two parameters with loss sum of curvature w^2 / 2, and what computes its gradients."""
    generator = torch.Generator().manual_seed(0)
    parameters = [
        Named(name=f"{i}.bias", tensor=torch.nn.Parameter(torch.randn(len(c), generator=generator)), role="vector")
        for i, c in enumerate(CURVATURES)
    ]

    def gradients(*, clip=True):
        assert clip  # the second gradients are clipped like the first
        for p, c in zip(parameters, CURVATURES, strict=True):
            p.tensor.grad = c * p.tensor.detach()

    return parameters, gradients


def test_sam_equals_its_two_steps_by_hand():
    """w - rate c (w + distance g / |g|), the length over both parameters, five times in double precision."""
    parameters, gradients = bowl()
    stepper = Sam(distance=0.3, inner=PLAIN).build(parameters)
    w, c = torch.cat([p.tensor.detach().double() for p in parameters]), torch.cat(CURVATURES).double()
    for step in range(5):
        gradients()
        stepper.step(1.0 - 0.1 * step, gradients)
        g = c * w
        w = w - 0.1 * (1.0 - 0.1 * step) * c * (w + 0.3 * g / g.norm())
    torch.testing.assert_close(torch.cat([p.tensor.detach().double() for p in parameters]), w, atol=1e-6, rtol=1e-6)


def test_the_gradients_are_asked_once_uphill_and_the_inner_step_is_made_from_where_the_weights_were():
    """The closure sees weights further away by the distance, in the direction of the gradient; distance 0 changes nothing."""
    parameters, gradients = bowl()
    before, seen = torch.cat([p.tensor.detach().clone() for p in parameters]), []

    def watched(**clip):
        seen.append(torch.cat([p.tensor.detach().clone() for p in parameters]))
        gradients(**clip)

    gradients()
    uphill = torch.cat([p.tensor.grad for p in parameters])
    Sam(distance=0.3, inner=PLAIN).build(parameters).step(0.0, watched)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0] - before, 0.3 * uphill / uphill.norm())
    assert torch.equal(torch.cat([p.tensor.detach() for p in parameters]), before)


def test_a_refused_second_gradient_leaves_everything_as_it_was():
    """To the bit, though the weights stood uphill when it was refused."""
    parameters, gradients = bowl()
    stepper = Sam(inner=Muon()).build(parameters)
    before = [p.tensor.detach().clone() for p in parameters]

    def refuse(**_):
        raise Refused("loss is not finite")

    gradients()
    with pytest.raises(Refused):
        stepper.step(1.0, refuse)
    assert all(torch.equal(p.tensor.detach(), was) for p, was in zip(parameters, before, strict=True))
    assert stepper.state() == {}


def test_sam_in_sam_is_refused():
    """Four gradients a step for something that no paper describes."""
    with pytest.raises(UsageError, match="another sam"):
        Sam(inner=Sam())
