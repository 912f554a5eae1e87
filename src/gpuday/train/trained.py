"""A trained run as evaluation and export want it: recipe, model with its final weights, tokenizer."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from gpuday.core import config
from gpuday.core.errors import DataError
from gpuday.core.rundir import RunDir, read_json
from gpuday.data.tokenizer import TextTokenizer
from gpuday.models.heads import MaskedLM
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner
from gpuday.train.checkpoint import load_newest, load_weights
from gpuday.train.device import configure, pick_device
from gpuday.train.resumable import is_final


@dataclass(frozen=True)
class Trained:
    """The model is in evaluation mode and computes in fp32 until `model.encoder.dtype` says otherwise."""

    recipe: Recipe
    model: MaskedLM
    tokenizer: TextTokenizer
    run: RunDir
    device: torch.device
    generator: MaskedLM | None = None
    """Predicts masked tokens where the model does not, likewise in fp32."""

    @property
    def predictor(self) -> MaskedLM:
        """The model that is asked for masked tokens."""
        return self.generator or self.model


def load_recipe(run: RunDir) -> Recipe:
    """The resolved recipe of a run directory."""
    if not run.recipe.exists():
        raise DataError(f"{run.root} is not a run directory", where="recipe.json", fix="give the folder of a run")
    return config.from_dict(Recipe, read_json(run.recipe), where=os.fspath(run.recipe))


def load_trained(root: Path) -> Trained:
    """Read a finished run's final weights; the caller holds the run's lock.

    Raises DataError when training is not finished, or when the final checkpoint is not the one that is whole.
    """
    run = RunDir(root)
    recipe = load_recipe(run)
    warnings: list[str] = []
    saved = load_newest(run.checkpoints, warn=warnings.append)
    if saved is None or not is_final(saved):
        raise DataError(
            f"{root} has no final weights" + "".join(f"; {warning}" for warning in warnings),
            fix="train it to the end: give the command that began it again",
        )
    tokenizer = TextTokenizer.load(run.data / "tokenizer.json")
    learner = make_learner(recipe, vocab=tokenizer.vocab_size)
    load_weights(dict(learner.named_parameters()), saved.model)
    device = pick_device()
    configure(device, exact=True)  # scores in fp32 are fp32 whether or not this process trained before
    learner.to(device).eval()
    generator = None if learner.predictor is learner.model else learner.predictor
    return Trained(recipe, learner.model, tokenizer, run, device, generator)
