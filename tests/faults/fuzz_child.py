"""Makes inputs of one kind and reads them, in the process that `fuzzing.py` starts: `fuzz_child.py SEED FIRST COUNT KIND`.

Prints a JSON line for every failure, and one in every few hundred inputs that says how they ended. An input that takes
many seconds ends the process, as a crash would; `at` holds the number of the input that was read.
"""

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from fuzz_readers import READERS, Reader, serve_parquet
from fuzzing import MOST_MEMORY, MOST_SECONDS, RSS_BYTES, peak_memory

from gpuday.core.errors import GpudayError

TOLD_EVERY = 200
HOPELESS_SECONDS = 10.0
TRACEBACK = 1500  # its last characters


def main(seed: int, first: int, count: int, kind: str) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, wherever it hangs
    place = os.open("at", os.O_WRONLY | os.O_CREAT)
    reader = READERS[kind](Path.cwd())
    try:
        for start in range(first, first + count, TOLD_EVERY):
            _some(seed, range(start, min(start + TOLD_EVERY, first + count)), kind, reader, place)
    finally:
        reader.close()


def _some(seed: int, numbers: range, kind: str, reader: Reader, place: int) -> None:
    ended, slowest, slowest_at = Counter[str](), 0.0, numbers.start
    for number in numbers:
        os.pwrite(place, f"{number:12d}".encode(), 0)
        draw = random.Random(f"{seed}/{number}/{kind}")
        signal.setitimer(signal.ITIMER_PROF, HOPELESS_SECONDS)
        before = _cpu(reader)
        try:
            how = reader.read(draw)
        except GpudayError as error:
            str(error).encode("utf-8", "surrogateescape")  # what it says can be shown
            how = type(error).__name__
        except BaseException:  # noqa: BLE001 - what is no GpudayError is what is looked for
            how = "failure"
            _tell(failure=f"{kind}: {traceback.format_exc()[-TRACEBACK:]}", input=number)
        seconds = _cpu(reader) - before
        if seconds > MOST_SECONDS:
            _tell(failure=f"{kind}: {seconds:.1f} s of CPU time", input=number)
        ended[how] += 1
        if seconds > slowest:
            slowest, slowest_at = seconds, number
    signal.setitimer(signal.ITIMER_PROF, 0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * RSS_BYTES
    peak = max(peak_memory(), children, reader.others_memory)
    if peak > MOST_MEMORY:
        _tell(failure=f"{kind}: {peak:,} bytes of memory by input", input=numbers.stop - 1)
    _tell(ended=dict(ended), inputs=len(numbers), slowest_seconds=slowest, slowest=slowest_at, peak_memory=peak)


def _cpu(reader: Reader) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + reader.others_seconds


def _tell(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "parquet":
        serve_parquet()
    else:
        main(*map(int, sys.argv[1:4]), sys.argv[4])
