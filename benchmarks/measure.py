"""What every benchmark shares: alternating rounds, medians with their spread, one JSON line a measurement, a table."""

import argparse
import datetime as dt
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Spread:
    """A median with the lowest and highest of its rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def rate(self, amount: float) -> "Spread":
        """Amounts a second, from seconds: the slowest round becomes the lowest rate."""
        return Spread(amount / self.median, amount / self.high, amount / self.low, self.rounds)


def alternate(
    arms: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warm_up: int = 1,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Spread]:
    """Seconds of each arm, called in turn, so that a machine that slows down slows all of them; `warm_up` rounds are
    left out. An arm that works on a device's queue waits for it itself."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(warm_up + rounds):
        for name, call in arms.items():
            start = now()
            call()
            seconds[name].append(now() - start)
    return {name: Spread.of(values[warm_up:]) for name, values in seconds.items()}


class Record:
    """The measurements of one benchmark: a JSON line each as soon as it is known, and a table of them all at the end."""

    def __init__(self, benchmark: str, out: Path) -> None:
        self._benchmark, self._out = benchmark, out
        self._rows: list[dict[str, Any]] = []

    def add(self, what: str, *, shape: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
        """Write one measurement. A `Spread` becomes its median, with low, high and rounds under `spread`."""
        plain = {name: value.median if isinstance(value, Spread) else value for name, value in figures.items()}
        spread = {
            name: {"low": rounded(value.low), "high": rounded(value.high), "rounds": value.rounds}
            for name, value in figures.items()
            if isinstance(value, Spread)
        }
        line = {
            "benchmark": self._benchmark,
            "what": what,
            "shape": dict(shape),
            "figures": {name: rounded(value) for name, value in plain.items()},
            "spread": spread,
            "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "environment": surroundings(),
        }
        self._out.parent.mkdir(parents=True, exist_ok=True)
        with open(self._out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        self._rows.append({"what": what, **plain})
        print(f"  {self._benchmark} {what}: " + ", ".join(f"{k} {shown(v)}" for k, v in plain.items()), flush=True)

    def table(self) -> None:
        """Print what was measured."""
        print(f"\n{self._benchmark}\n" + table(self._rows) + "\n", flush=True)


@cache
def surroundings() -> dict[str, Any]:
    """The environment of this process, looked up once."""
    from gpuday.core.environment import environment
    from gpuday.train.device import describe, pick_device

    return environment(describe(pick_device()))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned text; a column for every key, in the order of first appearance; empty where a row has none."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[c.replace("_", " ") for c in columns]]
    cells += [[shown(row[c]) if c in row else "" for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  " + "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in cells)


def rounded(value: Any) -> Any:
    """A float to five significant digits: more would be noise."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def shown(value: Any) -> str:
    """A figure for people: four significant digits, thousands apart, large ones with their prefix."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def parser(description: str | None, **defaults: str) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have; each keyword adds a comma-separated list with that default."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    today = dt.datetime.now(dt.UTC).date().isoformat()
    made.add_argument("--out", type=Path, default=ROOT / "runs" / "bench" / f"{today}.jsonl", help="JSON lines go here")
    made.add_argument("--quick", action="store_true", help="fewer rounds and smaller shapes")
    for name, default in defaults.items():
        made.add_argument(f"--{name}", type=comma_separated, default=comma_separated(default), help=f"[{default}]")
    return made


def comma_separated(text: str) -> list[str]:
    """`a,b` as a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def need(module: str, why: str) -> None:
    """Stop with a sentence when a peer's library is missing: it is no dependency of the package."""
    import importlib.util

    if importlib.util.find_spec(module) is None:
        sys.exit(f"{why} needs {module}, which is not installed; `make bench` fetches it, or: pip install {module}")
