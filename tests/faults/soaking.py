"""What `tools/soak.py` calls beside the kills: fuzz, rot and save points, each by seed and count in a folder of its own."""

from pathlib import Path
from typing import Any

import fuzzing
import rot as rotting
import save_points as saving


def fuzz(seed: int, count: int, folder: Path) -> dict[str, Any]:
    """So many inputs to all readers."""
    report = fuzzing.fuzz(seed, count)
    return {
        "count": report.count,
        "inputs": report.inputs,
        "accepted": report.accepted,
        "refused": report.refused,
        "slowest_seconds": report.slowest_seconds,
        "peak_memory_mib": report.peak_memory / 2**20,
        "failures": report.failures,
    }


def rot(seed: int, count: int, folder: Path) -> dict[str, Any]:
    """So many damages, half of them to checkpoints and half to prepared data; all must be noticed."""
    wanted = {"checkpoints": count // 2, "prepared": count - count // 2}
    noticed = {
        "checkpoints": rotting.rot_checkpoints(folder / "checkpoints", seed=seed, count=wanted["checkpoints"]),
        "prepared": rotting.rot_prepared(folder / "prepared", seed=seed, count=wanted["prepared"]),
    }
    found = {name: sum(kinds.values()) for name, kinds in noticed.items()}
    failures = [
        f"seed {seed}, count {count}: {found[name]} of {wanted[name]} damages to {name} were noticed: {dict(kinds)}"
        for name, kinds in noticed.items()
        if found[name] != wanted[name]
    ]
    return {"count": count, "noticed": found, "failures": failures}


def save_points(seed: int, count: int, folder: Path) -> dict[str, Any]:
    """A kill at every point of every save, so many times, with other tensors each time."""
    points: dict[str, int] = {}
    for number in range(count):
        for name, met in saving.kills(folder / str(number), seed + number).items():
            points[name] = points.get(name, 0) + met
    return {"count": count, "points": points, "failures": []}
