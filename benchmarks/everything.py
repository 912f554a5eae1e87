"""All benchmarks one after another, each a process of its own; what `make bench` runs.

Ends with 1 when one of them failed, after the others have run.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from measure import parser

HERE = Path(__file__).resolve().parent
ORDER = (
    "startup",
    "speed",
    "peers",
    "breakdown",
    "optimizer",
    "attention",
    "memory",
    "finetune",
    "ranks",
    "preparation",
)


def main() -> None:
    """Run what was asked for."""
    arguments = parser(__doc__, only=",".join(ORDER)).parse_args()
    failed = []
    for name in arguments.only:
        command = [sys.executable, os.fspath(HERE / f"{name}.py"), "--out", os.fspath(arguments.out)]
        start = time.perf_counter()
        print(f"== {name}", flush=True)
        if subprocess.run([*command, *(["--quick"] if arguments.quick else [])], check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"written to {arguments.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
