"""Every preset at every size: it builds, says what it is, and is the recipe that it claims to be."""

import itertools

import pytest
import torch

from gpuday import presets
from gpuday.core import config
from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.export.hf import choose, why_headless
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.objectives.mlm import Mlm
from gpuday.optim.adamw import Adamw
from gpuday.optim.muon import Muon
from gpuday.presets.sizes import AUTO, LADDER, OUTLINES, SIZES, Size, auto_size, find_size, is_short
from gpuday.schedules.triangle import Triangle
from gpuday.train.assemble import make_learner

TEN_MINUTES, DAY = Budget.parse("10m"), Budget.parse("24h")
every_preset = pytest.mark.parametrize("name", presets.names())
# Outlines are of use to a day; their 48 layers take their time to build.
every_recipe = pytest.mark.parametrize(
    ("size", "budget"),
    [(size, DAY) for size in SIZES] + [(size, TEN_MINUTES) for size in LADDER],
    ids=[f"{size}-24h" for size in SIZES] + [f"{size}-10m" for size in LADDER],
)


def on_meta(recipe, vocab=0):
    """The recipe's model without its numbers."""
    with torch.device("meta"):
        return MaskedLM(recipe.model, vocab=vocab or recipe.data.vocab, length=recipe.data.length)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@every_recipe
@every_preset
def test_every_preset_builds_at_every_size_and_budget(name, size, budget):
    """A forward pass over two full rows gives logits over the whole vocabulary."""
    recipe = presets.find(name)(size, budget)
    model = on_meta(recipe)
    with torch.no_grad():
        logits = model(torch.zeros(2, recipe.data.length, dtype=torch.int64, device="meta"))
    assert tuple(logits.shape) == (2 * recipe.data.length, recipe.data.vocab)


@every_recipe
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


def test_the_first_crammed_base_is_the_second_with_one_matrix_more():
    """120,179,713: the 119,589,889 of the second version and 768 times 768 between hidden state and decoder."""
    model = on_meta(presets.find("crammed_v1")("base", DAY))
    assert parameters(model) == 119_589_889 + 768 * 768 == 120_179_713
    assert {name: tuple(p.shape) for name, p in model.head.named_parameters()} == {"dense.weight": (768, 768)}


def test_the_first_crammed_base_is_the_papers_recipe():
    """Numbers of `bert-o3`: the others are the second version's."""
    recipe, second = presets.find("crammed_v1")("base", DAY), presets.find("crammed")("base", DAY)
    assert recipe.optimizer == Adamw(lr=1e-3, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.01)
    assert recipe.objective == Mlm(rate=0.15, masked=0.8, random=0.1)
    assert (recipe.rate, recipe.train, recipe.data) == (Triangle(), second.train, second.data)
    assert recipe.batch.full_rows(expected_tokens=600_000 * 128 * 128, length=128) == 4096
    rows = [recipe.batch.rows_at(f, full_rows=4096, length=128) for f in (0.0, 0.25, 0.5, 1.0)]
    assert rows == [32, 2048, 4096, 4096]


def test_the_izsak_large_has_the_papers_shape():
    """337,083,392, summed by hand."""
    recipe = presets.find("izsak")("large", DAY)
    block = 4 * (1024 * 1024 + 1024) + 1024 * 4096 + 4096 + 4096 * 1024 + 1024 + 4 * 1024
    ends = 128 * 1024 + 2 * 1024 + 2 * 1024 + 1024 * 1024 + 1024 + 2 * 1024
    assert parameters(on_meta(recipe)) == 24 * block + ends + 32768 * 1024 + 32768 == 337_083_392


