"""Our own recipe within what a native ModernBERT can express (Warner et al., arXiv 2412.13663)."""

from gpuday.core.clock import Budget
from gpuday.data.prepare import DataConfig
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.objectives.hybrid import Hybrid
from gpuday.objectives.mlm import Mlm
from gpuday.optim.adamw import Adamw
from gpuday.optim.muon import Muon
from gpuday.presets.sizes import find_size, is_short
from gpuday.recipe import BatchConfig, Recipe, TrainConfig
from gpuday.schedules.ramp import Ramp
from gpuday.schedules.trapezoid import Trapezoid

BASE_LAYERS = 22  # ModernBERT-base's depth


def modern(size: str, budget: Budget) -> Recipe:
    """Pre-norm, rotary, no biases, Muon with normed updates, a causal quarter and then masks that grow fewer.

    command:  gpuday run modern --size nano --budget 10m --corpus TEXT
    device:   two CPU cores with bf16 instructions; 10 minutes
    expected: see docs/experiments.md

    Exports to `ModernBertForMaskedLM`. Up to an hour rows have 128 tokens and every layer sees them whole; above,
    512 tokens with local windows of 128 in two layers of three.
    """
    shape = find_size(size)
    layers = BASE_LAYERS if size == "base" else shape.layers
    short = is_short(budget)
    return Recipe(
        preset="modern",
        size=size,
        budget=budget,
        data=DataConfig(normalizer="light", tokenizer="bpe", vocab=shape.vocab, length=128 if short else 512),
        model=EncoderConfig(
            width=shape.width,
            shape=Plain(layers=layers),
            mixer=Softmax(head_width=64, window=0 if short else 128, global_every=3),
            feedforward=Geglu(ratio=2.0),
            norm_eps=1e-5,
            placement="pre",
            position="rotary",
            embedding_norm=True,
            first_norm=False,
            final_norm=True,
            head_transform=True,
            tied=True,
            zero_output=True,
        ),
        # Next tokens teach more words a row than masks do, and leave the plateau of word frequencies sooner.
        objective=Hybrid(mlm=Mlm(rate=0.4, masked=1.0), first=0.25, causal=0.0, shift=False),
        mask_rate=Ramp(start=1.0, end=0.5),
        optimizer=Muon(
            lr=0.02,
            variance=0.95,
            cautious=True,
            rest=Adamw(lr=0.01, beta1=0.9, beta2=0.98, eps=1e-8, weight_decay=0.0),
        ),
        rate=Trapezoid(warmup=0.02, cooldown=0.8),
        batch=BatchConfig(ramp=Ramp(start=0.25, until=0.3)),
        # A mask rate compiles the head anew: two rates are all that a short budget can pay for.
        train=TrainConfig(mask_levels=2 if short else 6),
    )
