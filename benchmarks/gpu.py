"""The parts of `benchmarks/gpu.sh`: each prints one JSON line, and writes it to $OUT/PART.json where OUT is set.

throughput   the presets in tokens/s and useful FLOP/s over the machine's own matrix product
equal-loss   crammed and modern at the same seconds, text and tokenizer: where each ends, and when modern is where crammed ends
determinism  the same 20 steps twice: are the weights equal to the bit, and what do deterministic algorithms cost
kill         a run that is killed by SIGKILL and resumed: are its clock and its rows kept
attention    tokens/s of the kernels by length
memory       peak memory by length
fit          what is fitted to the device, and how long that takes

With GPUDAY_BENCH_DEVICE=cpu, or where there is no GPU, the CPU stands in: smallest sizes and budgets, to try the parts.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if os.environ.get("GPUDAY_BENCH_DEVICE") == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch is imported
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic algorithms ask for it

import attention
import memory
import speed
import torch
from gpu_runs import Arm, equal_loss, killed_and_resumed, make_arm, repeated
from measure import Spread, rounded, surroundings
from workload import workload

from gpuday.train.device import pick_device


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the parts are on a kind of device."""

    size: str
    """Of the presets."""
    small: str
    """Of the runs that are about something else than speed."""
    corpus: str
    equal_loss_seconds: int
    kill_seconds: int
    timing_seconds: float
    compile: str
    lengths: tuple[str, ...]


SCALES = {
    "cuda": Scale(
        size="base",
        small="mini",
        corpus="pydocs",
        equal_loss_seconds=150,
        kill_seconds=120,
        timing_seconds=20.0,
        compile="on",
        lengths=("128", "512", "1024", "2048"),
    ),
    "cpu": Scale(
        size="nano",
        small="nano",
        corpus="synthetic:300000",
        equal_loss_seconds=20,
        kill_seconds=20,
        timing_seconds=4.0,
        compile="off",
        lengths=("128", "512"),
    ),
}
PRESETS = ("modern", "crammed", "bert")


def throughput(scale: Scale) -> dict[str, Any]:
    """Every preset at rows of 128 tokens, and modern at those of its day as well."""
    answer = {}
    for preset, budget in (*((p, "10m") for p in PRESETS), ("modern", "24h")):
        work = workload(scale.size, preset=preset, budget=budget)
        figures = speed.measure(work, pick_device(), seconds=scale.timing_seconds)
        answer[f"{preset} {work.length}"] = {"shape": work.shape(), **plain(figures)}
        torch.compiler.reset()
    return answer


def part_equal_loss(scale: Scale) -> dict[str, Any]:
    """Crammed first, then modern."""
    with tempfile.TemporaryDirectory() as scratch:
        return equal_loss(arm(scale, scale.size, f"{scale.equal_loss_seconds}s", scratch))


def determinism(scale: Scale) -> dict[str, Any]:
    """Plain twice, then with deterministic algorithms twice."""
    with tempfile.TemporaryDirectory() as scratch:
        return repeated(arm(scale, scale.small, "20steps", scratch))


def kill(scale: Scale) -> dict[str, Any]:
    """One run in a process of its own, killed half-way."""
    with tempfile.TemporaryDirectory() as scratch:
        return killed_and_resumed(arm(scale, scale.small, f"{scale.kill_seconds}s", scratch))


def attention_by_length(scale: Scale) -> dict[str, Any]:
    """Every kernel there is for the device."""
    return {length: plain(attention.measure(int(length), pick_device(), rounds=9)[0]) for length in scale.lengths}


def memory_by_length(scale: Scale) -> dict[str, Any]:
    """Eager at every length, compiled at the first."""
    modes = [(length, "eager") for length in scale.lengths] + [(scale.lengths[0], "compiled")]
    return {f"{mode} {length}": memory.apart(scale.size, length, mode)["figures"] for length, mode in modes}


def fits(scale: Scale) -> dict[str, Any]:
    """Every preset at its full size, for an hour."""
    answer = {}
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            fitted = make_arm(preset, arm(scale, scale.size, "1h", scratch, preset=preset)).fit
            seconds = time.perf_counter() - start
            keys = ("microbatch", "rows", "dtype", "compiled", "tokens_per_second", "bound_flops_per_second")
            answer[preset] = {"seconds": seconds, **{key: getattr(fitted, key) for key in keys}}
    return answer


PARTS: dict[str, Callable[[Scale], dict[str, Any]]] = {
    "throughput": throughput,
    "equal-loss": part_equal_loss,
    "determinism": determinism,
    "kill": kill,
    "attention": attention_by_length,
    "memory": memory_by_length,
    "fit": fits,
}


def arm(scale: Scale, size: str, budget: str, scratch: str, *, preset: str = "modern") -> Arm:
    """What the runs of a part have in common."""
    corpus = os.environ.get("GPUDAY_BENCH_CORPUS") or scale.corpus
    return Arm(preset=preset, size=size, budget=budget, corpus=corpus, compile=scale.compile, folder=Path(scratch))


def plain(figures: Any) -> Any:
    """Medians for spreads, numbers rounded, all the way down."""
    if isinstance(figures, dict):
        return {key: plain(value) for key, value in figures.items()}
    return rounded(figures.median if isinstance(figures, Spread) else figures)


def main() -> None:
    """The part that was asked for, or all of them."""
    asked = sys.argv[1:] or ["all"]
    names = list(PARTS) if asked == ["all"] else asked
    if unknown := [name for name in names if name not in PARTS]:
        sys.exit(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}, and all")
    scale = SCALES[pick_device().type]
    for name in names:
        start = time.perf_counter()
        figures = plain(PARTS[name](scale))
        line = {
            "benchmark": "gpu",
            "what": name,
            "seconds": round(time.perf_counter() - start, 1),
            "figures": figures,
            "environment": surroundings(),
        }
        text = json.dumps(line, allow_nan=False)
        print(text, flush=True)
        if out := os.environ.get("OUT"):
            Path(out).mkdir(parents=True, exist_ok=True)
            (Path(out) / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
