"""Makes the steps of a run: what is scheduled, tried until it fits memory, counted, and put into a row of the journal."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from gpuday.core.clock import Clock
from gpuday.core.journal import Step
from gpuday.core.seeds import stream_seed
from gpuday.recipe import Recipe
from gpuday.train.batches import Batches
from gpuday.train.device import release
from gpuday.train.dropping import Dropouts
from gpuday.train.endings import too_large
from gpuday.train.fit import Fit
from gpuday.train.guard import refusal
from gpuday.train.noise import Halves
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.progress import Progress
from gpuday.train.scheduled import Moment, Scheduled
from gpuday.train.signals import Interruptible
from gpuday.train.step import Outcome, Rest, take_step
from gpuday.train.useful import flops_per_token
from gpuday.train.weights import Weights

REGIONS = 8  # compiled apart in a learner, at most: trunk, head and loss of two models


@dataclass(frozen=True)
class Made:
    """A step that was made: the progress behind it, what came out, its row, and graphs that nothing had announced."""

    progress: Progress
    outcome: Outcome
    row: Step
    unexpected: int


class Stepping:
    """Holds what a step works on. `progress` is that with which the attempt begins."""

    def __init__(
        self,
        recipe: Recipe,
        fit: Fit,
        weights: Weights,
        batches: Batches,
        *,
        vocab: int,
        device: torch.device,
        ranks: Ranks,
        clock: Clock,
        interruptible: Interruptible,
        progress: Progress,
    ) -> None:
        self._recipe, self._fit, self._weights, self._batches = recipe, fit, weights, batches
        self._vocab, self._device, self._ranks, self._clock = vocab, device, ranks, clock
        self._interruptible, self._length = interruptible, recipe.data.length
        self._scheduled, self._dropouts = Scheduled(recipe, full_rows=fit.rows), Dropouts(weights.learner)
        self._compiled_before = compilations() - progress.compilations
        if fit.compiled:
            allow_graphs(self._scheduled.most_graphs)

    def at(self, progress: Progress, fraction: float, *, rows: int = 0) -> Moment:
        """The step that would come next, with so many rows where they are known."""
        return self._scheduled(fraction, progress.position, progress.noise, rows=rows)

    def compiles(self, moment: Moment) -> bool:
        """Whether such a step compiles something."""
        return self._fit.compiled and self._scheduled.compiles(moment)

    def make(self, progress: Progress, fraction: float, *, halve: Callable[[], Progress], rows: int = 0) -> Made:
        """One optimizer step at this fraction of the budget, of `rows` rows where it was made before.

        When memory runs out it is made again from its beginning, on the same rows, with half as many at a time: `halve`
        notes that, and gives the progress that says so.
        """
        moment, compiled = self.at(progress, fraction, rows=rows), progress.compilations
        self._dropouts.at(moment.dropout)
        began, waited = self._clock.used_seconds(), self._batches.waited_seconds
        outcome = None
        while outcome is None:
            anew = self.compiles(moment)
            with self._clock.activity("compile" if anew else "step"):
                outcome = self._try(progress, moment)
                if outcome is None:
                    progress = self._smaller(halve)
                elif not outcome.skipped:
                    self._weights.updated(fraction)
        seconds, position = self._clock.used_seconds() - began, progress.position
        self._scheduled.made(moment)
        progress = self._counted(progress, moment, outcome)
        pieces = moment.rows * (self._length // moment.length)
        row = Step(
            step=progress.step,
            seconds=self._clock.used_seconds(),
            step_seconds=seconds,
            waited_seconds=self._batches.waited_seconds - waited,
            compiled_anew=anew,
            fraction=fraction,
            multiplier=moment.rate,
            rows=moment.rows,
            first_row=position,
            masked=pieces * moment.predicted,
            loss=outcome.loss,
            gradient_norm=outcome.gradient_norm,
            tokens=progress.tokens,
            flops=progress.flops,
            skipped=outcome.skipped,
            microbatch=progress.microbatch,
            reason=outcome.reason,
            question=moment.kind,
            length=moment.length,
            decay=moment.decay,
            dropout=moment.dropout,
        )
        unexpected = progress.compilations - compiled if self._fit.compiled and not anew else 0
        return Made(progress, outcome, row, unexpected)

    def _try(self, progress: Progress, moment: Moment) -> Outcome | None:
        """The step, or None when a micro-batch was too large."""
        train, batch, rows = self._recipe.train, self._recipe.batch, moment.rows
        if train.dropout:
            torch.manual_seed(stream_seed(self._recipe.seed, "dropout", progress.step) + self._ranks.rank)
        read = partial(
            self._batches.step,
            multiplier=moment.multiplier,
            kind=moment.kind,
            length=moment.length,
            microbatch=progress.microbatch,
            of=rows,
        )
        measures = batch.noise > 0.0 and rows > 1 and progress.step % batch.noise_every == 0
        halves, position = Halves.of(rows), progress.position
        try:
            return take_step(
                self._weights.learner,
                self._weights.stepper,
                partial(read, position, halves.first if measures else rows),
                multiplier=moment.rate,
                kind=moment.kind,
                decay=moment.decay,
                clip=train.clip,
                ranks=self._ranks,
                rest=Rest(partial(read, position + halves.first, halves.rest), halves) if measures else None,
                interruptible=self._interruptible,
                refuse=partial(refusal, losses=progress.losses, norms=progress.norms, spike=train.spike),
            )
        except TooLarge as error:
            if progress.microbatch == 1:
                raise too_large(self._fit.device, f"step {progress.step + 1}") from error
        return None

    def _smaller(self, halve: Callable[[], Progress]) -> Progress:
        release(self._device)  # the blocks that were cut for the larger micro-batch
        self._scheduled.forget()  # shapes are static
        if self._fit.compiled:
            torch.compiler.reset()  # what was compiled for the other shape counts against the compiler's limit
        return halve()

    def _counted(self, progress: Progress, moment: Moment, outcome: Outcome) -> Progress:
        tokens = moment.rows * self._length
        flops = tokens * flops_per_token(
            self._recipe, vocab=self._vocab, length=moment.length, multiplier=moment.multiplier, kind=moment.kind
        )
        # A budget pays for each gradient that was computed; the useful ones are of one pass over the rows.
        self._clock.advance(tokens=tokens, steps=1, flops=flops * outcome.gradients)
        return progress.after(
            rows=moment.rows,
            tokens=tokens,
            flops=flops,
            loss=outcome.loss,
            norm=outcome.gradient_norm,
            skipped=outcome.skipped,
            noise=outcome.noise,
            compilations=compilations() - self._compiled_before,
        )


def allow_graphs(count: int) -> None:
    """Let the compiler keep that many graphs of each region; it fails a region that needs more than its limit, and what
    comes after so many in all."""
    limits = torch._dynamo.config  # noqa: SLF001 - no public name
    limits.recompile_limit = max(limits.recompile_limit, count)
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, REGIONS * count)


def compilations() -> int:
    """Graphs that this process has compiled so far, whatever they belong to."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]  # noqa: SLF001 - no public name
