"""What the device is and can do: its name, its memory, its dtype, its compiler, its measured bound, its energy meter."""

import gc
import math
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from gpuday.train.allocator import keep_freed_memory
from gpuday.train.cgroup import core_quotas, memory_limits

# What allocators say beside the exception types made for it: PyTorch's on CPUs, and CUDA's own libraries.
MEMORY_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def pick_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def describe(device: torch.device) -> str:
    """The hardware in one line: the GPU's name, or the CPU's model and the machine's cores, used or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than fp32 ones: without instructions of their own they are far slower.

    Timed where the library says that it can; it says so for CPUs that emulate them, too.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001 - no public name
        return False
    fast, plain = (measure_bound(device, dtype, 256) for dtype in (torch.bfloat16, torch.float32))
    return fast > plain


def compilers() -> list[str]:
    """The C++ compilers on the path, by the names that torch looks for."""
    return [name for name in ("g++", "clang++", "c++") if shutil.which(name)]


def compile_fault(device: torch.device) -> str:
    """Why `torch.compile` cannot build kernels here, or an empty string; found by building the smallest one."""
    if device.type == "cpu" and not compilers():
        return "no C++ compiler (g++ or clang++) was found"
    try:
        torch.compile(lambda x: (x * 2.0).sin())(torch.ones(64, device=device))
    except Exception as error:  # noqa: BLE001 - whatever the toolchain lacks, eager still works, and the user is told
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"a first kernel could not be built: {reason[:200]}"
    return ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the device's memory, or the host's, is used up: a smaller micro-batch may fit."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text.lower() in str(error).lower() for text in MEMORY_TEXTS)


def free_memory(device: torch.device) -> int:
    """Bytes that this program can still get: on a CPU what the host has, or what its control group leaves of it."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min([psutil.virtual_memory().available, *(limit.free for limit in memory_limits())])


def cores() -> int:
    """CPU cores that this process may use: its affinity, or the time that its control group gets."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([allowed, *(math.ceil(quota) for quota in core_quotas())]))


def use_threads(count: int) -> None:
    """Compute with so many CPU threads from here on; 0 leaves the number as it is."""
    if count:
        torch.set_num_threads(count)


def configure(device: torch.device, *, threads: int = 0) -> None:
    """PyTorch's settings for training and for measuring it, in one place.

    Products of fp32 matrices may use TF32 on a GPU; bf16 products and the weights are not touched by it. A CPU computes
    fp32 products as they are, and keeps the memory that a step frees for the next one.
    """
    use_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    else:
        keep_freed_memory()


def release(device: torch.device) -> None:
    """Give back what no tensor holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronise(device: torch.device) -> None:
    """Wait for the device's queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_bound(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """FLOP/s of this machine's own matrix product [4096, D] x [D, 4 D]: the median of seven after two to warm up."""
    own = torch.Generator(device).manual_seed(0)  # the global stream is the run's
    a, b = (torch.randn(*s, device=device, generator=own).to(dtype) for s in ((4096, width), (width, 4 * width)))
    seconds = [_timed(lambda: a @ b, device) for _ in range(9)][2:]
    return 2 * 4096 * width * 4 * width / statistics.median(seconds)


class EnergyMeter:
    """Joules that the device used since construction, from NVML; None with the reason where there is no meter."""

    def __init__(self, device: torch.device) -> None:
        self.reason = "" if device.type == "cuda" else "no energy meter: NVML reads NVIDIA GPUs only"
        self._read: Callable[[], float | None] | None = None
        if device.type == "cuda":
            self._open(device)

    def joules(self) -> float | None:
        return None if self._read is None else self._read()

    def _open(self, device: torch.device) -> None:
        import pynvml  # only where there is an NVIDIA driver to talk to

        try:
            pynvml.nvmlInit()
            # By its own identity: NVML's numbering does not know which devices this process was given.
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except pynvml.NVMLError as error:
            self.reason = f"NVML: {error}"
            return

        def read() -> float | None:
            try:
                return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1e3
            except pynvml.NVMLError as error:
                self.reason = f"NVML: {error}"
                return None

        self._read = read


def _timed(call: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
