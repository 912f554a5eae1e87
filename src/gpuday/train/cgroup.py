"""What the process's control groups leave it of the machine: memory and cores. A container is told of neither elsewhere.

Both versions of the kernel's interface are read. Inside a container the path that the kernel tells is often the host's,
while the mount begins at the container's own group: levels that are not there are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # version 1 says so with a number of about this size


@dataclass(frozen=True)
class MemoryLimit:
    """A group's limit, and what is left of it, in bytes."""

    limit: int
    free: int


def memory_limits(proc: Path = PROC, mount: Path = MOUNT) -> list[MemoryLimit]:
    """The limits of the process's group and of those above it; none where memory is not limited.

    Pages that hold files count as free, since they are given back when they are wanted.
    """
    found = []
    for level, version in _levels(proc, mount, "memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit = _read(level / names[0])
        if limit.isdigit() and int(limit) < NO_LIMIT:
            pages = dict(line.split() for line in _read(level / "memory.stat").splitlines())
            files = int(pages.get("inactive_file" if version == 2 else "total_inactive_file", 0))
            used = int(_read(level / names[1])) - files
            found.append(MemoryLimit(int(limit), max(0, int(limit) - used)))
    return found


def core_quotas(proc: Path = PROC, mount: Path = MOUNT) -> list[float]:
    """Cores' worth of time that the process's group and those above it get a second; none where time is not limited."""
    found = []
    for level, version in _levels(proc, mount, "cpu"):
        if version == 2:
            quota, _, period = _read(level / "cpu.max").partition(" ")
        else:
            quota, period = _read(level / "cpu.cfs_quota_us"), _read(level / "cpu.cfs_period_us")
        if quota.isdigit() and int(quota):  # neither `max` nor -1
            found.append(int(quota) / int(period))
    return found


def _levels(proc: Path, mount: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The folder of the process's group and of those above it, each with the interface's version."""
    for line in _read(proc).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        group = base / path.strip("/")
        yield from ((level, 1 if controllers else 2) for level in (group, *group.parents) if level.is_relative_to(base))


def _read(path: Path) -> str:
    """A file's text, empty where there is none: an interface that is not mounted limits nothing."""
    return path.read_text().strip() if path.is_file() else ""
