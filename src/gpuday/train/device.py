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

from gpuday.train.allocator import give_back_freed_memory, keep_freed_memory
from gpuday.train.cgroup import core_quotas, memory_limits
from gpuday.train.kernel_folder import unsafe_folder

BOUND_ROWS = 4096  # tokens that meet a weight matrix together
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
    if fault := unsafe_folder():
        return fault
    try:
        torch.compile(lambda x: (x * 2.0).sin())(torch.ones(64, device=device))
    except Exception as error:  # noqa: BLE001 - whatever the toolchain lacks, eager still works, and the user is told
        return f"a first kernel could not be built: {first_line(error)}"
    return ""


def first_line(error: BaseException) -> str:
    """What the error says first, 200 characters at most; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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


def local_ranks() -> int:
    """Processes that train together on this machine, as `torchrun` tells each of them; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def use_threads(count: int) -> None:
    """Compute with so many CPU threads from here on, an equal part of them, one at least, in each rank of this machine.

    0 leaves the number as it is.
    """
    if count:
        torch.set_num_threads(max(1, count // local_ranks()))


def configure(device: torch.device, *, threads: int = 0, exact: bool = False) -> None:
    """PyTorch's settings in one place.

    Products of fp32 matrices may use TF32 on a GPU, unless they are to be exact; bf16 products and the weights are not
    touched by it. A CPU computes fp32 products as they are, and keeps the memory that a step frees for the next one.
    """
    use_threads(threads)
    torch.set_float32_matmul_precision("high" if device.type == "cuda" and not exact else "highest")
    if device.type == "cpu":
        keep_freed_memory()


def release(device: torch.device) -> None:
    """Give back what no tensor holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back_freed_memory()


def synchronise(device: torch.device) -> None:
    """Wait for the device's queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    """Seconds of a call: the median of so many, after two to warm up, each waited for."""
    seconds = []
    for _ in range(2 + repeats):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def product_speed(device: torch.device, dtype: torch.dtype, rows: int, inner: int, columns: int) -> float:
    """FLOP/s of this machine's own matrix product [rows, inner] x [inner, columns]."""
    own = torch.Generator(device).manual_seed(0)  # the global stream is the run's
    a, b = (torch.randn(*s, device=device, generator=own).to(dtype) for s in ((rows, inner), (inner, columns)))
    return 2 * rows * inner * columns / median_seconds(lambda: a @ b, device)


def measure_bound(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """FLOP/s of [4096, D] x [D, 4 D], the largest product of a block of width D."""
    return product_speed(device, dtype, BOUND_ROWS, width, 4 * width)


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


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
