"""Every preset at every size: it builds, says what it is, and is the recipe that it claims to be."""

import itertools

import pytest
import torch

from gpuday import presets
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.export.hf import choose
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.optim.adamw import Adamw
from gpuday.optim.muon import Muon
from gpuday.presets.sizes import AUTO, SIZES, auto_size, find_size, is_short
from gpuday.schedules.triangle import Triangle

TEN_MINUTES, DAY = Budget.parse("10m"), Budget.parse("24h")
every_preset = pytest.mark.parametrize("name", presets.names())
every_size = pytest.mark.parametrize("size", list(SIZES))
every_budget = pytest.mark.parametrize("budget", [TEN_MINUTES, DAY], ids=["10m", "24h"])


def on_meta(recipe, vocab=0):
    """The recipe's model without its numbers."""
    with torch.device("meta"):
        return MaskedLM(recipe.model, vocab=vocab or recipe.data.vocab, length=recipe.data.length)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@every_budget
@every_size
@every_preset
def test_every_preset_builds_at_every_size_and_budget(name, size, budget):
    """A forward pass over two full rows gives logits over the whole vocabulary."""
    recipe = presets.find(name)(size, budget)
    model = on_meta(recipe)
    with torch.no_grad():
        logits = model(torch.zeros(2, recipe.data.length, dtype=torch.int64, device="meta"))
    assert tuple(logits.shape) == (2 * recipe.data.length, recipe.data.vocab)


@every_budget
@every_size
@every_preset
def test_a_recipe_says_where_it_is_from(name, size, budget):
    """Preset, size and budget as given; vocabulary and width as the table of sizes has them."""
    recipe = presets.find(name)(size, budget)
    assert (recipe.preset, recipe.size, recipe.budget) == (name, size, budget)
    assert (recipe.data.vocab, recipe.model.width) == (SIZES[size].vocab, SIZES[size].width)
    assert recipe.data.vocab % 64 == 0


@every_preset
def test_a_presets_docstring_holds_command_device_and_expectation(name):
    """What to type, on what, and what comes of it."""
    doc = presets.find(name).__doc__
    assert f"command:  gpuday run {name}" in doc
    assert "device:" in doc
    assert "expected:" in doc


@every_preset
def test_rates_end_at_zero_with_the_budget(name):
    """Exactly: no preset leaves rate unspent or goes below."""
    rate = presets.find(name)("nano", TEN_MINUTES).rate
    assert rate(1.0) == 0.0
    assert max(rate(i / 1000) for i in range(1001)) == pytest.approx(1.0, abs=2e-3)


def test_the_crammed_base_has_the_papers_number_of_parameters():
    """119,589,889: 25,165,824 of embedding, 16 layers of 5,901,312, two norms of 1,536 and one scalar."""
    recipe = presets.find("crammed")("base", DAY)
    assert (recipe.data.vocab, recipe.data.length) == (32768, 128)
    model = on_meta(recipe)
    assert parameters(model) == 119_589_889
    assert parameters(model.encoder.embedding) == 25_165_824
    assert [parameters(block) for block in model.encoder.stack.blocks] == [5_901_312] * 16
    assert parameters(model.head) == 0


def test_the_crammed_base_is_the_papers_recipe():
    """Numbers of the second version's `crammed-bert`, `bert-o4` and `the-pile`."""
    recipe = presets.find("crammed")("base", DAY)
    assert (recipe.optimizer, recipe.rate) == (
        Adamw(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-12, weight_decay=0.01),
        Triangle(),
    )
    assert (recipe.objective.rate, recipe.objective.masked, recipe.objective.random) == (0.25, 0.8, 0.1)
    assert (recipe.model.mixer, recipe.model.feedforward) == (Softmax(head_width=64), Geglu(ratio=2.0))
    assert (recipe.train.clip, recipe.train.dropout, recipe.model.dropout) == (0.5, False, 0.1)
    assert recipe.batch.full_rows(expected_tokens=9.1e9, length=128) == 8192
    assert [recipe.batch.rows_at(f, full_rows=8192, length=128) for f in (0.0, 0.3, 0.6, 1.0)] == [
        32,
        4096,
        8192,
        8192,
    ]
    assert [f.cutoff for f in recipe.data.filters] == [0.25]


def test_the_bert_base_has_the_originals_number_of_parameters():
    """109,512,762 with the original's 30,522 ids, summed by hand, without token types and the pooler: both belong to
    the next-sentence task."""
    recipe = presets.find("bert")("base", DAY)
    blocks = 12 * (4 * (768 * 768 + 768) + 768 * 3072 + 3072 + 3072 * 768 + 768 + 4 * 768)
    embedding = 30522 * 768 + 512 * 768 + 2 * 768
    head = 768 * 768 + 768 + 2 * 768 + 30522
    assert parameters(on_meta(recipe, vocab=30522)) == blocks + embedding + head == 109_512_762


