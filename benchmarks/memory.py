"""Peak memory of training against the length of a row, at one number of tokens a micro-batch, each in a process of its own.

On a CPU: resident memory at its peak, less what the process held after its imports. `whole` includes compiling and
building the model; `step` is the peak of the steps after the first, kept compiler memory included. On CUDA: the
allocator's own peaks. Up to 128 tokens the recipe is that of a short budget, above that of a day, with local windows.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from measure import Record, parser

TOKENS = {"cpu": 4096, "cuda": 65536}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    """Every length and size, eager and compiled."""
    asked = parser(__doc__, sizes="nano,micro", lengths="128,512,1024,2048", modes="eager,compiled")
    asked.add_argument("--one", nargs=3, metavar=("SIZE", "LENGTH", "MODE"), help="measure one in this process")
    arguments = asked.parse_args()
    if arguments.one:
        size, length, mode = arguments.one
        print(json.dumps(one(size, int(length), compiled=mode == "compiled")))
        return
    record = Record("memory", arguments.out)
    sizes, lengths = (arguments.sizes[:1], ["128", "1024"]) if arguments.quick else (arguments.sizes, arguments.lengths)
    for size in sizes:
        # Compiling takes half a minute a length: the first size shows what it changes.
        for mode in arguments.modes if size == sizes[0] else ["eager"]:
            for length in lengths:
                answer = apart(size, length, mode)
                record.add(f"{size} {mode} {length}", shape=answer["shape"], figures=answer["figures"])
    record.table()


def apart(size: str, length: str, mode: str) -> dict[str, dict[str, float]]:
    """`one` in a fresh process."""
    command = [sys.executable, os.fspath(Path(__file__)), "--one", size, length, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answer: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def one(size: str, length: int, *, compiled: bool) -> dict[str, dict[str, object]]:
    """Bytes at the peak, in this process, which has done nothing else."""
    import torch
    from workload import TOKENS_PER_ROW_SHORT, training, workload

    from gpuday.core import config
    from gpuday.train.device import pick_device
    from gpuday.train.trial import largest_kind

    device = pick_device()
    work = workload(size, budget="10m" if length <= TOKENS_PER_ROW_SHORT else "24h")
    microbatch = max(1, TOKENS[device.type] // length)
    recipe = config.replace_at(work.recipe, "data.length", length)
    kind = largest_kind(recipe)
    work = dataclasses.replace(work, recipe=recipe, microbatch=microbatch, rows=2 * microbatch, kind=kind)
    torch.ones(8, device=device) @ torch.ones(8, device=device)  # libraries that load with the first call
    before = peak_bytes(device.type)
    with training(work, compiled=compiled, device=device) as run:
        run.step()
        whole = peak_bytes(device.type)
        forget_peak(device.type)
        for _ in range(2):
            run.step()
        step = peak_bytes(device.type)
    shape = {**work.shape(), "compiled": compiled, "window": getattr(recipe.model.mixer, "window", 0)}
    return {"shape": shape, "figures": {"whole_bytes": max(whole, step) - before, "step_bytes": step - before}}


def peak_bytes(device: str) -> int:
    """The process's highest resident memory, or the allocator's highest on CUDA, since `forget_peak`."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(device: str) -> None:
    """Let the peak begin anew from what is held now."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        CLEAR.write_text("5")


if __name__ == "__main__":
    main()
