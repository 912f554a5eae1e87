"""Useful FLOPs and parameters by formula: what the mathematics needs, with no recomputation counted.

Training costs three forward passes (one forward, two in the backward), a multiply-add counts two. Embedding look-ups,
norms, activations, averages and what skips add are left out, as in Kaplan et al., arXiv 2001.08361; attention's products
are counted. Dropped blocks are counted, since they are computed.
"""

import torch

from gpuday.models.encoder import EncoderConfig


def forward_per_token(config: EncoderConfig, *, vocab: int, length: int, predicted_share: float) -> float:
    """Forward FLOPs for one input token when `predicted_share` of the positions reach the head."""
    layers = sum(
        _block(config, passed.layer, length // passed.shrink) / passed.shrink for passed in config.shape.passes
    )
    embedding = 2 * config.embedding_width * config.width
    head = 2 * config.table_width * vocab + (2 * config.width * config.table_width if config.head_matrix else 0)
    return layers + embedding + predicted_share * head


def _block(config: EncoderConfig, layer: int, length: int) -> float:
    mixer = config.mixer.flops_per_token(config.place(layer, length))
    return mixer + (config.feedforward.flops_per_token(config.width) if config.has_feedforward(layer) else 0.0)


def training_per_token(config: EncoderConfig, *, vocab: int, length: int, predicted_share: float) -> float:
    """FLOPs of forward and backward for one input token."""
    return 3 * forward_per_token(config, vocab=vocab, length=length, predicted_share=predicted_share)


def parameters(config: EncoderConfig, *, vocab: int, length: int) -> int:
    """Parameters of the encoder and its head for masked tokens, tied ones once.

    Mixers and feed-forward networks are built without memory and counted; the rest is a formula.
    """
    wide, table, blocks = config.width, config.table_width, config.shape.blocks
    norm, table_norm = _norm(config, wide), _norm(config, table)
    tables = vocab * table * (1 if config.tied else 2)
    positions = {"learned": length * table, "scaled_sinusoidal": 1}.get(config.position, 0)
    embedding = table * wide * bool(config.embedding_width) + table_norm * config.embedding_norm
    head = wide * table * config.head_matrix + table * config.head_bias
    head += table_norm * (config.head_transform and config.head_activation)
    ends = norm * config.final_norm + head + vocab * config.decoder_bias
    skips = {"none": 0, "x0": 2 * blocks, "unet": blocks // 2}[config.skip]
    layers = sum(_layer(config, layer, seen) for layer, seen in config.shape.lengths(length).items())
    return tables + positions + embedding + layers + skips + ends


def _layer(config: EncoderConfig, layer: int, length: int) -> int:
    with torch.device("meta"):
        modules = [config.mixer.build(config.place(layer, length))]
        if config.has_feedforward(layer):
            modules.append(config.feedforward.build(config.width, bias=config.feedforward_bias))
    norms = 1 if config.block == "parallel" else len(modules)
    norms = 2 * norms if config.placement == "sandwich" else norms
    norms -= layer == 0 and not config.first_norm and config.placement in ("pre", "sandwich")
    return sum(p.numel() for module in modules for p in module.parameters()) + norms * _norm(config, config.width)


def _norm(config: EncoderConfig, width: int) -> int:
    return (1 if config.norm == "scalenorm" else width) * config.norm_scale + width * config.norm_bias
