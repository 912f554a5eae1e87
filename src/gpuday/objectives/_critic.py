"""Telling replaced tokens from originals: a critic's head, and the learner of a generator and a model that criticises it.

Clark et al., "ELECTRA", arXiv 2003.10555. Shapes: B rows, L positions, P predicted positions in all, D width.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuday.core.seeds import U64, hashes, stream_seed
from gpuday.objectives import Learner
from gpuday.objectives._choosing import uniform
from gpuday.objectives._loss import Loss
from gpuday.objectives._predicting import Predictions

STD = 0.02


class Critic(nn.Module):
    """hidden [B, L, D] -> logits [B, L] fp32 that a token was replaced: dense, GELU, and a linear map to one number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Parameter(_drawn("dense", width, width))
        self.dense_bias = nn.Parameter(torch.zeros(width))
        self.output = nn.Parameter(_drawn("output", width))  # a vector, for optimizers that treat matrices as such
        self.output_bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        dtype = hidden.dtype
        inner = F.gelu(F.linear(hidden, self.dense.to(dtype), self.dense_bias.to(dtype)))
        return F.linear(inner, self.output[None].to(dtype)).squeeze(-1).float() + self.output_bias


class CriticLearner(Learner):
    """loss = masked prediction of the generator + `weight` * the critic's binary cross-entropy over all positions.

    The generator may be the model itself: both passes then go through one encoder. What it samples has no gradient.
    """

    def __init__(self, model: Any, generator: Any, *, loss: Loss, weight: float) -> None:
        super().__init__()
        self.model = model
        self.generator = None if generator is model else generator
        self.critic = Critic(model.encoder.config.width)
        self._weight = weight
        self._predictions = Predictions(generator, loss)
        self._trunk: Callable[..., Tensor] = model.encoder
        self._generator_trunk: Callable[..., Tensor] = generator.encoder
        self._criticise: Callable[[Tensor], Tensor] = self.critic

    @property
    def predictor(self) -> Any:
        return self.model if self.generator is None else self.generator

    def compile(self, **options: Any) -> None:
        self._trunk = torch.compile(self.model.encoder, **options)
        alone = self.generator is None
        self._generator_trunk = self._trunk if alone else torch.compile(self.predictor.encoder, **options)
        self._criticise = torch.compile(self.critic, **options)
        self._predictions.compile(**options)
        self._predictions.compile_sampling(**options)

    def forward(self, inputs: dict[str, Tensor], kind: str) -> Tensor:
        segments = inputs.get("segments")
        features = self._predictions.features(self._generator_trunk(inputs["ids"], None, segments), inputs)
        predicting = self._predictions.loss_of(features, inputs)
        ids, replaced = corrupted(inputs, self._predictions.samples(features, inputs["uniform"]))
        losses = F.binary_cross_entropy_with_logits(
            self._criticise(self._trunk(ids, None, segments)), replaced, reduction="none"
        )
        # A row's predictions weigh the same, and as much together as its positions do here.
        weights = inputs["weights"].view(len(ids), -1).sum(1) / ids.shape[1]
        return predicting + self._weight * (losses.sum(1) * weights).sum()


def corrupted(inputs: dict[str, Tensor], sampled: Tensor) -> tuple[Tensor, Tensor]:
    """(ids [B, L] with the sampled ones [P] at the predicted positions, fp32 [B, L] of 1 where one is not the original)."""
    shown, positions = inputs["ids"], inputs["positions"]
    ids = shown.flatten().index_copy(0, positions, sampled)
    wrong = (sampled != inputs["labels"]).float()
    replaced = torch.zeros(ids.shape, device=ids.device).index_copy(0, positions, wrong)
    return ids.view_as(shown), replaced.view_as(shown)


def to_sample(made: dict[str, NDArray[Any]], keys: U64, *, seed: int, epoch: int) -> dict[str, NDArray[Any]]:
    """`uniform` [P] fp32 in [0, 1): what each prediction of inputs that were made is sampled by."""
    draws = uniform(hashes(seed, "sample", epoch, keys, len(made["labels"]) // len(keys)))
    below_one = np.minimum(draws.reshape(-1).astype(np.float32), np.float32(1.0 - 2.0**-24))
    return {"uniform": below_one}


def critic_flops(width: int) -> float:
    """Forward FLOPs of the critic's head for a token."""
    return 2.0 * width * width + 2.0 * width


def _drawn(name: str, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream_seed(0, f"init/critic/{name}"))
    return STD * torch.randn(*shape, generator=generator)
