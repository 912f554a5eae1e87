"""Sophia by algorithm 3 of its paper, where the estimate of the Hessian is exact."""

import pytest
import torch

from gpuday.optim import Named
from gpuday.optim.sam import Sam
from gpuday.optim.sophia import Sophia

CURVATURE = torch.tensor([[5.0, 0.5, 0.02], [-1.0, 1.0, 0.3]])
KNOBS = {"lr": 0.05, "beta1": 0.8, "beta2": 0.7, "gamma": 0.5, "interval": 3, "distance": 0.1, "weight_decay": 0.3}


def bowl(start):
    """One matrix with loss sum of curvature w^2 / 2, whose Hessian is the curvature, and what computes its gradients."""
    p = Named(name="a.weight", tensor=torch.nn.Parameter(start.clone()), role="matrix")
    asked = []

    def gradients(*, clip=True):
        asked.append(clip)
        p.tensor.grad = CURVATURE * p.tensor.detach()

    return p, gradients, asked


def test_sophia_follows_its_paper():
    """Eight steps, three estimates: momentum over the averaged diagonal, clipped, where the curvature is negative too."""
    w = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.1, -0.2]])
    p, gradients, asked = bowl(w)
    stepper = Sophia(**KNOBS).build([p])
    w, c = w.double(), CURVATURE.double()
    m, h, clipped = 0.0, 0.0, []
    for step in range(8):
        gradients()
        asked.clear()
        rate, decay = 0.05 * (1.0 - 0.1 * step), 0.3 * (1.0 + 0.1 * step)
        stepper.step(1.0 - 0.1 * step, gradients, decay=1.0 + 0.1 * step)
        assert asked == ([False, False] if step % 3 == 0 else [])  # differences want gradients as they are
        m = 0.8 * m + 0.2 * c * w
        h = 0.7 * h + 0.3 * c if step % 3 == 0 else h
        update = m / torch.clamp(0.5 * h, min=1e-12)
        clipped.append(update.abs() > 1.0)
        w = w - rate * decay * w - rate * update.clamp(-1.0, 1.0)
    torch.testing.assert_close(p.tensor.detach().double(), w, atol=2e-5, rtol=2e-5)
    assert torch.stack(clipped).any() and not torch.stack(clipped).all()


def test_the_estimate_leaves_the_gradient_of_the_step_as_it_was():
    """What moves the weights is the gradient that the loop clipped, not the last one that was asked for."""
    p, gradients, _ = bowl(torch.ones(2, 3))
    gradients()
    p.tensor.grad *= 0.001
    clipped = p.tensor.grad.clone()
    Sophia(**KNOBS).build([p]).step(1.0, gradients)
    assert torch.equal(p.tensor.grad, clipped)


def test_estimates_go_on_after_a_resume_where_they_would_have_come():
    """The number of the step is saved: loaded after two steps, the next estimate is at the fourth."""
    p, gradients, asked = bowl(torch.ones(2, 3))
    first, second = (Sophia(**KNOBS).build([p]) for _ in range(2))
    counts = []
    for step in range(5):
        if step == 2:
            second.load({name: tensor.clone() for name, tensor in first.state().items()})
        gradients()
        asked.clear()
        (first if step < 2 else second).step(1.0, gradients)
        counts.append(len(asked))
    assert counts == [2, 0, 0, 2, 0]


@pytest.mark.parametrize("optimizer", [Sophia(**KNOBS), Sam(inner=Sophia(**KNOBS))], ids=["sophia", "sam"])
def test_the_points_of_an_estimate_are_those_of_the_seed(optimizer):
    """The same in two runs of one seed, others in the runs of other seeds; inside of SAM too."""
    looked_at = []
    for seed in (3, 3, 4, 5, 6):
        p, gradients, _ = bowl(torch.ones(2, 3))
        places = []

        def look(*, clip=True, p=p, gradients=gradients, places=places):
            places.append(p.tensor.detach().clone())
            gradients()

        gradients()
        optimizer.build([p], seed=seed).step(1.0, look)
        looked_at.append(torch.stack(places))
    assert torch.equal(looked_at[0], looked_at[1])
    assert not all(torch.equal(other, looked_at[0]) for other in looked_at[2:])
