"""Tiny models with weights far from their initial values, and a run made of one, without any training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpuday.core.clock import Budget
from gpuday.core.rundir import RunDir
from gpuday.data.prepare import DataConfig
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.optim.adamw import Adamw
from gpuday.presets import find
from gpuday.recipe import Recipe
from gpuday.train.trained import Trained

LENGTH = 48
TEXTS = [
    "The quick brown fox jumps over the lazy dog, and it is raining outside again.",
    "A much longer text goes on and on until somebody cuts it off at last.",
    "def f(x: int) -> int: return x ** 2  # a function that squares its argument",
    "Is the sun out? No, it is not; the sun was out in 3.14 hours, 1,000 days ago.",
] * 4

MakeModel = Callable[..., MaskedLM]
MakeTrained = Callable[[EncoderConfig], Trained]


def scatter(model: MaskedLM, seed: int = 0) -> MaskedLM:
    """Random weights that keep activations near one; norms' scales, all biases and all tables included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("norm.weight"):
                weight.copy_(1.0 + 0.3 * noise)
            elif weight.dim() < 2:
                weight.copy_(0.3 * noise)
            elif any(part in name for part in ("embedding", "decoder", "table")):
                weight.copy_(0.5 * noise)
            else:
                weight.copy_(noise * weight.shape[1] ** -0.5)
    return model.eval()


@pytest.fixture
def modern() -> EncoderConfig:
    """The `modern` preset's model, tiny, with windows of 16 in every second layer and bases unlike the defaults."""
    whole = find("modern")("nano", Budget.parse("10m")).model
    mixer = Softmax(head_width=16, window=16, global_every=2, theta=50000.0, local_theta=7000.0)
    return replace(whole, width=64, shape=Plain(layers=4), mixer=mixer)


@pytest.fixture
def bert() -> EncoderConfig:
    """The `bert` preset's model, tiny."""
    whole = find("bert")("nano", Budget.parse("10m")).model
    return replace(whole, width=64, shape=Plain(layers=3), mixer=Softmax(head_width=32), feedforward=Gelu(ratio=2.0))


@pytest.fixture
def make_model() -> MakeModel:
    """A model of a config with scattered weights."""

    def make(config: EncoderConfig, *, vocab: int = 320, length: int = LENGTH, seed: int = 0) -> MaskedLM:
        return scatter(MaskedLM(config, vocab=vocab, length=length), seed)

    return make


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    """Byte-level BPE of 320 ids."""
    return train_tokenizer(iter(TEXTS), kind="bpe", normalizer="light", vocab=320)[0]


@pytest.fixture
def make_trained(tmp_path: Path, tokenizer: TextTokenizer) -> MakeTrained:
    """A run directory with a scattered model of a config and the tokenizer."""

    def make(config: EncoderConfig) -> Trained:
        data = DataConfig(corpus=("/home/somebody/secret/books.txt", "hub:wiki"), length=LENGTH, vocab=320)
        budget = Budget.parse("10m")
        recipe = Recipe(preset="modern", size="nano", budget=budget, model=config, data=data, optimizer=Adamw())
        model = scatter(MaskedLM(config, vocab=tokenizer.vocab_size, length=LENGTH))
        return Trained(recipe, model, tokenizer, RunDir(tmp_path / "run"), torch.device("cpu"))

    return make
