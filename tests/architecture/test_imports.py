"""Imports: downwards only, and light where a person waits."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "sklearn", "scipy", "pandas", "plotly")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter that sees the package's sources."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def loaded_by(code: str) -> set[str]:
    """Names of the top-level packages that an interpreter has loaded after running the code."""
    done = python(
        f"{code}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}}, sep='\\n', file=sys.stderr)"
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("\n"))


def test_the_import_contracts_are_kept() -> None:
    """import-linter reads them from pyproject.toml; its report is shown when one is broken."""
    run = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    done = python(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def modules_of(*rooms: str) -> list[str]:
    files = sorted(p for room in rooms for p in (ROOT / "src" / "gpuday" / room).rglob("*.py"))
    names = [".".join(p.relative_to(ROOT / "src").with_suffix("").parts) for p in files]
    return [n.removesuffix(".__init__") for n in names]


@pytest.mark.parametrize("room", ["core", "data", "report"])
def test_a_room_without_models_never_loads_torch(room: str) -> None:
    """All modules of the room together, with everything they import in turn."""
    modules = modules_of(room)
    assert modules
    assert not loaded_by("import " + ", ".join(modules)) & {"torch", "transformers"}


def test_the_command_line_answers_without_loading_what_it_does_not_need() -> None:
    """`import gpuday.cli` is what every call of `gpuday` pays for."""
    assert not loaded_by("import gpuday.cli").intersection(HEAVY)


def test_help_loads_no_torch() -> None:
    """`gpuday --help` names every command without importing one."""
    loaded = loaded_by(
        "import sys; sys.argv = ['gpuday', '--help']\ntry:\n    import gpuday.cli as c; c.main()\nexcept SystemExit as e: assert not e.code, e.code"
    )
    assert not loaded.intersection(HEAVY)


def test_the_package_runs_as_a_module() -> None:
    """`python -m gpuday` is the command line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "gpuday", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "prepare" in done.stdout


def test_importing_the_package_costs_nothing() -> None:
    """`import gpuday` gives the version and loads no dependency."""
    beyond = loaded_by("import gpuday; assert gpuday.__version__") - set(sys.stdlib_module_names) - {"gpuday", ""}
    installed = {name for names in importlib.metadata.packages_distributions().items() for name in names[:1]}
    shown_by_an_empty_interpreter = loaded_by("")
    assert not (beyond & installed) - shown_by_an_empty_interpreter
