"""Positions: sinusoids and rotations by hand, and rotations that really rotate."""

import math

import pytest
import torch

from gpuday.models.position import AddedPositions, rotary_angles, rotate, sinusoids


def test_sinusoids_of_width_four_by_hand():
    """Columns sin p, cos p, sin p/100, cos p/100: wavelengths 2 pi and 100 times that."""
    expected = [[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in range(5)]
    assert torch.allclose(sinusoids(5, 4), torch.tensor(expected), atol=1e-7)


def test_sinusoids_follow_the_papers_formula():
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same, for every entry."""
    table = sinusoids(40, 32)
    for p in range(40):
        for i in range(16):
            angle = p / 10000.0 ** (2 * i / 32)
            assert table[p, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[p, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_added_sinusoids_are_not_trained():
    """The table is a buffer that no checkpoint holds; x gets its first L rows."""
    added = AddedPositions(16, 8, kind="sinusoidal")
    assert (list(added.parameters()), added.state_dict()) == ([], {})
    x = torch.ones(2, 5, 8)
    assert torch.equal(added(x), 1.0 + sinusoids(16, 8)[:5].expand(2, 5, 8))


def test_the_scaled_kind_learns_one_scalar():
    """Initially D^-1/2, and the gradient reaches it."""
    added = AddedPositions(16, 8, kind="scaled_sinusoidal")
    assert [(n, p.shape, p.item()) for n, p in added.named_parameters()] == [
        ("scale", torch.Size([]), pytest.approx(8**-0.5))
    ]
    out = added(torch.zeros(1, 16, 8))
    assert torch.allclose(out[0], 8**-0.5 * sinusoids(16, 8))
    out.sum().backward()
    assert added.scale.grad.item() == pytest.approx(sinusoids(16, 8).sum().item(), rel=1e-5)


def test_learned_positions_are_a_table(scatter):
    """One trained row for each position, added to every row of the batch."""
    added = scatter(AddedPositions(16, 8, kind="learned"))
    assert [(n, tuple(p.shape)) for n, p in added.named_parameters()] == [("table", (16, 8))]
    assert torch.equal(added(torch.zeros(3, 4, 8)), added.table[:4].expand(3, 4, 8))


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "scaled_sinusoidal"])
def test_added_positions_keep_the_dtype(kind, scatter):
    """fp32 tables do not lift bf16 activations."""
    added = scatter(AddedPositions(16, 8, kind=kind))
    assert added(torch.zeros(1, 4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "scaled_sinusoidal"])
def test_added_positions_start_anew_at_every_document(kind, scatter):
    """Each document of a packed row gets the entries that it would get alone."""
    added = scatter(AddedPositions(16, 8, kind=kind))
    alone = added(torch.zeros(1, 16, 8))[0]
    found = added(torch.zeros(2, 7, 8), torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0, 0]]))
    assert torch.equal(found[0], alone[[0, 1, 2, 0, 1, 0, 1]])
    assert torch.equal(found[1], alone[:7])


@pytest.mark.parametrize("theta", [10000.0, 160000.0])
def test_rotation_turns_pairs_of_coordinates_by_the_papers_angle(theta):
    """Coordinates i and i + K/2 as one complex number, times exp(i p theta^(-2i/K)), in double precision."""
    x = torch.randn(2, 3, 10, 8, generator=torch.Generator().manual_seed(0))
    paired = torch.complex(x[..., :4].double(), x[..., 4:].double())
    angle = torch.outer(torch.arange(10).double(), theta ** (-2.0 * torch.arange(4).double() / 8))
    turned = paired * torch.polar(torch.ones_like(angle), angle)
    expected = torch.cat((turned.real, turned.imag), dim=-1).float()
    assert torch.allclose(rotate(x, *rotary_angles(10, 8, theta)), expected, atol=1e-5)


def test_rotation_by_a_right_angle_by_hand():
    """(1, 0) turned by 90 degrees is (0, 1): no rotation would leave it where it is."""
    x = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    cos, sin = torch.tensor([[0.0, 0.0]]), torch.tensor([[-1.0, 1.0]])
    assert rotate(x, cos, sin).flatten().tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_rotation_moves_every_position_but_the_first_and_keeps_lengths():
    """Position 0 has angle 0; all others differ from their input, at the same norm."""
    x = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    out = rotate(x, *rotary_angles(16, 16, 10000.0))
    assert torch.equal(out[:, :, 0], x[:, :, 0])
    assert ((out - x).norm(dim=-1)[:, :, 1:] > 0.1).all()
    assert torch.allclose(out.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)


def test_products_of_rotated_vectors_depend_on_their_distance_alone():
    """One query and one key at all pairs of positions: equal along diagonals, different between them."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(16, generator=generator).expand(1, 1, 12, 16) for _ in range(2))
    cos, sin = rotary_angles(12, 16, 10000.0)
    products = (rotate(q, cos, sin) @ rotate(k, cos, sin).mT)[0, 0]
    diagonals = [products.diagonal(d) for d in range(-11, 12)]
    assert all(torch.allclose(d, d[0].expand_as(d), atol=1e-4) for d in diagonals)
    means = torch.stack([d.mean() for d in diagonals])
    assert means.std() > 1.0


def test_a_rotation_of_bf16_is_taken_in_fp32():
    """The result is the fp32 rotation of the rounded input, rounded once."""
    x = torch.randn(1, 1, 16, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    cos, sin = rotary_angles(16, 8, 10000.0)
    assert rotate(x, cos, sin).dtype == torch.bfloat16
    assert torch.equal(rotate(x, cos, sin), rotate(x.float(), cos, sin).bfloat16())
