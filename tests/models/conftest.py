"""Tiny encoders, and weights far from their initial values so that every one of them shows in the output."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from gpuday.models.encoder import EncoderConfig
from gpuday.models.mixers import Place
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain


@pytest.fixture
def scatter() -> Callable[..., nn.Module]:
    """Give every parameter random values that keep activations near one, norms and biases included."""

    def fill(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in module.named_parameters():
                noise = torch.randn(weight.shape, generator=generator)
                if weight.dim() < 2:
                    weight.copy_(0.3 * noise + (1.0 if name.endswith(("norm.weight", "_scale")) else 0.0))
                elif "embedding" in name or "table" in name or "decoder" in name:
                    weight.copy_(noise)
                else:
                    weight.copy_(noise * weight.shape[1] ** -0.5)
        return module.eval()

    return fill


@pytest.fixture
def make_config() -> Callable[..., EncoderConfig]:
    """An encoder of width 32 and two layers, with whatever is changed."""

    def make(**changes: object) -> EncoderConfig:
        return EncoderConfig(**{"width": 32, "shape": Plain(layers=2), "mixer": Softmax(head_width=16), **changes})

    return make


@pytest.fixture
def make_place() -> Callable[..., Place]:
    """A place of width 32 and 16 positions in layer 1, with whatever is changed."""

    def make(**changes: object) -> Place:
        plain = {
            "width": 32,
            "layer": 1,
            "depth": 4,
            "length": 16,
            "qkv_bias": True,
            "bias": True,
            "position": "rotary",
            "dropout": 0.0,
        }
        return Place(**{**plain, **changes})

    return make
