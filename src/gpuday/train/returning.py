"""Back to an earlier checkpoint, on all ranks, when what came after it cannot be used."""

from collections.abc import Callable
from dataclasses import replace

from gpuday.core.clock import Clock
from gpuday.core.rundir import RunDir
from gpuday.train import checkpoint
from gpuday.train.endings import diverged
from gpuday.train.parallel import Ranks
from gpuday.train.progress import Progress
from gpuday.train.resumable import resumable
from gpuday.train.resuming import newest
from gpuday.train.weights import Weights, is_sound


def go_back(
    run: RunDir,
    ranks: Ranks,
    now: Progress,
    weights: Weights,
    clock: Clock,
    *,
    reason: str,
    beyond: int,
    before: int,
    note: Callable[[str], None],
) -> Progress:
    """Weights and optimizer of the newest sound checkpoint between these two steps, neither of them, and the progress with
    them. Raises GpudayError if there is none.

    What the kept trajectory counts goes back: steps, tokens, FLOPs. The clock keeps its seconds, and the stream its
    position. Later checkpoints are dropped; one that the disk does not let go is of an older branch than what is saved
    from here on.
    """

    def fits(saved: checkpoint.Saved) -> bool:
        return resumable(saved) and beyond < saved.state["progress"]["step"] < before and is_sound(saved)

    saved = newest(run, ranks, warn=note, fits=fits)
    if saved is None:
        raise diverged(run.root, now, reason)
    weights.restore(saved)
    clock.take_back(saved.state["clock"]["counts"])
    ranks.check_equal(list(weights.learner.parameters()))
    step = saved.state["progress"]["step"]
    # Behind the comparison, by which all have read it.
    if ranks.leads and (left := checkpoint.drop_after(run.checkpoints, step)):
        note(f"{', '.join(left)} cannot be removed; the next checkpoint counts as newer")
    return replace(
        Progress(**saved.state["progress"]),
        position=now.position,
        microbatch=now.microbatch,
        compilations=now.compilations,
        rolled_back_to=step,
        branch=now.branch + 1,
    )