def test_the_izsak_large_agrees_with_transformers():
    """Their BERT-large of 128 positions has a table of token types in place of the last norm, of the same size."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    with torch.device("meta"):
        theirs = transformers.BertForMaskedLM(transformers.BertConfig(**shape, max_position_embeddings=128))
    ours = on_meta(presets.find("izsak")("large", DAY), vocab=30522)
    assert parameters(ours) == parameters(theirs) - 2 * 1024 + 2 * 1024


def test_the_izsak_large_is_the_papers_recipe():
    """Numbers of `crammed-large-izsak` and `bert-izsak`; the rate rises over 6 per cent of the clock and then falls."""
    recipe = presets.find("izsak")("large", DAY)
    assert recipe.optimizer == Adamw(lr=2e-3, beta1=0.9, beta2=0.98, eps=1e-6, weight_decay=0.01)
    assert [recipe.rate(f) for f in (0.03, 0.06, 0.53, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert (recipe.model.mixer, recipe.model.feedforward) == (Softmax(head_width=64), Gelu(ratio=4.0))
    assert (recipe.model.norm_eps, recipe.model.placement, recipe.model.position) == (1e-6, "pre", "learned")
    assert (recipe.train.dropout, recipe.model.dropout, recipe.train.clip) == (True, 0.1, 0.0)
    assert recipe.batch.full_rows(expected_tokens=1.2e10, length=128) == 4096
    assert presets.find("izsak")("base", DAY).model.shape == Plain(layers=12)


@pytest.mark.parametrize(("name", "kind"), [("modern", "modernbert"), ("bert", "bert")])
@every_recipe
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
    assert [recipe.objective.predicted(128, recipe.mask_rate(f), "masked") for f in (0.0, 0.5, 1.0)] == [51, 38, 26]
    assert (recipe.objective.mlm.masked, recipe.objective.mlm.random) == (1.0, 0.0)


@every_recipe
def test_modern_predicts_next_tokens_in_its_first_quarter(size, budget):
    """And masked ones from then on, at their own positions: no other step is causal, at any size and length."""
    objective = presets.find("modern")(size, budget).objective
    kinds = [objective.kind_at(percent / 100, 64 * percent, 64) for percent in range(101)]
    assert kinds == ["causal"] * 25 + ["masked"] * 76
    assert objective.predicted(128, 1.0, "causal") == 127 and not objective.shift


@every_recipe
def test_unrestricted_is_modern_and_the_value_residual(size, budget):
    """Beside its name."""
    modern, unrestricted = (presets.find(name)(size, budget) for name in ("modern", "unrestricted"))
    assert config.differences(modern, unrestricted) == [
        ("preset", "modern", "unrestricted"),
        ("model.mixer.value_residual", False, True),
    ]


def test_no_class_holds_the_unrestricted_and_modern_exports_with_its_head():
    """What bars each class is said; modern's head predicts a masked token where it stands."""
    for name, kind in (("modern", "modernbert"), ("unrestricted", None)):
        recipe = presets.find(name)("nano", TEN_MINUTES)
        with torch.device("meta"):
            learner = make_learner(recipe, vocab=recipe.data.vocab)
        assert why_headless(learner.model, learner.predictor) == ""
        native, obstacles = choose(recipe.model)
        assert (native.kind if native else None) == kind
        assert kind or all(obstacles.values())


def test_all_presets_are_found_and_sizes_is_none_of_them():
    """The modules of the folder, but for the table of sizes."""
    assert {"bert", "crammed", "crammed_v1", "izsak", "modern", "unrestricted"} <= set(presets.names())
    assert "sizes" not in presets.names()
    for name in presets.names():
        assert presets.find(name).__name__ == name


def test_a_preset_is_found_with_a_hyphen_too():
    """As the paper's names are written; the recipe has the one name, so that both are one run."""
    assert presets.find("crammed-v1") is presets.find("crammed_v1")
    assert presets.find("crammed-v1")("nano", DAY).preset == "crammed_v1"


@pytest.mark.parametrize(
    ("word", "match"), [("moderm", "modern"), ("cramed", "crammed"), ("BERT", "bert"), ("crammed-v", "crammed_v1")]
)
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
    """On the ladder each has no fewer layers, no narrower stream, no smaller vocabulary and more parameters."""
    table = list(LADDER.values())
    assert all(a.layers <= b.layers and a.width <= b.width and a.vocab <= b.vocab for a, b in itertools.pairwise(table))
    for name in presets.names():
        counts = [parameters(on_meta(presets.find(name)(size, DAY))) for size in LADDER]
        assert counts == sorted(set(counts)), name


def test_the_papers_outlines_stand_beside_the_ladder():
    """Deep and narrow to shallow and wide, with heads of 64 in each, and `auto` takes none of them."""
    assert OUTLINES == {
        "bamboo": Size(layers=48, width=384, vocab=32768),
        "deep": Size(layers=24, width=512, vocab=32768),
        "wide": Size(layers=8, width=1088, vocab=32768),
    }
    assert list(SIZES) == [*LADDER, *OUTLINES]
    assert not set(OUTLINES) & {size for steps in AUTO.values() for _, size in steps}
    assert find_size("bamboo").width // 64 == 6


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
