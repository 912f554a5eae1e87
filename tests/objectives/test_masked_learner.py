"""The learner of masked language modelling: its loss, and gradients over micro-batches."""

import numpy as np
import pytest
import torch

from gpuday.objectives.mlm import MaskedLearner, Mlm

KEYS = np.arange(32, dtype=np.uint64)


@pytest.fixture
def make_inputs(rows, vocabulary):
    """Tensors for some of the 32 rows, each prediction weighing one over the predictions of all 32."""

    def make(start=0, stop=32):
        made = Mlm(rate=0.25, masked=0.8, random=0.1).inputs(
            rows[start:stop], KEYS[start:stop], seed=0, epoch=0, multiplier=1.0, kind="masked", vocabulary=vocabulary
        )
        made["weights"] /= 32 * 4
        return {name: torch.from_numpy(array) for name, array in made.items()}

    return make


def gradients(learner, batches, dtype):
    learner.model.encoder.dtype = dtype
    learner.zero_grad()
    for inputs in batches:
        learner(inputs, "masked").backward()
    return {name: p.grad.clone() for name, p in learner.named_parameters()}


def test_a_prediction_of_weight_zero_has_no_influence(make_inputs, make_model):
    """Padded rows may hold anything: loss and gradients are those of the others."""
    learner, inputs = Mlm().build(make_model), make_inputs()
    inputs["weights"][64:] = 0.0
    other = {**inputs, "labels": torch.where(inputs["weights"] > 0, inputs["labels"], 42)}
    first, second = (gradients(learner, [batch], torch.float32) for batch in (inputs, other))
    assert all(torch.equal(gradient, second[name]) for name, gradient in first.items())
    assert torch.equal(learner(inputs, "masked"), learner(other, "masked"))


def test_the_learners_loss_is_the_models_at_the_chosen_positions(make_inputs, make_model):
    """From logits at all positions, softmax in double precision, the chosen ones weighted."""
    model, inputs = make_model(), make_inputs()
    logits = model(inputs["ids"]).double()[inputs["positions"]]
    picked = logits.log_softmax(1).gather(1, inputs["labels"][:, None])[:, 0]
    expected = -(inputs["weights"].double() * picked).sum()
    assert MaskedLearner(model)(inputs, "masked").item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_learner_is_built_around_one_freshly_made_model(make_model):
    """`make_model` is asked once, and the model's parameters are all there are."""
    made = []
    learner = Mlm().build(lambda: made.append(make_model()) or made[-1])
    assert len(made) == 1
    assert learner.model is made[0]
    expected = [f"model.{name}" for name, _ in made[0].named_parameters()]
    assert [name for name, _ in learner.named_parameters()] == expected


def test_eight_micro_batches_equal_one_batch_in_fp32(make_inputs, make_model):
    """Accumulated gradients are those of the whole batch, within the rounding of sums."""
    learner = Mlm().build(make_model)
    whole = gradients(learner, [make_inputs()], torch.float32)
    pieces = gradients(learner, [make_inputs(i, i + 4) for i in range(0, 32, 4)], torch.float32)
    for name, gradient in whole.items():
        assert (pieces[name] - gradient).norm() < 1e-5 * gradient.norm(), name


def test_eight_micro_batches_equal_one_batch_in_bf16_within_rounding(make_inputs, make_model):
    """Accumulation adds no error of its own: eight pieces are as near to the exact gradient as the whole is."""
    learner = Mlm().build(make_model)
    exact = gradients(learner, [make_inputs()], torch.float32)
    whole = gradients(learner, [make_inputs()], torch.bfloat16)
    pieces = gradients(learner, [make_inputs(i, i + 4) for i in range(0, 32, 4)], torch.bfloat16)
    assert {g.dtype for g in [*whole.values(), *pieces.values()]} == {torch.float32}
    for name, gradient in exact.items():
        assert (whole[name] - gradient).norm() < 0.05 * gradient.norm(), name
        assert (pieces[name] - gradient).norm() < 0.05 * gradient.norm(), name
        assert (pieces[name] - whole[name]).norm() < 0.02 * gradient.norm(), name


def test_segments_reach_the_encoder(make_inputs, make_model):
    """With every row one document the loss is as it was; with two documents a row it is another."""
    learner, inputs = Mlm().build(make_model), make_inputs()
    whole = torch.zeros_like(inputs["ids"], dtype=torch.int32)
    halves = (torch.arange(whole.shape[1]) >= whole.shape[1] // 2).int().expand_as(whole)
    torch.testing.assert_close(learner(inputs | {"segments": whole}, "masked"), learner(inputs, "masked"))
    assert abs(learner(inputs | {"segments": halves}, "masked") - learner(inputs, "masked")) > 1e-3


def test_trunk_head_and_loss_compile_apart(make_inputs, make_model, monkeypatch):
    """Three regions with the caller's options, so that another mask count compiles the small ones alone anew; all are used."""
    compiled, called = [], []

    class Region(torch.nn.Module):
        def __init__(self, function, index):
            super().__init__()
            self.function, self.index = function, index

        def forward(self, *args, **options):
            called.append(self.index)
            return self.function(*args, **options)

    def compile_(function, **options):
        compiled.append(options)
        return Region(function, len(compiled))

    monkeypatch.setattr(torch, "compile", compile_)
    learner, inputs = Mlm().build(make_model), make_inputs()
    expected = learner(inputs, "masked")
    learner.compile(dynamic=False, fullgraph=True)
    assert torch.equal(learner(inputs, "masked"), expected)
    assert compiled == [{"dynamic": False, "fullgraph": True}] * 3
    assert called == [1, 2, 3]
