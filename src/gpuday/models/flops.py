"""Useful FLOPs by formula: what the mathematics needs, with no recomputation counted.

Training costs three forward passes (one forward, two in the backward), a multiply-add counts two. Embedding look-ups,
norms and activations are left out, as in Kaplan et al., arXiv 2001.08361; attention's products are counted.
"""

from gpuday.models.encoder import EncoderConfig


def forward_per_token(config: EncoderConfig, *, vocab: int, length: int, predicted_share: float) -> float:
    """Forward FLOPs for one input token when `predicted_share` of the positions reach the head."""
    layers = sum(
        config.mixer.flops_per_token(config.place(layer, length)) + config.feedforward.flops_per_token(config.width)
        for layer in range(config.shape.depth)
    )
    head = 2 * config.width * vocab + (2 * config.width**2 if config.head_transform else 0)
    return layers + predicted_share * head


def training_per_token(config: EncoderConfig, *, vocab: int, length: int, predicted_share: float) -> float:
    """FLOPs of forward and backward for one input token."""
    return 3 * forward_per_token(config, vocab=vocab, length=length, predicted_share=predicted_share)
