"""What the loop works on: the live objects of a run, and the few things that are done with them."""

import statistics
from collections import deque
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from gpuday.core.clock import Clock
from gpuday.core.journal import Checkpoint, Journal, Start, Step, Validation
from gpuday.core.rundir import RunDir
from gpuday.core.seeds import stream_seed
from gpuday.data.prepare import PreparedData
from gpuday.models.flops import training_per_token
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.batches import Batches
from gpuday.train.fit import Fit
from gpuday.train.parameters import named_parameters
from gpuday.train.step import MaskLevels, Outcome, take_step
from gpuday.train.validate import HeldOut

QUICK = 8  # looks before the last take one held-out row in this many


class Tell(Protocol):
    """Receives events for the screen: a kind and its values."""

    def __call__(self, event: str, /, **values: Any) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a resume needs beside tensors and the clock."""

    step: int = 0
    """Optimizer steps so far, skipped ones included."""
    position: int = 0
    """Rows read so far: the loader's whole state."""
    tokens: int = 0
    """Tokens in those rows."""
    flops: float = 0.0
    """Useful FLOPs so far, by formula."""
    skipped: int = 0
    """Non-finite updates in a row."""
    before: dict[str, Any] | None = None
    """The held-out answer of the untrained model."""
    final: dict[str, Any] | None = None
    """The held-out answer at the end; a run that has it is finished."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What things cost here lately, so that a resume near the end knows what it has time for."""

    look_seconds: float = 0.0
    """Estimated seconds of a full look at the held-out text."""
    row_seconds: float = 0.0
    """Median seconds of a row in the latest steps."""
    compile_seconds: float = 0.0
    """Seconds of the latest step that compiled something."""


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
        clock: Clock,
        journal: Journal,
        tell: Tell,
        saved: checkpoint.Saved | None,
    ) -> None:
        self.recipe, self.fit, self.clock = recipe, fit, clock
        self._run, self._device, self._journal, self._tell = run, device, journal, tell
        self._vocabulary = vocabulary_of(data.tokenizer)
        self._length = recipe.data.length
        self._learner = make_learner(recipe, vocab=self._vocabulary.size).to(device).train(recipe.train.dropout)
        self._learner.model.encoder.dtype = getattr(torch, fit.dtype)
        self._stepper = recipe.optimizer.build(named_parameters(self._learner), dtype=getattr(torch, fit.dtype))
        self._heldout = HeldOut(data.heldout, self._vocabulary)
        self._batches = Batches(
            data.train,
            recipe.data.order,
            recipe.objective,
            self._vocabulary,
            seed=recipe.seed,
            expected_rows=int(fit.expected_tokens / self._length),
            device=device,
        )
        self._mask_level = MaskLevels(recipe.mask_rate, recipe.train.mask_levels)
        self._compiled_levels: set[float] = set()
        self._row_seconds: deque[float] = deque(maxlen=9)  # of steps that compiled nothing
        self._save_seconds: deque[float] = deque(maxlen=5)
        self.progress, self._pace = Progress(), Pace()
        if saved is not None:
            checkpoint.load_weights(dict(self._learner.named_parameters()), saved.model)
            self.progress, self._pace = Progress(**saved.state["progress"]), Pace(**saved.state["pace"])
            if self.progress.step:
                self._stepper.load(saved.optimizer)
        if fit.compiled:
            self._learner.compile(dynamic=False, fullgraph=True)
        self.last_look, self.last_save = clock.fraction(), clock.used_seconds()

    def announce(self) -> None:
        """Journal the beginning of this attempt."""
        row = Start(
            step=self.progress.step,
            used_seconds=self.clock.used_seconds(),
            device=self.fit.device,
            compiled=self.fit.compiled,
            microbatch=self.fit.microbatch,
        )
        self._journal.write(row)
        self._tell("start", **asdict(row))

    def first_look(self) -> None:
        """The held-out loss before training, and a first checkpoint; both measure what the end must be left for."""
        self.progress = replace(self.progress, before=self.quick_look())
        self.save()

    def quick_look(self) -> dict[str, Any]:
        """The held-out answer on a part of the rows, the same part each time."""
        answer = self.look(max(1, self.fit.heldout_rows // QUICK))
        self.last_look = self.clock.fraction()
        return answer

    def look(self, rows: int, *, final: bool = False) -> dict[str, Any]:
        """The held-out answer on the first `rows` rows, journalled."""
        with self.clock.activity("validate"), self._stepper.evaluation():
            answer = self._heldout.ask(
                self._learner.model, rows=rows, microbatch=self.fit.microbatch, device=self._device
            )
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
        self._pace = replace(self._pace, look_seconds=answer.row_seconds * self.fit.heldout_rows)
        return {key: value for key, value in asdict(answer).items() if key != "row_seconds"}

    def save(self) -> None:
        """Write a checkpoint and set the clock's reserve by what it cost."""
        began = self.clock.used_seconds()
        self._set_reserve()
        with self.clock.activity("save"):
            folder = checkpoint.save(
                self._run.checkpoints,
                self.progress.step,
                model={name: p.detach() for name, p in self._learner.named_parameters()},
                optimizer=self._stepper.state(),
                state={"progress": asdict(self.progress), "pace": asdict(self._pace), "clock": self.clock.state()},
            )
        self.last_save = self.clock.used_seconds()
        seconds = self.last_save - began
        self._save_seconds.append(seconds)
        self._set_reserve()
        self._journal.write(
            Checkpoint(step=self.progress.step, seconds=self.last_save, save_seconds=seconds, folder=folder.name)
        )

    def finish(self) -> None:
        """The final held-out loss, and the final weights, durable."""
        self._batches.close()
        self.progress = replace(self.progress, final=self.look(self.fit.heldout_rows, final=True))
        with self._stepper.evaluation():
            self.save()

    def has_room(self) -> bool:
        """Whether the budget has room for one more step: half of it if it only steps, all of it if it compiles."""
        fraction = self.clock.fraction()
        seconds = self._rows_at(fraction) * self._pace.row_seconds
        if self._compiles(self._mask_level(fraction)):
            seconds = 2 * (seconds + self._pace.compile_seconds)
        return fraction < 1.0 and self.clock.room_for(seconds)

    def step(self) -> Outcome:
        """One optimizer step, counted, journalled."""
        recipe, fraction, position = self.recipe, self.clock.fraction(), self.progress.position
        rows = self._rows_at(fraction)
        multiplier, level = recipe.rate(fraction), self._mask_level(fraction)
        if recipe.train.dropout:
            torch.manual_seed(stream_seed(recipe.seed, "dropout", self.progress.step))
        anew = self._compiles(level)
        began = self.clock.used_seconds()
        with self.clock.activity("compile" if anew else "step"):
            outcome = take_step(
                self._learner,
                self._stepper,
                partial(self._batches.step, position, rows, multiplier=level, microbatch=self.fit.microbatch),
                multiplier=multiplier,
                clip=recipe.train.clip,
            )
        seconds = self.clock.used_seconds() - began
        if anew:
            self._pace = replace(self._pace, compile_seconds=seconds)
        else:
            self._row_seconds.append(seconds / rows)
            self._pace = replace(self._pace, row_seconds=statistics.median(self._row_seconds))
        self._compiled_levels.add(level)
        self._count(outcome, rows=rows, level=level)
        self._journal_step(outcome, fraction, multiplier, rows, level, seconds, anew=anew)
        return outcome

    def close(self) -> None:
        """End the loader's thread."""
        self._batches.close()

    def _set_reserve(self) -> None:
        saving = statistics.median(self._save_seconds) if self._save_seconds else 0.0
        self.clock.reserve_seconds = self._pace.look_seconds + saving

    def _compiles(self, level: float) -> bool:
        return self.fit.compiled and level not in self._compiled_levels

    def _rows_at(self, fraction: float) -> int:
        return self.recipe.batch.rows_at(fraction, full_rows=self.fit.rows, microbatch=self.fit.microbatch)

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
        )
        self.clock.advance(tokens=tokens, steps=1, flops=flops)

    def _journal_step(
        self,
        outcome: Outcome,
        fraction: float,
        multiplier: float,
        rows: int,
        level: float,
        seconds: float,
        *,
        anew: bool,
    ) -> None:
        row = Step(
            step=self.progress.step,
            seconds=self.clock.used_seconds(),
            step_seconds=seconds,
            compiled_anew=anew,
            fraction=fraction,
            multiplier=multiplier,
            rows=rows,
            first_row=self.progress.position - rows,
            masked=rows * self.recipe.objective.predicted(self._length, level),
            loss=outcome.loss,
            gradient_norm=outcome.gradient_norm,
            tokens=self.progress.tokens,
            flops=self.progress.flops,
            skipped=outcome.skipped,
        )
        self._journal.write(row)
        self._tell("step", **asdict(row))
