"""The body of the page: held-out text, samples, export, compliance, attempts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuday.report import evidence
from gpuday.report.load import load_run


def test_held_out_text_is_split_by_source(new_run: Callable[..., Path]) -> None:
    """Nats and word bits side by side, wherever the bits are written."""
    heldout = {"by_source": {"a": 4.0, "b": {"nats_per_token": 2.0, "word_bits_per_byte": 1.5}},
               "word_bits_per_byte_by_source": {"a": 2.25}}  # fmt: skip
    rows = evidence.sources(load_run(new_run(summary={"heldout": heldout})))
    assert rows == [("a", "4.000", "2.250", 100.0), ("b", "2.000", "1.500", 50.0)]


def test_a_sample_is_cut_at_its_mask(run: Path) -> None:
    """The right word is recognised, the others are not."""
    sample = evidence.samples(load_run(run))[0]
    assert sample.pieces == ("Return the ", "<mask>", " of the two numbers.")
    assert [(g.token, g.probability, g.width, g.right) for g in sample.guesses[:2]] == [
        ("sum", "41.2%", 41.2, True),
        ("product", "18.7%", 18.7, False),
    ]


@pytest.mark.parametrize(
    "sample", [{}, {"text": None}, {"predictions": 5}, {"text": "x", "predictions": [3, {"token": None}]}]
)
def test_a_sample_with_parts_missing_is_shown_with_what_it_has(
    new_run: Callable[..., Path], sample: dict[str, Any]
) -> None:
    """Nothing raises."""
    assert len(evidence.samples(load_run(new_run(summary={"samples": [sample]})))) == 1


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"kind": "modernbert", "parity_max_abs": 3.1e-6}, "Exported as modernbert; its logits differ from the trained model's by at most 3.1e-06."),
        ({"kind": "bert", "parity_max_abs": 2e-6, "reason": "the encoder alone"}, "Exported as bert; its hidden states differ from the trained model's by at most 2e-06. the encoder alone"),
        ({"kind": "modernbert"}, "Exported as modernbert. Parity with the trained model was not measured."),
        ({"kind": None, "reason": "no native class holds funnel"}, "Not exported: no native class holds funnel"),
        ({}, "Not exported yet."),
    ],
)  # fmt: skip
def test_the_export_says_what_it_is_or_why_it_is_not(
    new_run: Callable[..., Path], section: dict[str, Any], expected: str
) -> None:
    """Parity is a number or said to be missing."""
    assert evidence.export(load_run(new_run(summary={"export": section})))[0] == expected


def test_each_rule_has_its_evidence(run: Path) -> None:
    """In the order in which the run wrote them."""
    rules = dict(evidence.compliance(load_run(run)))
    assert rules["provenance"] == "revision: 9f2c1e7, recipe: 5be1a90c2d3f4e61, seeds: 7"
    assert next(iter(rules)) == "from scratch"


def test_energy_is_a_number_or_a_reason(new_run: Callable[..., Path]) -> None:
    """Never an empty field."""
    assert evidence.energy(load_run(new_run())).startswith("not measured: this machine gives no access")
    assert "kWh" in evidence.energy(load_run(new_run("b", summary={"energy_joules": 1.8e6})))
    assert evidence.energy(load_run(new_run("c", summary={"energy_reason": None}))) == "not measured"


def test_lost_steps_are_counted(run: Path) -> None:
    """Six steps were made twice."""
    assert evidence.redone(load_run(run)) == "6 of 306 steps were lost to interruptions and redone."


def test_no_secret_and_no_home_is_in_the_command(new_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a run whose files an older version wrote. The sign for the home folder stands where a shell reads it."""
    monkeypatch.setenv("HOME", "/home/me")
    given = ["gpuday", "run", "--out", "/home/me/my runs/a", "--corpus", "/home/me", "--token", "abc"]
    assert evidence.command(load_run(new_run(summary={"command": given}))) == (
        "gpuday run --out ~/'my runs/a' --corpus ~ --token '[redacted]'"
    )
    joined = "gpuday run --out /home/me/a --token=abc"
    assert evidence.command(load_run(new_run("b", summary={"command": joined}))) == (
        "gpuday run --out ~/a --token=[redacted]"
    )


def test_the_command_can_be_pasted_into_a_shell(new_run: Callable[..., Path]) -> None:
    """A list of words is quoted; the environment's stands in for the summary's."""
    words = ["gpuday", "run", "--corpus", "my texts/*.txt"]
    assert evidence.command(load_run(new_run(summary={"command": words}))) == "gpuday run --corpus 'my texts/*.txt'"
    assert evidence.command(load_run(new_run("b", summary={"command": None}))).endswith("--corpus 'my texts'")
