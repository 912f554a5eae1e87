"""No mixing at all."""

import torch

from gpuday.models.encoder import Encoder
from gpuday.models.mixers.identity import Identity
from gpuday.models.visible import Visible

IDS = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(0))


def test_it_hands_back_what_it_is_given(make_place):
    """The tensor itself, and without a parameter."""
    x, mixer = torch.ones(1, 3, 32), Identity().build(make_place())
    assert mixer(x, Visible()) is x
    assert list(mixer.parameters()) == []


def test_no_token_knows_of_another_one(make_config, scatter):
    """Hidden states of a whole encoder are those of each token alone at its place."""
    encoder = scatter(Encoder(make_config(mixer=Identity(), position="learned"), vocab=50, length=16))
    other = torch.cat((IDS[:, :5], (IDS[:, 5:6] + 1) % 50, IDS[:, 6:]), dim=1)
    moved = (encoder(IDS) - encoder(other)).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [5]
