"""What the loop works on: the live objects of a run, and the few things that are done with them."""

import math
import signal
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from gpuday.core.clock import Clock
from gpuday.core.journal import Checkpoint, Journal, Noise, Note, Rollback, Start, Validation
from gpuday.core.rundir import RunDir
from gpuday.data.prepared import PreparedData
from gpuday.models.kernels import choose_attention, needs_of
from gpuday.objectives.mlm import CAUSAL
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.batches import Batches
from gpuday.train.device import configure
from gpuday.train.fit import Fit
from gpuday.train.looking import Looks
from gpuday.train.mending import identity, refuse_other_data
from gpuday.train.parallel import Ranks
from gpuday.train.progress import ACTIONS, Pace, Progress, Turn
from gpuday.train.returning import go_back
from gpuday.train.saves import Saves
from gpuday.train.signals import Interruptible
from gpuday.train.step import Outcome
from gpuday.train.stepping import Stepping
from gpuday.train.timing import Timing
from gpuday.train.validate import HeldOut
from gpuday.train.weights import Tensors, Weights, are_finite

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
        interruptible: Interruptible = nullcontext,
    ) -> None:
        self.recipe, self.fit, self.clock = recipe, fit, clock
        self._run, self._ranks, self._journal, self._tell = run, ranks, journal, tell
        vocabulary = vocabulary_of(data.tokenizer)
        configure(device, threads=fit.threads)
        self._learner = make_learner(recipe, vocab=vocabulary.size).to(device).train(recipe.train.dropout)
        encoder, isolate = self._learner.model.encoder, recipe.train.isolate
        for each in self._learner.encoders():
            each.dtype = getattr(torch, fit.dtype)
        documents = max(data.train.most_documents(), data.heldout.most_documents()) if isolate else 0
        causal = CAUSAL in recipe.objective.kinds
        needs = needs_of(encoder, documents=documents, compiled=fit.compiled, causal=causal)
        self._attention = choose_attention(device, encoder.dtype, needs)
        for each in self._learner.encoders():
            each.kernel = self._attention.kernel
        of = recipe.optimizer, recipe.average
        self._weights = Weights(self._learner, *of, dtype=encoder.dtype, seed=recipe.seed)
        self._looks = Looks(
            HeldOut(data.heldout, vocabulary, isolate=isolate),
            fit,
            device=device,
            ranks=ranks,
            interruptible=interruptible,
            note=self.note,
        )
        self._batches = Batches(
            data.train,
            recipe.data.order,
            recipe.objective,
            vocabulary,
            seed=recipe.seed,
            expected_rows=int(fit.expected_tokens / recipe.data.length),
            device=device,
            rank=ranks.rank,
            ranks=ranks.size,
            isolate=isolate,
        )
        self.progress, pace = Progress(microbatch=fit.microbatch), Pace()
        if saved is not None:
            refuse_other_data(saved.state, data)
            self._weights.restore(saved)
            self.progress, pace = replace(self.progress, **saved.state["progress"]), Pace(**saved.state["pace"])
            self.progress = replace(self.progress, branch=self.progress.branch + saved.passed_over)
        ranks.check_equal(list(self._learner.parameters()))
        if fit.compiled:
            self._learner.compile(dynamic=False, fullgraph=True, mode=fit.compile_mode)
        self._stepping = Stepping(
            recipe,
            fit,
            self._weights,
            self._batches,
            vocab=vocabulary.size,
            device=device,
            ranks=ranks,
            clock=clock,
            interruptible=interruptible,
            progress=self.progress,
        )
        self._timing = Timing(clock, recipe.train, step=self.progress.step, pace=pace, period=recipe.optimizer.period)
        self._saved_step = self.progress.step
        self._saves, self._identity = Saves(run.checkpoints, self.note), identity(recipe, fit, data)

    @property
    def unsaved(self) -> bool:
        """Whether steps were made that no checkpoint has."""
        return self.progress.step != self._saved_step

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
        for note in self.recipe.objective.notes():
            self.note(note)

    def turn(self, received: str) -> Turn:
        """What comes next: rank 0 decides by its clock, the others hear it, and a signal to any of them ends them all."""
        action, fraction = 0, 0.0
        if self._ranks.leads:
            fraction = self.clock.fraction()
            moment = self._stepping.at(self.progress, fraction)
            following = self._timing.next(
                self.progress.step,
                fraction,
                rows=moment.rows,
                compiles=self._stepping.compiles(moment),
                doubtful=self.progress.skipped > 0,
            )
            action = ACTIONS.index(following)
        number = signal.Signals[received].value if received else 0
        decided, fraction = self._ranks.broadcast([action, fraction])
        if sent := self._ranks.largest(number):
            return Turn("leave", fraction, signal.Signals(int(sent)).name)
        return Turn(ACTIONS[int(decided)], fraction)

    def first_look(self) -> None:
        """The held-out loss before training, and a first checkpoint; both measure what the end must be left for."""
        self.progress = replace(self.progress, before=self.quick_look())
        self.save(must=True)  # nothing is lost yet: whoever gave the command can still mend the disk

    def quick_look(self) -> dict[str, Any]:
        """The held-out answer on a part of the rows, the same part each time."""
        return self.look(max(1, self.fit.heldout_rows // QUICK))

    def look(self, rows: int, *, final: bool = False) -> dict[str, Any]:
        """The held-out answer on the first `rows` rows, journalled."""
        began = self.clock.used_seconds()
        with self.clock.activity("validate"), self._weights.evaluation():
            answer = self._looks.ask(self._learner.predictor, rows=rows, microbatch=self.progress.microbatch)
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
        whole = (row.seconds - began) / answer.rows * self.fit.heldout_rows
        self._timing.looked(self.progress.step, whole)
        return asdict(answer)

    def save(self, *, must: bool = False) -> None:
        """Write a checkpoint, whose cost the clock's reserve then knows; rank 0 alone does. On a disk that does not take
        it training goes on, unless the save `must` be made: then EnvironmentFault is raised."""
        began, folder = self.clock.used_seconds(), None
        if self._ranks.leads:
            with self.clock.activity("save"):
                self._journal.sync()  # before a checkpoint may outlive its rows in a power cut
                folder = self._saves.make(self._write, must=must)
            self._timing.tried(self.progress.step)
        if folder is not None:
            now = self.clock.used_seconds()
            self._timing.saved(self.progress.step, now - began)
            self._journal.write(
                Checkpoint(step=self.progress.step, seconds=now, save_seconds=now - began, folder=folder.name)
            )
        if folder is not None or not self._ranks.leads:
            self._saved_step = self.progress.step

    def finish(self) -> None:
        """The final held-out loss, and the final weights, durable.

        Where that loss is not finite, those of the newest sound checkpoint before: there is no time to make its steps
        again. Raises GpudayError when none of trained weights is left.
        """
        self._batches.close()
        while reason := self._unfit(final := self.look(self.fit.heldout_rows, final=True)):
            now = self.progress.step
            self._go_back(reason, beyond=0, before=now)
            self.note(f"{reason}: the run ends with the weights of step {self.progress.step}, and not of step {now}")
        self.progress = replace(self.progress, final=final)
        with self._weights.evaluation():
            self.save(must=True)

    def step(self, fraction: float, *, rows: int = 0) -> Outcome:
        """One optimizer step at this fraction of the budget, counted, journalled; of `rows` rows where they are known."""
        made = self._stepping.make(self.progress, fraction, halve=self._halve, rows=rows)
        self.progress, row = made.progress, made.row
        self._timing.stepped(row.step_seconds, rows=row.rows, compiled=row.compiled_anew)
        if made.unexpected:
            self.note(f"{made.unexpected} graphs were compiled in a step that should need none")
        self._journal.write(row)
        self._tell("step", **asdict(row))
        if noise := made.outcome.noise:
            scale = self.progress.noise.rows
            self._journal.write(Noise(step=row.step, signal=noise.signal, trace=noise.trace, scale=scale))
        return made.outcome

    def _halve(self) -> Progress:
        microbatch = self.progress.microbatch
        self.progress = replace(self.progress, microbatch=microbatch // 2)
        self.note(f"out of memory with {microbatch} rows at a time; from here on {microbatch // 2}")
        return self.progress

    def _unfit(self, final: dict[str, Any]) -> str:
        """Why a run cannot end with these weights; empty where it can. A look does not meet every weight."""
        if not math.isfinite(final["nats_per_token"]):
            return "the final held-out loss is not finite"
        with self._weights.evaluation():
            finite = are_finite(self._weights.tensors()[0])
        return "the final weights are not finite" if self._ranks.largest(float(not finite)) else ""

    def is_finite(self) -> bool:
        """Whether weights and optimizer state are, on all ranks: an update of finite numbers may overflow."""
        return not self._ranks.largest(float(not are_finite(*self._weights.tensors())))

    def roll_back(self, reason: str) -> None:
        """Weights and optimizer of the newest good checkpoint, and on with the rows after those that were read.

        A checkpoint at once, so that a kill does not do it again. Raises GpudayError when the run has not come further
        since it went back before.
        """
        now = self.progress
        self._go_back(reason, beyond=now.rolled_back_to, before=now.step + 1)
        why = f"{now.skipped} updates in a row could not be made ({reason})" if now.skipped else reason
        self.note(
            f"{why}: back from step {now.step} to the weights of step {self.progress.step}, and on with row "
            f"{now.position:,} of the stream"
        )
        self._saved_step = -1  # the checkpoint of this step has another position in the stream
        self.save()

    def _go_back(self, reason: str, *, beyond: int, before: int) -> None:
        now = self.progress
        with self.clock.activity("roll back"):
            self.progress = go_back(
                self._run,
                self._ranks,
                now,
                self._weights,
                self.clock,
                reason=reason,
                beyond=beyond,
                before=before,
                note=self.note,
            )
        self._timing.went_back(self.progress.step)
        self._journal.write(Rollback(step=self.progress.step, from_step=now.step, position=now.position, reason=reason))

    def note(self, message: str) -> None:
        """Journal and show what a reader must know."""
        self._journal.write(Note(step=self.progress.step, message=message))
        self._tell("note", step=self.progress.step, message=message)

    def final_tensors(self) -> tuple[Tensors, Tensors]:
        """Weights and optimizer state as `finish` would save them at this step."""
        return self._weights.final_tensors()

    def close(self) -> None:
        """End the loader's thread."""
        self._batches.close()

    def _write(self) -> Path:
        model, optimizer = self._weights.tensors()
        return checkpoint.save(
            self._run.checkpoints,
            self.progress.step,
            model=model,
            optimizer=optimizer,
            warn=self._saves.say_once,
            state={
                "sound": not self.progress.skipped and are_finite(model, optimizer),
                "progress": asdict(self.progress),
                "pace": asdict(self._timing.pace),
                "clock": self.clock.state(),
                **self._identity,
            },
        )
