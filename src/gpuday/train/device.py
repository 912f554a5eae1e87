"""What the device is and can do: its name, its dtype, its compiler, its measured bound, its energy meter."""

import platform
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def pick_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def describe(device: torch.device) -> str:
    """One line for people: the GPU's name, or the CPU's model and how many cores PyTorch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {torch.get_num_threads()} threads"


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


def compile_fault(device: torch.device) -> str:
    """Why `torch.compile` cannot build kernels here, or an empty string; found by building the smallest one."""
    if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "no C++ compiler (g++ or clang++) was found"
    try:
        torch.compile(lambda x: (x * 2.0).sin())(torch.ones(64, device=device))
    except Exception as error:  # noqa: BLE001 - whatever the toolchain lacks, eager still works, and the user is told
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"a first kernel could not be built: {reason[:200]}"
    return ""


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
