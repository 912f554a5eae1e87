"""The top of the page: what the run was, what came of it, and where its seconds went. Plain values for the template."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gpuday.core.clock import Budget
from gpuday.core.errors import UsageError
from gpuday.report import comparing, formats, scores
from gpuday.report.load import RunRecord

TASK_TILES = 2  # where no mean stands for all tasks
COLOURS = 8  # of the ledger's bar; the style sheet holds as many
Changed = Callable[[dict[str, Any]], list[str] | None]
"""(a recipe as plain values) -> what it changes of its preset, from whoever knows presets; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One headline number: its name, itself, and what belongs to it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """Seconds of one activity. `width` is its percentage of the bar, `colour` its place in the palette."""

    activity: str
    seconds: str
    of_used: str
    of_budget: str
    width: float
    colour: int


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The clock's rows, largest first, and their sum; `sum_note` says whether that is the time used."""

    rows: tuple[LedgerRow, ...]
    total: LedgerRow
    unused: float
    sum_note: str


def budget_text(record: RunRecord) -> str:
    """The budget as the recipe has it, else as the clock has it."""
    return formats.budget(record.recipe.get("budget", record.section("clock").get("budget")))


def facts(record: RunRecord, changed: Changed | None = None) -> list[tuple[str, str]]:
    """What was run: (name, value) of everything known."""
    told = None if changed is None else changed(record.recipe)
    known = {
        "Preset": record.recipe.get("preset"),
        "Changed": "nothing" if told == [] else " ".join(told or ()),
        "Size": record.recipe.get("size", record.section("model").get("size")),
        "Device": record.summary.get("device"),
        "Budget": budget_text(record),
        "Seed": record.recipe.get("seed", record.summary.get("seed")),
        "Recipe": record.summary.get("recipe_fingerprint"),
    }
    return [(name, formats.text(value)) for name, value in known.items() if value not in (None, "", formats.MISSING)]


def before_and_after(record: RunRecord) -> tuple[float | None, float | None]:
    """Held-out nats at the first look and at the last, from the summary, else from the journal."""
    heldout, looks = record.section("heldout"), record.validations
    before = heldout.get("before")
    before = before.get("nats_per_token") if isinstance(before, dict) else before
    after = heldout.get("nats_per_token")
    if not formats.is_number(before) and looks and looks[0].step == 0:
        before = looks[0].nats_per_token
    if not formats.is_number(after) and looks and looks[-1].step > 0:
        after = looks[-1].nats_per_token
    return before if formats.is_number(before) else None, after if formats.is_number(after) else None


def mean_scores(record: RunRecord) -> dict[str, float]:
    """The mean over each suite that was scored, by its name and protocol; a summary of before there were several has one,
    by its protocol alone."""
    found = scores.sections_on_file(record)
    means = {name or str(section.get("protocol")): section.get("mean") for name, section in found.items()}
    return {name: formats.number_or(mean, 0.0) for name, mean in means.items() if formats.is_number(mean)}


def verdict(record: RunRecord) -> str:
    """The run in a sentence."""
    before, after = before_and_after(record)
    train = record.section("train")
    tokens = train.get("tokens", record.steps[-1].tokens if record.steps else None)
    steps = train.get("steps", record.steps_kept)
    spent = f"{formats.duration(record.used_seconds)} on the clock (budget {budget_text(record)})"
    work = f"{formats.count(steps)} steps over {formats.scaled(tokens)} tokens"
    if after is None:
        return f"No held-out loss yet: {work} in {spent}."
    if before is None:
        return f"Held-out loss is {formats.decimals(after)} nats per masked token after {work} in {spent}."
    moved = "fell" if after < before else "rose" if after > before else "stayed"
    change = f"{moved} from {formats.decimals(before)} to {formats.decimals(after)}"
    return f"Held-out loss {change} nats per masked token in {spent}: {work}."


def state_note(record: RunRecord) -> str:
    """What a reader must know before any number, empty for a finished run."""
    return {
        "finished": "",
        "running": "This run is still in progress: the numbers are those so far.",
        "interrupted": "This run was interrupted before its end; the same command resumes it.",
        "not started": "Training has not started.",
    }[record.state]


