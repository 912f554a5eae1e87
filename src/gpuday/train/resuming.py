"""Which checkpoint a run goes on from: rank 0 looks, and names what it took to the others, which change nothing on the disk."""

from collections.abc import Callable
from pathlib import Path

from gpuday.core.errors import DataError, EnvironmentFault
from gpuday.core.journal import Checkpoint, read
from gpuday.core.rundir import RunDir
from gpuday.core.sealed import digest
from gpuday.train import checkpoint
from gpuday.train.checkpoint import Damaged, Saved
from gpuday.train.parallel import Ranks


def newest(
    run: RunDir, ranks: Ranks, *, warn: Callable[[str], None], fits: Callable[[Saved], bool] = lambda _: True
) -> Saved | None:
    """The newest checkpoint that `fits`, on every rank the same, or None.

    Raises EnvironmentFault where the system does not let it be read, or another rank sees another folder than rank 0.
    """
    root = run.checkpoints
    saved = ranks.lead_first(lambda: checkpoint.load_newest(root, warn=warn, fits=fits), lambda: None)
    named = (float(_step(saved)), float(saved.passed_over), _mark(saved.folder)) if saved else (-1.0, 0.0, 0.0)
    step, _, mark = ranks.broadcast(named)
    if ranks.leads or step < 0:
        return saved
    try:
        theirs = checkpoint.load(root, int(step))
        same = _mark(theirs.folder) == mark
    except (Damaged, OSError) as error:
        raise _another(ranks.rank, root, int(step), f"cannot read it ({error})") from error
    if not same:
        raise _another(ranks.rank, root, int(step), "sees an earlier one of that name")
    return theirs


def refuse_anew(run: RunDir) -> None:
    """Raise DataError where a run whose checkpoints cannot be loaded had some: it must not begin anew on a clock that is
    charged, and call random weights its own. One that was killed before its first checkpoint may."""
    left = sorted(path.name for path in run.checkpoints.glob("step-*"))
    if not left and not any(isinstance(row, Checkpoint) for _, row in read(run.journal)):
        return
    raise DataError(
        f"the run had checkpoints, and none can be loaded: {', '.join(left) or 'their folders are gone'}",
        where=str(run.checkpoints),
        fix="restore one from a copy, under its name step-NNNNNNNN, and give the same command again; or, to begin anew, "
        f"remove {run.root} or give another --out",
    )


def _step(saved: Saved) -> int:
    return int(saved.folder.name.partition("-")[2])


def _mark(folder: Path) -> float:
    """48 bits of its manifest's checksum, which fp64 holds."""
    return float(int(digest((folder / checkpoint.MANIFEST).read_bytes())[:12], 16))


def _another(rank: int, root: Path, step: int, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"rank 0 took the checkpoint of step {step}, and rank {rank} {what}",
        where=str(root),
        fix="let every node see the same run folder, then give the same command again",
    )
