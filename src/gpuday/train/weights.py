"""What is trained: the parameters of a learner, and over them an optimizer's state and an average, as a checkpoint holds
them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gpuday.averages import Average
from gpuday.objectives import Learner
from gpuday.optim import Optimizer, Stepper
from gpuday.train.checkpoint import Saved, load_weights
from gpuday.train.parameters import named_parameters

Tensors = dict[str, Tensor]
AVERAGE = "average/"  # begins the names of its tensors, which lie beside those of the optimizer


class Weights:
    """All three, initial until something is restored."""

    def __init__(
        self, learner: Learner, optimizer: Optimizer, average: Average, *, dtype: torch.dtype, seed: int = 0
    ) -> None:
        self.learner, self._optimizer, self._average = learner, optimizer, average
        self._dtype, self._seed = dtype, seed
        self._begin()

    def updated(self, fraction: float) -> None:
        """Average the weights: the stepper updated them in a step that began at this fraction of the budget. One whose
        update was left out is not told, since its weights have been averaged."""
        self._averager.update(fraction, self.stepper.evaluation)

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Inside the block the parameters hold the weights to look at and to keep: the average of those that the
        optimizer would evaluate."""
        with self.stepper.evaluation(), self._averager.swapped():
            yield

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Parameters by name, and the state of optimizer and average; the live ones, not copies."""
        average = {f"{AVERAGE}{name}": tensor for name, tensor in self._averager.state().items()}
        parameters = {name: p.detach() for name, p in self.learner.named_parameters()}
        return parameters, {**self.stepper.state(), **average}

    def final_tensors(self) -> tuple[Tensors, Tensors]:
        """Copies of both as the end of a run saves them."""
        with self.evaluation():
            model, optimizer = self.tensors()
            return {k: v.clone() for k, v in model.items()}, {k: v.clone() for k, v in optimizer.items()}

    def restore(self, saved: Saved) -> None:
        """The saved parameters, in place, so that nothing compiles anew; the saved state, and nothing of the present one.

        Raises KeyError or RuntimeError when names or shapes are others.
        """
        load_weights(dict(self.learner.named_parameters()), saved.model)
        del self.stepper, self._averager  # the new ones take as much memory
        self._begin()
        if saved.state["progress"]["step"]:  # else there is no state yet
            tensors = saved.optimizer.items()
            self.stepper.load({name: t for name, t in tensors if not name.startswith(AVERAGE)})
            self._averager.load({name.removeprefix(AVERAGE): t for name, t in tensors if name.startswith(AVERAGE)})

    def _begin(self) -> None:
        parameters = named_parameters(self.learner)
        self.stepper: Stepper = self._optimizer.build(parameters, dtype=self._dtype, seed=self._seed)
        self._averager = self._average.build(dict(self.learner.named_parameters()))


def is_sound(saved: Saved) -> bool:
    """Whether a checkpoint is worth going back to: its last update could be made, and weights and optimizer are finite."""
    return not saved.state["progress"]["skipped"] and are_finite(saved.model, saved.optimizer)


def are_finite(*tensors: Tensors) -> bool:
    """Whether every element is. A second moment that is not stops its parameter for good, without a word."""
    return all(bool(t.isfinite().all()) for some in tensors for t in some.values())
