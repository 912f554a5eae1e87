"""Freed memory stays with the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

from gpuday.train.allocator import give_back_freed_memory, keep_freed_memory

# Pages that a large block takes anew before and after, then MiB that are held: with a block, without it, given back.
SCRIPT = """
import psutil, resource, torch
from gpuday.train.allocator import give_back_freed_memory, keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(5)))
assert keep_freed_memory()
for _ in range(20):  # small blocks settle between the large ones first
    faults()
print(max(faults() for _ in range(5)))
held = lambda: psutil.Process().memory_info().rss >> 20
block = torch.ones(1 << 26)  # 256 MiB
print(held())
del block
print(held())
give_back_freed_memory()
print(held())
"""


@pytest.fixture(scope="module")
def told() -> list[int]:
    """What a process of its own has to tell."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("mallopt and malloc_trim are glibc's")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120)
    return [int(word) for word in done.stdout.split()]


def test_a_large_block_is_not_mapped_again_and_again(told: list[int]):
    """Before, 64 MiB cost a fault for each of 16,384 pages every time; afterwards nearly none."""
    before, after = told[:2]
    assert before > 1000  # fewer where the system's pages are larger
    assert after < before / 20


def test_what_was_kept_is_given_back_when_asked(told: list[int]):
    """256 MiB stay with the process after they are freed, and leave it when they are given back."""
    used, kept, given = told[2:]
    assert kept > used - 26
    assert given < used - 230


def test_other_c_libraries_are_left_alone(monkeypatch):
    """Where the library is not glibc nothing is called, and the answer says so."""
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", pytest.fail)
    assert keep_freed_memory() is False
    give_back_freed_memory()
