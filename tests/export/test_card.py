import re

import pytest

from gpuday.core.clock import Budget
from gpuday.core.config import to_dict
from gpuday.data.prepare import DataConfig
from gpuday.export.card import write_card
from gpuday.objectives.hybrid import Hybrid
from gpuday.objectives.rtd import Rtd
from gpuday.recipe import Recipe

EXPORT = {
    "kind": "modernbert",
    "parity_max_abs": 1.38e-5,
    "max_length": 128,
    "transformers": "5.23.0",
    "folder": "/home/somebody/secret/runs/plain/model",
}
SUMMARY = {
    "model": {"parameters": 5_243_904, "vocabulary": 8192},
    "train": {"tokens": 6_100_000, "steps": 1234},
    "heldout": {"nats_per_token": 3.21987, "word_bits_per_byte": None},
    "scores": {
        "glue-P1": {
            "protocol": "P1",
            "tasks": {
                "sst2": {
                    "metric": "accuracy",
                    "median": 0.8125,
                    "spread": 0.01,
                    "n": 3,
                    "partial": True,
                    "baseline": {"majority": 0.509, "bag_of_words": 0.8},
                }
            },
        },
    },
    "device": "a | b",
}


@pytest.fixture
def recipe():
    data = DataConfig(corpus=("/home/somebody/secret/books.txt", "hub:wiki:en"))
    return to_dict(Recipe(preset="modern", size="nano", budget=Budget.parse("10m"), data=data))


def test_the_card_tells_what_the_run_s_files_say(recipe):
    """Budget, text, tokens, loss, scores, parity and longest row."""
    card = write_card(name="modern-nano", recipe=recipe, summary=SUMMARY, export=EXPORT)
    for part in (
        "# modern-nano",
        "a budget of 10 minutes",
        "| Training text | books.txt, hub:wiki:en |",
        "| Parameters | 5,243,904 |",
        "| Vocabulary | 8,192 |",
        "| Tokens seen | 6,100,000 |",
        "| Held-out loss, nats per masked token | 3.2199 |",
        "Fine-tuned by protocol P1; median over seeds.",
        "| sst2 | accuracy (part of the official rows) | 0.812 | 3 | 0.010 | majority 0.509, bag_of_words 0.800 |",
        "| Device | a \\| b |",
        "1.4e-05 (largest difference of a logit, fp32, transformers 5.23.0)",
        "Rows of at most 128 tokens",
    ):
        assert part in card


def test_what_is_not_known_is_not_told(recipe):
    """Without a summary there is no row about training, and nowhere a None or an empty cell."""
    card = write_card(name="run", recipe=recipe, summary={}, export=EXPORT)
    facts = card.partition("<details>")[0]
    assert "Tokens seen" not in facts and "Scores" not in facts and "None" not in facts
    assert not re.search(r"\| +\|\n(?!\|---)", facts.replace("| | |", ""))


def test_the_lines_of_the_card_load_this_folder(recipe):
    """As it was named; of an absolute path the last two parts; as a string of Python whatever it is called."""
    for folder, shown in (
        ("runs/demo/model", "runs/demo/model"),
        ("/home/a/runs/demo/model", "demo/model"),
        ('a"\n```', 'a\\"\\n```'),
    ):
        card = write_card(name="run", recipe=recipe, summary={}, export={**EXPORT, "folder": folder})
        assert f'model = AutoModelForMaskedLM.from_pretrained("{shown}")\n' in card
        assert f'tokenizer = AutoTokenizer.from_pretrained("{shown}")\n' in card


