"""Where files live that any run may use and nobody misses: prepared data, fits, extracted docstrings."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$GPUDAY_CACHE, or `gpuday` in the user's cache folder."""
    if chosen := os.environ.get("GPUDAY_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuday"