def test_the_bert_base_agrees_with_transformers():
    """Their `BertForMaskedLM` of default size has the same parameters and the table of token types."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.BertForMaskedLM(transformers.BertConfig())
    ours = on_meta(presets.find("bert")("base", DAY), vocab=30522)
    assert parameters(ours) == parameters(theirs) - 2 * 768


@pytest.mark.parametrize(("name", "kind"), [("modern", "modernbert"), ("bert", "bert")])
@every_size
@every_budget
def test_modern_and_bert_export_to_a_native_class(name, kind, size, budget):
    """No axis of theirs lies outside what the class can say, at any size and length."""
    native, _ = choose(presets.find(name)(size, budget).model)
    assert native is not None
    assert native.kind == kind


def test_modern_at_base_has_the_depth_of_its_class():
    """22 layers, of which every third sees the whole row of 512; at ten minutes all see 128."""
    long, short = presets.find("modern")("base", DAY), presets.find("modern")("base", TEN_MINUTES)
    assert (long.model.shape, long.data.length) == (Plain(layers=22), 512)
    assert [layer for layer in range(22) if not long.model.mixer.is_local(layer)] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert (short.data.length, short.model.mixer.window) == (128, 0)
    assert isinstance(long.optimizer, Muon)


def test_modern_masks_less_and_less():
    """From 40 per cent to 20, everything masked."""
    recipe = presets.find("modern")("nano", TEN_MINUTES)
    assert [recipe.objective.predicted(128, recipe.mask_rate(f)) for f in (0.0, 0.5, 1.0)] == [51, 38, 26]
    assert (recipe.objective.masked, recipe.objective.random) == (1.0, 0.0)


def test_all_presets_are_found_and_sizes_is_none_of_them():
    """The modules of the folder, but for the table of sizes."""
    assert {"bert", "crammed", "modern"} <= set(presets.names())
    assert "sizes" not in presets.names()
    for name in presets.names():
        assert presets.find(name).__name__ == name


@pytest.mark.parametrize(("word", "match"), [("moderm", "modern"), ("cramed", "crammed"), ("BERT", "bert")])
def test_an_unknown_preset_is_refused_with_the_nearest_match(word, match):
    """Or, where none is near, with the list of all."""
    with pytest.raises(UsageError, match="no preset is called") as caught:
        presets.find(word)
    assert match in caught.value.fix
    with pytest.raises(UsageError) as caught:
        presets.find("sizes")
    assert all(name in caught.value.fix for name in presets.names())


@every_preset
@pytest.mark.parametrize(("word", "match"), [("nanno", "nano"), ("Base", "base"), ("smal", "small")])
def test_an_unknown_size_is_refused_with_the_nearest_match(name, word, match):
    """By every preset and by the table itself."""
    for ask in (find_size, lambda size: presets.find(name)(size, DAY)):
        with pytest.raises(UsageError, match=f"no size is called '{word}'") as caught:
            ask(word)
        assert caught.value.fix == f"did you mean {match!r}?"


def test_sizes_grow():
    """Each has no fewer layers, no narrower stream, no smaller vocabulary and more parameters than the one before."""
    table = list(SIZES.values())
    assert all(a.layers <= b.layers and a.width <= b.width and a.vocab <= b.vocab for a, b in itertools.pairwise(table))
    for name in presets.names():
        counts = [parameters(on_meta(presets.find(name)(size, DAY))) for size in SIZES]
        assert counts == sorted(set(counts)), name


@pytest.mark.parametrize(
    ("device", "budget", "size"),
    [
        ("cpu", "10m", "nano"),
        ("cpu", "30m", "nano"),
        ("cpu", "1h", "micro"),
        ("cpu", "24h", "mini"),
        ("cpu", "7d", "small"),
        ("cuda", "5m", "mini"),
        ("cuda", "10m", "small"),
        ("cuda", "24h", "base"),
        ("cuda", "7d", "large"),
    ],
)
def test_auto_picks_the_size_for_device_and_budget(device, budget, size):
    """Hand-picked points of the table, limits included."""
    assert auto_size(device, Budget.parse(budget)) == size


@pytest.mark.parametrize("device", list(AUTO))
@pytest.mark.parametrize("budget", ["5000steps", "2e9tok", "1e18flop"])
def test_auto_is_nano_for_budgets_that_are_not_in_seconds(device, budget):
    """How long they take is not known."""
    assert auto_size(device, Budget.parse(budget)) == "nano"


@pytest.mark.parametrize("device", list(AUTO))
def test_auto_never_picks_a_smaller_size_for_a_longer_budget(device):
    """And always one that exists."""
    picked = [auto_size(device, Budget.parse(f"{60 * 2**i}s")) for i in range(16)]
    assert [list(SIZES).index(size) for size in picked] == sorted(list(SIZES).index(size) for size in picked)


@pytest.mark.parametrize(
    ("budget", "short"), [("10m", True), ("60m", True), ("61m", False), ("24h", False), ("5000steps", True)]
)
def test_rows_are_short_up_to_an_hour(budget, short):
    """And where no wall clock says otherwise."""
    assert is_short(Budget.parse(budget)) == short
    lengths = {name: presets.find(name)("nano", Budget.parse(budget)).data.length for name in presets.names()}
    assert lengths["crammed"] == 128
    assert (lengths["modern"], lengths["bert"]) == ((128, 128) if short else (512, 512))
