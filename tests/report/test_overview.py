"""The top of the page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gpuday.report.formats import plain
from gpuday.report.load import load_run
from gpuday.report.overview import facts, ledger, state_note, tiles, verdict


def test_the_verdict_says_the_run_in_a_sentence(run: Path) -> None:
    """Loss before and after, time against budget, steps, tokens."""
    assert plain(verdict(load_run(run))) == (
        "Held-out loss fell from 9.016 to 4.127 nats per masked token in 9 min 59 s on the clock (budget 10 min): "
        "1,490 steps over 7.86 M tokens."
    )


def test_a_loss_that_rose_is_said_to_have_risen(new_run: Callable[..., Path]) -> None:
    """The sentence is evidence, not praise."""
    assert "rose from 9.016 to 9.500" in verdict(
        load_run(new_run(summary={"heldout": {"before": 9.016, "nats_per_token": 9.5}}))
    )


def test_a_run_in_progress_speaks_from_its_journal(new_run: Callable[..., Path]) -> None:
    """The last look so far stands for the end."""
    record = load_run(new_run(final=False, summary={"heldout": None, "train": None, "clock": None}))
    assert verdict(record).startswith("Held-out loss fell from 9.016 to 4.")
    assert "interrupted" in state_note(record)


def test_a_run_that_has_not_started_has_a_verdict_too(new_run: Callable[..., Path]) -> None:
    """Nothing is claimed for it."""
    run = new_run(summary=dict.fromkeys(("heldout", "train", "clock", "scores", "model")))
    (run / "journal.jsonl").unlink()
    record = load_run(run)
    assert verdict(record).startswith("No held-out loss yet: 0 steps")
    assert state_note(record) == "Training has not started."
    assert tiles(record) == []


def test_a_single_task_stands_on_its_tile(new_run: Callable[..., Path]) -> None:
    """Where there is no mean over a suite, with its baseline beside it."""
    scores = {
        "mean": None,
        "tasks": {"package": {"median": 0.7125, "metric": "accuracy", "baseline": {"majority": 0.213}}},
    }
    (tile,) = [t for t in tiles(load_run(new_run(summary={"scores": scores}))) if "package" in t.label]
    assert (tile.label, tile.value, tile.detail) == ("package, accuracy", "0.713", "majority 0.213")


def test_the_facts_name_the_run(run: Path) -> None:
    """Preset, size, device, budget, seed and the recipe's fingerprint."""
    assert [(name, plain(value)) for name, value in facts(load_run(run))] == [
        ("Preset", "modern"),
        ("Size", "nano"),
        ("Device", "AMD EPYC 9R14 (2 cores, bf16)"),
        ("Budget", "10 min"),
        ("Seed", "7"),
        ("Recipe", "5be1a90c2d3f4e61"),
    ]


@pytest.mark.parametrize(
    ("told", "shown"), [(["seed=7", "model.norm=rmsnorm"], "seed=7 model.norm=rmsnorm"), ([], "nothing"), (None, "")]
)
def test_the_facts_say_what_was_changed(run: Path, told: list[str] | None, shown: str) -> None:
    """Of the preset, where somebody knows; that nothing was is said, too."""
    found = dict(facts(load_run(run), lambda _: told))
    assert found.get("Changed", "") == shown


def test_a_loss_that_is_not_the_models_says_so_on_its_tile(new_run: Callable[..., Path]) -> None:
    """In place of what it was before training."""
    heldout = {"nats_per_token": 4.0, "before": 9.0, "notes": ["the held-out loss is the generator's: and more"]}
    tile, *_ = tiles(load_run(new_run(summary={"heldout": heldout})))
    assert (tile.value, tile.detail) == ("4.000", "the held-out loss is the generator's")


def test_the_ledger_adds_up(run: Path) -> None:
    """Largest first; seconds, share of the time used and share of the budget."""
    found = ledger(load_run(run))
    assert found is not None
    assert [row.activity for row in found.rows] == [
        "step",
        "compile",
        "validation",
        "checkpoint",
        "lost to a kill",
        "other",
    ]
    assert [found.total.seconds, found.total.of_used, found.total.of_budget] == ["599.25", "100.0%", "99.9%"]
    assert sum(row.width for row in found.rows) + found.unused == pytest.approx(100)
    assert found.sum_note == "The rows add up to the time used."


def test_a_ledger_that_does_not_add_up_says_so(new_run: Callable[..., Path]) -> None:
    """By how much, in seconds."""
    clock = {"budget": "10m", "used_seconds": 100.0, "ledger": {"step": 90.0}}
    found = ledger(load_run(new_run(summary={"clock": clock})))
    assert found is not None
    assert found.sum_note == "The rows differ from the time used by 10.000 seconds."
    assert found.total.of_budget == "15.0%"


@pytest.mark.parametrize("entries", [None, {}, 5, {"step": "long"}, {"step": 0.0}])
def test_without_a_ledger_there_is_none(new_run: Callable[..., Path], entries: object) -> None:
    """Whatever stands in its place."""
    assert ledger(load_run(new_run(summary={"clock": {"budget": "10m", "ledger": entries}}))) is None


def test_a_budget_in_tokens_has_no_share_of_time(new_run: Callable[..., Path]) -> None:
    """A dash instead of a share of something else."""
    found = ledger(load_run(new_run(summary={"clock": {"budget": "2e9tok", "ledger": {"step": 1.0}}})))
    assert found is not None
    assert found.total.of_budget == "\N{EN DASH}"
