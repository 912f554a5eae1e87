"""What mixers with scores share and no other test of theirs sees."""

import pytest
import torch

from gpuday.core.errors import UsageError
from gpuday.models.mixers._heads import Temperature, check_head_width, heads_of, keys_in_sight, scaled


@pytest.mark.parametrize("head_width", [0, 1, 7, -2])
def test_odd_heads_are_refused(head_width):
    """They cannot be turned by halves."""
    with pytest.raises(UsageError, match=f"head_width is {head_width}"):
        check_head_width(head_width)


def test_heads_fill_the_width():
    """Or the key to change is named."""
    assert heads_of(96, 16) == 6
    with pytest.raises(UsageError, match="width 96 is not a multiple of head_width 64") as caught:
        heads_of(96, 64)
    assert caught.value.where == "model.mixer.head_width"


def test_keys_in_sight_are_counted():
    """All where nothing is hidden; else those of each query."""
    scores = torch.zeros(1, 1, 3, 3)
    allowed = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()[None, None]
    assert keys_in_sight(scores, None).item() == 3.0
    assert keys_in_sight(scores, allowed).flatten().tolist() == [1.0, 2.0, 3.0]
    found = scaled(torch.ones(1, 1, 3, 3), allowed)[0, 0]
    assert found.square().sum(-1).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert found.triu(1).eq(0.0).all()


def test_a_temperature_keeps_below_its_bound():
    """By hand for two heads, and with no gradient beyond the bound."""
    temperature = Temperature(2, start=3.0, most=5.0)
    with torch.no_grad():
        temperature.log[1] = 2.0
    answer = temperature(torch.ones(1, 2, 1, 1))
    assert answer.flatten().tolist() == pytest.approx([3.0, 5.0])
    answer.sum().backward()
    assert temperature.log.grad.tolist() == pytest.approx([3.0, 0.0])
