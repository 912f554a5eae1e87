"""The device: what it says of itself is so, and what it lacks is said."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpuday.train import device as devices
from gpuday.train.device import EnergyMeter, describe, has_bf16, has_compiler, measure_bound, pick_device, synchronise

CPU = torch.device("cpu")


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, cuda: bool, kind: str) -> None:
    """Else the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert pick_device().type == kind


def test_a_cpu_is_described_by_model_and_threads() -> None:
    """One line that tells two machines apart, and one from itself with fewer threads."""
    text = describe(CPU)
    assert text.endswith(f", {torch.get_num_threads()} threads")
    assert "\n" not in text and len(text.split(",")[0]) > 2


def test_bf16_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain truth value; without oneDNN there are no such products."""
    assert has_bf16(CPU) in (True, False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_bf16(CPU) is False


def test_bf16_of_a_cpu_agrees_with_its_flags() -> None:
    """Against the kernel's own list of instructions: AVX-512 BF16 or AMX means bf16."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("this machine does not list its CPU's instructions")
    if {"avx512_bf16", "amx_bf16"} & set(flags):
        assert has_bf16(CPU)
    if "avx512f" not in flags and "avx_ne_convert" not in flags:
        assert not has_bf16(CPU)


def test_a_compiler_is_what_is_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty PATH has none; any of the three names will do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_compiler(CPU)
    (tmp_path / "clang++").write_text("#!/bin/sh\n")
    (tmp_path / "clang++").chmod(0o755)
    assert has_compiler(CPU)


def test_the_bound_is_flops_over_seconds() -> None:
    """Positive, finite, and below any CPU's: 1e15; waiting for a CPU returns."""
    synchronise(CPU)
    assert 1e6 < measure_bound(CPU, torch.float32, 32) < 1e15


def test_the_bound_counts_a_multiply_add_as_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: [4096, 32] x [32, 128] in one second by the injected clock is 2 * 4096 * 32 * 128 FLOP/s."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    assert measure_bound(CPU, torch.float32, 32) == 2 * 4096 * 32 * 128


def test_a_cpu_has_no_energy_meter_and_says_so() -> None:
    """None with its reason, never a zero."""
    meter = EnergyMeter(CPU)
    assert meter.joules() is None
    assert "NVML" in meter.reason


class Nvml(SimpleNamespace):
    """The driver's library, as far as it is asked; millijoules rise by 1,500 a read."""

    NVMLError = RuntimeError

    def __init__(self, fault: str = "") -> None:
        super().__init__(fault=fault, millijoules=7_000_000.0)

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fault:
            raise RuntimeError(self.fault)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> float:  # noqa: N802
        self.millijoules += 1500
        return self.millijoules


def test_joules_count_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device used before does not belong to the run; NVML speaks in millijoules."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    meter = EnergyMeter(torch.device("cuda", 0))
    assert meter.joules() == pytest.approx(1.5)
    assert meter.joules() == pytest.approx(3.0)
    assert meter.reason == ""


def test_a_driver_without_a_meter_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is not stopped by it."""
    monkeypatch.setitem(sys.modules, "pynvml", Nvml("Not Supported"))
    meter = EnergyMeter(torch.device("cuda", 0))
    assert meter.joules() is None
    assert meter.reason == "NVML: Not Supported"


def test_a_cpu_without_a_model_name_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, as on a Mac."""
    monkeypatch.setattr(devices.Path, "exists", lambda _: False)
    assert len(describe(CPU).split(",")[0]) > 0
