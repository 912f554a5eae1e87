"""The device: what it says of itself is so, and what it lacks is said."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gpuday.train import device as devices
from gpuday.train.device import EnergyMeter, compile_fault, describe, has_bf16, measure_bound, pick_device, synchronise

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


@pytest.mark.parametrize(
    ("claimed", "fast", "plain", "wanted"), [(True, 3.0, 2.0, True), (True, 1.0, 2.0, False), (False, 3.0, 2.0, False)]
)
def test_bf16_counts_where_it_is_claimed_and_faster(
    monkeypatch: pytest.MonkeyPatch, claimed: bool, fast: float, plain: float, wanted: bool
) -> None:
    """The library says so for CPUs that emulate them, too: the products are timed."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: claimed)
    monkeypatch.setattr(devices, "measure_bound", lambda _, dtype, width: fast if dtype == torch.bfloat16 else plain)
    assert has_bf16(CPU) is wanted


def test_bf16_of_this_cpu_needs_instructions_of_its_own() -> None:
    """Against the kernel's own list: a CPU of before AVX-512 has none, whatever its library says."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("this machine does not list its CPU's instructions")
    if has_bf16(CPU):
        assert {"avx512f", "amx_bf16", "avx_ne_convert"} & set(flags)


def test_without_a_compiler_on_the_path_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason is a sentence for people; torch is not even asked."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch, "compile", pytest.fail)
    assert "C++ compiler" in compile_fault(CPU)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH on which something is called clang++."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "clang++").write_text("#!/bin/sh\n")
    (tmp_path / "clang++").chmod(0o755)
    return tmp_path


def test_a_compiler_that_builds_a_kernel_has_no_fault(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any of the three names will do."""
    monkeypatch.setattr(torch, "compile", lambda call: call)
    assert compile_fault(CPU) == ""


def test_a_toolchain_that_lacks_something_is_found_out(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that are missing show only when a kernel is built: the first line of the fault, and not all of it."""

    def fail(_: object) -> None:
        raise RuntimeError("Python.h: No such file\nand a hundred lines more")

    monkeypatch.setattr(torch, "compile", fail)
    fault = compile_fault(CPU)
    assert "Python.h: No such file" in fault and "hundred lines" not in fault


def test_a_fault_without_a_message_is_a_fault(compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some exceptions say nothing."""

    def fail(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "compile", fail)
    assert compile_fault(CPU) != ""


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

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(fault="", millijoules=7_000_000.0, asked_for=[])
        monkeypatch.setitem(sys.modules, "pynvml", self)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="12-34"))

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fault:
            raise RuntimeError(self.fault)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        self.asked_for.append(uuid)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:  # noqa: N802
        self.nvmlInit()
        self.millijoules += 1500
        return self.millijoules


def test_joules_count_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device used before does not belong to the run; NVML speaks in millijoules."""
    nvml = Nvml(monkeypatch)
    meter = EnergyMeter(torch.device("cuda", 0))
    assert meter.joules() == pytest.approx(1.5)
    assert meter.joules() == pytest.approx(3.0)
    assert meter.reason == ""
    assert nvml.asked_for == ["GPU-12-34"]  # NVML's numbers are not CUDA's


def test_a_driver_without_a_meter_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is not stopped by it."""
    Nvml(monkeypatch).fault = "Not Supported"
    meter = EnergyMeter(torch.device("cuda", 0))
    assert meter.joules() is None
    assert meter.reason == "NVML: Not Supported"


def test_a_meter_that_fails_at_the_end_costs_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that was replaced during a day: None with the reason."""
    nvml = Nvml(monkeypatch)
    meter = EnergyMeter(torch.device("cuda", 0))
    nvml.fault = "Driver/library version mismatch"
    assert meter.joules() is None
    assert "mismatch" in meter.reason


def test_a_cpu_without_a_model_name_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc, as on a Mac."""
    monkeypatch.setattr(devices.Path, "exists", lambda _: False)
    assert len(describe(CPU).split(",")[0]) > 0
