"""kill -9 at any moment, in every room: the same command goes on, and ends to the bit where an undisturbed run ends.

Attempts that are killed are forks in which torch is loaded; the undisturbed run and the last attempt of each campaign,
whose ends are compared, are whole processes.
"""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpuday.core.clock import LOST
from gpuday.core.journal import Checkpoint, Start, Step, Validation, read, surviving
from gpuday.core.rundir import RunDir, read_json
from warm import Popen

STEPS = 80
SAVES = (2, 0, 1, 2, 1)  # checkpoints that each of five attempts makes before it is killed while it trains
ROOMS = {"preparing", "fitting", "looking", "stepping", "saving", "evaluating", "exporting", "reporting"}
TRIES = 5
SECONDS = 8  # of the wall-clock run


class Blow(NamedTuple):
    """When an attempt is to be killed: so many seconds after what it tells or leaves on disk, the delay drawn below `delay`.

    Events say when, and not seconds: a machine that is slow now and fast later would let the kills miss.
    """

    met: Callable[[Any], bool]
    delay: float = 0.005
    room: str = ""
    """Struck again where the kill met another one: a save takes a few milliseconds, the first look little more."""


def rows(run: RunDir, kind: type) -> list[Any]:
    return [row for _, row in read(run.journal) if isinstance(row, kind)]


def written(run: RunDir, kind: bytes) -> int:
    """Rows of a kind in a journal."""
    return run.journal.read_bytes().count(b'"kind": "%s"' % kind) if run.journal.exists() else 0


def after_saves(run: RunDir, saves: int) -> Callable[[Any], bool]:
    """Once the attempt has begun to train and made so many checkpoints."""
    wanted = {b"start": written(run, b"start") + 1, b"checkpoint": written(run, b"checkpoint") + saves}
    return lambda attempt: all(written(run, kind) >= count for kind, count in wanted.items())


def blows(run: RunDir) -> list[Callable[[], Blow]]:
    """One for each room, in the order of the run, and five while it trains; made when their turn has come."""
    final = b'"step": %d,' % STEPS
    return [
        lambda: Blow(lambda attempt: attempt.told("stage")),
        lambda: Blow(lambda attempt: run.recipe.exists(), delay=0.1),
        lambda: Blow(lambda attempt: attempt.told("start"), delay=0.0, room="looking"),
        *(lambda saves=saves: Blow(after_saves(run, saves), delay=0.05) for saves in SAVES),
        lambda: Blow(lambda attempt: any(run.checkpoints.glob(".tmp-*")), delay=0.0, room="saving"),
        lambda: Blow(lambda attempt: run.journal.exists() and final in run.journal.read_bytes(), delay=0.0),
        lambda: Blow(lambda attempt: attempt.told("epoch"), delay=0.1),
        lambda: Blow(lambda attempt: run.model.with_name(".model.new").exists(), delay=0.05),
        lambda: Blow(lambda attempt: attempt.told("export")),
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, killing: Any) -> tuple[Path, Any]:
    """The place of an undisturbed run, and the campaign against one that was killed in every room.

    A room that a kill missed, because the machine let nobody look for long, is what a second campaign is for.
    """
    top, draw = tmp_path_factory.mktemp("kill"), random.Random(2212_14034)
    whole = killing.make_place(top / "whole", budget=f"{STEPS}steps")
    killing.Campaign(whole).finish()
    for name in ("killed", "killed_again"):
        campaign = killing.Campaign(killing.make_place(top / name, budget=f"{STEPS}steps"), Popen)
        for make in blows(campaign.place.run):
            for _ in range(TRIES):
                blow = make()
                room = campaign.strike(blow.met, draw.uniform(0.0, blow.delay))
                if blow.room in (room, "") or campaign.done:
                    break
        campaign.finish()
        if {kill.room for kill in campaign.kills} >= ROOMS:
            break
    return whole.folder, campaign


def test_kills_met_every_room_of_the_run(runs: tuple[Path, Any]) -> None:
    """Else this file would promise nothing: ten kills and more, in each room one, and work was done again."""
    _, campaign = runs
    met = [kill.room for kill in campaign.kills]
    assert ROOMS - set(met) == set()
    assert len(met) >= 10
    starts = rows(campaign.place.run, Start)
    assert len(starts) > 3
    assert any(0 < row.step < STEPS for row in starts)


def test_all_but_the_times_is_that_of_the_undisturbed_run(runs: tuple[Path, Any], sameness: Any) -> None:
    """To the bit: weights, optimizer, losses, scores, exported model, prepared data and summary. Nothing half-written is
    left in the run and in the cache; no resume goes back behind the last save; each row of the stream survives once."""
    whole, campaign = runs
    assert list(sameness.differences(whole, campaign.place.folder)) == []


