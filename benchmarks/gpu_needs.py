"""Prints which of the small packages that training imports are missing here, by the names of their wheels."""

from importlib.util import find_spec

WHEELS = {
    "numpy": "numpy",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "xxhash": "xxhash",
    "zstandard": "zstandard",
    "psutil": "psutil",
    "pynvml": "nvidia_ml_py",
}


def missing() -> list[str]:
    """Names as they stand at the beginning of a wheel's file name."""
    return [wheel for module, wheel in WHEELS.items() if find_spec(module) is None]


if __name__ == "__main__":
    print(" ".join(missing()))
