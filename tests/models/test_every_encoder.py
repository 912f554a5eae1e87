"""What holds for every value of every axis of the encoder; a new value or part is enrolled by being there."""

import dataclasses
import itertools
import json
import typing

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from gpuday.core import config as configs
from gpuday.core import parts
from gpuday.core.errors import UsageError
from gpuday.models.encoder import EncoderConfig
from gpuday.models.flops import forward_per_token, parameters
from gpuday.models.heads import MaskedLM
from gpuday.models.init import initialise
from gpuday.models.mixers import Mixer
from gpuday.models.mixers.fourier import Fourier
from gpuday.models.mixers.hybrid import Hybrid
from gpuday.models.mixers.identity import Identity
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.funnel import Funnel
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent
from gpuday.models.visible import Visible

VOCAB, LENGTH, ROWS, WIDTH = 64, 16, 3, 64
IDS = torch.randint(0, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(LENGTH) < torch.tensor([[16], [9], [3]])
NUMBERS = {
    "width": (128,),
    "feedforward_every": (0, 2),
    "norm_eps": (1e-2,),
    "layer_drop": (0.3,),
    "embedding_width": (16,),
    "dropout": (0.3,),
    "logit_cap": (5.0,),
    "init_std": (0.1,),
}
TOGETHER = {
    "deepnorm as in its paper": {"placement": "deepnorm", "init": "deepnorm", "norm_bias": True},
    "small ALBERT": {"shape": Recurrent(layers=1, repeats=3), "embedding_width": 16, "placement": "post"},
    "factorised without transform": {"embedding_width": 16, "head_transform": False},
    "factorised with a bias and no transform": {"embedding_width": 16, "head_transform": False, "head_bias": True},
    "factorised and untied": {"embedding_width": 16, "tied": False, "decoder_bias": True, "position": "learned"},
    "factorised and untied without transform": {"embedding_width": 16, "tied": False, "head_transform": False},
    "parallel without a norm": {"block": "parallel", "first_norm": False, "feedforward_every": 2},
    "sandwich without first norm": {"placement": "sandwich", "first_norm": False, "norm": "scalenorm"},
    "norms of a shift alone": {"norm_scale": False, "norm_bias": True, "norm": "scalenorm"},
    "three stages with the input in each": {"shape": Funnel(stages=(1, 1, 1), decoder=2), "skip": "x0"},
    "funnel without decoder": {"shape": Funnel(stages=(1, 2), factor=4, decoder=0)},
    "funnel in the form of a U": {"shape": Funnel(stages=(1, 2, 1), stepwise=True), "skip": "x0"},
    "funnel of transforms": {"shape": Funnel(), "mixer": Fourier(), "position": "learned"},
    "recurrent with the input": {"shape": Recurrent(layers=2, repeats=2), "skip": "x0"},
}


def small(part):
    """A mixer of several heads, where it has heads."""
    return dataclasses.replace(part, head_width=16) if hasattr(part, "head_width") else part


def values_of(field: dataclasses.Field, hint: object) -> tuple:
    """Every value of an axis but for numbers, of which the table above holds some."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if hint is bool:
        return (True, False)
    if isinstance(hint, type) and issubclass(hint, parts.Part):
        return tuple(small(parts.find(hint, name)()) for name in parts.names(hint))
    return NUMBERS[field.name]


def one_axis_at_a_time() -> dict[str, dict[str, object]]:
    hints = typing.get_type_hints(EncoderConfig)
    found = {}
    for field in dataclasses.fields(EncoderConfig):
        for value in values_of(field, hints[field.name]):
            written = parts.name_of(type(value)) if isinstance(value, parts.Part) else value
            changes = {field.name: value}
            if isinstance(value, Mixer) and not value.traits.scored:
                changes["position"] = "learned"
            found[f"{field.name}={written}"] = changes
    return found


# Axes that decide of what blocks are made, or how many there are.
OF_BLOCKS = {"width", "shape", "mixer", "feedforward_every", "placement", "block", "skip", "position", "first_norm"}
VARIANTS = one_axis_at_a_time() | TOGETHER
every_variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def make(**changes: object) -> EncoderConfig:
    plain = {"width": WIDTH, "shape": Plain(layers=3), "mixer": Softmax(head_width=16)}
    return EncoderConfig(**{**plain, **changes})


@pytest.fixture
def make_model(scatter):
    return lambda **changes: scatter(MaskedLM(make(**changes), vocab=VOCAB, length=LENGTH))


@every_variant
def test_it_survives_json(changes):
    """What recipe.json holds builds the same encoder."""
    config = make(**changes)
    assert configs.from_dict(EncoderConfig, json.loads(json.dumps(configs.to_dict(config)))) == config


@every_variant
def test_it_learns_with_all_of_its_parameters(changes):
    """From its own initial weights the loss falls on a batch seen again and again, and no parameter stays behind."""
    config = make(**changes)
    model = MaskedLM(config, vocab=VOCAB, length=LENGTH).train()
    initialise(model, config, seed=0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    torch.manual_seed(0)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(model(IDS, mask=MASK)[MASK.flatten()], IDS[MASK])
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.95 * losses[0]
    assert [name for name, p in model.named_parameters() if torch.equal(p, before[name])] == []


@every_variant
def test_its_flops_are_what_torch_counts(changes, make_model):
    """All matrix products of the forward pass, and nothing else."""
    model = make_model(**changes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(IDS)
    per_token = forward_per_token(model.config, vocab=VOCAB, length=LENGTH, predicted_share=1.0)
    assert counter.get_total_flops() == ROWS * LENGTH * per_token


@every_variant
def test_its_parameters_are_what_the_formula_says(changes, make_model):
    """Tied ones once."""
    model = make_model(**changes)
    counted = sum(p.numel() for p in model.parameters())
    assert parameters(model.config, vocab=VOCAB, length=LENGTH) == counted


@every_variant
def test_it_does_not_read_padding(changes, make_model):
    """Logits of real tokens are the same to the bit, whatever ids fill the rows up; and the same without the filling."""
    model = make_model(**changes)
    other = torch.where(MASK, IDS, (IDS + 7) % VOCAB)
    real = MASK.flatten()
    answer = model(IDS, mask=MASK)[real]
    assert torch.equal(answer, model(other, mask=MASK)[real])
    alone = torch.cat([model(row[:n][None]) for row, n in zip(IDS, (16, 9, 3), strict=True)])
    torch.testing.assert_close(answer, alone, atol=2e-4, rtol=2e-3)


@every_variant
def test_it_does_not_read_other_documents_where_it_can_keep_them_apart(changes, make_model):
    """What stands in the second half of a row has no influence on the first, which is another document."""
    model = make_model(**changes)
    segments = (torch.arange(LENGTH) >= 6).int().expand(ROWS, -1)
    if model.config.shape.multiple > 1:
        return
    other = torch.where(segments == 0, IDS, (IDS + 7) % VOCAB)
    mine, theirs = (model.encoder(ids, segments=segments)[:, :6] for ids in (IDS, other))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@every_variant
def test_it_does_not_look_ahead_where_it_can_look_back_only(changes, make_model):
    """Causal hidden states are the same whatever comes later; the others refuse."""
    model = make_model(**changes)
    if not model.config.causal:
        with pytest.raises(UsageError, match="cannot look back only"):
            model.encoder(IDS, causal=True)
        return
    later = torch.cat((IDS[:, :9], (IDS[:, 9:] + 7) % VOCAB), dim=1)
    mine, theirs = (model.encoder(ids, causal=True)[:, :9] for ids in (IDS, later))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    if not isinstance(model.config.mixer, Identity):  # which never looks anywhere
        assert not torch.allclose(model.encoder(IDS)[:, :9], model.encoder(later)[:, :9], atol=1e-3)


@every_variant
def test_it_answers_for_asked_places_alone_as_it_does_for_all(changes, make_model):
    """Two places of each row, behind a mask, behind documents' borders and looking back only, where that can be had."""
    model = make_model(**changes)
    places = torch.tensor([[15, 0], [4, 8], [2, 0]])
    seen = [{}, {"mask": MASK}]
    if model.config.shape.multiple == 1:
        seen.append({"segments": (torch.arange(LENGTH) >= 6).int().expand(ROWS, -1)})
    if model.config.causal:
        seen.append({"causal": True, "mask": MASK})
    for given in seen:
        whole = model.encoder(IDS, **given)
        expected = torch.stack([row[at] for row, at in zip(whole, places, strict=True)])
        torch.testing.assert_close(model.encoder(IDS, asked=places, **given), expected, atol=1e-5, rtol=1e-5)


@every_variant
def test_what_nobody_asks_for_is_not_computed(changes, make_model):
    """One place of a row takes fewer FLOPs than all of it: the last block's network, and queries where a mixer has some."""
    model = make_model(**changes)
    counts = []
    for asked in (None, torch.zeros(ROWS, 1, dtype=torch.int64)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.encoder(IDS, asked=asked)
        counts.append(counter.get_total_flops())
    config = model.config
    cut = config.shape.ends_whole and (
        config.mixer.traits.asked or config.has_feedforward(config.shape.passes[-1].layer)
    )
    assert (counts[1] < counts[0]) == cut


def test_every_axis_is_enrolled():
    """Each field of the config has values here, and each part of each kind is among them."""
    named = {name.partition("=")[0] for name in VARIANTS if "=" in name}
    assert named == {field.name for field in dataclasses.fields(EncoderConfig)}


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": Funnel(), "placement": "sandwich", "norm": "scalenorm", "skip": "x0", "embedding_width": 16},
        {"placement": "deepnorm", "skip": "unet", "norm": "rmsnorm", "feedforward_every": 2, "tied": False},
    ],
    ids=["funnel", "deepnorm"],
)
def test_combinations_are_one_graph(changes, make_model):
    """No break, layer drop included; every parameter gets a gradient through it."""
    model = make_model(layer_drop=0.3, **changes)
    torch.compiler.reset()
    compiled = torch.compile(model.train(), backend="eager", dynamic=False, fullgraph=True)
    torch.manual_seed(0)
    compiled(IDS, mask=MASK).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_all_pairs_of_values_can_be_asked_for_or_are_refused_with_a_fix():
    """Every two values together make a config, or a message that says what to change; and what is made can be built."""
    made, refused, built = 0, [], []
    for (one, first), (other, second) in itertools.combinations(one_axis_at_a_time().items(), 2):
        if first.keys() & second.keys():
            continue
        try:
            config = make(**first, **second)
        except UsageError as error:
            refused.append(error)
            continue
        made += 1
        if made % 40 == 0 or {name.partition("=")[0] for name in (one, other)} <= OF_BLOCKS:
            built.append(config)
    assert [error for error in refused if not error.where.startswith("model.") or not error.fix] == []
    assert made > 10 * len(refused) > 0
    with torch.device("meta"):
        for config in built:
            MaskedLM(config, vocab=VOCAB, length=LENGTH)


