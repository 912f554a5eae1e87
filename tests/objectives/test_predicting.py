"""Sampling from a model's predictions: the distribution, the ends of the unit interval, and no gradient."""

import numpy as np
import pytest
import torch
from scipy import stats

from gpuday.objectives import _cross_entropy
from gpuday.objectives._predicting import Predictions, sample

SIZE = 150  # more than two blocks of 64, and no multiple of one


@pytest.fixture
def decoder():
    """(features of one position, table, bias) whose distribution is neither flat nor a single peak."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in ((1, 8), (SIZE, 8), (SIZE,))]


@pytest.mark.parametrize("cap", [0.0, 1.5])
def test_samples_follow_the_softmax(decoder, cap):
    """Of 50,000 draws, chi-square at p = 1e-4 against probabilities in double precision."""
    features, table, bias = decoder
    uniform = torch.from_numpy(np.random.default_rng(0).random(50_000, dtype=np.float32))
    logits = (features.double() @ table.double().T + bias.double())[0]
    wanted = (cap * torch.tanh(logits / cap) if cap else logits).softmax(0).numpy()
    found = sample(features.expand(50_000, 8), table, bias, uniform, cap)
    counts = np.bincount(found.numpy(), minlength=SIZE)
    group = np.where(wanted * 50_000 >= 5, np.arange(SIZE), wanted.argmax())  # too rare to be tested alone
    merged = [np.bincount(group, values, minlength=SIZE) for values in (counts, 50_000 * wanted)]
    tested = merged[1] > 0
    assert stats.chisquare(merged[0][tested], merged[1][tested]).pvalue > 1e-4


def test_a_sample_is_where_the_distribution_function_passes_its_number(decoder):
    """Entry by entry, at a number within the share of each."""
    features, table, bias = decoder
    shares = (features @ table.T + bias)[0].double().softmax(0)
    middle = (shares.cumsum(0) - shares / 2).float()
    wide = shares > 1e-5
    found = sample(features.expand(SIZE, 8), table, bias, middle, 0.0)
    assert torch.equal(found[wide], torch.arange(SIZE)[wide])


def test_the_ends_of_the_interval_are_entries_of_the_vocabulary(decoder):
    """Zero, and the largest number below one; also where one entry has all probability."""
    features, table, bias = decoder
    ends = torch.tensor([0.0, 1.0 - 2.0**-24])
    found = sample(features.expand(2, 8), table, bias, ends, 0.0)
    assert found[0] == 0
    assert 0 <= found[1] < SIZE
    peak = torch.full((SIZE,), -1e4).index_fill(0, torch.tensor([77]), 1e4)
    assert sample(torch.zeros(2, 8), table, peak, ends, 0.0).tolist() == [77, 77]


def test_samples_come_in_pieces_and_without_a_gradient(make_model, monkeypatch):
    """The same ids whatever the size of a piece, and nothing that could be differentiated."""
    model = make_model()
    hidden = model.encoder(torch.arange(32).view(2, 16) + 7)
    predictions, inputs = Predictions(model), {"positions": torch.arange(23)}
    uniform = torch.rand(23, generator=torch.Generator().manual_seed(0))
    features = predictions.features(hidden, inputs)
    whole = predictions.samples(features, uniform)
    monkeypatch.setitem(_cross_entropy.PIECE_BYTES, "cpu", 5 * 100 * 4)
    assert torch.equal(predictions.samples(features, uniform), whole)
    assert whole.shape == (23,)
    assert features.requires_grad and not whole.requires_grad
