"""Our pre-norm rotary encoders as `ModernBertForMaskedLM` (Warner et al., arXiv 2412.13663).

Its block is x += Wo(attn(LN x)), x += Wo(act(a) * b) with [a, b] = Wi(LN x), and no norm before layer 0's attention.
Feed-forward networks without a gate fit exactly: relu(u)^2 = relu(u) * u with Wi = [U, U], and gelu(u) = gelu(u) * 1
with a gate of zero weights and bias one; where a block has none, all of it is zero. A head that is a bare matrix goes
into a decoder of its own. Shapes: D width, F hidden width of the feed-forward network.
"""

from typing import Any

import torch
from torch import Tensor

from gpuday.export.native import BLOCKS, Native, Renaming, Requirement, Specials, hidden_width, shared_requirements
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.feedforward.relu2 import Relu2
from gpuday.models.feedforward.relu2_glu import Relu2Glu
from gpuday.models.feedforward.swiglu import Swiglu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain
from gpuday.models.shapes.recurrent import Recurrent

LARGEST_EPS = 1e-5  # where two norms stand in a row: see `_split_final_norm`


def _passed_once(config: EncoderConfig) -> bool:
    shape = config.shape
    return type(shape) is Plain or (isinstance(shape, Recurrent) and shape.repeats == 1)


REQUIREMENTS = (
    Requirement(
        axis="shape",
        fits=_passed_once,
        reason="ModernBERT is a stack of blocks that are passed once, its first without the norm that others begin with",
        nearest=Plain(),
    ),
    *shared_requirements("ModernBERT"),
    Requirement(
        axis="feedforward",
        fits=lambda c: activation(c.feedforward) is not None,
        reason="ModernBERT's network is act(a) * b, which holds geglu, swiglu, gelu, relu2 and relu2_glu",
        nearest=Geglu(),
    ),
    Requirement(
        axis="placement",
        fits=lambda c: c.placement == "pre",
        reason="ModernBERT norms before each layer",
        nearest="pre",
    ),
    Requirement(
        axis="position",
        fits=lambda c: c.position == "rotary",
        reason="ModernBERT's positions are rotary",
        nearest="rotary",
    ),
    Requirement(
        axis="first_norm",
        fits=lambda c: not c.first_norm,
        # Two learned norms in a row are not one, and the stream itself must stay as the first one left it.
        reason="ModernBERT has no norm before layer 0's attention beyond the embedding's",
        nearest=False,
    ),
    Requirement(
        axis="final_norm",
        fits=lambda c: c.final_norm,
        reason="ModernBERT has a norm after its last block",
        nearest=True,
    ),
    Requirement(
        axis="norm_eps",
        fits=lambda c: _has_full_head(c) or c.norm_eps <= LARGEST_EPS,
        reason="without the head's dense layer, GELU and norm, ModernBERT norms twice, which a large eps would show",
        nearest=LARGEST_EPS,
        head=True,
    ),
)


def activation(feedforward: FeedForward) -> str | None:
    """`hidden_activation` under which ModernBERT's gated network equals this one; None where none does."""
    if isinstance(feedforward, Gelu):
        return "gelu" if feedforward.approximate == "none" else "gelu_pytorch_tanh"
    return {Geglu: "gelu", Swiglu: "silu", Relu2: "relu", Relu2Glu: "relu2"}.get(type(feedforward))


def _has_attention_bias(config: EncoderConfig) -> bool:
    return config.qkv_bias or config.mixer_bias


def _has_feedforward_bias(config: EncoderConfig) -> bool:
    return config.feedforward_bias or isinstance(config.feedforward, Gelu)


def _has_full_head(config: EncoderConfig) -> bool:
    return config.head_transform and config.head_activation


def _has_bare_matrix(config: EncoderConfig) -> bool:
    return config.head_transform and not config.head_activation


def layer_types(config: EncoderConfig) -> list[str]:
    """'full_attention' or 'sliding_attention' of every layer."""
    mixer = config.mixer
    assert isinstance(mixer, Softmax)
    local = [mixer.is_local(passed.layer) for passed in config.shape.passes]
    return ["sliding_attention" if is_local else "full_attention" for is_local in local]


def settings(model: MaskedLM, specials: Specials) -> dict[str, Any]:
    """ModernBertConfig's values, with the keys of both major versions.

    The fourth version derives windows and rotary bases from `global_attn_every_n_layers` and `*_rope_theta`, and
    silently takes its defaults where they are missing; the fifth reads `layer_types` and `rope_parameters`.
    """
    config, mixer = model.config, model.config.mixer
    assert isinstance(mixer, Softmax)
    types = layer_types(config)
    windows = "sliding_attention" in types
    return {
        "num_attention_heads": config.width // mixer.head_width,
        "intermediate_size": hidden_width(model),
        "hidden_activation": activation(config.feedforward),
        "norm_eps": config.norm_eps,
        "norm_bias": config.norm_bias,
        "attention_bias": _has_attention_bias(config),
        "mlp_bias": _has_feedforward_bias(config),
        "tie_word_embeddings": config.tied and not _has_bare_matrix(config),
        "decoder_bias": config.decoder_bias or (_has_bare_matrix(config) and config.head_bias),
        "classifier_bias": _has_full_head(config) and config.head_bias,
        "classifier_activation": "gelu" if _has_full_head(config) else "linear",
        "classifier_pooling": "cls",
        "attention_dropout": config.dropout,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "layer_types": types,
        "global_attn_every_n_layers": mixer.global_every if windows else 1,
        "local_attention": mixer.window if windows else 2 * model.length,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": mixer.theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": mixer.local_theta},
        },
        "global_rope_theta": mixer.theta,
        "local_rope_theta": mixer.local_theta,
        "reference_compile": False,
        "sparse_prediction": False,
        "pad_token_id": specials.pad,
        "bos_token_id": specials.cls,
        "cls_token_id": specials.cls,
        "eos_token_id": specials.sep,
        "sep_token_id": specials.sep,
    }


