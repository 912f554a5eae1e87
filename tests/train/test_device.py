"""The device: what it says of itself is so, and what it lacks is said."""

import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from gpuday.train import device as devices
from gpuday.train.cgroup import MemoryLimit
from gpuday.train.device import (
    EnergyMeter,
    compile_fault,
    configure,
    cores,
    describe,
    free_memory,
    has_bf16,
    is_out_of_memory,
    local_ranks,
    measure_bound,
    median_seconds,
    pick_device,
    product_speed,
    release,
    synchronise,
    use_threads,
)

CPU = torch.device("cpu")


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, cuda: bool, kind: str) -> None:
    """Else the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert pick_device().type == kind


def test_a_cpu_is_described_by_model_and_cores(threads: None) -> None:
    """One line that tells two machines apart, and is the same whatever number of threads computes."""
    text = describe(CPU)
    assert text.endswith(f", {os.cpu_count()} cores")
    assert "\n" not in text and len(text.split(",")[0]) > 2
    torch.set_num_threads(3)
    assert describe(CPU) == text


def test_threads_are_set_unless_they_are_left(threads: None) -> None:
    """0 leaves the number as it is."""
    use_threads(3)
    assert torch.get_num_threads() == 3
    configure(CPU, threads=0)
    assert torch.get_num_threads() == 3
    configure(CPU, threads=2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("ranks", "wanted"), [("", 6), ("1", 6), ("2", 3), ("4", 1), ("8", 1)])
def test_ranks_of_a_machine_share_its_threads(
    monkeypatch: pytest.MonkeyPatch, threads: None, ranks: str, wanted: int
) -> None:
    """By hand, of six threads: each rank takes its equal part, and one at least."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks) if ranks else monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert local_ranks() == int(ranks or 1)
    use_threads(6)
    assert torch.get_num_threads() == wanted


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep nothing that could be given back")
def test_what_no_tensor_holds_is_given_back_on_a_cpu_too() -> None:
    """256 MiB that the process kept after they were freed are the system's again."""
    configure(CPU)
    block = torch.ones(1 << 26)
    before = psutil.Process().memory_info().rss
    del block
    release(CPU)
    assert psutil.Process().memory_info().rss < before - (230 << 20)


@pytest.mark.parametrize(
    ("kind", "exact", "wanted"), [("cuda", False, "high"), ("cuda", True, "highest"), ("cpu", False, "highest")]
)
def test_products_in_fp32_may_use_tf32_on_a_gpu_alone(threads: None, kind: str, exact: bool, wanted: str) -> None:
    """A CPU computes them as they are."""
    torch.set_float32_matmul_precision("high" if wanted == "highest" else "highest")
    configure(torch.device(kind), exact=exact)
    assert torch.get_float32_matmul_precision() == wanted
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("affinity", "quotas", "wanted"), [(8, [], 8), (8, [2.5, 6.0], 3), (2, [4.0], 2), (4, [0.2], 1)]
)
def test_cores_are_those_that_this_process_gets(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quotas: list[float], wanted: int
) -> None:
    """A container with the time of two and a half cores of eight runs three threads, not eight."""
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(devices, "core_quotas", lambda: quotas)
    assert cores() == wanted


@pytest.mark.parametrize(("free", "wanted"), [([], 1000), ([400, 700], 400), ([5000], 1000)])
def test_free_memory_is_what_the_host_has_and_the_group_allows(
    monkeypatch: pytest.MonkeyPatch, free: list[int], wanted: int
) -> None:
    """The least of them."""
    monkeypatch.setattr(devices.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(devices, "memory_limits", lambda: [MemoryLimit(9999, f) for f in free])
    assert free_memory(CPU) == wanted


def test_free_memory_of_a_gpu_counts_what_the_allocator_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 600 bytes free for all, and 300 of ours of which 100 hold tensors."""
    for name, value in [("mem_get_info", (600, 1000)), ("memory_reserved", 300), ("memory_allocated", 100)]:
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    assert free_memory(torch.device("cuda")) == 800


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_faults(error: Exception, wanted: bool) -> None:
    """By type where there is one, else by what the allocators say."""
    assert is_out_of_memory(error) is wanted


def test_a_real_allocation_that_cannot_be_had_is_a_lack_of_memory() -> None:
    """Against the CPU's own allocator: 2^60 bytes."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


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


def test_a_product_counts_two_for_each_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, in one second by the injected clock: [8, 16] x [16, 4], and the bound's [4096, 32] x [32, 128]."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    assert product_speed(CPU, torch.float32, 8, 16, 4) == 2 * 8 * 16 * 4
    assert measure_bound(CPU, torch.float32, 32) == 2 * 4096 * 32 * 128


def test_calls_are_timed_once_they_are_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 9 and 8 s warm up, and of 3, 1 and 2 s the median is 2; five calls in all."""
    ticks = iter([0.0, 9.0, 10.0, 18.0, 20.0, 23.0, 30.0, 31.0, 40.0, 42.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    calls: list[None] = []
    assert median_seconds(lambda: calls.append(None), CPU, repeats=3) == 2.0
    assert len(calls) == 5


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
