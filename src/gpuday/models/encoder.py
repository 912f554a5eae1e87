"""The encoder: token ids to hidden states, its parts and axes chosen by one frozen config.

Shapes: B rows, L positions, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gpuday.core.errors import UsageError, within
from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.linear import Embedding
from gpuday.models.mixers import Mixer, Place
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.norm import Norm
from gpuday.models.position import AddedPositions
from gpuday.models.shapes import Shape
from gpuday.models.shapes.plain import Plain
from gpuday.models.visible import Kernel, Visible

MOST_WIDTH = 1 << 16


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """An encoder but for its vocabulary and length, which the data decides."""

    width: int = 256
    """Width D of the residual stream."""
    shape: Shape = Plain(layers=4)
    """How blocks follow one another."""
    mixer: Mixer = Softmax()
    """What mixes positions."""
    feedforward: FeedForward = Geglu()
    """The position-wise network."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Kind of every norm."""
    norm_eps: float = 1e-5
    """Added to the variance (layernorm) or mean square (rmsnorm)."""
    norm_bias: bool = False
    """Whether norms learn a shift beside their scale."""
    placement: Literal["pre", "post"] = "pre"
    """Norm before each layer inside the residual, or after the sum."""
    position: Literal["learned", "sinusoidal", "scaled_sinusoidal", "rotary"] = "rotary"
    """Where positions come from."""
    embedding_norm: bool = True
    """A norm on the embedding."""
    first_norm: bool = True
    """Whether block 0 norms its mixer's input; ModernBERT does not, its embedding being normed already."""
    final_norm: bool = True
    """A norm after the last block."""
    bias: bool = False
    """Biases in the blocks' linear layers."""
    dropout: float = 0.0
    """Dropout probability on embedding, attention and both residual branches while training."""
    head_transform: bool = True
    """A dense layer, GELU and norm between hidden state and decoder."""
    head_bias: bool = False
    """A bias in that dense layer."""
    decoder_bias: bool = False
    """A bias for every vocabulary entry."""
    tied: bool = True
    """Whether the decoder is the embedding table."""
    init_std: float = 0.02
    """Standard deviation of the normal distribution that matrices and tables are drawn from."""
    zero_output: bool = False
    """Start the matrices that write into the residual stream at zero, so that every block starts as the identity."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2:
            raise UsageError(f"width {self.width} is not a positive even number", where="model.width", fix="e.g. 256")
        within(
            "model",
            width=(self.width, 2, MOST_WIDTH),
            init_std=(self.init_std, 0.0, 10.0),
            norm_eps=(self.norm_eps, 0.0, 1.0),
        )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"dropout {self.dropout} is not in [0, 1)", where="model.dropout", fix="e.g. 0.1")

    def place(self, layer: int, length: int) -> Place:
        return Place(
            width=self.width,
            layer=layer,
            length=length,
            bias=self.bias,
            rotary=self.position == "rotary",
            dropout=self.dropout,
        )

    def build_norm(self) -> Norm:
        return Norm(self.width, kind=self.norm, eps=self.norm_eps, bias=self.norm_bias)


class Block(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]: a mixer and a feed-forward network, each with its residual."""

    def __init__(self, config: EncoderConfig, layer: int, length: int) -> None:
        super().__init__()
        post = config.placement == "post"
        self.post = post
        self.mixer = config.mixer.build(config.place(layer, length))
        self.feedforward = config.feedforward.build(config.width, bias=config.bias)
        self.mixer_norm = config.build_norm() if post or config.first_norm or layer > 0 else nn.Identity()
        self.feedforward_norm = config.build_norm()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, seen: Visible | None = None) -> Tensor:
        if self.post:
            x = self.mixer_norm(x + self.dropout(self.mixer(x, seen)))
            return self.feedforward_norm(x + self.dropout(self.feedforward(x)))
        x = x + self.dropout(self.mixer(self.mixer_norm(x), seen))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


class Encoder(nn.Module):
    """ids [B, L] int64, mask [B, L] bool or None (True = a real token) -> hidden states [B, L, D] in `dtype`.

    With segments [B, L] int, the number of every token's document, each document is encoded as if it stood alone: its
    tokens attend to one another only, and added positions start anew. Rotary ones need not: they are relative.
    """

    def __init__(self, config: EncoderConfig, *, vocab: int, length: int) -> None:
        super().__init__()
        self.config, self.vocab, self.length = config, vocab, length
        self.dtype = torch.float32
        self.kernel: Kernel = "sdpa"  # see models/kernels.py; set before anything is compiled, like dtype
        self.embedding = Embedding(vocab, config.width)
        added = config.position != "rotary"
        self.positions = AddedPositions(length, config.width, kind=config.position) if added else None
        self.embedding_norm = config.build_norm() if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.stack = config.shape.build(lambda layer: Block(config, layer, length))
        self.final_norm = config.build_norm() if config.final_norm else nn.Identity()

    def forward(self, ids: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        x = self.embedding(ids, self.dtype)
        if self.positions is not None:
            x = self.positions(x, segments)
        x = self.dropout(self.embedding_norm(x))
        return self.final_norm(self.stack(x, Visible(mask, segments, self.kernel)))
