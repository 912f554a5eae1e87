"""How memory is read: the highest since the last time that it was forgotten."""

import json
import subprocess
import sys
from pathlib import Path

import memory
import pytest

SCRIPT = """
import json
from memory import forget_peak, peak_bytes
size = 64 << 20
before = peak_bytes("cpu")
block = b"x" * size
held = peak_bytes("cpu")
del block
kept = peak_bytes("cpu")
forget_peak("cpu")
print(json.dumps([before, held, kept, peak_bytes("cpu"), size]))
"""


@pytest.mark.skipif(not memory.CLEAR.exists(), reason="peaks are read from Linux's /proc")
def test_a_peak_stays_until_it_is_forgotten() -> None:
    """64 MiB held for a moment show in the peak, stay when they are freed, and are gone when the peak begins anew."""
    folder = Path(memory.__file__).parent
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, cwd=folder)
    before, held, kept, after, size = json.loads(done.stdout)
    assert held - before >= size
    assert kept - before >= size // 2  # the kernel counts pages in batches
    assert held - after >= size // 2