def tiles(record: RunRecord) -> list[Tile]:
    """The headline numbers that are there."""
    heldout, train, model, clock = (record.section(n) for n in ("heldout", "train", "model", "clock"))
    before, after = before_and_after(record)
    tokens = train.get("tokens", record.steps[-1].tokens if record.steps else None)
    processed, means = train.get("tokens_processed"), mean_scores(record)
    found: list[tuple[Any, Tile]] = [
        (after, Tile(label="Held-out nats per masked token", value=formats.decimals(after),
                     detail=comparing.caveat(record) or
                     ("" if before is None else f"before training {formats.decimals(before)}"))),
        (heldout.get("word_bits_per_byte"), Tile(label="Word bits per byte", detail=_normalised(heldout),
                                                 value=formats.decimals(heldout.get("word_bits_per_byte")))),
        *((mean, Tile(label="Mean score", detail=f"of the tasks' medians, {formats.text(name)}",
                      value=formats.decimals(mean))) for name, mean in means.items()),
        (record.used_seconds, Tile(label="Time used", value=formats.duration(record.used_seconds),
                                   detail=_of_budget(record.used_seconds, clock.get("budget_seconds")))),
        (tokens, Tile(label="Tokens kept", value=formats.scaled(tokens),
                      detail=f"{formats.scaled(processed)} processed" if processed else "")),
        (train.get("tokens_per_second"), Tile(label="Tokens per second", detail=_epochs(train),
                                              value=formats.count(train.get("tokens_per_second")))),
        (train.get("useful_flops_per_second"), Tile(
            label="Useful FLOP/s", value=formats.scaled(train.get("useful_flops_per_second")),
            detail=f"{formats.share(train.get('bound_share'))} of the measured bound")),
        (model.get("parameters"), Tile(label="Parameters", value=formats.scaled(model.get("parameters")),
                                       detail=f"{formats.scaled(model.get('trunk_parameters'))} without embeddings")),
    ]  # fmt: skip
    if not means:
        rows = scores.tasks(record)[:TASK_TILES]
        found += [(r.median, Tile(label=f"{r.name}, {r.metric}", value=r.median, detail=r.baselines)) for r in rows]
    return [tile for value, tile in found if value is not None]


def ledger(record: RunRecord) -> Ledger | None:
    """Where the seconds went, or None where the clock has written nothing."""
    clock = record.section("clock")
    entries = clock.get("ledger")
    if not isinstance(entries, dict):
        return None
    seconds = {str(k): float(v) for k, v in entries.items() if formats.is_number(v) and v > 0}
    total, budget = sum(seconds.values()), _budget_seconds(record)
    whole = max(total, budget or 0.0)
    if not total:
        return None
    ordered = sorted(seconds.items(), key=lambda item: -item[1])

    def row(activity: str, value: float, colour: int) -> LedgerRow:
        return LedgerRow(
            activity=formats.text(activity),
            seconds=f"{value:,.2f}",
            of_used=formats.share(value / total),
            of_budget=formats.share(value / budget) if budget else formats.MISSING,
            width=100 * value / whole,
            colour=colour,
        )

    difference = formats.number_or(clock.get("used_seconds"), total) - total
    return Ledger(
        rows=tuple(row(name, value, i % COLOURS) for i, (name, value) in enumerate(ordered)),
        total=row("total", total, 0),
        unused=100 * max(0.0, whole - total) / whole,
        # A hundredth of a second is what the rounding of the rows on paper can hide.
        sum_note="The rows add up to the time used."
        if abs(difference) < 0.01
        else f"The rows differ from the time used by {difference:.3f} seconds.",
    )


def _budget_seconds(record: RunRecord) -> float | None:
    clock = record.section("clock")
    if formats.is_number(clock.get("budget_seconds")):
        return float(clock["budget_seconds"]) or None
    try:
        return Budget.parse(str(clock.get("budget"))).seconds
    except UsageError:
        return None


def _of_budget(used: float | None, budget: object) -> str:
    if not used or not isinstance(budget, int | float) or not formats.is_number(budget) or budget <= 0:
        return ""
    return f"{formats.share(used / budget)} of {formats.duration(budget)}"


def _normalised(heldout: dict[str, Any]) -> str:
    normalizer = heldout.get("normalizer")
    return f"whole words masked, normaliser {formats.text(normalizer)}" if normalizer else "whole words masked"


def _epochs(train: dict[str, Any]) -> str:
    return f"{formats.decimals(train['epochs'], 2)} epochs" if formats.is_number(train.get("epochs")) else ""
