"""The training loop, read top to bottom: clock, resume, steps until the budget ends, final look, final save."""

import time
from collections.abc import Callable

import torch

from gpuday.core.clock import Clock, Heartbeat
from gpuday.core.errors import GpudayError, Interrupted
from gpuday.core.journal import Journal, attempts
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepare import PreparedData
from gpuday.recipe import Recipe
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
    charged = float(read_json(run.heartbeat)["used_seconds"]) if run.heartbeat.exists() else 0.0
    clock.inherit_lost(charged)
    clock.start()
    journal = Journal(run.journal, attempt=attempts(run.journal) + 1)
    with Signals() as signals, Heartbeat(clock, run.heartbeat):
        with clock.activity("build"):
            session = Session(
                recipe,
                data,
                run,
                fit,
                device=device,
                clock=clock,
                journal=journal,
                tell=tell,
                charged_seconds=charged,
            )
        try:
            if not session.finished:
                session.announce()
                if session.progress.before is None:
                    session.first_look()
                while session.has_room():
                    outcome = session.step()
                    if outcome.skipped:
                        session.note("the update was not finite and was not made")
                    if session.progress.skipped >= MOST_SKIPPED:
                        raise _diverged(session.progress.step, run)
                    if signals.received:
                        session.save()
                        session.note(f"stopped by {signals.received}")
                        raise _interrupted(signals.received, session, run)
                    if clock.fraction() - session.last_look >= recipe.train.validate_every and clock.fraction() < 1.0:
                        session.quick_look()
                    if clock.used_seconds() - session.last_save >= recipe.train.save_every_seconds:
                        session.save()
                session.finish()
        finally:
            session.close()
            clock.stop()
            journal.close()
    return session.progress, clock


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
