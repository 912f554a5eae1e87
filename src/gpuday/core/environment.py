"""What a run ran on: versions, machine and source revision. No variable of the user's environment is recorded."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from gpuday import __version__

LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "safetensors",
    "transformers",
    "scikit-learn",
    "scipy",
    "pyarrow",
    "xxhash",
)


def source_revision() -> str:
    """The commit of the checkout that the package runs from, `+changes` if it differs; else the package's version."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return f"gpuday {__version__}"
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.SubprocessError):
        return f"gpuday {__version__}"  # no git here, one that hangs, or a checkout without a commit


def environment(device: str) -> dict[str, Any]:
    """JSON values: package, source, Python, platform, libraries, cores, memory in bytes, device, command line."""
    return {
        "gpuday": __version__,
        "source": source_revision(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "command": ["gpuday", *sys.argv[1:]],
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", os.fspath(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
