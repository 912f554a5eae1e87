"""Whether what a run will write has room on its disk, asked before the clock starts.

Known are the checkpoints, the export and the journal. Not known are quotas, what others write meanwhile, compiled kernels,
whose cache lies elsewhere, and what evaluation adds, which is small.
"""

import math

import torch

from gpuday.core.rundir import RunDir, require_space
from gpuday.recipe import Recipe
from gpuday.train import checkpoint
from gpuday.train.assemble import make_learner
from gpuday.train.fit import Fit

MOMENTS = 2  # fp32 tensors of optimizer state a parameter, where a fit of an earlier version does not say more
ROW_BYTES = 600  # of the journal, a step
REST_BYTES = 16 << 20  # summary, report, heartbeat, tokenizer and what else is small


def check_space(recipe: Recipe, run: RunDir, fit: Fit, *, vocab: int) -> None:
    """Raise FitError when the disk of the run's folder has less room than the run will take."""
    require_space(
        run.root,
        needed_bytes(recipe, run, fit, vocab=vocab),
        "what the run will write (checkpoints, journal, export)",
        fix="make room, choose a smaller --size, or give a folder on another disk with --out",
    )


def needed_bytes(recipe: Recipe, run: RunDir, fit: Fit, *, vocab: int) -> int:
    """Bytes to come: two checkpoints and one that is being written, without those that are there; the exported weights;
    the rest of the journal."""
    with torch.device("meta"):
        parameters = sum(p.numel() for p in make_learner(recipe, vocab=vocab).parameters())
    folders = checkpoint.KEEP + 1 - min(checkpoint.KEEP, len(checkpoint.steps(run.checkpoints)))
    exports = 0 if run.model.exists() else 1
    steps = math.ceil(fit.expected_tokens / (fit.rows * recipe.data.length))
    written = run.journal.stat().st_size if run.journal.exists() else 0
    weights = 4 * parameters
    rows = max(0, steps * ROW_BYTES - written)
    saved = (1 + recipe.average.copies) * weights + (fit.state_bytes or MOMENTS * weights)
    return folders * saved + exports * weights + rows + REST_BYTES
