"""Weight decay groups, and a stepper around any torch optimizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gpuday.optim import Named, Stepper


def decay_groups(parameters: Sequence[Named], *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: matrices and tables decay, vectors (norms, biases, scalars) do not."""
    decayed = [p.tensor for p in parameters if p.role != "vector"]
    kept = [p.tensor for p in parameters if p.role == "vector"]
    groups = [(decayed, weight_decay), (kept, 0.0)]
    return [{"params": tensors, "peak": lr, "lr": lr, "weight_decay": wd} for tensors, wd in groups if tensors]


class TorchStepper(Stepper):
    """Any `torch.optim.Optimizer` whose groups carry their peak rate under `peak`."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Named]) -> None:
        self._optimizer = optimizer
        self._names: dict[Tensor, str] = {p.tensor: p.name for p in parameters}

    def step(self, multiplier: float, closure: Callable[[], None]) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * multiplier
        self._optimizer.step()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        return {
            f"{self._names[parameter]}/{key}": torch.as_tensor(value)
            for parameter, values in self._optimizer.state.items()
            for key, value in values.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        by_name = {name: tensor for tensor, name in self._names.items()}
        loaded: dict[str, dict[str, Tensor]] = {name: {} for name in by_name}
        for full, value in state.items():
            name, _, key = full.rpartition("/")
            if name in loaded:  # else another stepper's share of the same checkpoint
                loaded[name][key] = value
        expected = set().union(*loaded.values())
        for name, values in loaded.items():
            if missing := expected - values.keys():
                raise KeyError(f"{name} has no {sorted(missing)} in the saved optimizer")
            parameter = by_name[name]
            # Step counts too: a fused kernel reads them on the parameter's device.
            copies = {k: v.to(parameter.device, copy=True) for k, v in values.items()}
            if copies:
                self._optimizer.state[parameter].update(copies)
