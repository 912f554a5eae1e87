"""Masked and causal steps by turns: which step is which, and that no prediction sees its own token or a later one."""

import numpy as np
import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.fourier import Fourier
from gpuday.objectives.hybrid import Hybrid
from gpuday.objectives.mlm import Mlm

KEYS = np.arange(32, dtype=np.uint64)
both_shifts = pytest.mark.parametrize("shift", [True, False])


@pytest.fixture
def make_inputs(vocabulary):
    """Tensors of rows in a kind of step."""

    def make(objective, rows, kind):
        arrays = objective.inputs(
            rows, KEYS[: len(rows)], seed=0, epoch=0, multiplier=1.0, kind=kind, vocabulary=vocabulary
        )
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    return make


def losses_by_prediction(learner, inputs, kind):
    """The loss of each prediction alone."""
    features = learner.model.features(
        learner.model.encoder(inputs["ids"], causal=kind == "causal"), inputs["positions"]
    )
    table, bias, _ = learner.model.decoder()
    return torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(features, table, bias), inputs["labels"], reduction="none"
    )


@pytest.mark.parametrize("rows", [8, 12, 16, 24, 96, 256, 1024])
@pytest.mark.parametrize("causal", [0.0625, 0.25, 0.5])
def test_the_share_of_causal_steps_is_kept_evenly(rows, causal):
    """In every stretch of 160 steps, within one of what the share says; by chance it would be up to twenty."""
    objective = Hybrid(causal=causal)
    kinds = np.array([objective.kind_at(0.5, step * rows, rows) == "causal" for step in range(1600)])
    counts = kinds.reshape(10, 160).sum(1)
    assert np.abs(counts - 160 * causal).max() <= 1


def test_causal_steps_come_first_and_then_none():
    """The two-phase training: `first` alone decides."""
    objective = Hybrid(first=0.25, causal=0.0)
    assert [objective.kind_at(f, 8 * i, 8) for i, f in enumerate((0.0, 0.1, 0.249, 0.25, 0.6, 1.0))] == [
        "causal",
        "causal",
        "causal",
        "masked",
        "masked",
        "masked",
    ]
    assert {Hybrid(causal=1.0).kind_at(0.5, i, 8) for i in range(100)} == {"causal"}


@both_shifts
def test_causal_labels_are_the_next_tokens(make_inputs, rows, shift):
    """Every token of a row but the first, from rows that show all of themselves."""
    inputs = make_inputs(Hybrid(shift=shift), rows, "causal")
    assert np.array_equal(inputs["ids"], rows)
    assert inputs["labels"].view(32, 15).tolist() == rows[:, 1:].tolist()
    assert Hybrid(shift=shift).predicted(16, 0.3, "causal") == 15


@both_shifts
def test_no_causal_prediction_sees_its_own_token_or_a_later_one(make_inputs, make_model, rows, shift):
    """Another token at place 9 leaves the eight losses before it as they are; every later one moves."""
    objective = Hybrid(shift=shift)
    learner, other = objective.build(make_model), rows[:4].copy()
    other[:, 9] = 99
    first, second = (
        losses_by_prediction(learner, make_inputs(objective, r, "causal"), "causal").view(4, 15)
        for r in (rows[:4], other)
    )
    torch.testing.assert_close(first[:, :8], second[:, :8], rtol=0.0, atol=1e-5)
    assert ((first[:, 8:] - second[:, 8:]).abs() > 1e-4).all()


@both_shifts
def test_the_learner_takes_the_mean_of_those_losses(make_inputs, make_model, rows, shift):
    """In both kinds of steps: the causal one looks back only, the masked one both ways."""
    objective = Hybrid(shift=shift)
    learner = objective.build(make_model)
    for kind in objective.kinds:
        inputs = make_inputs(objective, rows[:4], kind)
        torch.testing.assert_close(
            learner(inputs, kind), losses_by_prediction(learner, inputs, kind).sum(), rtol=1e-5, atol=1e-4
        )


def test_a_shifted_masked_prediction_comes_from_the_place_before(make_inputs, make_model, rows):
    """Its feature is that of the hidden state there, and the token itself is nowhere to be seen."""
    objective = Hybrid()
    learner = objective.build(make_model)
    inputs = make_inputs(objective, rows, "masked")
    assert (inputs["ids"].flatten()[inputs["positions"]] == 6).all()
    assert (inputs["positions"] % 16 > 0).all()
    assert torch.equal(torch.from_numpy(rows).flatten()[inputs["positions"]], inputs["labels"])
    hidden = learner.model.encoder(inputs["ids"])
    before = learner.model.head.features(hidden.flatten(0, 1)[inputs["positions"] - 1])
    assert torch.equal(learner.model.features(hidden, inputs["positions"]), before)


def test_unshifted_masked_steps_are_those_of_mlm(make_inputs, rows):
    """The very same arrays."""
    objective = Hybrid(shift=False, mlm=Mlm(rate=0.4))
    plain = make_inputs(objective.mlm, rows, "masked")
    assert all(torch.equal(array, plain[name]) for name, array in make_inputs(objective, rows, "masked").items())


@pytest.mark.parametrize("length", [9, 16])
def test_a_shifted_row_predicts_as_many_as_it_says(make_inputs, rows, length):
    """The rate is a share of the positions that can be predicted: all but the first."""
    objective = Hybrid(mlm=Mlm(rate=1.0))
    inputs = make_inputs(objective, rows[:, :length], "masked")
    assert objective.predicted(length, 1.0, "masked") == length - 1
    assert inputs["positions"].view(32, -1).numpy().tolist() == [
        [length * r + c for c in range(1, length)] for r in range(32)
    ]


def test_a_model_that_cannot_look_back_only_is_refused():
    """When the learner is built, before anything is trained."""
    config = EncoderConfig(width=32, mixer=Fourier(), position="learned")
    with pytest.raises(UsageError, match="cannot look back only"):
        Hybrid().build(lambda: MaskedLM(config, vocab=100, length=16))


def test_tokens_left_out_are_refused():
    """The next token would not be the one that follows."""
    with pytest.raises(UsageError, match="tokens left out"):
        Hybrid(mlm=Mlm(token_drop=0.1))


def test_only_shifted_models_come_with_a_note():
    """Whoever exports one must know."""
    assert Hybrid(shift=False).notes() == ()
    assert "position before them" in Hybrid().notes()[0]
