"""What `gpuday doctor` tries beside matrix products: memory, attention kernels, the clock, and whether products are right."""

import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpuday.train.device import first_line, median_seconds

COPIED_BYTES = 256 << 20
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def copy_speed(device: torch.device) -> float:
    """Bytes/s that a copy of 256 MiB reads and writes, both counted."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / median_seconds(lambda: target.copy_(source), device)


def attention_kernels(device: torch.device, dtype: torch.dtype) -> list[str]:
    """The kernels behind `scaled_dot_product_attention` that run forward and backward here, by trying each."""
    found = []
    for name, kernel in KERNELS.items():
        q = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype, requires_grad=True)
        try:
            with sdpa_kernel(kernel):
                F.scaled_dot_product_attention(q, q, q).sum().backward()
        except RuntimeError:  # how a kernel that is not there answers
            continue
        found.append(name)
    return found


def clock_step() -> float:
    """The smallest difference in seconds that the clock of the budget shows between two readings."""
    steps = []
    for _ in range(20):
        start = now = time.monotonic()
        while now == start:
            now = time.monotonic()
        steps.append(now - start)
    return min(steps)


def product_fault(device: torch.device) -> str:
    """Why a product is not what it must be, or an empty string: 64 ones times 64 ones are 64."""
    try:
        product = torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)
        right = bool((product == 64.0).all())
    except RuntimeError as error:
        return first_line(error)
    return "" if right else "a product of ones came out wrong"
