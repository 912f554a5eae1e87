"""Two ranks of one thread each against one process with both cores, in tokens/s of the same training.

Both are `gpuday train` on made-up text, from an empty run folder, with the same rows a step; they alternate. Tokens/s is
the median over the steps that compiled nothing, from the journal. On one machine two ranks gain nothing that threads do
not; the figure says what the ranks cost.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Record, Spread, parser

from gpuday.core.rundir import read_json

ARMS = {
    "one_process": ([sys.executable, "-m", "gpuday"], {"OMP_NUM_THREADS": "2"}),
    "two_ranks": (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gpuday"],
        {"OMP_NUM_THREADS": "1"},
    ),
}


def main() -> None:
    """Alternate the two."""
    arguments = parser(__doc__, sizes="nano").parse_args()
    record = Record("ranks", arguments.out)
    rounds, steps = (1, 6) if arguments.quick else (3, 12)
    for size in arguments.sizes:
        speeds: dict[str, list[float]] = {name: [] for name in ARMS}
        with tempfile.TemporaryDirectory() as scratch:
            for number in range(rounds):
                for name in ARMS:
                    speeds[name].append(tokens_per_second(name, size, steps, Path(scratch), number))
        one, two = (Spread.of(speeds[name]) for name in ARMS)
        figures = {
            "one_process_tokens_per_second": one,
            "two_ranks_tokens_per_second": two,
            "ratio": two.median / one.median,
        }
        record.add(size, shape={"size": size, "rows": 64, "microbatch": 16, "steps": steps}, figures=figures)
    record.table()


def tokens_per_second(name: str, size: str, steps: int, scratch: Path, number: int) -> float:
    """Of one training, without what its first steps compile."""
    launcher, threads = ARMS[name]
    out = scratch / f"{name}-{number}"
    flags = ["train", "modern", "--size", size, "--budget", f"{steps}steps", "--corpus", "synthetic:400000", "--json"]
    for setting in ("batch.rows=64", "train.microbatch=16", 'batch.ramp={part="constant"}', 'train.compile="on"'):
        flags += ["--set", setting]
    environment = {**os.environ, **threads, "GPUDAY_CACHE": os.fspath(scratch / "cache")}
    command = [*launcher, *flags, "--out", os.fspath(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return float(read_json(out / "summary.json")["train"]["tokens_per_second"])


if __name__ == "__main__":
    main()
