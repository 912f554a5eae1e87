"""What holds for a mixer of any kind; a new file in the folder is enrolled by being there."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core import parts
from gpuday.core.errors import UsageError
from gpuday.models.mixers import Mixer
from gpuday.models.mixers.affine import Affine
from gpuday.models.mixers.cumulative import Cumulative
from gpuday.models.mixers.fourier import Fourier
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.visible import Visible

WIDTH, LENGTH = 64, 16


def small(name):
    """A mixer of several heads, where it has heads."""
    part = parts.find(Mixer, name)
    return part(head_width=16) if "head_width" in {field.name for field in dataclasses.fields(part)} else part()


CASES = {name: small(name) for name in parts.names(Mixer)} | {
    "softmax with every axis": Softmax(head_width=16, qk_norm="rms", value_residual=True, cap=5.0, gate=True),
    "affine, only scaled": Affine(head_width=16, normed=False),
    "cumulative of exponentials": Cumulative(head_width=16, of="exponentials"),
    "fourier as in the paper": Fourier(unitary=False),
    "hybrid above": Hybrid(last=3, upper=Softmax(head_width=32)),
}
LAYERS = {"softmax with every axis": 0}
SCORED = [name for name, mixer in CASES.items() if mixer.traits.scored and name != "hybrid"]

every_mixer = pytest.mark.parametrize("name", list(CASES))
every_mixer_that_mixes = pytest.mark.parametrize("name", [name for name in CASES if name != "identity"])
every_scored_mixer = pytest.mark.parametrize("name", SCORED)


@pytest.fixture
def build(make_place, scatter):
    """The module of a case, its weights far from their initial values."""

    def make(name, **changes):
        mixer = CASES[name]
        position = "rotary" if mixer.traits.scored else "none"
        plain = {"width": WIDTH, "length": LENGTH, "layer": LAYERS.get(name, 1), "position": position}
        return scatter(mixer.build(make_place(**{**plain, **changes})))

    return make


def draw(rows=2, length=LENGTH):
    return torch.randn(rows, length, WIDTH, generator=torch.Generator().manual_seed(0))


FIRST = (torch.arange(LENGTH) < 10).expand(2, -1)


@every_mixer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mixer_keeps_shape_and_dtype(name, dtype, build):
    """[B, L, D] to [B, L, D], for rows of full length and shorter."""
    mixer = build(name)
    for length in (16, 5):
        x = draw(length=length).to(dtype)
        answer = mixer(x, Visible())
        assert (answer.shape, answer.dtype) == (x.shape, dtype)


@pytest.mark.parametrize("position", ["rotary", "alibi"])
@pytest.mark.parametrize("name", [*(name for name in SCORED if CASES[name].traits.asked), "window", "later values"])
def test_asked_places_are_answered_as_the_whole_row_is(name, position, make_place, scatter):
    """By every mixer that says it can, under every limit on what is seen; in a layer that mixes the first one's values too."""
    mixer = CASES.get(name, Softmax(head_width=16, window=6, value_residual=name == "later values", gate=True))
    place = make_place(width=WIDTH, length=LENGTH, layer=LAYERS.get(name, 1), position=position)
    module, x = scatter(mixer.build(place)), draw()
    asked = torch.tensor([[3, 15], [9, 0]])
    segments = (torch.arange(LENGTH) >= 6).int().expand(2, -1)
    for given in ({}, {"mask": FIRST}, {"segments": segments}, {"causal": True, "mask": FIRST}):
        seen = Visible(**given)
        seen.kept["values"] = draw().view(2, LENGTH, -1, 16).transpose(1, 2)
        expected = torch.stack([row[at] for row, at in zip(module(x, seen), asked, strict=True)])
        torch.testing.assert_close(module(x, seen, asked), expected, atol=1e-5, rtol=1e-5)


@every_mixer
def test_bf16_costs_rounding_only(name, build):
    """What is summed, normed and exponentiated is so in fp32: within 2% of the fp32 answer, in norm."""
    mixer, x = build(name), draw().bfloat16()
    seen = Visible(FIRST, segments=(torch.arange(LENGTH) >= 6).int().expand(2, -1))
    exact = mixer(x.float(), seen)
    assert (mixer(x, seen).float() - exact).norm() < 0.02 * exact.norm()


