"""`gpuday` where time is this process's own work: a second passes while it computes for a second, on however busy a machine.

Run as a script with the command's arguments. Every clock of the package is read through these two names.
"""

import time

time.monotonic = time.perf_counter = time.process_time  # before the package binds them

from gpuday.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
