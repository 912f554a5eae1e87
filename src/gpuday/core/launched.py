"""What `torchrun` says in the environment of each process that it starts; without it a process is alone."""

import os

from gpuday.core.errors import UsageError

RANK, SIZE, LOCAL = NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
FIX = "start several ranks with torchrun --nproc-per-node N -m gpuday run, or unset these variables for one alone"


def place() -> tuple[int, int, int]:
    """This process's rank, how many there are, and its number on this machine.

    Raises UsageError for what `torchrun` never says: a rank that no others know of would wait for them for ever.
    """
    rank, size, local = _number(RANK, 0), _number(SIZE, 1), _number(LOCAL, 0)
    needed = (RANK, "MASTER_ADDR", "MASTER_PORT") if size != 1 else ()
    missing = [name for name in needed if not os.environ.get(name)]
    if missing or not 0 <= rank < size or local < 0 or (needed and not os.environ["MASTER_PORT"].isdecimal()):
        said = ", ".join(f"{n}={os.environ[n]}" for n in (*NAMES, "MASTER_PORT") if n in os.environ)
        lacking = f", without {', '.join(missing)}" if missing else ""
        raise UsageError(f"no rank can be made of {said}{lacking}", where="the environment", fix=FIX)
    return rank, size, local


def by_launcher() -> bool:
    """Whether a launcher started this process: its command, which no rank knows, is the one to give again."""
    return RANK in os.environ


def leads() -> bool:
    """Whether this process speaks for all ranks, whatever else the environment says."""
    return os.environ.get(RANK, "0").strip() == "0"


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.strip().lstrip("-").isdecimal():
        raise UsageError(f"{name} is {text!r}, not a number", where="the environment", fix=FIX)
    return int(text)
