"""The compiler's folder is the user's own, or nothing is compiled."""

import os
from pathlib import Path

import pytest
import torch
from torch._inductor.runtime import cache_dir_utils

from gpuday.train import device, kernel_folder
from gpuday.train.kernel_folder import unsafe_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch would keep kernels: `torchinductor_<user>` in the folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = Path(cache_dir_utils.default_cache_dir())
    assert path.parent == tmp_path and path.name.startswith("torchinductor_")
    return path


def test_a_folder_that_is_not_there_is_made_for_the_user_alone(folder: Path) -> None:
    """Whatever the mask of permissions."""
    before = os.umask(0)
    try:
        assert unsafe_folder() == ""
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert unsafe_folder() == ""


def test_a_folder_that_others_may_write_is_closed_to_them(folder: Path) -> None:
    """What the user's group and others may read stays readable."""
    folder.mkdir()
    folder.chmod(0o777)
    assert unsafe_folder() == ""
    assert folder.stat().st_mode & 0o777 == 0o755


def test_another_users_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to get another one."""
    folder.mkdir()
    monkeypatch.setattr(kernel_folder.os, "getuid", lambda: folder.stat().st_uid + 1)
    assert "another user's" in unsafe_folder() and "TMPDIR" in unsafe_folder()


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """Also one to a folder of the user's: who made the link decides where it leads tomorrow."""
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert "is a link" in unsafe_folder()


def test_a_place_that_cannot_be_made_is_said(folder: Path) -> None:
    """A file of that name."""
    folder.write_text("")
    assert "cannot be used" in unsafe_folder()


def test_nothing_is_compiled_with_a_folder_of_anothers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is that of `compile_fault`, which every compiled run asks first; no compiler is started."""
    folder.mkdir()
    monkeypatch.setattr(kernel_folder.os, "getuid", lambda: folder.stat().st_uid + 1)
    monkeypatch.setattr(device, "compilers", lambda: ["g++"])
    monkeypatch.setattr(torch, "compile", pytest.fail)
    assert "another user's" in device.compile_fault(torch.device("cpu"))
