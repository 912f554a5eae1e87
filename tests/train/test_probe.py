"""Probes: counted by hand against an injected clock, and tried for real where that takes no time."""

import time

import pytest
import torch

from gpuday.train import probe
from gpuday.train.probe import attention_kernels, clock_step, copy_speed, product_fault

CPU = torch.device("cpu")


def test_a_copy_counts_what_it_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 1,000 bytes in one second of the injected clock are 2,000 bytes/s."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(probe, "COPIED_BYTES", 1000)
    assert copy_speed(CPU) == 2000.0


def test_the_plain_attention_kernel_is_everywhere() -> None:
    """A CPU has no other vendor's."""
    found = attention_kernels(CPU, torch.float32)
    assert "math" in found and "cudnn" not in found


def test_the_clock_moves_in_small_steps() -> None:
    """A budget in seconds needs milliseconds at least."""
    assert 0 < clock_step() < 1e-3


def test_a_sound_machine_has_no_fault() -> None:
    """64 ones times 64 ones are 64."""
    assert product_fault(CPU) == ""


@pytest.mark.parametrize(
    ("product", "said"), [(RuntimeError("no kernel image\nand more"), "no kernel image"), (63.0, "came out wrong")]
)
def test_a_product_that_fails_or_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch, product: object, said: str) -> None:
    """A build for another GPU fails; bad memory computes."""

    class Broken:
        def __matmul__(self, other: object) -> torch.Tensor:
            if isinstance(product, RuntimeError):
                raise product
            return torch.full((64, 64), float(str(product)))

    monkeypatch.setattr(torch, "ones", lambda *_, **__: Broken())
    fault = product_fault(CPU)
    assert said in fault and "and more" not in fault
