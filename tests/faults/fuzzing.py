"""Every reader is given inputs by the thousand, in a process of its own: `fuzz(seed, count)` says how they ended.

An input must end in a result or in an error that is made for people. `python tests/faults/fuzzing.py SEED COUNT [KIND...]`
prints the report; `python tests/faults/fuzz_child.py SEED FIRST 1 KIND` makes one input again.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHILD = HERE / "fuzz_child.py"
MOST_SECONDS = 2.0  # of an input's own CPU time
MOST_MEMORY = 1 << 30  # bytes, of the process and of its readers
CHUNK = 10_000  # inputs of one process
STALLED_SECONDS = 300.0  # of one input, by the wall: only one that waits for what never comes takes so long

# Of a hundred inputs. Checkpoints, stores and tokenizers cost ten times what a text file costs.
SHARES = {
    "txt": 10, "jsonl": 12, "csv": 12, "gz": 6, "zst": 6, "xz": 6, "parquet": 10, "toml": 6, "recipe": 5, "journal": 8, "task": 8,
    "tokenizer": 3, "store": 4, "checkpoint": 4,
}  # fmt: skip


RSS_BYTES = 1 if sys.platform == "darwin" else 1024  # in a unit of ru_maxrss


def peak_memory() -> int:
    """Bytes that this process has held at most. On Linux `ru_maxrss` begins with what the process that started this one
    held, and tests compile in the same runner."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_BYTES
    (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak) * 1024


@dataclass(kw_only=True)
class Report:
    """How inputs ended."""

    seed: int
    inputs: dict[str, int] = field(default_factory=dict)
    """By kind."""
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """By the class of the error."""
    slowest_seconds: float = 0.0
    """CPU time of the slowest input."""
    slowest: str = ""
    peak_memory: int = 0
    """Bytes, of the largest process."""
    failures: list[str] = field(default_factory=list)
    """What went wrong, with the command that makes the input again."""

    @property
    def count(self) -> int:
        return sum(self.inputs.values())


def fuzz(seed: int, count: int, kinds: Sequence[str] = tuple(SHARES)) -> Report:
    """Give `count` inputs to the readers of these kinds, by their shares; input `i` follows from (seed, i, kind) alone."""
    report, whole = Report(seed=seed), sum(SHARES[kind] for kind in kinds)
    begun = 0
    for n, kind in enumerate(kinds):
        left = count - begun if n == len(kinds) - 1 else count * SHARES[kind] // whole
        begun += left
        first = 0
        while first < left:
            first += _part(report, kind, first, min(CHUNK, left - first))
    return report


def _part(report: Report, kind: str, first: int, count: int) -> int:
    """Run a child over some inputs of a kind; returns how many it was through with when it ended."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    environment["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory(prefix="gpuday-fuzz-") as folder:
        again = [sys.executable, str(CHILD), str(report.seed)]
        done, stalled = _watched(
            [*again, str(first), str(count), kind], Path(folder), {**environment, "TMPDIR": folder}
        )
        at = int(_at(Path(folder)) or first)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    through = 0
    for line in lines:
        if "ended" in line:
            through += line["inputs"]
            _add(report, kind, line)
        elif "failure" in line:
            report.failures.append(f"{line['failure']}\n  again: {' '.join(again)} {line['input']} 1 {kind}")
    if done.returncode != 0:
        how = done.stderr[-2000:]
        if done.returncode < 0:
            how = f"the process was ended by {signal.Signals(-done.returncode).name}"
        if stalled:
            how = f"an input was not through in {STALLED_SECONDS:g} s"
        report.failures.append(f"{kind}: {how}\n  again: {' '.join(again)} {at} 1 {kind}")
        report.inputs[kind] = report.inputs.get(kind, 0) + at + 1 - first - through
        through = at + 1 - first
    return through


def _watched(
    command: list[str], folder: Path, environment: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Run a child to its end, or until it is at the same input for too long, which is the second value. It has a time limit
    of CPU time of its own, but one that waits uses none."""
    pipe, stalled, at = subprocess.PIPE, False, "nowhere"
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as child:
        while True:
            try:
                out, err = child.communicate(timeout=STALLED_SECONDS)
                return subprocess.CompletedProcess(command, child.returncode, out, err), stalled
            except subprocess.TimeoutExpired:
                before, at = at, _at(folder)
                stalled = before == at
                if stalled:
                    os.killpg(child.pid, signal.SIGKILL)  # with its readers, which hold its pipes
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise


def _at(folder: Path) -> str:
    """The number of the input that a child is at; empty before the first."""
    return (folder / "at").read_text() if (folder / "at").exists() else ""


def _add(report: Report, kind: str, line: dict[str, object]) -> None:
    ended = Counter(line["ended"])
    report.inputs[kind] = report.inputs.get(kind, 0) + int(line["inputs"])
    report.accepted += ended.pop("result", 0)
    report.refused = dict(Counter(report.refused) + ended)
    if float(line["slowest_seconds"]) > report.slowest_seconds:
        report.slowest_seconds, report.slowest = float(line["slowest_seconds"]), f"{kind} {line['slowest']}"
    report.peak_memory = max(report.peak_memory, int(line["peak_memory"]))


if __name__ == "__main__":
    whole = fuzz(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or tuple(SHARES))
    sys.stdout.write(json.dumps(asdict(whole), indent=2) + "\n")
