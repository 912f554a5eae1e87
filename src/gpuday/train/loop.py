"""The training loop, read top to bottom: clock, resume, steps until the budget ends, final look, final save."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from gpuday.core.clock import LOST, Clock, Heartbeat, read_heartbeat
from gpuday.core.errors import GpudayError, Interrupted
from gpuday.core.journal import Journal, Note, attempts
from gpuday.core.rundir import RunDir
from gpuday.data.prepared import PreparedData
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.fit import Fit
from gpuday.train.parallel import Ranks
from gpuday.train.progress import Progress, Turn
from gpuday.train.resumable import resumable
from gpuday.train.resuming import newest, refuse_anew
from gpuday.train.session import Session, Tell
from gpuday.train.signals import STAKE, Leave, Signals

SAME_COMMAND = "give the same command again to resume"
MOST_SKIPPED = 3  # updates in a row before the run goes back to a checkpoint


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
    its state saved; GpudayError when three updates in a row could not be made, twice from the same checkpoint.
    """
    ranks = ranks or Ranks()
    clock = Clock(recipe.budget, now=now)
    # Every rank writes its rows, so that the loop below is the same for all; those of rank 0 are kept.
    journal = Journal(
        run.journal if ranks.leads else Path(os.devnull),
        attempt=attempts(run.journal) + 1,
        warn=lambda message: tell("notice", message=message),
    )

    def note(message: str) -> None:
        journal.write(Note(step=0, message=message))
        tell("note", step=0, message=message)

    charged, stopped = _charged(run, note) if ranks.leads else (0.0, False)
    clock.inherit_lost(charged)
    clock.start()
    with contextlib.ExitStack() as stack:
        stack.enter_context(journal)
        signals = stack.enter_context(Signals())
        alone = ranks.size == 1
        if not alone:
            STAKE.hold()  # a rank cannot know how far the save of rank 0 has come
        heartbeat = Heartbeat(clock, run.heartbeat)
        if ranks.leads:
            stack.enter_context(heartbeat)
        stack.callback(clock.stop)
        # Among several ranks building has them wait for each other: a signal is then obeyed at the first micro-batch.
        with clock.activity("build"), _building(signals, run) if alone else contextlib.nullcontext():
            saved = _found(run, ranks, heartbeat, charged, note)
            if saved is not None and saved.state["progress"]["final"] is not None:
                heartbeat.keep(charged)
                return Progress(**saved.state["progress"]), _resting_clock(recipe, saved, charged)
            if saved is not None:
                clock.restore(saved.state["clock"], charged_seconds=charged, rest="save" if stopped else LOST)
            if charged and not stopped:
                note(
                    "the attempt before was cut short; what it did after its last checkpoint is charged, and done again"
                )
            session = Session(
                recipe,
                data,
                run,
                fit,
                device=device,
                ranks=ranks,
                clock=clock,
                journal=journal,
                tell=tell,
                saved=saved,
                interruptible=signals.interruptible,
            )
            stack.callback(session.close)
        if ranks.leads:
            heartbeat.beat()
        session.announce()
        torn = False
        try:
            turn = _until_the_end(session, signals, alone=alone)
        except Leave as leave:
            turn, torn = Turn("leave", clock.fraction(), leave.signal), True
        if saves := session.unsaved:
            session.save(must=True)
        heartbeat.left_nothing = saves or not torn
        if alone:
            STAKE.release()
        if turn.action == "leave":
            session.note(f"stopped by {turn.signal}")
        if signal := turn.signal or signals.received:  # one that came during the final save, too
            raise _interrupted(signal, turn.fraction, session.progress.step, run)
    return session.progress, clock


def _until_the_end(session: Session, signals: Signals, *, alone: bool) -> Turn:
    """Turns until the budget is used and the end is saved, or until a signal is met between two of them: the last turn.
    Raises Leave when a signal tears one away."""
    if session.progress.before is None:
        session.first_look()
    while (turn := session.turn(signals.received)).action not in ("finish", "leave"):
        if turn.action == "look":
            session.quick_look()
        elif turn.action == "save":
            if session.is_finite():
                session.save()
            else:
                session.roll_back("weights or optimizer state are not finite")
            if alone and not session.unsaved:
                STAKE.release()
        else:
            outcome = session.step(turn.fraction)
            STAKE.hold()
            if outcome.skipped:
                session.note(f"the update was not made: {outcome.reason}")
            if session.progress.skipped >= MOST_SKIPPED:
                session.roll_back(outcome.reason)
    if turn.action == "finish":
        STAKE.hold()
        session.finish()
    return turn


def _found(
    run: RunDir, ranks: Ranks, heartbeat: Heartbeat, charged: float, note: Callable[[str], None]
) -> checkpoint.Saved | None:
    """What the run goes on from; None for one that begins. Where neither can be, the attempt is not charged."""
    try:
        saved = newest(run, ranks, warn=note, fits=resumable)
        if saved is None and ranks.leads:
            refuse_anew(run)
    except GpudayError:
        heartbeat.keep(charged)
        raise
    return saved


@contextlib.contextmanager
def _building(signals: Signals, run: RunDir) -> Iterator[None]:
    """Nothing of a run that is being built is to be saved."""
    try:
        with signals.interruptible():
            yield
    except Leave as leave:
        raise Interrupted(
            f"{leave.signal}: stopped before the first step", where=str(run.root), fix=SAME_COMMAND
        ) from None


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
        return read_heartbeat(run.heartbeat)
    except ValueError:
        note("the heartbeat is damaged; the clock continues from the checkpoint's")
        return 0.0, False


def _interrupted(signal: str, fraction: float, step: int, run: RunDir) -> Interrupted:
    return Interrupted(
        f"{signal}: stopped at step {step}, {fraction:.0%} of the budget used",
        where=str(run.root),
        fix=SAME_COMMAND,
    )
