"""The training loop, read top to bottom: clock, resume, steps until the budget ends, final look, final save."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from gpuday.core.clock import LOST, Clock, Heartbeat
from gpuday.core.errors import DataError, GpudayError, Interrupted
from gpuday.core.journal import Journal, Note, attempts
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.fit import Fit
from gpuday.train.parallel import Ranks
from gpuday.train.progress import Progress
from gpuday.train.session import Session, Tell
from gpuday.train.signals import Signals

MOST_SKIPPED = 3  # non-finite updates in a row before the run stops


def train(
    recipe: Recipe,
    data: PreparedData,
    run: RunDir,
    fit: Fit,
    *,
    device: torch.device,
    tell: Tell,
    ranks: Ranks | None = None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Progress, Clock]:
    """Train until the budget is used, from the newest good checkpoint if there is one.

    The clock starts here and stops when the final weights are durable. With several ranks all of them call this; rank 0
    keeps the clock and writes, and the clock that the others return has no meaning. Raises Interrupted after a signal,
    its state saved; GpudayError when three updates in a row are not finite.
    """
    ranks = ranks or Ranks()
    clock = Clock(recipe.budget, now=now)
    # Every rank writes its rows, so that the loop below is the same for all; those of rank 0 are kept.
    journal = Journal(run.journal if ranks.leads else Path(os.devnull), attempt=attempts(run.journal) + 1)

    def note(message: str) -> None:
        journal.write(Note(step=0, message=message))
        tell("note", step=0, message=message)

    charged, stopped = _charged(run, note) if ranks.leads else (0.0, False)
    clock.inherit_lost(charged)
    clock.start()
    with contextlib.ExitStack() as stack:
        stack.callback(journal.close)
        signals = stack.enter_context(Signals())
        heartbeat = Heartbeat(clock, run.heartbeat)
        if ranks.leads:
            stack.enter_context(heartbeat)
        stack.callback(clock.stop)
        with clock.activity("build"):
            saved = ranks.lead_first(lambda: checkpoint.load_newest(run.checkpoints, warn=note))
            if saved is not None and saved.state["progress"]["final"] is not None:
                heartbeat.keep(charged)
                return Progress(**saved.state["progress"]), _resting_clock(recipe, saved, charged)
            if saved is not None:
                clock.restore(saved.state["clock"], charged_seconds=charged, rest="save" if stopped else LOST)
            if charged and not stopped:
                note("the attempt before was killed; what it did after its last checkpoint is charged, and done again")
            session = Session(
                recipe, data, run, fit, device=device, ranks=ranks, clock=clock, journal=journal, tell=tell, saved=saved
            )
            stack.callback(session.close)
        session.announce()
        if session.progress.before is None:
            session.first_look()
        while (turn := session.turn(signals.received)).action not in ("finish", "leave"):
            if turn.action == "look":
                session.quick_look()
            elif turn.action == "save":
                session.save()
            else:
                outcome = session.step(turn.fraction)
                if outcome.skipped:
                    session.note("the update was not finite and was not made")
                if session.progress.skipped >= MOST_SKIPPED:
                    raise _diverged(session.progress.step, run)
        if turn.action == "leave":
            session.save()
            session.note(f"stopped by {turn.signal}")
        else:
            session.finish()
        heartbeat.left_nothing = True
        if signal := turn.signal or signals.received:  # one that came during the final look, too
            raise _interrupted(signal, turn.fraction, session.progress.step, run)
    return session.progress, clock


def _resting_clock(recipe: Recipe, saved: checkpoint.Saved, charged: float) -> Clock:
    """The clock of a finished run; what the heartbeat has over the state was the final save."""
    clock = Clock(recipe.budget)
    clock.restore(saved.state["clock"], charged_seconds=charged, rest="save")
    return clock


def _charged(run: RunDir, note: Callable[[str], None]) -> tuple[float, bool]:
    """Seconds on the last heartbeat, and whether its process left by itself.

    0, with a note, where a power cut damaged the file: the checkpoint's clock remains.
    """
    if not run.heartbeat.exists():
        return 0.0, False
    try:
        beat = read_json(run.heartbeat)
        return float(beat["used_seconds"]), bool(beat["stopped"])
    except (DataError, KeyError, TypeError, ValueError):
        note("the heartbeat is damaged; the clock continues from the checkpoint's")
        return 0.0, False


def _diverged(step: int, run: RunDir) -> GpudayError:
    return GpudayError(
        f"{MOST_SKIPPED} updates in a row were not finite, at step {step}",
        where=str(run.root),
        fix="lower the learning rate (--set optimizer.lr=...); the last checkpoint is intact",
    )


def _interrupted(signal: str, fraction: float, step: int, run: RunDir) -> Interrupted:
    return Interrupted(
        f"{signal}: stopped at step {step}, {fraction:.0%} of the budget used",
        where=str(run.root),
        fix="give the same command again to resume",
    )
