"""CONTRIBUTING.md: what it tells people to write works as it stands there."""

import re
from pathlib import Path

import pytest
import torch

from gpuday.core import config, parts
from gpuday.core.clock import Budget
from gpuday.optim import Named, Optimizer, Stepper
from gpuday.recipe import KINDS, Recipe

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def signum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Optimizer]:
    """The page's first Python block as a user's own file, made known as `--part signum.py` does."""
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code is not None
    path = tmp_path / "signum.py"
    path.write_text(code[1])
    monkeypatch.setattr(parts, "_user_files", {})
    assert parts.add_file(path, list(KINDS.values())) == "optimizer signum"
    return parts.find(Optimizer, "signum")


def toy() -> list[Named]:
    torch.manual_seed(0)
    matrix, vector = torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(3))
    return [Named(name="a.weight", tensor=matrix, role="matrix"), Named(name="a.norm", tensor=vector, role="vector")]


def loss(parameters: list[Named]) -> torch.Tensor:
    return sum((p.tensor - 1).square().sum() for p in parameters)


def descend(stepper: Stepper, parameters: list[Named], steps: int, *, falling: bool = False) -> None:
    for step in range(steps):
        for p in parameters:
            p.tensor.grad = None
        loss(parameters).backward()
        stepper.step(1 - step / steps if falling else 1.0, lambda: None)


def test_the_first_step_moves_every_weight_by_the_rate(signum: type[Optimizer]) -> None:
    """Worked by hand: the sign of the gradient of (w - 1)^2, times rate and multiplier, taken away."""
    parameters = toy()
    before = [p.tensor.detach().clone() for p in parameters]
    loss(parameters).backward()
    signum(lr=0.125).build(parameters, dtype=torch.bfloat16).step(0.5, lambda: None)
    for old, p in zip(before, parameters, strict=True):
        torch.testing.assert_close(p.tensor.detach(), old - 0.0625 * torch.sign(old - 1))


def test_the_example_optimizes(signum: type[Optimizer]) -> None:
    """With a rate that falls to zero, a bowl's bottom is reached to within one peak rate."""
    parameters = toy()
    descend(signum(lr=0.01).build(parameters, dtype=torch.bfloat16), parameters, 1000, falling=True)
    assert max(float((p.tensor.detach() - 1).abs().max()) for p in parameters) < 0.01


def test_the_example_resumes_to_the_bit(signum: type[Optimizer]) -> None:
    """Four steps equal two, a save, a load into a fresh stepper, and two more."""
    whole = toy()
    descend(signum().build(whole, dtype=torch.bfloat16), whole, 4)
    halves = toy()
    first = signum().build(halves, dtype=torch.bfloat16)
    descend(first, halves, 2)
    state = {k: v.clone() for k, v in first.state().items()}
    second = signum().build(halves, dtype=torch.bfloat16)
    second.load(state)
    descend(second, halves, 2)
    for a, b in zip(whole, halves, strict=True):
        assert torch.equal(a.tensor, b.tensor)


def test_the_example_refuses_a_state_that_lacks_a_tensor(signum: type[Optimizer]) -> None:
    """As every stepper does."""
    stepper = signum().build(toy(), dtype=torch.bfloat16)
    state = stepper.state()
    state.popitem()
    with pytest.raises(KeyError):
        stepper.load(state)


def test_the_example_can_stand_in_a_recipe(signum: type[Optimizer]) -> None:
    """`--set optimizer=signum` and `--set optimizer.lr=...` reach it, and the recipe survives JSON."""
    recipe = Recipe(preset="modern", size="nano", budget=Budget.parse("10m"))
    chosen = config.replace_at(recipe, "optimizer", config.parse_value("signum"))
    assert chosen.optimizer == signum()
    tuned = config.replace_at(chosen, "optimizer.lr", config.parse_value("1e-4"))
    assert tuned.optimizer == signum(lr=1e-4)
    assert config.from_dict(Recipe, config.to_dict(tuned)) == tuned


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z-]+)|`make ([a-z-]+)", TEXT, re.MULTILINE))))
def test_every_make_command_on_the_page_exists(target: tuple[str, str]) -> None:
    """A command that people are told to type is a target of the Makefile."""
    name = target[0] or target[1]
    assert re.search(rf"^{name}:.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|tests|docs|tools|records)/[\w./]+?)/?`", TEXT))))
def test_every_path_on_the_page_exists(path: str) -> None:
    """Except the ones of the part that the reader is about to write."""
    assert "signum" in path or (ROOT / path).exists()
