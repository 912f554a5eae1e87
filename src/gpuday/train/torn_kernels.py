"""What a killed compile leaves torn in the compiler's folders, and would break every compile after it.

torch has the C++ compiler write kernels and precompiled headers under their final names, and takes what is there for whole.
A kernel that ends too early cannot be loaded, and with a header that does no kernel can be built. Whoever writes one holds
the lock of its name, which the kernel of the operating system frees when it dies.
"""

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_ELF = b"\x7fELF\x02\x01"  # 64 bits, little endian: what else there is cannot be judged here


def clear_torn_kernels() -> None:
    """Remove the shared objects that are shorter than they say, but those that are being written."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir())
    for path in sorted(folder.glob("*/*.so")):
        if is_torn(path):
            with _held(path, folder / "locks") as held:
                if held and is_torn(path):
                    path.unlink(missing_ok=True)


def clear_headers() -> bool:
    """Remove the precompiled headers, but those that are being written; whether there were any.

    They do not say how long they are, and are made again within seconds.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    folder, any_there = Path(default_cache_dir()) / "precompiled_headers", False
    for path in sorted(folder.glob("*.gch")):
        with _held(path, folder / "locks") as held:
            if held:
                path.unlink(missing_ok=True)
                any_there = True
    return any_there


def is_torn(path: Path) -> bool:
    """Whether a shared object of Linux ends before the table of its sections does, which the linker writes last."""
    if sys.platform != "linux":
        return False
    try:
        with open(path, "rb") as file:
            head, size = file.read(64), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    if len(head) < 64 or not any(head):
        return True
    if not head.startswith(_ELF):
        return False
    (table,) = struct.unpack_from("<Q", head, 0x28)
    entry, entries = struct.unpack_from("<HH", head, 0x3A)
    return table == 0 or table + entry * entries > size


@contextlib.contextmanager
def _held(path: Path, locks: Path) -> Iterator[bool]:
    """Whether the lock of a file's name could be had; held inside the block."""
    locks.mkdir(exist_ok=True)
    with open(locks / f"{path.name.partition('.')[0]}.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
