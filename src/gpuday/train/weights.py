"""What is trained: the parameters of a learner and an optimizer's state over them, as a checkpoint holds them."""

import torch
from torch import Tensor

from gpuday.objectives import Learner
from gpuday.optim import Optimizer, Stepper
from gpuday.train.checkpoint import Saved, load_weights
from gpuday.train.parameters import named_parameters

Tensors = dict[str, Tensor]


class Weights:
    """Both, initial until something is restored."""

    def __init__(self, learner: Learner, optimizer: Optimizer, *, dtype: torch.dtype) -> None:
        self.learner, self._optimizer, self._dtype = learner, optimizer, dtype
        self.stepper = self._new_stepper()

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Parameters and optimizer state by name; the live ones, not copies."""
        return {name: p.detach() for name, p in self.learner.named_parameters()}, self.stepper.state()

    def final_tensors(self) -> tuple[Tensors, Tensors]:
        """Copies of both as the end of a run saves them."""
        with self.stepper.evaluation():
            model, optimizer = self.tensors()
            return {k: v.clone() for k, v in model.items()}, {k: v.clone() for k, v in optimizer.items()}

    def restore(self, saved: Saved) -> None:
        """The saved parameters, in place, so that nothing compiles anew; the saved state, and nothing of the present one.

        Raises KeyError or RuntimeError when names or shapes are others.
        """
        load_weights(dict(self.learner.named_parameters()), saved.model)
        del self.stepper  # the new one takes as much memory
        self.stepper = self._new_stepper()
        if saved.state["progress"]["step"]:  # else there is no state yet
            self.stepper.load(saved.optimizer)

    def _new_stepper(self) -> Stepper:
        return self._optimizer.build(named_parameters(self.learner), dtype=self._dtype)


def is_sound(saved: Saved) -> bool:
    """Whether a checkpoint is worth going back to: its last update could be made, and weights and optimizer are finite."""
    return not saved.state["progress"]["skipped"] and are_finite(saved.model, saved.optimizer)


def are_finite(*tensors: Tensors) -> bool:
    """Whether every element is. A second moment that is not stops its parameter for good, without a word."""
    return all(bool(t.isfinite().all()) for some in tensors for t in some.values())