@pytest.mark.parametrize(
    "changes", [c for name, c in one_axis_at_a_time().items() if name.partition("=")[0] in OF_BLOCKS]
)
def test_any_number_of_blocks_can_be_had_of_it(changes):
    """For a generator or a trial: plain, buildable, with a network where there was one; at its own depth the same."""
    config = make(**changes)
    for blocks in (1, 2, 3, 4):
        found = config.shortened(blocks)
        assert (found.shape, found.position) == (Plain(layers=blocks), config.position)
        assert any(map(found.has_feedforward, range(blocks))) == (config.feedforward_every > 0)
        with torch.device("meta"):
            MaskedLM(found, vocab=VOCAB, length=LENGTH)
    assert config.shape != Plain(layers=3) or config.shortened(3) == config


def test_a_shorter_hybrid_has_both_of_its_mixers():
    """One layer of softmax above three of Fourier, where there were four above eight."""
    config = make(shape=Plain(layers=12), mixer=Hybrid(last=4), feedforward_every=6, position="learned")
    short = config.shortened(4)
    assert (short.mixer, short.feedforward_every) == (Hybrid(last=1), 4)
    assert make(skip="unet").shortened(1).skip == "none"


@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "scaled_sinusoidal", "rotary", "alibi"])
def test_without_positions_alone_order_does_not_matter(position, make_model):
    """Reordered tokens give reordered hidden states under `none`, and other ones under every other kind."""
    encoder = make_model(position=position).encoder
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1))
    moved = (encoder(IDS[:, order]) - encoder(IDS)[:, order]).abs().max()
    assert (moved < 1e-4) if position == "none" else (moved > 0.1)


@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "scaled_sinusoidal", "rotary", "alibi"])
def test_relative_positions_alone_bear_a_shift_of_the_row(position, make_model):
    """Five places to the right, behind padding: the same hidden states, unless places are counted from the start."""
    encoder = make_model(position=position).encoder
    here = encoder(IDS[:, :8])
    there = encoder(F.pad(IDS[:, :8], (5, 3)), F.pad(torch.ones(ROWS, 8, dtype=torch.bool), (5, 3)))[:, 5:13]
    moved = (here - there).abs().max()
    assert (moved < 1e-3) if position in ("none", "rotary", "alibi") else (moved > 0.1)


def test_every_block_is_handed_what_is_seen_and_the_stacks_input(make_model):
    """`kept` holds the embedding's output under x0, from the first block on, where blocks add it; else nothing."""
    model = make_model(skip="x0")
    found = []
    for block in model.encoder.stack.blocks:
        block.register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    model.encoder(IDS)
    assert all(isinstance(seen, Visible) for _, seen in found)
    assert all(torch.equal(seen.kept["x0"], found[0][0]) for _, seen in found)
    plain = make_model().encoder
    plain.stack.blocks[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs))
    plain(IDS)
    assert found[-1][1].kept == {}
