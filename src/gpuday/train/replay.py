"""Makes the steps of a finished run again, from its journal, and compares what comes out with its final weights.

A wall-clock run cannot be repeated, since no two clocks run alike; it can be replayed. The fraction of the budget at
which a step began stands in the journal, and rate and masks follow from it; so do its rows, which may have followed from
what was measured. What was lost to a kill or taken back
by a rollback is no part of the surviving trajectory, and an update that was left out is left out again.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from gpuday.core.clock import Clock
from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.core.journal import Journal, Rollback, Start, Step, read, surviving
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.prepared import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.checkpoint import Saved, load_newest
from gpuday.train.compiling import start_compiler
from gpuday.train.device import cores, describe
from gpuday.train.fit import Fit
from gpuday.train.parallel import Ranks
from gpuday.train.resumable import is_final, resumable
from gpuday.train.session import Session, Tell


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay found."""

    steps: int
    """Steps that were made again."""
    left_out: int
    """Steps whose update the run had left out."""
    tensors: int
    """Tensors of weights and optimizer that were compared."""
    parted_at: int
    """The first step with another loss or gradient norm than the journal's; 0 where all are the same to the bit."""
    differing: str
    """The first tensor with other bytes than the checkpoint's; empty where all are the same."""

    @property
    def equal(self) -> bool:
        """Whether losses, weights and optimizer are the run's to the bit."""
        return not self.parted_at and not self.differing


def replay(recipe: Recipe, data: PreparedData, run: RunDir, fit: Fit, *, device: torch.device, tell: Tell) -> Replayed:
    """Make the run's surviving steps again, without deciding anything; the caller holds the run's lock.

    Raises EnvironmentFault where another device, fewer cores or another PyTorch would compute something else;
    DataError when the run is not finished, or when its journal does not hold every step.
    """
    saved = _final(run)
    _refuse_elsewhere(run, fit, device)
    steps = _trajectory(run, saved)
    clock = Clock(recipe.budget)
    clock.start()
    nowhere = Journal(Path(os.devnull), attempt=1)
    session = Session(
        recipe,
        data,
        run,
        fit,
        device=device,
        ranks=Ranks(),
        clock=clock,
        journal=nowhere,
        tell=tell,
        saved=None,
    )
    parted_at = 0
    try:
        for row in steps:
            before = replace(session.progress, step=row.step - 1, position=row.first_row, microbatch=row.microbatch)
            session.progress = before
            if row.skipped:
                continue
            outcome = session.step(row.fraction, rows=row.rows)
            if not parted_at and (outcome.loss, outcome.gradient_norm) != (row.loss, row.gradient_norm):
                parted_at = row.step
            if outcome.skipped:  # the run made this update: there is nothing to compare any more
                break
        model, optimizer = session.final_tensors()
    finally:
        session.close()
        nowhere.close()
    left_out = sum(row.skipped for row in steps)
    return Replayed(
        steps=len(steps) - left_out,
        left_out=left_out,
        tensors=len(saved.model) + len(saved.optimizer),
        parted_at=parted_at,
        differing=next(_differing(model, saved.model), "") or next(_differing(optimizer, saved.optimizer), ""),
    )


def _final(run: RunDir) -> Saved:
    """The final checkpoint."""
    warnings: list[str] = []
    saved = load_newest(run.checkpoints, warn=warnings.append, fits=resumable)
    if saved is None or not is_final(saved):
        raise DataError(
            f"{run.root} has no final weights" + "".join(f"; {warning}" for warning in warnings),
            fix="train it to the end: give the command that began it again",
        )
    return saved


def _refuse_elsewhere(run: RunDir, fit: Fit, device: torch.device) -> None:
    """Other hardware, threads, ranks or kernels add in another order."""
    fix = "replay it where it was trained, with the same versions of Python packages"
    if fit.device != (here := describe(device)):
        raise EnvironmentFault(f"the run was trained on {fit.device}; this is {here}", where=str(run.fit), fix=fix)
    if fit.threads > cores():
        what = f"the run was trained with {fit.threads} threads; this process may use {cores()} cores"
        raise EnvironmentFault(what, where=str(run.fit), fix=fix)
    ranks = {row.ranks for _, row in read(run.journal) if isinstance(row, Start)}
    if ranks != {1}:
        raise EnvironmentFault(
            f"the run was trained on {max(ranks, default=0)} devices",
            where=str(run.journal),
            fix="only a run on one device can be replayed: several add their gradients in an order of their own",
        )
    if run.environment.exists():
        trained = {attempt["libraries"]["torch"] for attempt in read_json(run.environment)["attempts"]}
        if other := sorted(trained - {metadata.version("torch")}):
            what = f"the run was trained with torch {', '.join(other)}; this is {metadata.version('torch')}"
            raise EnvironmentFault(what, where=str(run.environment), fix=fix)
    if fit.compiled and (fault := start_compiler(device)):
        raise EnvironmentFault(f"the run was compiled, and {fault}", where=str(run.fit), fix="install what is missing")


def _trajectory(run: RunDir, saved: Saved) -> list[Step]:
    """The surviving steps, each once, the stream read in order. Raises DataError where one is missing."""
    rows = surviving(run.journal)
    steps = [row for row in rows if isinstance(row, Step)]
    wanted = list(range(1, saved.state["progress"]["step"] + 1))
    position = 0
    for row, number in zip(steps, wanted, strict=False):
        if row.step != number or row.first_row < position:
            raise _incomplete(run, number)
        if not row.microbatch:
            raise DataError(
                f"the journal does not say with how many rows at a time step {number} was made",
                where=str(run.journal),
                fix="a run of an earlier version cannot be replayed",
            )
        position = row.first_row + row.rows
    if len(steps) != len(wanted) or position > saved.state["progress"]["position"]:
        raise _incomplete(run, min(len(steps), len(wanted)) + 1)
    # Rows may be passed over where the run went back and on, and nowhere else.
    passed = saved.state["progress"]["position"] - sum(row.rows for row in steps)
    if passed and not any(isinstance(row, Rollback) for row in rows):
        raise _incomplete(run, len(steps))
    return steps


def _incomplete(run: RunDir, step: int) -> DataError:
    return DataError(
        f"the journal is not that of the final weights: step {step} is missing or out of place",
        where=str(run.journal),
        fix="restore the file; without every step there is nothing to replay",
    )


def _differing(made: dict[str, Tensor], saved: dict[str, Tensor]) -> Iterator[str]:
    """Names of tensors that are not the same to the bit, those that only one side has among them."""
    yield from sorted(made.keys() ^ saved.keys())
    for name in [name for name in made if name in saved]:
        one, other = made[name].detach().cpu().contiguous(), saved[name].contiguous()
        same = (one.shape, one.dtype) == (other.shape, other.dtype)
        if not same or not torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)):
            yield name
