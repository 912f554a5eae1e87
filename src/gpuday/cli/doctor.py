"""`gpuday doctor`: what this machine has, what it can do at most, and what to mend; under half a minute.

One line a check: good, notice (training runs, though less well than it could), or bad (it cannot run, and how to mend it).
"""

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from rich.text import Text

from gpuday import presets
from gpuday.cli.flags import Output
from gpuday.cli.resolve import DEFAULT_PRESET
from gpuday.cli.screen import Screen, clean
from gpuday.core.cache import cache_folder
from gpuday.core.clock import Budget
from gpuday.core.errors import EnvironmentFault
from gpuday.presets.sizes import auto_size
from gpuday.train.cgroup import memory_limits
from gpuday.train.choices import thread_candidates
from gpuday.train.device import (
    BOUND_ROWS,
    compile_fault,
    compilers,
    configure,
    cores,
    describe,
    free_memory,
    has_bf16,
    pick_device,
    product_speed,
)
from gpuday.train.probe import attention_kernels, clock_step, copy_speed, product_fault
from gpuday.train.useful import flops_per_token

Verdict = Literal["good", "notice", "bad"]
GIB = 2**30
LEAST_FREE_GIB = {"memory": 2.0, "disk": 2.0}  # nano's run takes less; packed text and two checkpoints are the disk's
WIDTHS = (256, 384, 512, 768)
DECODER = (512, 32768)  # width and vocabulary
# Of the bound: forward and backward of 4x256, compiled on two CPU cores, reach 0.8, and the rest of a run takes its part.
# On GPUs 0.4 is what published trainings of encoders reach.
ESTIMATED_SHARE = {"cpu": 0.6, "cuda": 0.4}
EXTRAS = {
    "hub": ("datasets",),
    "ray": ("ray",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "track": ("tensorboard", "wandb", "trackio"),
}


BUSY = 0.5  # of the cores, from which on others' work disturbs a measurement


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check's answer."""

    name: str
    text: str
    verdict: Verdict = "good"
    fix: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def doctor_command(*, output: Output = Output()) -> None:  # noqa: B008
    """What this machine has and can do, and what to mend before a run. Exit code 5 where training cannot run."""
    device = pick_device()
    configure(device, threads=thread_candidates(device)[0])
    with Screen(as_json=output.json) as screen:
        findings = []
        for finding in examine(device):
            findings.append(finding)
            if not screen.as_json:
                _show(screen, finding)
        bad = [finding for finding in findings if finding.verdict == "bad"]
        if screen.as_json:
            checks = {f.name: {"verdict": f.verdict, "text": f.text, "fix": f.fix, **f.values} for f in findings}
            screen.tell("doctor", ok=not bad, checks=checks)
    if bad:
        raise EnvironmentFault(f"training cannot run here: {bad[0].text}", where=bad[0].name, fix=bad[0].fix)


def examine(device: torch.device) -> Iterator[Finding]:
    """Every check's finding, as soon as it is known. Where products fail, nothing that is made of them is examined."""
    yield from (check(device) for check in (_device, _torch, _threads, _load, _memory))
    yield from (_folder(name, path) for name, path in (("cache folder", cache_folder()), ("run folder", Path("runs"))))
    yield (products := _products(device))
    computes = products.verdict != "bad"
    yield _compiler(device)
    if computes:
        yield _attention(device)
    yield _bandwidth(device)
    yield _clock()
    yield _extras()
    if not computes:
        return
    bounds = _bounds(device)
    yield _bound(bounds)
    yield _sizes(device, bounds)


def _show(screen: Screen, finding: Finding) -> None:
    colour = {"good": "green", "notice": "yellow", "bad": "bold red"}[finding.verdict]
    line = Text(f"{finding.verdict:>6}  ", style=colour).append(
        f"{finding.name}: {clean(finding.text)}", style="default"
    )
    if finding.fix:
        line.append(f"\n{'':8}fix: {clean(finding.fix)}", style="default")
    screen.console.print(line, soft_wrap=True)


def _device(device: torch.device) -> Finding:
    return Finding(name="device", text=f"{describe(device)} ({device.type})", values={"kind": device.type})


def _torch(device: torch.device) -> Finding:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    text, values = f"{torch.__version__}, built for {build}", {"version": torch.__version__, "build": build}
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        fix = "install the CUDA build of torch" if torch.version.cuda is None else "update the driver; see nvidia-smi"
        return Finding(
            name="torch",
            verdict="notice",
            text=f"{text}; a GPU's driver is here, and torch sees none",
            fix=fix,
            values=values,
        )
    asked = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "") + os.environ.get("PYTORCH_ALLOC_CONF", "")
    if device.type == "cuda" and "expandable_segments" not in asked:
        fix = "set PYTORCH_ALLOC_CONF=expandable_segments:True if memory runs out though enough seems free"
        return Finding(name="torch", text=text, fix=fix, values=values)
    return Finding(name="torch", text=text, values=values)


