"""Weight decay groups, and a stepper around any torch optimizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gpuday.optim import Gradients, Named, Stepper


def decay_groups(parameters: Sequence[Named], *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: matrices and tables decay, vectors (norms, biases, scalars) do not."""
    decayed = [p.tensor for p in parameters if p.role != "vector"]
    kept = [p.tensor for p in parameters if p.role == "vector"]
    groups = [(decayed, weight_decay), (kept, 0.0)]
    return [{"params": tensors, "peak": lr, "lr": lr, "weight_decay": wd} for tensors, wd in groups if tensors]


class TorchStepper(Stepper):
    """Any `torch.optim.Optimizer` whose groups carry their peak rate under `peak` and whose state is tensors. Tensors of
    which `alike` says the same have the same keys in its state."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Named],
        alike: Callable[[Tensor], bool] = lambda _: True,
    ) -> None:
        self._optimizer, self._alike = optimizer, alike
        self._decays = [group["weight_decay"] for group in optimizer.param_groups]
        self._names: dict[Tensor, str] = {p.tensor: p.name for p in parameters}
        # A fused kernel reads the step counts on the parameter's device; the others read them on the host.
        self._counts_on_device = any(group.get("fused") for group in optimizer.param_groups)

    def step(self, multiplier: float, closure: Gradients, *, decay: float = 1.0) -> None:
        for group, peak_decay in zip(self._optimizer.param_groups, self._decays, strict=True):
            group["lr"] = group["peak"] * multiplier
            group["weight_decay"] = peak_decay * decay
        self._optimizer.step()

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        return {
            f"{self._names[parameter]}/{key}": torch.as_tensor(value)
            for parameter, values in self._optimizer.state.items()
            for key, value in values.items()
            if value is not None  # SGD without momentum has a place for it all the same
        }

    def load(self, state: dict[str, Tensor]) -> None:
        by_name = {name: tensor for tensor, name in self._names.items()}
        loaded: dict[str, dict[str, Tensor]] = {name: {} for name in by_name}
        for full, value in state.items():
            name, _, key = full.rpartition("/")
            if name in loaded:  # else another stepper's share of the same checkpoint
                loaded[name][key] = value
        expected: dict[bool, set[str]] = {True: set(), False: set()}
        for name, values in loaded.items():
            expected[self._alike(by_name[name])] |= values.keys()
        for name, values in loaded.items():
            parameter = by_name[name]
            if missing := expected[self._alike(parameter)] - values.keys():
                raise KeyError(f"{name} has no {sorted(missing)} in the saved optimizer")
            host = () if self._counts_on_device else ("step",)
            copies = {k: v.to("cpu" if k in host else parameter.device, copy=True) for k, v in values.items()}
            if copies:
                self._optimizer.state[parameter].update(copies)
