"""Freed memory stays with the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

from gpuday.train.allocator import give_back_freed_memory, keep_freed_memory

FAULTS = """
import resource, torch
from gpuday.train.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(5)))
assert keep_freed_memory()
for _ in range(20):  # small blocks settle between the large ones first
    faults()
print(max(faults() for _ in range(5)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_large_block_is_not_mapped_again_and_again():
    """Before, 64 MiB cost a fault for each of 16,384 pages every time; afterwards nearly none."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120)
    before, after = map(int, done.stdout.split())
    assert before > 1000  # fewer where the system's pages are larger
    assert after < before / 20


HELD = """
import psutil, torch
from gpuday.train.allocator import give_back_freed_memory, keep_freed_memory
keep_freed_memory()
held = lambda: psutil.Process().memory_info().rss >> 20
block = torch.ones(1 << 26)  # 256 MiB
print(held())
del block
print(held())
give_back_freed_memory()
print(held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_what_was_kept_is_given_back_when_asked():
    """256 MiB stay with the process after they are freed, and leave it when they are given back."""
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True, timeout=120)
    used, kept, given = map(int, done.stdout.split())
    assert kept > used - 26
    assert given < used - 230


def test_other_c_libraries_are_left_alone(monkeypatch):
    """Where the library is not glibc nothing is called, and the answer says so."""
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", pytest.fail)
    assert keep_freed_memory() is False
    give_back_freed_memory()
