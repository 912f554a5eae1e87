"""Our post-norm encoders with added positions as `BertForMaskedLM` (Devlin et al., arXiv 1810.04805).

BERT has biases everywhere, so that a model without them gets zeros, and any table of added positions is one it can
hold. Its token types are zeros: our rows have none. Its activation is one for blocks and head.
"""

from typing import Any

import torch
from torch import Tensor

from gpuday.export.native import Native, Renaming, Requirement, Specials
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain

TOKEN_TYPES = 2  # what tools that give token types to a BERT expect


def _is_windowed(config: EncoderConfig) -> bool:
    mixer = config.mixer
    layers = range(config.shape.depth)
    return isinstance(mixer, Softmax) and mixer.window >= 2 and any(mixer.is_local(layer) for layer in layers)


REQUIREMENTS = (
    Requirement(axis="shape", fits=lambda c: type(c.shape) is Plain, reason="BERT is a plain stack of blocks"),
    Requirement(axis="mixer", fits=lambda c: type(c.mixer) is Softmax, reason="BERT mixes by softmax attention"),
    Requirement(axis="mixer.window", fits=lambda c: not _is_windowed(c), reason="every layer of BERT sees whole rows"),
    Requirement(axis="feedforward", fits=lambda c: type(c.feedforward) is Gelu, reason="BERT's network is plain GELU"),
    Requirement(
        axis="feedforward.approximate",
        fits=lambda c: not isinstance(c.feedforward, Gelu) or c.feedforward.approximate == "none",
        reason="BERT has one activation for blocks and head, and the head's GELU is exact",
    ),
    Requirement(axis="norm", fits=lambda c: c.norm == "layernorm", reason="BERT's norms are LayerNorm"),
    Requirement(axis="placement", fits=lambda c: c.placement == "post", reason="BERT norms after each sum"),
    Requirement(
        axis="position", fits=lambda c: c.position != "rotary", reason="BERT adds a table of positions to the embedding"
    ),
    Requirement(axis="embedding_norm", fits=lambda c: c.embedding_norm, reason="BERT norms its embedding"),
    Requirement(
        axis="final_norm", fits=lambda c: not c.final_norm, reason="BERT has no norm after its last block's own"
    ),
    Requirement(
        axis="head_transform", fits=lambda c: c.head_transform, reason="BERT's head has a dense layer, GELU and norm"
    ),
)


def settings(model: MaskedLM, specials: Specials) -> dict[str, Any]:
    """BertConfig's values."""
    config, mixer = model.config, model.config.mixer
    assert isinstance(mixer, Softmax)
    return {
        "num_attention_heads": config.width // mixer.head_width,
        "intermediate_size": model.state_dict()["encoder.stack.blocks.0.feedforward.down.weight"].shape[1],
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "classifier_dropout": None,
        "position_embedding_type": "absolute",
        "type_vocab_size": TOKEN_TYPES,
        "pad_token_id": specials.pad,
    }


def weights(model: MaskedLM) -> dict[str, Tensor]:
    """The state dict of the equal BertForMaskedLM; a tied decoder is left out, as `save_pretrained` does."""
    config, names = model.config, Renaming(model)
    names.move("encoder.embedding", "bert.embeddings.word_embeddings")
    for part in ("table", "scale"):
        names.take(f"encoder.positions.{part}")
    names.put("bert.embeddings.position_embeddings.weight", _position_table(model))
    names.put("bert.embeddings.token_type_embeddings.weight", torch.zeros(TOKEN_TYPES, config.width))
    names.move("encoder.embedding_norm", "bert.embeddings.LayerNorm", zero_bias=True)
    for layer in range(config.shape.depth):
        ours, theirs = f"encoder.stack.blocks.{layer}", f"bert.encoder.layer.{layer}"
        weight, bias = names.need(f"{ours}.mixer.qkv.weight"), names.take(f"{ours}.mixer.qkv.bias")
        bias = torch.zeros(3 * config.width) if bias is None else bias
        for name, w, b in zip(("query", "key", "value"), weight.chunk(3), bias.chunk(3), strict=True):
            names.put(f"{theirs}.attention.self.{name}.weight", w)
            names.put(f"{theirs}.attention.self.{name}.bias", b)
        names.move(f"{ours}.mixer.out", f"{theirs}.attention.output.dense", zero_bias=True)
        names.move(f"{ours}.mixer_norm", f"{theirs}.attention.output.LayerNorm", zero_bias=True)
        names.move(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense", zero_bias=True)
        names.move(f"{ours}.feedforward.down", f"{theirs}.output.dense", zero_bias=True)
        names.move(f"{ours}.feedforward_norm", f"{theirs}.output.LayerNorm", zero_bias=True)
    names.move("head.dense", "cls.predictions.transform.dense", zero_bias=True)
    names.move("head.norm", "cls.predictions.transform.LayerNorm", zero_bias=True)
    bias = names.take("head.bias")
    bias = torch.zeros(model.vocab) if bias is None else bias
    names.put("cls.predictions.bias", bias)
    if not config.tied:
        names.put("cls.predictions.decoder.weight", names.need("head.decoder"))
        names.put("cls.predictions.decoder.bias", bias)  # the fifth version ties the biases only with the weights
    return names.finish()


def _position_table(model: MaskedLM) -> Tensor:
    """What is added to the embedding at each position, [length, D], whatever kind of table it comes from."""
    assert model.encoder.positions is not None  # rotary models are refused before
    device = model.encoder.embedding.weight.device
    nothing = torch.zeros(1, model.length, model.config.width, device=device)
    with torch.no_grad():
        added: Tensor = model.encoder.positions(nothing)
    return added[0].float().cpu()


BERT = Native(
    kind="bert",
    masked_lm="BertForMaskedLM",
    requirements=REQUIREMENTS,
    settings=settings,
    weights=weights,
)