def test_the_card_keeps_folders_to_itself(recipe):
    """A card is published: of a path only the last part is in it."""
    assert "somebody" not in write_card(name="run", recipe=recipe, summary={}, export=EXPORT)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain-name_1.2", "plain-name_1.2"),
        ("<b>x</b>", r"\<b\>x\</b\>"),
        ("a|b`c", r"a\|b\`c"),
        ("[x](http://a)", r"\[x\](http\://a)"),
        ("*a* _b_ c_d", r"\*a\* \_b\_ c_d"),
        ("__init__", r"\_\_init\_\_"),
        ("www.a.b", r"www\.a.b"),
        ("a\nb\x1b\u202ec", "a b\ufffd\ufffdc"),
        ("&lt;", r"\&lt;"),
        ("a@b.c $x$ # ~y~", r"a\@b.c \$x\$ \# \~y\~"),
    ],
)
def test_a_name_is_text(name, shown, recipe):
    """Escaped for markdown in the heading, and what a reader sees is the name."""
    assert f"\n# {shown}\n" in write_card(name=name, recipe=recipe, summary={}, export=EXPORT)


def test_code_spans_end_where_they_should(recipe):
    """A backtick in a preset's name becomes another quotation mark; line ends become blanks."""
    card = write_card(name="run", recipe={**recipe, "preset": "a`b\n# c"}, summary={}, export=EXPORT)
    assert "recipe `a'b # c`," in card


def test_a_summary_of_strings_does_not_break_the_card(recipe):
    """Where a number is expected and a text stands, the text is shown."""
    summary = {"model": {"parameters": "many"}, "train": {"flops": True}, "clock": [1]}
    card = write_card(name="run", recipe=recipe, summary=summary, export=EXPORT)
    assert "| Parameters | many |" in card and "FLOPs" not in card


@pytest.mark.parametrize(
    ("budget", "words"),
    [("24h", "24 hours"), ("90m", "1.5 hours"), ("2e9tok", "2e+09 tokens"), ("500steps", "500 steps")],
)
def test_budgets_in_words(budget, words, recipe):
    """Each unit by its name."""
    recipe["budget"] = to_dict(Budget.parse(budget))
    assert f"a budget of {words}" in write_card(name="run", recipe=recipe, summary={}, export=EXPORT)


def test_a_bert_says_that_its_positions_end(recipe):
    """A table of positions cannot be read past its end, rotary angles can."""
    bert = write_card(name="run", recipe=recipe, summary={}, export={**EXPORT, "kind": "bert"})
    modern = write_card(name="run", recipe=recipe, summary={}, export=EXPORT)
    assert "its table of positions ends there" in bert and "its table" not in modern


def test_causal_steps_before_the_masked_ones_are_told(recipe):
    """A model that can fill masks is offered as one, unless it was trained to predict from the position before."""
    recipe["objective"] = to_dict(Hybrid(first=0.25, causal=0.0, shift=False))
    card = write_card(name="run", recipe=recipe, summary={}, export=EXPORT)
    assert "by causal and masked-language modelling with gpuday" in card
    assert "tags: [encoder, masked-language-modelling, " in card and "pipeline_tag: fill-mask" in card
    shifted = write_card(name="run", recipe=recipe, summary={}, export={**EXPORT, "reason": "the encoder alone"})
    assert "tags: [encoder, masked" not in shifted and "pipeline_tag: feature-extraction" in shifted


def test_an_encoder_alone_is_not_offered_as_a_model_of_masked_tokens(recipe):
    """What it was trained by, why it has no head, and how it is loaded."""
    reason = "the encoder alone: it has *no* head"
    recipe["objective"] = to_dict(Rtd())
    card = write_card(name="run", recipe=recipe, summary={}, export={**EXPORT, "reason": reason})
    assert "pipeline_tag: feature-extraction" in card and "masked-language" not in card.partition("<details>")[0]
    assert (
        "by the objective `rtd` with gpuday" in card
        and r"The folder holds the encoder alone: it has \*no\* head." in card
    )
    assert 'model = AutoModel.from_pretrained("plain/model")' in card and "ForMaskedLM" not in card
    assert "largest difference of a hidden state" in card and "Every use needs fine-tuning" in card
