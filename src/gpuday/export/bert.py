"""Our post-norm encoders with added positions as `BertForMaskedLM` (Devlin et al., arXiv 1810.04805).

BERT has biases everywhere, so that a model without them gets zeros, and any table of added positions is one it can
hold, zeros where there are no positions. Its token types are zeros: our rows have none. Its activation is one for blocks
and head. Blocks that are passed several times are written out. DeepNorm's n(a x + f(x)) is BERT's n(y + g(y)) of a
stream y = a x: norms whose answer goes on in the stream have a times the scale and shift, and g(y) = f(y / a).
"""

from typing import Any

import torch
from torch import Tensor

from gpuday.export.native import BLOCKS, Native, Renaming, Requirement, Specials, hidden_width, shared_requirements
from gpuday.models.block import Block
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.position import ADDED
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent

TOKEN_TYPES = 2  # what tools that give token types to a BERT expect


def _is_windowed(config: EncoderConfig) -> bool:
    mixer = config.mixer
    return isinstance(mixer, Softmax) and any(mixer.is_local(passed.layer) for passed in config.shape.passes)


REQUIREMENTS = (
    Requirement(
        axis="shape",
        fits=lambda c: type(c.shape) in (Plain, Recurrent),
        reason="BERT is a stack of blocks at full length",
        nearest=Plain(),
    ),
    *shared_requirements("BERT"),
    Requirement(
        axis="mixer.window",
        fits=lambda c: not _is_windowed(c),
        reason="every layer of BERT sees whole rows",
        nearest=0,
    ),
    Requirement(
        axis="feedforward",
        fits=lambda c: type(c.feedforward) is Gelu,
        reason="BERT's network is plain GELU",
        nearest=Gelu(),
    ),
    Requirement(
        axis="feedforward.approximate",
        fits=lambda c: not isinstance(c.feedforward, Gelu) or c.feedforward.approximate == "none",
        reason="BERT has one activation for blocks and head, and the head's GELU is exact",
        nearest="none",
    ),
    Requirement(
        axis="feedforward_every",
        fits=lambda c: all(c.has_feedforward(passed.layer) for passed in c.shape.passes),
        reason="every block of BERT has a network, and a norm behind it",
        nearest=1,
    ),
    Requirement(
        axis="first_norm",
        fits=lambda c: c.first_norm,
        reason="without a norm before its first mixer a model cannot norm after each sum, as BERT does",
        nearest=True,
    ),
    Requirement(
        axis="placement",
        fits=lambda c: c.placement in ("post", "deepnorm"),
        reason="BERT norms after each sum",
        nearest="post",
    ),
    Requirement(
        axis="position",
        fits=lambda c: c.position in (*ADDED, "none"),
        reason="BERT adds a table of positions to the embedding",
        nearest="learned",
    ),
    Requirement(
        axis="final_norm",
        fits=lambda c: not c.final_norm,
        reason="BERT has no norm after its last block's own",
        nearest=False,
    ),
    Requirement(
        axis="head_transform",
        fits=lambda c: c.head_transform,
        reason="BERT's head has a dense layer, GELU and norm",
        nearest=True,
        head=True,
    ),
    Requirement(
        axis="head_activation",
        fits=lambda c: c.head_activation,
        reason="BERT's head has GELU and norm behind its matrix",
        nearest=True,
        head=True,
    ),
)


def settings(model: MaskedLM, specials: Specials) -> dict[str, Any]:
    """BertConfig's values."""
    config, mixer = model.config, model.config.mixer
    assert isinstance(mixer, Softmax)
    return {
        "num_attention_heads": config.width // mixer.head_width,
        "intermediate_size": hidden_width(model),
        "hidden_act": "gelu",
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "classifier_dropout": None,
        "position_embedding_type": "absolute",
        "type_vocab_size": TOKEN_TYPES,
        "pad_token_id": specials.pad,
    }


def moves(model: MaskedLM, /, *, head: bool) -> dict[str, Tensor]:
    """The state dict of the equal BertForMaskedLM; a tied decoder is left out, as `save_pretrained` does."""
    config, names = model.config, Renaming(model)
    alpha = next(block.alpha for block in model.modules() if isinstance(block, Block))
    names.move("encoder.embedding", "bert.embeddings.word_embeddings")
    for part in ("table", "scale"):
        names.take(f"encoder.positions.{part}")
    names.put("bert.embeddings.position_embeddings.weight", _position_table(model))
    names.put("bert.embeddings.token_type_embeddings.weight", torch.zeros(TOKEN_TYPES, config.width))
    names.move_norm("encoder.embedding_norm", "bert.embeddings.LayerNorm", bias=True, gain=alpha)
    for layer in range(config.shape.depth):
        ours, theirs = f"{BLOCKS}.{layer}", f"bert.encoder.layer.{layer}"
        weight, bias = names.need(f"{ours}.mixer.qkv.weight") / alpha, names.take(f"{ours}.mixer.qkv.bias")
        bias = torch.zeros(3 * config.width) if bias is None else bias
        for name, w, b in zip(("query", "key", "value"), weight.chunk(3), bias.chunk(3), strict=True):
            names.put(f"{theirs}.attention.self.{name}.weight", w)
            names.put(f"{theirs}.attention.self.{name}.bias", b)
        names.move(f"{ours}.mixer.out", f"{theirs}.attention.output.dense", zero_bias=True)
        names.move_norm(f"{ours}.mixer_norm", f"{theirs}.attention.output.LayerNorm", bias=True, gain=alpha)
        names.move(f"{ours}.feedforward.up", f"{theirs}.intermediate.dense", zero_bias=True, gain=1.0 / alpha)
        names.move(f"{ours}.feedforward.down", f"{theirs}.output.dense", zero_bias=True)
        onward = alpha if layer < config.shape.depth - 1 else 1.0  # the last answer is the encoder's own
        names.move_norm(f"{ours}.feedforward_norm", f"{theirs}.output.LayerNorm", bias=True, gain=onward)
    if head:
        _move_head(names, model)
    else:
        names.leave("head.")
    return names.finish()


def _move_head(names: Renaming, model: MaskedLM) -> None:
    names.move("head.dense", "cls.predictions.transform.dense", zero_bias=True)
    names.move_norm("head.norm", "cls.predictions.transform.LayerNorm", bias=True)
    bias = names.take("head.bias")
    bias = torch.zeros(model.vocab) if bias is None else bias
    names.put("cls.predictions.bias", bias)
    if not model.config.tied:
        names.put("cls.predictions.decoder.weight", names.need("head.decoder"))
        names.put("cls.predictions.decoder.bias", bias)  # the fifth version ties the biases only with the weights


def _position_table(model: MaskedLM) -> Tensor:
    """What is added to the embedding at each position, [length, D], whatever kind of table it comes from."""
    if model.encoder.positions is None:  # the position "none"; what places tokens in its mixers is refused before
        return torch.zeros(model.length, model.config.width)
    device = model.encoder.embedding.weight.device
    nothing = torch.zeros(1, model.length, model.config.width, device=device)
    with torch.no_grad():
        added: Tensor = model.encoder.positions(nothing)
    return added[0].float().cpu()


BERT = Native(
    kind="bert",
    masked_lm="BertForMaskedLM",
    encoder="BertModel",
    prefix="bert.",
    requirements=REQUIREMENTS,
    settings=settings,
    moves=moves,
)
