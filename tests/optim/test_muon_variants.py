"""Muon's axes, each against its formula for one matrix in double precision."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.optim.muon import Muon, orthogonalise

JORDAN = [(3.4445, -4.7750, 2.0315)] * 5


def polynomials(matrix, coefficients):
    """Odd polynomials of the singular values, one after the other, by the singular value decomposition."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for a, b, c in coefficients:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vh


def matrix_rule(knobs):
    """The formula of Muon with these knobs, in fp32 products."""

    def formula(w, g, state, step, rate, decay):
        rows, columns = w.shape
        mu = 0.9
        if knobs.get("momentum_steps"):
            mu = 0.6 + 0.3 * min(1.0, (step - 1) / 3)
        state["m"] = mu * state.get("m", 0.0) + (1 - mu) * g
        update = polynomials((1 - mu) * g + mu * state["m"], JORDAN)
        if knobs.get("variance"):
            state["v"] = 0.8 * state.get("v", torch.zeros(rows, 1).double())
            state["v"] = state["v"] + 0.2 * (update**2).mean(1, keepdim=True)
            even = update / state["v"].sqrt()
            update = even * update.norm() / even.norm()
        size = 0.2 * max(rows, columns) ** 0.5 if knobs.get("scaling") == "rms" else max(1.0, rows / columns) ** 0.5
        kept = (update * w >= 0) if knobs.get("cautious") else 1.0
        return w - rate * (size * update + decay * w * kept)

    return formula


@pytest.mark.parametrize(
    "knobs",
    [
        {"scaling": "rms"},
        {"variance": 0.8},
        {"cautious": True},
        {"momentum_start": 0.6, "momentum_steps": 3},
        {"scaling": "rms", "variance": 0.8, "cautious": True, "momentum_start": 0.6, "momentum_steps": 3},
    ],
    ids=["rms", "variance", "cautious", "momentum", "all"],
)
def test_a_variant_equals_its_formula(knobs, follow):
    """Five steps over tall, wide, square and fused matrices."""
    follow(Muon(lr=0.05, momentum=0.9, weight_decay=0.3, **knobs), matrix_rule(knobs), role="matrix")


def test_scaling_by_rms_gives_updates_of_a_fifth_whatever_the_shape(make_parameters, give_gradients):
    """The root mean square of an orthogonal [r, c] is sqrt(min / (r c)): AdamW's size after 0.2 sqrt(max)."""
    parameters = make_parameters("matrix")
    before = [p.tensor.detach().clone() for p in parameters]
    give_gradients(parameters, 0)
    Muon(lr=1.0, weight_decay=0.0, scaling="rms", coefficients="polar", iterations=9).build(parameters).step(
        1.0, lambda: None
    )
    for p, was in zip(parameters, before, strict=True):
        assert (p.tensor.detach() - was).square().mean().sqrt().item() == pytest.approx(0.2, rel=0.02)


def test_variance_makes_rows_of_one_length(make_parameters, give_gradients):
    """After the first step every row's update is as long as any other, and the whole as long as without."""
    updates = []
    for variance in (0.0, 0.95):
        parameters = make_parameters("matrix")[3:4]
        before = parameters[0].tensor.detach().clone()
        give_gradients(parameters, 0)
        parameters[0].tensor.grad[:4] *= 1e-3
        Muon(lr=1.0, weight_decay=0.0, variance=variance).build(parameters).step(1.0, lambda: None)
        updates.append(parameters[0].tensor.detach() - before)
    plain, even = updates
    assert plain.norm(dim=1).max() > 1.05 * plain.norm(dim=1).min()
    torch.testing.assert_close(even.norm(dim=1), even.norm(dim=1).mean().expand(32), rtol=1e-4, atol=0.0)
    assert even.norm().item() == pytest.approx(plain.norm().item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (32, 200)])
def test_polar_coefficients_end_nearer_to_orthogonal(shape):
    """Singular values from 0.01 to 1 come to within 5% of 1, where the fixed coefficients leave a third."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 32, generator=generator))[0] for n in shape)
    stack = ((u * torch.logspace(-1.5, 0.0, 32)) @ v.T)[None]
    polar, jordan = (
        torch.linalg.svdvals(orthogonalise(stack, 6, torch.float32, kind)[0]) for kind in ("polar", "jordan")
    )
    assert (polar - 1).abs().max() < 0.05
    assert (jordan - 1).abs().max() > 0.15


def test_polar_coefficients_are_those_of_the_paper(make_parameters):
    """Three steps by hand on the singular values, safety factor and all; the last polynomial goes on for ever."""
    matrix = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    published = [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    ]
    safe = [(a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in published]
    first = [(safe[0][0] / 1.01, safe[0][1] / 1.01**3, safe[0][2] / 1.01**5)]  # the matrix too is made shorter by it
    found = orthogonalise(matrix[None], 3, torch.float32, "polar")[0]
    torch.testing.assert_close(found.double(), polynomials(matrix.double(), first + safe[1:]), atol=1e-4, rtol=0.0)
    many = orthogonalise(matrix[None], 14, torch.float32, "polar")[0]
    torch.testing.assert_close(many @ many.T, torch.eye(8), atol=1e-5, rtol=0.0)


def test_the_momentum_is_whole_after_its_warm_up(make_parameters, give_gradients):
    """The count is saved: a state without it is refused, and one after the warm-up keeps the momentum."""
    parameters = make_parameters()
    stepper = Muon(momentum_steps=2).build(parameters)
    for step in range(4):
        give_gradients(parameters, step)
        stepper.step(1.0, lambda: None)
    state = stepper.state()
    assert state["step/32x32"].item() == 4
    assert "step/32x32" not in Muon().build(make_parameters()).state()
    with pytest.raises(KeyError):
        stepper.load({name: tensor for name, tensor in state.items() if name != "step/32x32"})


def test_axes_that_would_do_nothing_are_refused():
    """A second moment to which nothing is added, and the start of a warm-up that there is not."""
    with pytest.raises(UsageError, match="variance"):
        Muon(variance=1.0)
    with pytest.raises(UsageError, match="momentum_steps"):
        Muon(momentum_start=0.5)
