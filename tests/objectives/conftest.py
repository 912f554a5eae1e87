"""A tiny model with weights far from their initial values, and rows of tokens with specials among them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gpuday.models.encoder import EncoderConfig
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.objectives import Change, Vocabulary
from gpuday.train.assemble import changed

LENGTH = 16


@pytest.fixture
def vocabulary() -> Vocabulary:
    """100 ids, of which 0 to 6 are special, 6 is the mask, and those from 60 on continue a word."""
    return Vocabulary(size=100, mask_id=6, special_ids=tuple(range(7)), continues=tuple(range(60, 100)))


@pytest.fixture
def rows() -> np.ndarray:
    """32 rows of 16 ids, each with a separator (id 3) at position 5."""
    made = np.random.default_rng(0).integers(7, 100, (32, LENGTH))
    made[:, 5] = 3
    return made


@pytest.fixture
def make_model() -> Callable[[], MaskedLM]:
    """Two layers of width 32, or so changed, always with the same scattered weights; further axes for all of them."""

    def make(change: Change | None = None, /, **axes: Any) -> MaskedLM:
        config = EncoderConfig(width=32, shape=Plain(layers=2), mixer=Softmax(head_width=16), **axes)
        config = changed(config, change)
        model = MaskedLM(config, vocab=100, length=LENGTH)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                noise = torch.randn(weight.shape, generator=generator)
                weight.copy_(1.0 + 0.3 * noise if weight.dim() < 2 else noise * weight.shape[1] ** -0.5)
        return model

    return make
