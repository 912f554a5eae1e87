"""Dropout by 16-bit numbers: how many go, what is left, and whose noise it is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpuday.models.dropout import FEWEST, LEVELS, Dropout, dropped, quicken

COUNT = 400_003  # no multiple of four, since one draw decides four elements


@pytest.mark.parametrize("p", [0.01, 0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_p_is_zero_and_the_rest_is_scaled(p, dtype):
    """To four deviations of a binomial count; all that is kept is kept alike."""
    torch.manual_seed(0)
    found = dropped(torch.full((COUNT,), 3.0, dtype=dtype), p)
    gone = found == 0
    spread = (p * (1 - p) / COUNT) ** 0.5
    assert gone.float().mean().item() == pytest.approx(p, abs=4 * spread)
    assert found.dtype == dtype
    kept = found[~gone]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(3.0 / (1.0 - p), rel=1e-5 / (1 - p) if dtype == torch.float32 else 0.008)


def test_the_mean_stays_exact():
    """The scale belongs to the rounded probability: what is kept, times its chance, is the whole. bf16 rounds results, not
    the scale: many different values keep their mean."""
    for p in (0.1, 1 / 3, 0.77):
        zeros = round(p * LEVELS)
        torch.manual_seed(1)
        kept = dropped(torch.ones(64, dtype=torch.float64), p).max().item()
        assert kept * (LEVELS - zeros) / LEVELS == pytest.approx(1.0, abs=1e-12)
    x = torch.linspace(1.0, 2.0, 100_000).bfloat16()
    for p in (0.05, 0.1):  # whose scales bf16 would round by 0.2%
        y = dropped(x, p)
        ratio = (y[y > 0].double() / x[y > 0].double()).mean().item()
        assert ratio * (1 - p) == pytest.approx(1.0, abs=5e-4)


def test_neighbours_are_independent():
    """The four elements of a draw no more alike than chance has it, and each as often kept."""
    torch.manual_seed(2)
    kept = (dropped(torch.ones(4 * 100_000), 0.3) > 0).view(-1, 4).double()
    torch.testing.assert_close(kept.mean(0), torch.full((4,), 0.7, dtype=torch.float64), atol=0.007, rtol=0)
    torch.testing.assert_close(torch.corrcoef(kept.T), torch.eye(4, dtype=torch.float64), atol=0.015, rtol=0)


def test_the_gradient_passes_where_the_value_does():
    """With the same factor; none passes where the value was dropped."""
    torch.manual_seed(3)
    x = torch.randn(7, 5, 3, requires_grad=True)
    y = dropped(x, 0.4)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, LEVELS / (LEVELS - round(0.4 * LEVELS))))


def test_the_noise_is_the_global_generators():
    """So that a checkpoint holds it; a view that is not contiguous is thinned like any other."""
    x = torch.randn(50, 40)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    first, second = dropped(x, 0.5), dropped(x, 0.5)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(dropped(x, 0.5), first)
    torch.set_rng_state(state)
    assert torch.equal(dropped(x.mT.contiguous().mT, 0.5), first)


def test_probabilities_that_16_bits_would_blur_are_left_to_pytorch():
    """And none, or all of it, are what they say."""
    x = torch.ones(2000)
    assert dropped(x, 0.0) is x
    assert not dropped(x, 1.0).any()
    small = (FEWEST - 1) / LEVELS
    torch.manual_seed(5)
    ours = dropped(x, small)
    torch.manual_seed(5)
    assert torch.equal(ours, F.dropout(x, small))


def test_the_module_acts_in_training_alone():
    """In evaluation the very tensor comes back."""
    module, x = Dropout(0.5), torch.ones(1000)
    assert 300 < (module(x) == 0).sum().item() < 700
    assert module.eval()(x) is x


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_code_draws_its_own_noise():
    """A draw of integers would break a fused kernel apart."""
    torch.manual_seed(6)
    found = torch.compile(dropped, backend="aot_eager")(torch.ones(10_000), 0.25)
    torch.manual_seed(6)
    assert torch.equal(found, F.dropout(torch.ones(10_000), 0.25))


def test_a_foreign_model_is_quickened_in_place():
    """At every depth, with probability and mode kept; kinds of dropout that are not PyTorch's plain one stay."""
    shared = nn.Dropout(0.4)
    model = nn.Sequential(
        nn.Dropout(0.1),
        nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2).eval(), shared), "b": shared}),
        nn.Dropout1d(0.3),
    )
    names = list(model.state_dict())
    quicken(model)
    found = [(m.p, m.training) for m in model.modules() if isinstance(m, Dropout)]
    assert found == [(0.1, True), (0.2, False), (0.4, True), (0.4, True)]
    assert type(model[2]) is nn.Dropout1d
    assert nn.Dropout not in map(type, model.modules())
    assert list(model.state_dict()) == names
