"""How far a run has come, what things cost it lately, and what it does next: plain values, without tensors."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpuday.train.guard import WINDOW
from gpuday.train.noise import Estimate


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a resume needs beside tensors and the clock; the same on every rank."""

    step: int = 0
    """Optimizer steps so far, skipped ones included."""
    position: int = 0
    """Rows read so far: the loader's whole state."""
    tokens: int = 0
    """Tokens in those rows."""
    flops: float = 0.0
    """Useful FLOPs so far, by formula."""
    skipped: int = 0
    """Updates in a row that were not made."""
    losses: list[float] = field(default_factory=list)
    """Of the latest updates that were made, oldest first: what the next one is measured by."""
    norms: list[float] = field(default_factory=list)
    """Their gradient norms."""
    noise_signal: float = 0.0
    """Square of the gradient's norm without its noise, averaged over the steps where it was measured."""
    noise_trace: float = 0.0
    """Trace of the covariance of a row's gradient, averaged likewise; 0 where it was never measured."""
    rolled_back_to: int = -1
    """Step of the checkpoint that the run last went back to; -1 where it never did."""
    branch: int = 0
    """Times that the run went on from another checkpoint than its newest: with more of them a checkpoint is the newer."""
    microbatch: int = 0
    """Rows that a device gets at a time: as fitted, or fewer since memory ran out."""
    compilations: int = 0
    """Graphs that rank 0 compiled, those of earlier attempts included."""
    before: dict[str, Any] | None = None
    """The held-out answer of the untrained model."""
    final: dict[str, Any] | None = None
    """The held-out answer at the end; a run that has it is finished."""

    @property
    def noise(self) -> Estimate:
        """What is known of the gradient's noise."""
        return Estimate(self.noise_signal, self.noise_trace)

    def after(
        self,
        *,
        rows: int,
        tokens: int,
        flops: float,
        loss: float,
        norm: float,
        skipped: bool,
        compilations: int,
        noise: Estimate | None = None,
    ) -> "Progress":
        """The progress one step later. A step whose update was `skipped` counts, and measures no other."""
        known = self.noise.then(noise) if noise else self.noise
        return replace(
            self,
            step=self.step + 1,
            position=self.position + rows,
            tokens=self.tokens + tokens,
            flops=self.flops + flops,
            skipped=self.skipped + 1 if skipped else 0,
            losses=self.losses if skipped else [*self.losses, loss][-WINDOW:],
            norms=self.norms if skipped else [*self.norms, norm][-WINDOW:],
            noise_signal=known.signal,
            noise_trace=known.trace,
            compilations=compilations,
        )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What things cost here lately, so that a resume near the end knows what it has time for."""

    look_seconds: float = 0.0
    """Estimated seconds of a full look at the held-out text."""
    row_seconds: float = 0.0
    """Median seconds of a row in the latest steps."""
    compile_seconds: float = 0.0
    """Seconds of the latest step that compiled something."""
    longest_seconds: float = 0.0
    """Seconds of the longest of the latest steps, over two periods of the optimizer."""


Action = Literal["step", "look", "save", "finish", "leave"]
ACTIONS: tuple[Action, ...] = ("step", "look", "save", "finish", "leave")


@dataclass(frozen=True)
class Turn:
    """What all ranks do next, as rank 0 decided by its clock; `leave` when a signal came to any of them."""

    action: Action
    fraction: float
    """Share of the budget that is used, by the clock of rank 0."""
    signal: str = ""
    """Name of the signal."""