def test_the_comparison_sees_a_difference(runs: tuple[Path, Any], sameness: Any) -> None:
    """Else equality would promise nothing: a loss, a score, a byte of the exported model, a step, a leftover."""
    whole, run = runs[0], runs[1].place.run
    assert list(sameness.differences(whole, whole)) == []
    for path, old, new in [
        (run.summary, b'"nats_per_token": ', b'"nats_per_token": 1'),
        (run.scores / "glue" / "CoLA" / "1.json", b'"value": ', b'"value": 1'),
        (run.model / "config.json", b'"vocab_size": 512', b'"vocab_size": 513'),
        (run.journal, b'"kind": "step"', b'"kind": "stop"'),
        (run.model / "left", b"", b"half"),
    ]:
        before = path.read_bytes() if path.exists() else b""
        path.write_bytes(before.replace(old, new, 1))
        found = list(sameness.differences(whole, runs[1].place.folder))
        path.write_bytes(before)
        if not before:
            path.unlink()
        assert found != [], path


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_weights_and_optimizer_are_those_of_the_undisturbed_run(
    runs: tuple[Path, Any], sameness: Any, name: str
) -> None:
    """Byte for byte."""
    whole, killed = (sameness.newest(RunDir(place / "runs" / "one")) for place in (runs[0], runs[1].place.folder))
    assert killed.folder.name == whole.folder.name == f"step-{STEPS:08d}"
    assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_held_out_loss_is_that_of_the_undisturbed_run(runs: tuple[Path, Any], sameness: Any) -> None:
    """Before and after, to the last digit, overall and by source."""
    whole, killed = (RunDir(place / "runs" / "one") for place in (runs[0], runs[1].place.folder))
    for key in ("before", "final"):
        a, b = (sameness.newest(run).state["progress"][key] for run in (whole, killed))
        assert a == b
    assert read_json(killed.summary)["heldout"]["by_source"] == read_json(whole.summary)["heldout"]["by_source"]


def test_the_surviving_trajectory_has_no_gap_and_no_overlap(runs: tuple[Path, Any]) -> None:
    """Each row of the stream once, each step once, with the losses of the undisturbed run."""
    whole, killed = (RunDir(place / "runs" / "one") for place in (runs[0], runs[1].place.folder))
    steps = [row for row in surviving(killed.journal) if isinstance(row, Step)]
    assert [row.step for row in steps] == list(range(1, STEPS + 1))
    assert steps[0].first_row == 0
    assert [row.first_row for row in steps[1:]] == [row.first_row + row.rows for row in steps[:-1]]
    assert [(r.loss, r.gradient_norm, r.masked) for r in steps] == [
        (r.loss, r.gradient_norm, r.masked) for r in rows(whole, Step)
    ]
    assert len([row for row in surviving(killed.journal) if isinstance(row, Validation) and row.final]) == 1


def test_what_the_kills_cost_is_on_the_clock(runs: tuple[Path, Any]) -> None:
    """No kill sets the clock back, steps that were made twice are counted, resumes are told."""
    whole, killed = RunDir(runs[0] / "runs" / "one"), runs[1].place.run
    a, b = read_json(whole.summary), read_json(killed.summary)
    told = [*(kill.charged for kill in runs[1].kills), b["clock"]["used_seconds"]]
    assert told == sorted(told)
    assert sum(b["clock"]["ledger"].values()) == pytest.approx(b["clock"]["used_seconds"])
    assert b["resumes"] == len(rows(killed, Start)) - 1
    made = sum(row.rows for row in rows(killed, Step)) * 32  # tokens in a row
    assert b["train"]["tokens_processed"] == made >= b["train"]["tokens"] == a["train"]["tokens"]
    assert LOST not in a["clock"]["ledger"]


def test_nothing_of_the_kills_is_left_behind(runs: tuple[Path, Any]) -> None:
    """Two checkpoints; no half-written folder, and none that had to be set aside."""
    folders = [p.name for p in runs[1].place.run.checkpoints.iterdir() if p.is_dir()]
    assert len(folders) == 2
    assert all(name.startswith("step-") and "." not in name for name in folders)


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory, killing: Any) -> Any:
    """A campaign against a run whose budget is seconds: three kills, each when half a second of work would be lost.

    The seconds are those of the process's own work, so that they are as many on a busy machine.
    """
    program = (str(Path(killing.__file__).with_name("cputime.py")),)
    place = killing.make_place(
        tmp_path_factory.mktemp("timed") / "killed",
        budget=f"{SECONDS}s",
        command="train",
        program=program,
        save_every=1.5,
    )
    campaign, run = killing.Campaign(place, Popen), place.run
    for saves in (1, 0, 1):
        saved = after_saves(run, saves)

        def met(attempt: Any, saved: Callable[[Any], bool] = saved) -> bool:
            return saved(attempt) and killing.charged(run) > rows(run, Checkpoint)[-1].seconds + 0.5

        campaign.strike(met)
    campaign.finish()
    return campaign


def test_a_wall_clock_run_ends_with_its_budget_after_kills(timed: Any) -> None:
    """Within the second, or the hundredth, that is promised; the ledger's rows add up to it."""
    clock = read_json(timed.place.run.summary)["clock"]
    assert len(timed.kills) == 3
    assert abs(clock["used_seconds"] - SECONDS) <= max(1.0, 0.01 * SECONDS)
    assert sum(clock["ledger"].values()) == pytest.approx(clock["used_seconds"])


def test_work_that_a_kill_destroyed_stays_charged(timed: Any) -> None:
    """A resume starts from what the heartbeat had written, and what lies beyond the checkpoint is booked as lost."""
    run = timed.place.run
    starts = rows(run, Start)
    assert len(starts) == 4
    for kill, start in zip(timed.kills, starts[1:], strict=True):
        assert start.used_seconds >= kill.charged
    assert [row.step for row in starts[1:]] == sorted(row.step for row in starts[1:])
    assert read_json(run.summary)["clock"]["ledger"][LOST] > 1.0


def test_a_wall_clock_run_that_was_killed_reads_each_row_once(timed: Any, sameness: Any) -> None:
    """Steps and rows of what survives have no gap and no overlap; the rate goes on where the clock is, and never back."""
    assert list(sameness.journal_faults(timed.place.run)) == []
    steps = [row for row in surviving(timed.place.run.journal) if isinstance(row, Step)]
    assert all(a.fraction <= b.fraction for a, b in itertools.pairwise(steps))
    assert list(sameness.leftovers(timed.place.folder)) == []
