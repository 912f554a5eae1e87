"""Linear and embedding: fp32 weights, compute in the activations' dtype, fp32 gradients."""

import pytest
import torch
import torch.nn.functional as F

from gpuday.models.linear import Embedding, Linear


@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torchs(bias, scatter):
    """y = x W^T + b, with and without b."""
    ours = scatter(Linear(8, 5, bias=bias))
    theirs = torch.nn.Linear(8, 5, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_computes_in_the_dtype_of_its_input(dtype, scatter):
    """A bf16 activation meets weights rounded to bf16; the weights themselves stay in fp32."""
    layer = scatter(Linear(8, 5, bias=True))
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = F.linear(x, layer.weight.to(dtype), layer.bias.to(dtype))
    assert layer(x).dtype == dtype
    assert torch.equal(layer(x), expected)
    assert {p.dtype for p in layer.parameters()} == {torch.float32}


def test_gradients_of_bf16_compute_add_up_in_fp32():
    """300 micro-batches whose gradient is 1 give 300; a bf16 sum would stand still at 256."""
    layer = Linear(1, 1, bias=True)
    torch.nn.init.ones_(layer.weight)
    for _ in range(300):
        layer(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
    assert (layer.weight.grad.dtype, layer.bias.grad.dtype) == (torch.float32, torch.float32)
    assert (layer.weight.grad.item(), layer.bias.grad.item()) == (300.0, 300.0)


def test_gradients_of_a_bf16_embedding_add_up_in_fp32():
    """As for matrices: 300 looks at one id give 300."""
    table = Embedding(4, 2)
    torch.nn.init.ones_(table.weight)
    for _ in range(300):
        table(torch.tensor([[3]]), torch.bfloat16).sum().backward()
    assert table.weight.grad.dtype == torch.float32
    assert table.weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [300.0, 300.0]]


def test_every_id_has_a_row_that_learns():
    """No id is taken for padding: id 0 is looked up and gets its gradient like any other."""
    table = Embedding(3, 2)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    out = table(torch.tensor([[0, 2], [0, 1]]), torch.float32)
    assert out.tolist() == [[[1.0, 2.0], [5.0, 6.0]], [[1.0, 2.0], [3.0, 4.0]]]
    out.sum().backward()
    assert table.weight.grad.tolist() == [[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embedding_answers_in_the_dtype_asked_for(dtype, scatter):
    """The one place where the compute dtype enters the model."""
    table = scatter(Embedding(10, 4))
    ids = torch.tensor([[7, 1]])
    assert table(ids, dtype).dtype == dtype
    assert torch.equal(table(ids, dtype), table.weight[ids].to(dtype))


def test_linear_says_what_is_fused_in_it_and_where_it_writes():
    """What Muon takes apart and what `zero_output` looks for; by default neither."""
    plain, special = Linear(4, 4, bias=False), Linear(4, 12, bias=False, fused=3, output=True)
    assert (plain.fused, plain.is_output, plain.bias) == (1, False, None)
    assert (special.fused, special.is_output, tuple(special.weight.shape)) == (3, True, (12, 4))