def _threads(device: torch.device) -> Finding:
    told, there, physical = os.environ.get("OMP_NUM_THREADS", ""), cores(), psutil.cpu_count(logical=False)
    used = torch.get_num_threads()
    values = {"cores": there, "physical": physical, "threads": used, "omp_num_threads": told or None}
    text = f"{there} cores for this process, {used} threads; OMP_NUM_THREADS is {told or 'not set'}"
    if device.type == "cpu" and used < there:
        fix = "unset OMP_NUM_THREADS, and the fit measures how many are best"
        return Finding(name="threads", verdict="notice", text=text, fix=fix, values=values)
    return Finding(name="threads", text=text, values=values)


def _memory(device: torch.device) -> Finding:
    free, limits = free_memory(device), [limit.limit for limit in memory_limits()]
    values = {"free_bytes": free, "cgroup_limit_bytes": min(limits, default=None)}
    text = f"{free / GIB:.1f} GiB free" + (f", control group's limit {min(limits) / GIB:.1f} GiB" if limits else "")
    return _enough("memory", "memory", text, free, values, "end other programs, or choose --size nano")


def _folder(name: str, folder: Path) -> Finding:
    """Room and permission where the folder is, or will be made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    values: dict[str, Any] = {"folder": str(folder)}
    if not os.access(there, os.W_OK):
        fix = "give another folder with --out, or for the cache with the variable GPUDAY_CACHE"
        return Finding(name=name, verdict="bad", text=f"{there} cannot be written", fix=fix, values=values)
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / GIB:.1f} GiB free"
    return _enough(
        name, "disk", text, free, {**values, "free_bytes": free}, "make room; a day's text and runs take more"
    )


def _enough(name: str, what: str, text: str, free: int, values: dict[str, Any], fix: str) -> Finding:
    if free < LEAST_FREE_GIB[what] * GIB:
        return Finding(name=name, verdict="notice", text=text, fix=fix, values=values)
    return Finding(name=name, text=text, values=values)


def _products(device: torch.device) -> Finding:
    if fault := product_fault(device):
        return Finding(name="products", verdict="bad", text=fault, fix="install a torch build that suits this machine")
    fast = has_bf16(device)
    text = (
        "bf16 is faster than fp32, as timed"
        if fast
        else "bf16 is not faster than fp32, as timed: training runs in fp32"
    )
    return Finding(name="products", verdict="good" if fast else "notice", text=text, values={"bf16": fast})


def _compiler(device: torch.device) -> Finding:
    began = time.perf_counter()
    fault = compile_fault(device)
    seconds = time.perf_counter() - began
    names = compilers()
    values = {"works": not fault, "seconds": seconds, "found": names}
    if fault:
        fix = "install g++ (Debian: apt-get install g++), or train eager, which is slower"
        return Finding(name="compiler", verdict="notice", text=fault, fix=fix, values=values)
    return Finding(
        name="compiler",
        text=f"{names[0] if names else 'triton'}; a first kernel was built in {seconds:.1f} s",
        values=values,
    )


def _attention(device: torch.device) -> Finding:
    kernels = attention_kernels(device, torch.bfloat16 if has_bf16(device) else torch.float32)
    return Finding(name="attention", text=f"kernels that run here: {', '.join(kernels)}", values={"kernels": kernels})


def _bandwidth(device: torch.device) -> Finding:
    speed = copy_speed(device)
    return Finding(name="bandwidth", text=f"a copy moves {speed / 1e9:.0f} GB/s", values={"bytes_per_second": speed})


def _load(_device: torch.device) -> Finding:
    """Whether others compute here now: what is measured below would be too slow, and training would share."""
    if not hasattr(os, "getloadavg"):
        return Finding(name="load", text="unknown on this system")
    load = os.getloadavg()[0]
    values = {"load": load, "cores": cores()}
    text = f"{load:.1f} processes waited for {cores()} cores in the last minute"
    if load > BUSY * cores():
        fix = "measure and train when nothing else runs: speeds below are too low, and a budget buys less"
        return Finding(name="load", verdict="notice", text=text, fix=fix, values=values)
    return Finding(name="load", text=text, values=values)


def _clock() -> Finding:
    step = clock_step()
    return Finding(name="clock", text=f"steps of {step * 1e6:.2g} microseconds", values={"seconds": step})


def _extras() -> Finding:
    there = {extra: all(importlib.util.find_spec(p) for p in packages) for extra, packages in EXTRAS.items()}
    text = ", ".join(f"{extra} {'installed' if found else 'not installed'}" for extra, found in there.items())
    return Finding(name="extras", text=f"{text} (optional)", values={"installed": there})


def _bounds(device: torch.device) -> dict[str, dict[str, float]]:
    """FLOP/s by dtype and shape: [4096, D] x [D, 4 D], and a quarter of the rows times the decoder."""
    dtypes = {"float32": torch.float32, **({"bfloat16": torch.bfloat16} if has_bf16(device) else {})}
    return {
        name: {
            **{str(width): product_speed(device, dtype, BOUND_ROWS, width, 4 * width) for width in WIDTHS},
            "decoder": product_speed(device, dtype, BOUND_ROWS // 4, *DECODER),
        }
        for name, dtype in dtypes.items()
    }


def _bound(bounds: dict[str, dict[str, float]]) -> Finding:
    text = "; ".join(
        f"{name} " + ", ".join(f"{shape}: {speed / 1e12:.3g}" for shape, speed in speeds.items())
        for name, speeds in bounds.items()
    )
    return Finding(
        name="bound", text=f"matrix products in TFLOP/s by width: {text}", values={"flops_per_second": bounds}
    )


def _sizes(device: torch.device, bounds: dict[str, dict[str, float]]) -> Finding:
    """What `--size auto` takes, and the tokens/s that the bound lets one expect of it."""
    best = bounds.get("bfloat16", bounds["float32"])
    values = {}
    for budget_text in ("10m", "1h", "24h"):
        budget = Budget.parse(budget_text)
        size = auto_size(device.type, budget)
        recipe = presets.find(DEFAULT_PRESET)(size, budget)
        flops = flops_per_token(recipe, vocab=recipe.data.vocab)
        nearest = min(WIDTHS, key=lambda width: abs(width - recipe.model.width))
        speed = ESTIMATED_SHARE[device.type] * best[str(nearest)] / flops
        values[budget_text] = {"size": size, "estimated_tokens_per_second": speed}
    text = ", ".join(f"{b}: {v['size']}, {v['estimated_tokens_per_second']:,.0f} tokens/s" for b, v in values.items())
    return Finding(
        name="sizes", text=f"{text} (auto; estimated from the bound, not measured)", values={"budgets": values}
    )
