"""Probes on the page."""

from collections.abc import Callable
from pathlib import Path

from gpuday.report.load import load_run
from gpuday.report.probes import Probe, Table, probes


def test_a_probe_has_facts_and_tables(run: Path) -> None:
    """Single values, and a row for every phenomenon."""
    assert probes(load_run(run)) == [
        Probe(
            name="minimal pairs",
            facts=(("accuracy", "0.612"), ("pairs", "67000"), ("method", "within_word_l2r")),
            tables=(
                Table(
                    title="phenomena",
                    columns=("accuracy", "pairs"),
                    rows=(("anaphor agreement", "0.702", "2,000"), ("ellipsis", "0.514", "2,000")),
                ),
            ),
        )
    ]


def test_rows_of_unequal_keys_share_their_columns(new_run: Callable[..., Path]) -> None:
    """What a row lacks is a dash; a lone number is a row of one value."""
    run = new_run(summary={"probes": {"p": {"by": {"a": {"x": 0.5}, "b": {"y": 1}, "c": 2.0}}}})
    (probe,) = probes(load_run(run))
    none = "\N{EN DASH}"
    assert probe.tables[0].columns == ("x", "y", "value")
    assert probe.tables[0].rows == (("a", "0.500", none, none), ("b", none, "1", none), ("c", none, none, "2.000"))


def test_a_run_without_probes_has_none(new_run: Callable[..., Path]) -> None:
    """Nor has one whose section is something else."""
    assert probes(load_run(new_run(summary={"probes": None}))) == []
    assert probes(load_run(new_run("b", summary={"probes": {"blimp": "x"}}))) == []


def test_an_interval_is_two_ends_and_a_method(new_run: Callable[..., Path]) -> None:
    """Not a table of its own, as a fact and in a row."""
    ends = {"low": 0.6, "high": 0.7, "confidence": 0.95, "method": "Wilson", "n": 9}
    run = new_run(summary={"probes": {"p": {"interval": ends, "terms": {"a": {"interval": ends}}}}})
    (probe,) = probes(load_run(run))
    assert probe.facts == (("interval", "0.600 to 0.700 (95%, Wilson)"),)
    assert [(table.title, table.rows) for table in probe.tables] == [
        ("terms", (("a", "0.600 to 0.700 (95%, Wilson)"),))
    ]


def test_an_interval_says_of_how_many_it_is(new_run: Callable[..., Path]) -> None:
    """Where its method names what was resampled; where there is none, why."""
    ends = {"low": 8.0, "high": 9.5, "confidence": 0.95, "method": "percentile, documents", "n": 1200}
    found = {"sure": {"interval": ends}, "unsure": {"interval": None, "no_interval": "too few rows"}}
    sure, unsure = probes(load_run(new_run(summary={"probes": found})))
    assert sure.facts == (("interval", "8.000 to 9.500 (95%, percentile, 1,200 documents)"),)
    assert unsure.facts == (("interval", "\N{EN DASH}"), ("no interval", "too few rows"))
