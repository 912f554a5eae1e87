"""The original BERT-base recipe: Devlin et al., arXiv 1810.04805, without next-sentence prediction."""

from gpuday.core.clock import Budget
from gpuday.data.prepare import DataConfig
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.objectives.mlm import Mlm
from gpuday.optim.adamw import Adamw
from gpuday.presets.sizes import find_size, is_short
from gpuday.recipe import BatchConfig, Recipe, TrainConfig
from gpuday.schedules.trapezoid import Trapezoid

BASE_LAYERS = 12  # BERT-base is shallower than the crammed base of the same width


def bert(size: str, budget: Budget) -> Recipe:
    """Post-norm, learned positions, biases everywhere, dropout, AdamW 1e-4 with linear decay.

    command:  gpuday run bert --size base --budget 24h --corpus TEXT
    device:   one GPU; 24 hours
    expected: GLUE about 52 under P1 after a day of one small GPU (the paper's row for the unchanged recipe)

    Exports to `BertForMaskedLM`. Below 24 hours the batch follows the budget, and rows have 128 tokens up to an hour.
    """
    shape = find_size(size)
    layers = BASE_LAYERS if size == "base" else shape.layers
    return Recipe(
        preset="bert",
        size=size,
        budget=budget,
        data=DataConfig(
            normalizer="crammed",
            tokenizer="wordpiece",
            vocab=shape.vocab,
            length=128 if is_short(budget) else 512,
            cls=True,
        ),
        model=EncoderConfig(
            width=shape.width,
            shape=Plain(layers=layers),
            mixer=Softmax(head_width=64),
            feedforward=Gelu(ratio=4.0),
            norm_eps=1e-12,
            norm_bias=True,
            placement="post",
            position="learned",
            embedding_norm=True,
            final_norm=False,
            qkv_bias=True,
            mixer_bias=True,
            feedforward_bias=True,
            dropout=0.1,
            head_transform=True,
            head_bias=True,
            decoder_bias=True,
            tied=True,
        ),
        objective=Mlm(rate=0.15, masked=0.8, random=0.1, predict_specials=False),
        optimizer=Adamw(lr=1e-4, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01),
        rate=Trapezoid(warmup=0.01, cooldown=0.99),
        batch=BatchConfig(design_tokens=256 * 512, design_budget_tokens=1.31e11),
        train=TrainConfig(clip=1.0, dropout=True),
    )
