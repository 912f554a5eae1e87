"""What the loop works on: the live objects of a run, and the few things that are done with them."""

import signal
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

import torch

from gpuday.core.clock import Clock
from gpuday.core.errors import FitError
from gpuday.core.journal import Checkpoint, Journal, Note, Start, Step, Validation
from gpuday.core.rundir import RunDir
from gpuday.core.seeds import stream_seed
from gpuday.data.prepare import PreparedData
from gpuday.models.flops import training_per_token
from gpuday.models.kernels import choose_attention, needs_of
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.batches import Batches
from gpuday.train.device import configure, release
from gpuday.train.fit import Fit
from gpuday.train.parallel import Ranks, TooLarge
from gpuday.train.parameters import named_parameters
from gpuday.train.progress import ACTIONS, Pace, Progress, Turn
from gpuday.train.step import MaskLevels, Outcome, take_step
from gpuday.train.timing import Timing
from gpuday.train.validate import Answer, HeldOut

QUICK = 8  # looks before the last take one held-out row in this many


class Tell(Protocol):
    """Receives events for the screen: a kind and its values."""

    def __call__(self, event: str, /, **values: Any) -> None: ...


class Session:
    """A run in this process: built anew, or from the newest good checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        data: PreparedData,
        run: RunDir,
        fit: Fit,
        *,
        device: torch.device,
        ranks: Ranks,
        clock: Clock,
        journal: Journal,
        tell: Tell,
        saved: checkpoint.Saved | None,
    ) -> None:
        self.recipe, self.fit, self.clock = recipe, fit, clock
        self._run, self._device, self._ranks, self._journal, self._tell = run, device, ranks, journal, tell
        self._vocabulary = vocabulary_of(data.tokenizer)
        self._length = recipe.data.length
        configure(device, threads=fit.threads)
        self._learner = make_learner(recipe, vocab=self._vocabulary.size).to(device).train(recipe.train.dropout)
        encoder, isolate = self._learner.model.encoder, recipe.train.isolate
        encoder.dtype = getattr(torch, fit.dtype)
        documents = max(data.train.most_documents(), data.heldout.most_documents()) if isolate else 0
        needs = needs_of(encoder, documents=documents, compiled=fit.compiled)
        self._attention = choose_attention(device, encoder.dtype, needs)
        encoder.kernel = self._attention.kernel
        self._stepper = recipe.optimizer.build(named_parameters(self._learner), dtype=getattr(torch, fit.dtype))
        self._heldout = HeldOut(data.heldout, self._vocabulary, isolate=isolate)
        self._batches = Batches(
            data.train,
            recipe.data.order,
            recipe.objective,
            self._vocabulary,
            seed=recipe.seed,
            expected_rows=int(fit.expected_tokens / self._length),
            device=device,
            rank=ranks.rank,
            ranks=ranks.size,
            isolate=isolate,
        )
        self._mask_level = MaskLevels(recipe.mask_rate, recipe.train.mask_levels)
        self._compiled_levels: set[float] = set()
        self.progress, pace = Progress(microbatch=fit.microbatch), Pace()
        self._look_microbatch = fit.microbatch
        if saved is not None:
            checkpoint.load_weights(dict(self._learner.named_parameters()), saved.model)
            self.progress, pace = Progress(**saved.state["progress"]), Pace(**saved.state["pace"])
            if self.progress.step:
                self._stepper.load(saved.optimizer)
        ranks.check_equal(list(self._learner.parameters()))
        if fit.compiled:
            self._learner.compile(dynamic=False, fullgraph=True, mode=fit.compile_mode)
        self._compiled_before = compilations() - self.progress.compilations
        self._timing = Timing(clock, recipe.train, step=self.progress.step, pace=pace)

    def announce(self) -> None:
        """Journal the beginning of this attempt."""
        row = Start(
            step=self.progress.step,
            used_seconds=self.clock.used_seconds(),
            device=self.fit.device,
            compiled=self.fit.compiled,
            microbatch=self.progress.microbatch,
            ranks=self._ranks.size,
            attention=self._attention.reason,
        )
        self._journal.write(row)
        self._tell("start", **asdict(row))

    def turn(self, received: str) -> Turn:
        """What comes next: rank 0 decides by its clock, the others hear it, and a signal to any of them ends them all."""
        action, fraction = 0, 0.0
        if self._ranks.leads:
            fraction = self.clock.fraction()
            rows, compiles = self._rows_at(fraction), self._compiles(self._mask_level(fraction))
            action = ACTIONS.index(self._timing.next(self.progress.step, fraction, rows=rows, compiles=compiles))
        number = signal.Signals[received].value if received else 0
        decided, fraction = self._ranks.broadcast([action, fraction])
        if sent := self._ranks.largest(number):
            return Turn("leave", fraction, signal.Signals(int(sent)).name)
        return Turn(ACTIONS[int(decided)], fraction)

    def first_look(self) -> None:
        """The held-out loss before training, and a first checkpoint; both measure what the end must be left for."""
        self.progress = replace(self.progress, before=self.quick_look())
        self.save()

    def quick_look(self) -> dict[str, Any]:
        """The held-out answer on a part of the rows, the same part each time."""
        return self.look(max(1, self.fit.heldout_rows // QUICK))

    def look(self, rows: int, *, final: bool = False) -> dict[str, Any]:
        """The held-out answer on the first `rows` rows, journalled."""
        with self.clock.activity("validate"), self._stepper.evaluation():
            answer = self._ask(rows)
        row = Validation(
            step=self.progress.step,
            seconds=self.clock.used_seconds(),
            tokens=self.progress.tokens,
            flops=self.progress.flops,
            nats_per_token=answer.nats_per_token,
            rows=answer.rows,
            final=final,
        )
        self._journal.write(row)
        self._tell("validation", **asdict(row))
        self._timing.looked(self.progress.step, answer.row_seconds * self.fit.heldout_rows)
        return {key: value for key, value in asdict(answer).items() if key != "row_seconds"}

    def save(self) -> None:
        """Write a checkpoint and set the clock's reserve by what it cost; rank 0 alone does."""
        if not self._ranks.leads:
            return
        began = self.clock.used_seconds()
        self._timing.reserve()
        with self.clock.activity("save"):
            folder = checkpoint.save(
                self._run.checkpoints,
                self.progress.step,
                model={name: p.detach() for name, p in self._learner.named_parameters()},
                optimizer=self._stepper.state(),
                state={
                    "progress": asdict(self.progress),
                    "pace": asdict(self._timing.pace),
                    "clock": self.clock.state(),
                },
            )
        now = self.clock.used_seconds()
        self._timing.saved(self.progress.step, now - began)
        self._journal.write(
            Checkpoint(step=self.progress.step, seconds=now, save_seconds=now - began, folder=folder.name)
        )

    def finish(self) -> None:
        """The final held-out loss, and the final weights, durable."""
        self._batches.close()
        self.progress = replace(self.progress, final=self.look(self.fit.heldout_rows, final=True))
        with self._stepper.evaluation():
            self.save()

    def step(self, fraction: float) -> Outcome:
        """One optimizer step at this fraction of the budget, counted, journalled.

        When memory runs out it is made again from its beginning, on the same rows, with half as many at a time.
        """
        position, rows, multiplier = self.progress.position, self._rows_at(fraction), self.recipe.rate(fraction)
        level = self._mask_level(fraction)
        began, waited, compiled = self.clock.used_seconds(), self._batches.waited_seconds, self.progress.compilations
        outcome = None
        while outcome is None:
            anew = self._compiles(level)
            with self.clock.activity("compile" if anew else "step"):
                outcome = self._try_step(position, rows, multiplier, level)
        seconds = self.clock.used_seconds() - began
        self._timing.stepped(seconds, rows=rows, compiled=anew)
        self._compiled_levels.add(level)
        self._count(outcome, rows=rows, level=level)
        if self.fit.compiled and not anew and self.progress.compilations > compiled:
            self.note(f"{self.progress.compilations - compiled} graphs were compiled in a step that should need none")
        row = Step(
            step=self.progress.step,
            seconds=self.clock.used_seconds(),
            step_seconds=seconds,
            waited_seconds=self._batches.waited_seconds - waited,
            compiled_anew=anew,
            fraction=fraction,
            multiplier=multiplier,
            rows=rows,
            first_row=position,
            masked=rows * self.recipe.objective.predicted(self._length, level),
            loss=outcome.loss,
            gradient_norm=outcome.gradient_norm,
            tokens=self.progress.tokens,
            flops=self.progress.flops,
            skipped=outcome.skipped,
        )
        self._journal.write(row)
        self._tell("step", **asdict(row))
        return outcome

    def note(self, message: str) -> None:
        """Journal and show what a reader must know."""
        self._journal.write(Note(step=self.progress.step, message=message))
        self._tell("note", step=self.progress.step, message=message)

    def close(self) -> None:
        """End the loader's thread."""
        self._batches.close()

    def _try_step(self, position: int, rows: int, multiplier: float, level: float) -> Outcome | None:
        """The step, or None when a micro-batch was too large and is now half as large."""
        if self.recipe.train.dropout:
            torch.manual_seed(stream_seed(self.recipe.seed, "dropout", self.progress.step) + self._ranks.rank)
        microbatch = self.progress.microbatch
        try:
            return take_step(
                self._learner,
                self._stepper,
                partial(self._batches.step, position, rows, multiplier=level, microbatch=microbatch),
                multiplier=multiplier,
                clip=self.recipe.train.clip,
                ranks=self._ranks,
            )
        except TooLarge as error:
            if microbatch == 1:
                raise self._too_large(f"step {self.progress.step + 1}") from error
        self.progress = replace(self.progress, microbatch=microbatch // 2)
        release(self._device)  # the blocks that were cut for the larger micro-batch
        self._compiled_levels.clear()  # shapes are static: each level compiles once more
        if self.fit.compiled:
            torch.compiler.reset()  # what was compiled for the other shape counts against the compiler's limit
        self.note(f"out of memory with {microbatch} rows at a time; from here on {microbatch // 2}")
        return None

    def _ask(self, rows: int) -> Answer:
        """The answer on so many rows, with half as many at a time each time that memory runs out: it is the same."""
        microbatch = min(self._look_microbatch, self.progress.microbatch)
        while True:
            try:
                return self._heldout.ask(
                    self._learner.model, rows=rows, microbatch=microbatch, device=self._device, ranks=self._ranks
                )
            except TooLarge as error:
                if microbatch == 1:
                    raise self._too_large("a look at the held-out text") from error
            self._look_microbatch = microbatch // 2
            release(self._device)
            self.note(f"out of memory in a look with {microbatch} rows at a time; from here on {microbatch // 2}")
            microbatch = self._look_microbatch

    def _too_large(self, where: str) -> FitError:
        return FitError(
            "not even one row fits the device's memory",
            where=f"{self.fit.device}, {where}",
            fix="choose a smaller --size, or end what else uses the memory",
        )

    def _compiles(self, level: float) -> bool:
        return self.fit.compiled and level not in self._compiled_levels

    def _rows_at(self, fraction: float) -> int:
        return self.recipe.batch.rows_at(fraction, full_rows=self.fit.rows, length=self._length)

    def _count(self, outcome: Outcome, *, rows: int, level: float) -> None:
        tokens = rows * self._length
        share = self.recipe.objective.predicted(self._length, level) / self._length
        flops = tokens * training_per_token(
            self.recipe.model, vocab=self._vocabulary.size, length=self._length, predicted_share=share
        )
        before = self.progress
        self.progress = replace(
            before,
            step=before.step + 1,
            position=before.position + rows,
            tokens=before.tokens + tokens,
            flops=before.flops + flops,
            skipped=before.skipped + 1 if outcome.skipped else 0,
            compilations=compilations() - self._compiled_before,
        )
        self.clock.advance(tokens=tokens, steps=1, flops=flops)


def compilations() -> int:
    """Graphs that this process has compiled so far, whatever they belong to."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]  # noqa: SLF001 - no public name
