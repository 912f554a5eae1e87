"""What the device is and can do: its name, its dtype, its compiler, its measured bound, its energy meter."""

import importlib.util
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
    """Whether bf16 products run on instructions of their own; emulated, they are slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public name


def has_compiler(device: torch.device) -> bool:
    """Whether `torch.compile` can build kernels here: a C++ compiler for the CPU, Triton for CUDA."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def synchronise(device: torch.device) -> None:
    """Wait for the device's queue; a CPU has none."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_bound(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """FLOP/s of this machine's own matrix product [4096, D] x [D, 4 D]: the median of seven after two to warm up."""
    a, b = (torch.randn(*s, device=device).to(dtype) for s in ((4096, width), (width, 4 * width)))
    seconds = [_timed(lambda: a @ b, device) for _ in range(9)][2:]
    return 2 * 4096 * width * 4 * width / statistics.median(seconds)


class EnergyMeter:
    """Joules that the device used since construction, from NVML; None with the reason where there is no meter."""

    def __init__(self, device: torch.device) -> None:
        self.reason = "" if device.type == "cuda" else "no energy meter: NVML reads NVIDIA GPUs only"
        self._read: Callable[[], float] | None = None
        if device.type == "cuda":
            self._open(device)

    def joules(self) -> float | None:
        return None if self._read is None else self._read() - self._start

    def _open(self, device: torch.device) -> None:
        import pynvml  # only where there is an NVIDIA driver to talk to

        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
            self._start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
            self._read = lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        except pynvml.NVMLError as error:
            self.reason = f"NVML: {error}"


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
