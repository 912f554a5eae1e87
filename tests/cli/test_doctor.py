"""`gpuday doctor`: one line a check for people, one object for programs, and exit code 5 only where nothing can run."""

import io
import os
import re
import tomllib
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gpuday.cli import doctor
from gpuday.cli.doctor import EXTRAS, examine
from gpuday.train import device
from gpuday.train.cgroup import MemoryLimit

Call = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
CHECKS = [
    "device",
    "torch",
    "threads",
    "load",
    "memory",
    "cache folder",
    "run folder",
    "products",
    "compiler",
    "attention",
    "bandwidth",
    "clock",
    "extras",
    "bound",
    "sizes",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds is replaced: products at 1 TFLOP/s, twice that in bf16, and no kernel is built."""

    def speed(device: torch.device, dtype: torch.dtype, *_: int) -> float:
        return 2e12 if dtype == torch.bfloat16 else 1e12

    monkeypatch.setattr(doctor, "product_speed", speed)
    monkeypatch.setattr(doctor, "has_bf16", lambda device: True)
    monkeypatch.setattr(doctor, "copy_speed", lambda device: 4e10)
    monkeypatch.setattr(doctor, "compile_fault", lambda device: "")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))


def checks(call: Call) -> dict[str, Any]:
    (event,) = call("doctor", "--json").events
    return event["checks"]


def test_programs_get_one_object_with_every_check(call: Call) -> None:
    """Exit code 0; each check has its verdict, its sentence and its figures."""
    called = call("doctor", "--json")
    assert called.code == 0 and not called.err
    (event,) = called.events
    assert event["ok"] is True
    assert list(event["checks"]) == CHECKS
    assert {check["verdict"] for check in event["checks"].values()} <= {"good", "notice"}
    assert [name for name, check in event["checks"].items() if not check["text"]] == []
    assert event["checks"]["memory"]["free_bytes"] > 0
    assert set(event["checks"]["bound"]["flops_per_second"]["float32"]) == {"256", "384", "512", "768", "decoder"}


def test_people_get_a_line_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict first, and what to mend beneath."""
    text = io.StringIO()
    monkeypatch.setattr(
        "gpuday.cli.screen.Output", lambda **_: Console(file=text, force_terminal=True, width=80, color_system=None)
    )
    monkeypatch.setattr(doctor, "compile_fault", lambda device: "no C++ compiler was found")
    doctor.doctor_command()
    lines = text.getvalue().splitlines()
    assert [m[1] for line in lines if (m := re.match(r" *(?:good|notice|bad)  ([a-z ]+): ", line))] == CHECKS
    assert "notice  compiler: no C++ compiler was found" in text.getvalue()
    assert "        fix: install g++" in text.getvalue()


def test_the_size_that_auto_takes_comes_with_an_estimate(call: Call) -> None:
    """By hand for ten minutes of nano: 22.49 MFLOP a token, 0.6 of 2 TFLOP/s; and the sentence calls it an estimate."""
    sizes = checks(call)["sizes"]
    if torch.cuda.is_available():
        pytest.skip("the figures are a CPU's")
    assert sizes["budgets"]["10m"]["size"] == "nano"
    assert sizes["budgets"]["10m"]["estimated_tokens_per_second"] == pytest.approx(0.6 * 2e12 / 22.492e6, rel=1e-3)
    assert "estimated" in sizes["text"]


def test_a_folder_that_cannot_be_written_ends_with_5(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The path and the way out; all other checks are told as well."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    called = call("doctor", "--json")
    assert called.code == 5
    assert "cannot be written" in called.err and "GPUDAY_CACHE" in called.err
    (event,) = called.events
    assert event["ok"] is False and list(event["checks"]) == CHECKS


def test_a_machine_that_computes_wrongly_ends_with_5(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what is made of products is not examined, and programs still get one object."""
    monkeypatch.setattr(doctor, "product_fault", lambda device: "a product of ones came out wrong")
    called = call("doctor", "--json")
    assert called.code == 5 and "came out wrong" in called.err
    assert list(called.events[0]["checks"]) == [c for c in CHECKS if c not in ("attention", "bound", "sizes")]


def test_a_machine_without_a_kernel_for_products_ends_with_5(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch for another GPU: every product raises, wherever it is tried."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch.Tensor, "__matmul__", fail)
    for name in ("product_speed", "has_bf16"):
        monkeypatch.setattr(doctor, name, getattr(device, name))
    monkeypatch.setattr(doctor, "attention_kernels", fail)
    called = call("doctor", "--json")
    assert called.code == 5 and "no kernel image is available" in called.err
    (event,) = called.events
    assert event["ok"] is False and event["checks"]["products"]["verdict"] == "bad"


def test_little_memory_and_a_full_disk_are_noticed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is left, and the limit of the control group; a run may still be small enough."""
    monkeypatch.setattr(doctor, "free_memory", lambda device: 1 << 30)
    monkeypatch.setattr(doctor, "memory_limits", lambda: [MemoryLimit(3 << 30, 1 << 30)])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(2, 1, 1 << 20))
    found = checks(call)
    assert found["memory"]["verdict"] == found["run folder"]["verdict"] == "notice"
    assert found["memory"]["text"] == "1.0 GiB free, control group's limit 3.0 GiB"


def test_idle_cores_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OMP_NUM_THREADS=1 on four cores: three of them would not work."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(doctor, "cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    found = {f.name: f for f in examine(CPU)}["threads"]
    assert found.verdict == "notice" and "OMP_NUM_THREADS" in found.fix
    assert (found.values["cores"], found.values["threads"]) == (4, 1)


def test_a_gpu_that_torch_does_not_see_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU build beside an NVIDIA driver: the likeliest mistake of an installation."""
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    found = {f.name: f for f in examine(CPU)}["torch"]
    assert found.verdict == "notice" and found.fix == "install the CUDA build of torch"


def test_without_bf16_instructions_no_bf16_is_timed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated products take minutes; training runs in fp32, and the person is told."""
    monkeypatch.setattr(doctor, "has_bf16", lambda device: False)
    found = checks(call)
    assert list(found["bound"]["flops_per_second"]) == ["float32"]
    assert found["products"]["verdict"] == "notice" and "fp32" in found["products"]["text"]


def test_the_extras_are_those_of_the_package() -> None:
    """Against pyproject.toml; the developers' own is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {name: sorted(packages) for name, packages in project["optional-dependencies"].items() if name != "dev"}
    assert {name: sorted(packages) for name, packages in EXTRAS.items()} == wanted


def test_a_busy_machine_is_said_to_be_busy(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than half of the cores are taken: a notice with its reason, and no failure."""
    monkeypatch.setattr(doctor, "cores", lambda: 4)
    assert checks(call)["load"]["verdict"] == "good"
    monkeypatch.setattr(os, "getloadavg", lambda: (2.1, 0.0, 0.0))
    busy = checks(call)["load"]
    assert busy["verdict"] == "notice"
    assert "speeds below are too low" in busy["fix"]
