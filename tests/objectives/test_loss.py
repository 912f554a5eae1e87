"""The axes of the loss: every one against autograd of the formula as its paper writes it, in double precision."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.core.errors import UsageError
from gpuday.objectives import _cross_entropy
from gpuday.objectives._cross_entropy import cross_entropy, piece
from gpuday.objectives._loss import PLAIN, Loss
from gpuday.objectives.mlm import Mlm

P, D, V = 23, 8, 50
LOSSES = {
    "plain": Loss(),
    "smoothed": Loss(smoothing=0.1),
    "z": Loss(z_loss=0.01),
    "smoothed with z": Loss(smoothing=0.2, z_loss=0.1),
    "focal": Loss(kind="focal"),
    "focal below one": Loss(kind="focal", gamma=0.5),
    "focal with z": Loss(kind="focal", gamma=5.0, z_loss=0.01),
    "squares": Loss(kind="mse"),
    "plain squares": Loss(kind="mse", label_weight=1.0, label_logit=1.0),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture
def case():
    """features, table, bias with gradients; labels and weights."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(*s, generator=generator).requires_grad_() for s in ((P, D), (V, D), (V,))]
    return given, torch.randint(0, V, (P,), generator=generator), torch.rand(P, generator=generator)


def written_out(features, table, bias, labels, weights, loss, cap):
    """The papers' formulas, from logits that exist whole."""
    logits = F.linear(features, table, bias)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    one_hot = F.one_hot(labels, V).to(logits.dtype)
    if loss.kind == "mse":
        weight = 1 + (loss.label_weight - 1) * one_hot
        losses = (weight * (logits - loss.label_logit * one_hot) ** 2).mean(1)
    elif loss.kind == "focal":
        p = (logits.softmax(1) * one_hot).sum(1)
        losses = -((1 - p) ** loss.gamma) * p.log()
    else:
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=loss.smoothing)
    return ((losses + loss.z_loss * logits.logsumexp(1) ** 2) * weights).sum()


@every_loss
@pytest.mark.parametrize("cap", [0.0, 4.0])
def test_value_and_gradients_are_those_of_the_formula(case, monkeypatch, loss, cap):
    """To features, table and bias, in pieces of five, with capped logits and without."""
    given, labels, weights = case
    monkeypatch.setitem(_cross_entropy.PIECE_BYTES, "cpu", 5 * V * 4)
    found = cross_entropy(*given, labels, weights, loss=loss, cap=cap)
    doubles = [t.detach().double().requires_grad_() for t in given]
    expected = written_out(*doubles, labels, weights.double(), loss, cap)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    references = torch.autograd.grad(3.0 * expected, doubles)
    for gradient, reference in zip(torch.autograd.grad(3.0 * found, given), references, strict=True):
        torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-4)


def test_without_axes_the_loss_is_what_it_was_to_the_bit(case):
    """The softmax's gradient minus the weighted label, as the one formula that there was before."""
    (features, table, bias), labels, weights = ([t.detach() for t in case[0]], case[1], case[2])
    to_table, to_bias = torch.zeros_like(table), torch.zeros_like(bias)
    found, to_features = piece(features, table, bias, labels, weights, to_table, to_bias, PLAIN, 0.0)
    logits = F.linear(features, table, bias)
    top = logits.amax(-1, keepdim=True)
    numerators = (logits - top).exp()
    total = numerators.sum(-1, keepdim=True)
    losses = (top + total.log() - logits.gather(-1, labels[:, None])).squeeze(-1)
    hits = torch.arange(V) == labels[:, None]
    exact = numerators * (weights[:, None] / total) - weights[:, None] * hits
    wanted = [(losses * weights).sum(), exact @ table, exact.t() @ features, exact.sum(0)]
    assert all(torch.equal(a, b) for a, b in zip([found, to_features, to_table, to_bias], wanted, strict=True))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 5.0])
def test_focal_loss_stays_finite_at_certainty(gamma):
    """Labels with probability one and zero in fp32: no power of zero, and at gamma 0 the cross-entropy."""
    features, table = torch.tensor([[200.0], [-200.0]], requires_grad=True), torch.tensor([[1.0], [0.0]])
    labels, weights = torch.tensor([0, 0]), torch.ones(2)
    loss = cross_entropy(features, table, None, labels, weights, loss=Loss(kind="focal", gamma=gamma))
    (gradient,) = torch.autograd.grad(loss, [features])
    assert loss.item() == pytest.approx(200.0)
    assert gradient[:, 0].tolist() == pytest.approx([0.0, -1.0])


@every_loss
def test_every_loss_is_one_graph(case, loss):
    """No break, which the training loop would not compile."""
    (features, table, bias), labels, weights = ([t.detach() for t in case[0]], case[1], case[2])
    torch.compiler.reset()
    traced = torch.compile(piece, backend="eager", fullgraph=True, dynamic=False)
    sums = [[torch.zeros_like(table), torch.zeros_like(bias)] for _ in range(2)]
    found = [
        f(features, table, bias, labels, weights, *s, loss, 4.0) for f, s in zip((piece, traced), sums, strict=True)
    ]
    torch.compiler.reset()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*sums, strict=True))


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ({"kind": "focal", "smoothing": 0.1}, "smoothing"),
        ({"kind": "mse", "z_loss": 0.1}, "z_loss"),
        ({"gamma": 1.0}, "gamma"),
        ({"label_weight": 2.0}, "label_weight"),
        ({"kind": "focal", "label_logit": 2.0}, "label_logit"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"z_loss": -0.1}, "z_loss"),
    ],
)
def test_an_axis_that_would_be_ignored_is_refused(axes, name):
    """With its name; so is one out of its range."""
    with pytest.raises(UsageError) as caught:
        Loss(**axes)
    assert caught.value.where == name


def test_a_logit_that_the_cap_forbids_is_no_target(make_model):
    """The squared error would pull at it for ever."""
    with pytest.raises(UsageError, match="out of reach below a logit cap of 30"):
        Mlm(loss=Loss(kind="mse")).build(lambda: make_model(logit_cap=30.0))
    Mlm(loss=Loss(kind="mse", label_logit=20.0)).build(lambda: make_model(logit_cap=30.0))


def test_the_learner_takes_the_loss_of_its_objective(rows, vocabulary, make_model):
    """Cap and all: as the formula says it of the model's own logits."""
    objective = Mlm(loss=Loss(smoothing=0.1, z_loss=0.01))
    learner = objective.build(lambda: make_model(logit_cap=3.0))
    arrays = objective.inputs(
        rows, rows[:, 0].astype("uint64"), seed=0, epoch=0, multiplier=1.0, kind="masked", vocabulary=vocabulary
    )
    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    logits = learner.model(inputs["ids"], inputs["positions"])
    assert logits.abs().max() <= 3.0
    expected = F.cross_entropy(logits, inputs["labels"], label_smoothing=0.1, reduction="sum")
    expected = expected + 0.01 * logits.logsumexp(1).square().sum()
    torch.testing.assert_close(learner(inputs, "masked"), expected, rtol=1e-5, atol=1e-4)
