"""What holds for a shape of any kind; a new file in the folder is enrolled by being there."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpuday.core import parts
from gpuday.models.encoder import Encoder
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.models.shapes import Shape
from gpuday.models.visible import Visible

LENGTH, VOCAB = 16, 64
IDS = torch.randint(0, VOCAB, (4, LENGTH), generator=torch.Generator().manual_seed(0))

every_shape = pytest.mark.parametrize("name", parts.names(Shape))


class Counting(nn.Module):
    """x + 1, and writes down which block was called on how many positions."""

    def __init__(self, layer, calls):
        super().__init__()
        self.layer, self.calls = layer, calls

    def forward(self, x, seen):
        self.calls.append((self.layer, x.shape[1]))
        return x + 1.0


@every_shape
@pytest.mark.parametrize("mask", [None, torch.ones(2, LENGTH, dtype=torch.bool)], ids=["whole", "masked"])
def test_blocks_are_passed_as_the_shape_says(name, mask):
    """Which, in what order, and how many positions each sees: what FLOPs are counted by. The rows keep their shape."""
    shape, calls = parts.find(Shape, name)(), []
    stack, x = shape.build(lambda layer: Counting(layer, calls)), torch.zeros(2, LENGTH, 32)
    assert stack(x, Visible(mask)).shape == x.shape
    assert calls == [(passed.layer, LENGTH // passed.shrink) for passed in shape.passes]
    assert len(calls) == shape.depth


@every_shape
def test_blocks_are_numbered_as_they_first_occur(name):
    """From 0 on without a gap; each is built once, in that order."""
    shape, built = parts.find(Shape, name)(), []
    stack = shape.build(lambda layer: built.append(layer) or Counting(layer, []))
    assert built == list(range(shape.blocks)) == list(dict.fromkeys(passed.layer for passed in shape.passes))
    assert sum(isinstance(module, Counting) for module in stack.modules()) == shape.blocks


@every_shape
def test_a_toy_batch_is_learned_by_heart(name, make_config):
    """Masked tokens of four rows: the model trains through every kind of stack."""
    config = make_config(shape=parts.find(Shape, name)())
    model = MaskedLM(config, vocab=VOCAB, length=LENGTH)
    initialise(model, config, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    masked = torch.arange(4 * LENGTH)[1::4]
    hidden = IDS.flatten().index_fill(0, masked, 0).view_as(IDS)
    for _ in range(80):
        loss = F.cross_entropy(model(hidden, masked), IDS.flatten()[masked])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.2


@every_shape
def test_every_position_answers_for_itself(name, make_config, scatter):
    """Each token moves its own hidden state more than any other one that is not averaged with it."""
    shape = parts.find(Shape, name)()
    encoder = scatter(Encoder(make_config(shape=shape), vocab=VOCAB, length=LENGTH))
    before = encoder(IDS[:1])[0]
    for position in range(LENGTH):
        changed = IDS[:1].clone()
        changed[0, position] = (changed[0, position] + 1) % VOCAB
        moved = (encoder(changed)[0] - before).norm(dim=-1)
        assert moved.argmax() // shape.multiple == position // shape.multiple


@every_shape
def test_shorter_rows_are_padded_ones(name, make_config, scatter):
    """Of any length, those that a shape's groups do not divide included."""
    encoder = scatter(Encoder(make_config(shape=parts.find(Shape, name)()), vocab=VOCAB, length=LENGTH))
    for length in (1, 7, 10, 15):
        mask = (torch.arange(LENGTH) < length).expand(4, -1)
        short, padded = encoder(IDS[:, :length]), encoder(IDS, mask)[:, :length]
        torch.testing.assert_close(short, padded, atol=1e-4, rtol=1e-4)
