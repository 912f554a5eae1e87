"""A compile that was killed breaks none after it: what it left torn is removed, and nothing else is."""

import fcntl
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._inductor.runtime import cache_dir_utils

from gpuday.train import compiling
from gpuday.train.torn_kernels import clear_headers, clear_torn_kernels

WHOLE = Path(next(Path(np.__file__).parent.rglob("*.so")))  # a shared object as a linker makes it

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shared objects of Linux are judged")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The compiler's folder, with a whole kernel in it."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(cache_dir_utils, "default_cache_dir", lambda: str(tmp_path))
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "cabc.main.so").write_bytes(WHOLE.read_bytes())
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.5, 0.9, 1.0])
def test_a_kernel_that_is_cut_off_is_removed(folder: Path, share: float) -> None:
    """At whatever byte but the last; a whole one stays."""
    whole = WHOLE.read_bytes()
    (folder / "ab" / "torn.main.so").write_bytes(whole[: int(len(whole) * share)])
    clear_torn_kernels()
    kept = {path.name for path in folder.glob("*/*.so")}
    assert kept == {"cabc.main.so"} | ({"torn.main.so"} if share == 1.0 else set())


def test_a_kernel_whose_header_is_not_yet_written_is_removed(folder: Path) -> None:
    """The linker writes it last: until then there are zeros."""
    data = WHOLE.read_bytes()
    (folder / "ab" / "torn.main.so").write_bytes(bytes(64) + data[64:])
    clear_torn_kernels()
    assert not (folder / "ab" / "torn.main.so").exists()


def test_what_is_being_written_and_what_is_no_kernel_of_this_system_stays(folder: Path) -> None:
    """A process that compiles beside this one holds the lock of the kernel's name."""
    for name in ("busy.main.so", "foreign.so"):
        (folder / "ab" / name).write_bytes(b"" if name == "busy.main.so" else b"\xcf\xfa\xed\xfe" * 32)
    (folder / "locks").mkdir()
    with open(folder / "locks" / "busy.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        clear_torn_kernels()
        assert {path.name for path in folder.glob("*/*.so")} == {"cabc.main.so", "busy.main.so", "foreign.so"}
    clear_torn_kernels()
    assert {path.name for path in folder.glob("*/*.so")} == {"cabc.main.so", "foreign.so"}


def test_a_torn_header_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler stops at it: where a first kernel cannot be built, it is tried once more without the headers."""
    header = folder / "precompiled_headers" / "cdef.h.gch"
    header.parent.mkdir()
    header.write_bytes(b"torn")
    asked = []

    def fault(device: Any) -> str:
        asked.append(device)
        return "CppCompileError: C++ compile error" if header.exists() else ""

    monkeypatch.setattr(compiling, "compile_fault", fault)
    assert compiling.start_compiler(torch.device("cpu")) == ""
    assert len(asked) == 2
    assert clear_headers() is False


def test_a_fault_without_headers_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is not there is not looked for twice, and the headers stay."""
    asked = []
    (folder / "precompiled_headers").mkdir()
    (folder / "precompiled_headers" / "cdef.h.gch").write_bytes(b"whole")
    monkeypatch.setattr(compiling, "compile_fault", lambda device: asked.append(device) or "no C++ compiler")
    assert compiling.start_compiler(torch.device("cpu")) == "no C++ compiler"
    assert len(asked) == 1
    assert clear_headers() is True
