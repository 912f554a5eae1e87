"""What a run ran on: versions, machine and source revision. No variable of the user's environment is recorded, and of
the command line neither the home folder nor anything that looks like a key."""

import os
import platform
import re
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

REDACTED = "[redacted]"
# Keys by how their issuers begin them, what is assigned to a word for a secret, and the user and password of an address.
# Where people begin file names so, too, 20 letters and digits without a break must follow: `hf_fineweb_sample.jsonl` is no
# key. `tokens` and `tokenizer` are no words for secrets: recipes have many keys with them.
_KEY = re.compile(
    r"\b(?:hf_|sk-|npm_|pypi-)[\w-]*?[A-Za-z0-9]{20}[\w-]*|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{35}|\beyJ[\w-]{8,}\.[\w.-]+"
)
_SENSITIVE = r"(?:token|password|passwd|passphrase|secret|credentials?|authorization|api[_-]?key|access[_-]?key)"
_ASSIGNED = re.compile(rf"(?i)({_SENSITIVE}\s*[=:]\s*)(?:bearer\s+|basic\s+)?[^\s&;,]+")
_SECRET_FLAG = re.compile(rf"(?i)-{{1,2}}(?:\w+[_-])*{_SENSITIVE}")
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def without_home(text: str) -> str:
    """The text with `~` for the user's home folder, whose name is often the user's."""
    if "/" not in text:
        return text
    home = os.path.expanduser("~").rstrip("/")
    if not home.startswith("/"):
        return text  # no home, or the root of everything
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", text)


def redact(words: list[str]) -> list[str]:
    """A command line without its secrets: keys, values of flags such as `--token`, users of addresses, the home folder."""
    shown, hide = [], False
    for word in words:
        clear = without_home(word) if _is_path(word) else _KEY.sub(REDACTED, without_home(word))
        clear = _ASSIGNED.sub(rf"\1{REDACTED}", _USER.sub(REDACTED, clear))
        shown.append(REDACTED if hide else clear)
        hide = _SECRET_FLAG.fullmatch(word) is not None
    return shown


def _is_path(word: str) -> bool:
    """Whether a word, or what it assigns, is the path of something that is there."""
    return os.path.exists(word) or os.path.exists(word.partition("=")[2])


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
        "command": ["gpuday", *redact(sys.argv[1:])],
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", os.fspath(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