@every_mixer
def test_rows_do_not_mix(name, build):
    """A row's answer is the same beside any other row."""
    mixer, x = build(name), draw(3)
    torch.testing.assert_close(mixer(x, Visible())[1:2], mixer(x[1:2], Visible()), atol=1e-5, rtol=1e-5)


@every_mixer
def test_a_mixer_does_not_look_at_padding(name, build):
    """Real positions answer the same whatever the masked ones hold, and as if the row ended before them."""
    mixer, x, seen = build(name), draw(), Visible(FIRST)
    answer = mixer(x, seen)
    torch.testing.assert_close(mixer(torch.where(FIRST[..., None], x, 9.0), seen)[:, :10], answer[:, :10])
    torch.testing.assert_close(mixer(x[:, :10], Visible()), answer[:, :10], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(answer).all()


@every_mixer_that_mixes
def test_a_mixer_keeps_documents_apart_where_it_is_told_to(name, build):
    """With segments, what stands in one document shows in no other one: each answers as if it stood alone."""
    mixer, x, seen = build(name), draw(), Visible(segments=(~FIRST).int())
    answer, changed = mixer(x, seen), torch.where(FIRST[..., None], x, 9.0)
    torch.testing.assert_close(mixer(changed, seen)[:, :10], answer[:, :10])
    for part in (slice(10), slice(10, LENGTH)):
        torch.testing.assert_close(mixer(x[:, part], Visible()), answer[:, part], atol=1e-4, rtol=1e-4)
    packed = mixer(x, Visible())[:, :10]
    assert (mixer(changed, Visible())[:, :10] - packed).norm() > 0.05 * packed.norm()


@every_mixer_that_mixes
def test_a_mixer_looks_back_only_where_it_is_told_to(name, build):
    """A later token never changes an earlier answer; a mixer that cannot do so refuses, rather than ignore it."""
    mixer, x = build(name), draw()
    changed = torch.where((torch.arange(LENGTH) < 7)[:, None], x, 9.0)
    if not CASES[name].traits.causal:
        if name.startswith("fourier"):
            with pytest.raises(UsageError, match="cannot keep from looking ahead"):
                mixer(x, Visible(causal=True))
        return
    segments = (torch.arange(LENGTH) >= 3).int().expand(2, -1)
    for limits in ({}, {"mask": FIRST}, {"segments": segments}, {"mask": FIRST, "segments": segments}):
        found = mixer(x, Visible(**limits, causal=True))[:, :7]
        torch.testing.assert_close(mixer(changed, Visible(**limits, causal=True))[:, :7], found)
        assert not torch.allclose(mixer(x, Visible(**limits))[:, :7], found, atol=1e-3)


@every_mixer_that_mixes
def test_a_mixer_mixes(name, build):
    """A change at one position shows at another."""
    mixer, x = build(name), draw(1)
    changed = x.clone()
    changed[0, 3] += draw()[1, 3]
    assert (mixer(changed, Visible()) - mixer(x, Visible()))[0, 4].abs().max() > 1e-3


@every_mixer
def test_a_mixer_suits_the_widths_and_depths_that_it_does_not_refuse(name, make_place):
    """Whatever passes the check can be built in every layer; widths off its unit are refused with the key."""
    mixer = CASES[name]
    refused = []
    for width, layers in itertools.product((48, 50, 64), range(1, 6)):
        try:
            mixer.check(width=width, layers=layers)
        except UsageError as error:
            refused.append(error)
            continue
        assert width % mixer.traits.unit == 0
        for layer in range(layers):
            mixer.build(make_place(width=width, layer=layer, depth=layers))
    assert [error for error in refused if not error.where.startswith("model.mixer.") or not error.fix] == []
    assert bool(refused) == (mixer.traits.unit > 1 or isinstance(mixer, Hybrid))


@every_mixer
def test_a_mixer_is_resized_for_any_depth(name):
    """To something that can be built there, of no more than its own kinds; at its own depth to itself."""
    mixer = CASES[name]
    for before, layers in itertools.product((4, 5, 12), (1, 2, 4, 5, 12)):
        found = mixer.resized(layers, before=before)
        found.check(width=WIDTH, layers=layers)
        assert found.traits.unit in (1, mixer.traits.unit)
        assert found == mixer or layers != before
        assert mixer.traits.scored == found.traits.scored


@every_mixer
def test_the_flops_formula_is_what_torch_counts(name, build, make_place):
    """Every matrix product of a global layer's forward pass, as torch's own counter sees them."""
    changes = {"width": WIDTH, "length": LENGTH, "layer": LAYERS.get(name, 1), "qkv_bias": False, "bias": False}
    mixer = build(name, **changes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(torch.zeros(3, LENGTH, WIDTH), Visible())
    assert counter.get_total_flops() == CASES[name].flops_per_token(make_place(**changes)) * 3 * LENGTH


@every_mixer
def test_every_weight_is_used(name, build):
    """The gradient of a random weighting of the answer reaches each parameter."""
    mixer = build(name)
    x, upstream = draw().requires_grad_(), torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))
    mixer(x, Visible()).backward(upstream)
    assert x.grad.any()
    assert [n for n, p in mixer.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_scored_mixer
@pytest.mark.parametrize("position", ["rotary", "alibi"])
def test_positions_are_relative(name, position, build):
    """The same content five positions later, all else masked out, gives the same answers."""
    mixer, x, at = build(name, position=position), draw(), torch.arange(LENGTH)
    later = torch.zeros_like(x)
    later[:, 5:13] = x[:, :8]
    here = mixer(x, Visible((at < 8).expand(2, -1)))[:, :8]
    there = mixer(later, Visible(((at >= 5) & (at < 13)).expand(2, -1)))[:, 5:13]
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@every_scored_mixer
def test_no_kind_of_positions_is_a_no_op(name, build):
    """The same weights answer differently without positions, with rotary ones and with ALiBi."""
    x = draw()
    answers = [build(name, position=position)(x, Visible()) for position in ("none", "rotary", "alibi")]
    for a, b in itertools.combinations(answers, 2):
        assert (a - b).norm() > 1e-3 * a.norm()


@every_scored_mixer
def test_dropout_acts_in_training_only(name, build):
    """In evaluation the layer is the one without dropout; in training two passes differ."""
    mixer, without, x = build(name, dropout=0.5), build(name), draw()
    torch.testing.assert_close(mixer(x, Visible()), without(x, Visible()))
    torch.manual_seed(0)
    mixer.train()
    assert not torch.allclose(mixer(x, Visible()), mixer(x, Visible()), rtol=1e-2)


def test_every_name_is_a_mixer_of_its_own(build):
    """No two compute the same from the same input, as two names of one class would."""
    x = draw()
    answers = {name: build(name)(x, Visible()) for name in CASES if name != "hybrid"}  # whose layer 1 is Fourier's
    for a, b in itertools.combinations(answers, 2):
        assert not torch.allclose(answers[a], answers[b], atol=1e-2), (a, b)


class All(nn.Module):
    """Every mixer on the same input, summed up: one graph to compile."""

    def __init__(self, mixers):
        super().__init__()
        self.mixers = nn.ModuleList(mixers)

    def forward(self, x, mask, segments):
        seen = Visible(mask, segments)
        return torch.stack([mixer(x, seen) for mixer in self.mixers]).sum(0)


@pytest.mark.parametrize(
    ("names", "backend"),
    [(list(CASES), "aot_eager"), (["cumulative of exponentials", "fourier"], "inductor")],
    ids=["every mixer traced", "the rarest operators in machine code"],
)
def test_mixers_compile_whole(names, backend, build):
    """In one graph with no break: the answer of plain execution and its gradients, with padding and documents."""
    model = All([build(name) for name in names])
    x, segments = draw().requires_grad_(), (torch.arange(LENGTH) >= 4).int().expand(2, -1)
    upstream = torch.randn(2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(1))
    torch.compiler.reset()
    answers = []
    for call in (model, torch.compile(model, backend=backend, dynamic=False, fullgraph=True)):
        answer = call(x, FIRST, segments)
        gradients = torch.autograd.grad(answer, [x, *model.parameters()], upstream)
        answers.append([answer.detach(), *gradients])
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)
