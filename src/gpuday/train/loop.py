"""The training loop, read top to bottom: clock, resume, steps until the budget ends, final look, final save."""

import contextlib
import time
from collections.abc import Callable

import torch

from gpuday.core.clock import LOST, Clock, Heartbeat
from gpuday.core.errors import DataError, GpudayError, Interrupted
from gpuday.core.journal import Journal, Note, attempts
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.fit import Fit
from gpuday.train.session import Progress, Session, Tell
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
    now: Callable[[], float] = time.monotonic,
) -> tuple[Progress, Clock]:
    """Train until the budget is used, from the newest good checkpoint if there is one.

    The clock starts here and stops when the final weights are durable. Raises Interrupted after a signal, its state
    saved; GpudayError when three updates in a row are not finite.
    """
    clock = Clock(recipe.budget, now=now)
    journal = Journal(run.journal, attempt=attempts(run.journal) + 1)

    def note(message: str, step: int = 0) -> None:
        journal.write(Note(step=step, message=message))
        tell("note", step=step, message=message)

    charged, stopped = _charged(run, note)
    clock.inherit_lost(charged)
    clock.start()
    with contextlib.ExitStack() as stack:
        stack.callback(journal.close)
        signals = stack.enter_context(Signals())
        heartbeat = stack.enter_context(Heartbeat(clock, run.heartbeat))
        stack.callback(clock.stop)
        with clock.activity("build"):
            saved = checkpoint.load_newest(run.checkpoints, warn=note)
            if saved is not None and saved.state["progress"]["final"] is not None:
                heartbeat.keep(charged)
                return Progress(**saved.state["progress"]), _resting_clock(recipe, saved, charged)
            if saved is not None:
                clock.restore(saved.state["clock"], charged_seconds=charged, rest="save" if stopped else LOST)
            if charged and not stopped:
                note("the attempt before was killed; what it did after its last checkpoint is charged, and done again")
            session = Session(
                recipe, data, run, fit, device=device, clock=clock, journal=journal, tell=tell, saved=saved
            )
            stack.callback(session.close)
        session.announce()
        if session.progress.before is None:
            session.first_look()
        while not signals.received and session.has_room():
            outcome = session.step()
            if outcome.skipped:
                note("the update was not finite and was not made", session.progress.step)
            if session.progress.skipped >= MOST_SKIPPED:
                raise _diverged(session.progress.step, run)
            if clock.fraction() - session.last_look >= recipe.train.validate_every and clock.fraction() < 1.0:
                session.quick_look()
            if clock.used_seconds() - session.last_save >= recipe.train.save_every_seconds:
                session.save()
        if signals.received:
            session.save()
            note(f"stopped by {signals.received}", session.progress.step)
        else:
            session.finish()
        heartbeat.left_nothing = True
        if signals.received:
            raise _interrupted(signals.received, session, run)
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


def _interrupted(signal: str, session: Session, run: RunDir) -> Interrupted:
    return Interrupted(
        f"{signal}: stopped at step {session.progress.step}, {session.clock.fraction():.0%} of the budget used",
        where=str(run.root),
        fix="give the same command again to resume",
    )