def moves(model: MaskedLM, /, *, head: bool) -> dict[str, Tensor]:
    """The state dict of the equal ModernBertForMaskedLM; a tied decoder is left out, as `save_pretrained` does."""
    config, names = model.config, Renaming(model)
    names.move("encoder.embedding", "model.embeddings.tok_embeddings")
    names.move_norm("encoder.embedding_norm", "model.embeddings.norm", bias=config.norm_bias)
    hidden, both = hidden_width(model), _has_attention_bias(config)  # theirs is one switch for the two
    for layer in range(config.shape.depth):
        ours, theirs = f"{BLOCKS}.{layer}", f"model.layers.{layer}"
        if layer > 0:
            names.move_norm(f"{ours}.mixer_norm", f"{theirs}.attn_norm", bias=config.norm_bias)
        # Both stack queries, keys, values, each head by head.
        names.move(f"{ours}.mixer.qkv", f"{theirs}.attn.Wqkv", zero_bias=both)
        names.move(f"{ours}.mixer.out", f"{theirs}.attn.Wo", zero_bias=both)
        names.move_norm(f"{ours}.feedforward_norm", f"{theirs}.mlp_norm", bias=config.norm_bias)
        _move_feedforward(names, config, f"{ours}.feedforward", f"{theirs}.mlp", hidden)
    if head:
        _move_head(names, model)
    else:
        names.move_norm("encoder.final_norm", "model.final_norm", bias=config.norm_bias)
        names.leave("head.")
    return names.finish()


def _move_feedforward(names: Renaming, config: EncoderConfig, ours: str, theirs: str, hidden: int) -> None:
    """up and down to Wi [2F, D] and Wo [D, F], with the gate that a plain network lacks; zeros where there is none."""
    width, biased = config.width, _has_feedforward_bias(config)
    up, bias = names.take(f"{ours}.up.weight"), names.take(f"{ours}.up.bias")
    if up is None:
        up, bias = torch.zeros(2 * hidden, width), torch.zeros(2 * hidden) if biased else None
        names.put(f"{theirs}.Wo.weight", torch.zeros(width, hidden))
        names.put(f"{theirs}.Wo.bias", torch.zeros(width) if biased else None)
    else:
        names.move(f"{ours}.down", f"{theirs}.Wo", zero_bias=biased)
        if isinstance(config.feedforward, Gelu):
            bias = torch.zeros(hidden) if bias is None else bias
            up, bias = torch.cat((up, torch.zeros_like(up))), torch.cat((bias, torch.ones_like(bias)))
        elif isinstance(config.feedforward, Relu2):
            up, bias = torch.cat((up, up)), None if bias is None else torch.cat((bias, bias))
    names.put(f"{theirs}.Wi.weight", up)
    names.put(f"{theirs}.Wi.bias", bias)


def _move_head(names: Renaming, model: MaskedLM) -> None:
    """Final norm, head and decoder."""
    config, bias = model.config, names.take("head.bias")
    table = None if config.tied else names.need("head.decoder")
    if _has_full_head(config):
        names.move_norm("encoder.final_norm", "model.final_norm", bias=config.norm_bias)
        names.move("head.dense", "head.dense")
        names.move_norm("head.norm", "head.norm", bias=config.norm_bias)
    else:
        _split_final_norm(names, config)
    if _has_bare_matrix(config):
        table = model.decoder().table.detach().double().cpu()
        shift = names.take("head.dense.bias")
        if shift is not None:
            bias = (table @ shift.double()).float() + (0.0 if bias is None else bias)
        table = (table @ names.need("head.dense.weight").double()).float()
    names.put("decoder.weight", table)
    names.put("decoder.bias", bias)


def _split_final_norm(names: Renaming, config: EncoderConfig) -> None:
    """No head transform: dense = I, and the final norm's scale and shift move into the norm behind it.

    A LayerNorm of what is normed already divides by sqrt(1 + eps), which its weight takes back. What is left is
    eps / 2v of the logits, v >= about 1 being the variance of the stream: the embedding's norm sees to that.
    """
    names.put("model.final_norm.weight", torch.ones(config.width))
    names.put("model.final_norm.bias", torch.zeros(config.width) if config.norm_bias else None)
    names.put("head.dense.weight", torch.eye(config.width))
    scale, shift = names.take("encoder.final_norm.weight"), names.take("encoder.final_norm.bias")
    scale = torch.ones(config.width) if scale is None else scale
    names.put("head.norm.weight", scale * (1.0 + config.norm_eps) ** 0.5)
    names.put("head.norm.bias", shift)


MODERNBERT = Native(
    kind="modernbert",
    masked_lm="ModernBertForMaskedLM",
    encoder="ModernBertModel",
    prefix="model.",
    requirements=REQUIREMENTS,
    settings=settings,
    moves=moves,
)
