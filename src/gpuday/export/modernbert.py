"""Our pre-norm rotary encoders as `ModernBertForMaskedLM` (Warner et al., arXiv 2412.13663).

Its block is x += Wo(attn(LN x)), x += Wo(act(a) * b) with [a, b] = Wi(LN x), and no norm before layer 0's attention.
Feed-forward networks without a gate fit exactly: relu(u)^2 = relu(u) * u with Wi = [U, U], and gelu(u) = gelu(u) * 1
with a gate of zero weights and bias one. Shapes: D width, F hidden width of the feed-forward network.
"""

from typing import Any

import torch
from torch import Tensor

from gpuday.export.native import Native, Renaming, Requirement, Specials
from gpuday.models.encoder import EncoderConfig
from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.feedforward.gelu import Gelu
from gpuday.models.feedforward.relu2 import Relu2
from gpuday.models.feedforward.swiglu import Swiglu
from gpuday.models.heads import MaskedLM
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.shapes.plain import Plain

REQUIREMENTS = (
    Requirement(axis="shape", fits=lambda c: type(c.shape) is Plain, reason="ModernBERT is a plain stack of blocks"),
    Requirement(axis="mixer", fits=lambda c: type(c.mixer) is Softmax, reason="ModernBERT mixes by softmax attention"),
    Requirement(
        axis="feedforward",
        fits=lambda c: activation(c.feedforward) is not None,
        reason="ModernBERT's network is act(a) * b, which holds geglu, swiglu, gelu and relu2",
    ),
    Requirement(axis="norm", fits=lambda c: c.norm == "layernorm", reason="ModernBERT's norms are LayerNorm"),
    Requirement(axis="placement", fits=lambda c: c.placement == "pre", reason="ModernBERT norms before each layer"),
    Requirement(axis="position", fits=lambda c: c.position == "rotary", reason="ModernBERT's positions are rotary"),
    Requirement(axis="embedding_norm", fits=lambda c: c.embedding_norm, reason="ModernBERT norms its embedding"),
    Requirement(
        axis="first_norm",
        fits=lambda c: not c.first_norm or c.placement == "post",  # post-norm has no such norm, whatever the field says
        # Two learned norms in a row are not one, and the stream itself must stay as the first one left it.
        reason="ModernBERT has no norm before layer 0's attention beyond the embedding's",
    ),
    Requirement(axis="final_norm", fits=lambda c: c.final_norm, reason="ModernBERT has a norm after its last block"),
)


def activation(feedforward: FeedForward) -> str | None:
    """`hidden_activation` under which ModernBERT's gated network equals this one; None where none does."""
    if isinstance(feedforward, Gelu):
        return "gelu" if feedforward.approximate == "none" else "gelu_pytorch_tanh"
    return {Geglu: "gelu", Swiglu: "silu", Relu2: "relu"}.get(type(feedforward))


def layer_types(config: EncoderConfig) -> list[str]:
    """'full_attention' or 'sliding_attention' of every layer."""
    mixer = config.mixer
    assert isinstance(mixer, Softmax)
    local = [mixer.is_local(layer) for layer in range(config.shape.depth)]
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
        "intermediate_size": model.state_dict()["encoder.stack.blocks.0.feedforward.down.weight"].shape[1],
        "hidden_activation": activation(config.feedforward),
        "norm_eps": config.norm_eps,
        "norm_bias": config.norm_bias,
        "attention_bias": config.bias,
        "mlp_bias": config.bias or isinstance(config.feedforward, Gelu),
        "decoder_bias": config.decoder_bias,
        "classifier_bias": config.head_transform and config.head_bias,
        "classifier_activation": "gelu" if config.head_transform else "linear",
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


def weights(model: MaskedLM) -> dict[str, Tensor]:
    """The state dict of the equal ModernBertForMaskedLM; a tied decoder is left out, as `save_pretrained` does."""
    config, names = model.config, Renaming(model)
    names.move("encoder.embedding", "model.embeddings.tok_embeddings")
    names.move("encoder.embedding_norm", "model.embeddings.norm")
    for layer in range(config.shape.depth):
        ours, theirs = f"encoder.stack.blocks.{layer}", f"model.layers.{layer}"
        if layer > 0:
            names.move(f"{ours}.mixer_norm", f"{theirs}.attn_norm")
        names.move(f"{ours}.mixer.qkv", f"{theirs}.attn.Wqkv")  # both stack queries, keys, values, each head by head
        names.move(f"{ours}.mixer.out", f"{theirs}.attn.Wo")
        names.move(f"{ours}.feedforward_norm", f"{theirs}.mlp_norm")
        _move_feedforward(names, config.feedforward, f"{ours}.feedforward", f"{theirs}.mlp")
    if config.head_transform:
        names.move("encoder.final_norm", "model.final_norm")
        names.move("head.dense", "head.dense")
        names.move("head.norm", "head.norm")
    else:
        _split_final_norm(names, config)
    if not config.tied:
        names.put("decoder.weight", names.need("head.decoder"))
    names.put("decoder.bias", names.take("head.bias"))
    return names.finish()


def _move_feedforward(names: Renaming, feedforward: FeedForward, ours: str, theirs: str) -> None:
    """up and down to Wi [2F, D] and Wo [D, F], with the gate that a plain network lacks."""
    plain_gelu = isinstance(feedforward, Gelu)
    names.move(f"{ours}.down", f"{theirs}.Wo", zero_bias=plain_gelu)
    up, bias = names.need(f"{ours}.up.weight"), names.take(f"{ours}.up.bias")
    if plain_gelu:
        bias = torch.zeros(up.shape[0]) if bias is None else bias
        up, bias = torch.cat((up, torch.zeros_like(up))), torch.cat((bias, torch.ones_like(bias)))
    elif isinstance(feedforward, Relu2):
        up, bias = torch.cat((up, up)), None if bias is None else torch.cat((bias, bias))
    names.put(f"{theirs}.Wi.weight", up)
    names.put(f"{theirs}.Wi.bias", bias)


def _split_final_norm(names: Renaming, config: EncoderConfig) -> None:
    """No head transform: dense = I, and the final norm's scale and shift move into the norm behind it.

    A LayerNorm of what is normed already divides by sqrt(1 + eps), which its weight takes back. What is left is
    eps / 2v of the logits, v >= about 1 being the variance of the stream: the embedding's norm sees to that.
    """
    weight, bias = names.need("encoder.final_norm.weight"), names.take("encoder.final_norm.bias")
    names.put("model.final_norm.weight", torch.ones_like(weight))
    names.put("model.final_norm.bias", None if bias is None else torch.zeros_like(bias))
    names.put("head.dense.weight", torch.eye(config.width))
    names.put("head.norm.weight", weight * (1.0 + config.norm_eps) ** 0.5)
    names.put("head.norm.bias", bias)


MODERNBERT = Native(
    kind="modernbert",
    masked_lm="ModernBertForMaskedLM",
    requirements=REQUIREMENTS,
    settings=settings,
    weights=weights,
)
