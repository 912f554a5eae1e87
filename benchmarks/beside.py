"""A peer in a process of its own, our steps made while it waits.

Other code is measured as its users run it: without this project's allocator settings, compiler state or threads. The
child works for one step, says so on its standard output and waits for a line; the parent makes its steps meanwhile. The
child's seconds of the last line are its own, taken inside.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import IO

from measure import Spread

PAUSED, RESULT = "@paused", "@result "


def beside(
    command: Sequence[str], ours: Mapping[str, Callable[[], object]], *, warm_up: int
) -> tuple[Spread, dict[str, Spread]]:
    """(theirs, ours by name): seconds of a step. `warm_up` pauses are left out of ours; the child leaves out its own."""
    seconds: dict[str, list[float]] = {name: [] for name in ours}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(RESULT):
                theirs = Spread(**json.loads(line.removeprefix(RESULT)))
                return theirs, {name: Spread.of(values[warm_up:]) for name, values in seconds.items()}
            if line.strip() == PAUSED:
                for name, call in ours.items():
                    start = time.perf_counter()
                    call()
                    seconds[name].append(time.perf_counter() - start)
                child.stdin.write("\n")
                child.stdin.flush()
    sys.exit(f"the peer ended with {child.returncode} and without a result: {' '.join(command)}")


def pause(lines: IO[str] = sys.stdin) -> None:
    """In the child: let the parent make its steps."""
    print(PAUSED, flush=True)
    if not lines.readline():
        sys.exit("the parent is gone")


def give(seconds: Spread) -> None:
    """In the child: the answer, and the end."""
    print(RESULT + json.dumps(asdict(seconds)), flush=True)
