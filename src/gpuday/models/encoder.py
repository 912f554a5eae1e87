"""The encoder: token ids to hidden states, its parts and axes chosen by one frozen config.

Shapes: B rows, L positions, D width, E width of the table of V tokens.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpuday.core.errors import UsageError, within
from gpuday.models.block import Block
from gpuday.models.dropout import Dropout
from gpuday.models.feedforward import FeedForward
from gpuday.models.feedforward.geglu import Geglu
from gpuday.models.linear import Embedding, Linear
from gpuday.models.mixers import Mixer, Place
from gpuday.models.mixers.softmax import Softmax
from gpuday.models.norm import Norm
from gpuday.models.position import ADDED, AddedPositions
from gpuday.models.shapes import MOST_LAYERS, Shape
from gpuday.models.shapes.plain import Plain
from gpuday.models.skip import Kind as Skip
from gpuday.models.visible import Kernel, Visible, at_places

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
    feedforward_every: int = 1
    """Blocks n - 1, 2 n - 1, ... have a feed-forward network, the others a mixer alone; 0: none has one."""
    norm: Literal["layernorm", "rmsnorm", "scalenorm"] = "layernorm"
    """Kind of every norm."""
    norm_eps: float = 1e-5
    """Added to the variance (layernorm) or mean square (rmsnorm); the least length (scalenorm)."""
    norm_scale: bool = True
    """Whether norms learn a scale."""
    norm_bias: bool = False
    """Whether norms learn a shift beside their scale."""
    placement: Literal["pre", "post", "sandwich", "deepnorm"] = "pre"
    """Norm before each layer inside the residual, after the sum, both sides of the layer, or after a weighted sum."""
    block: Literal["sequential", "parallel"] = "sequential"
    """The network after the mixer, or beside it on the same norm."""
    skip: Skip = "none"
    """What passes over blocks: nothing, the stack's input into every block, or the first half into the second."""
    layer_drop: float = 0.0
    """Probability of leaving out the last block's updates for a row; it rises linearly from the first passage on.
    Acts while training with train.dropout on, and saves no time: blocks are computed, then weighted."""
    position: Literal["learned", "sinusoidal", "scaled_sinusoidal", "rotary", "alibi", "none"] = "rotary"
    """Where positions come from: a table added to the embedding, the mixers (rotary, alibi), or nowhere."""
    embedding_width: int = 0
    """Width E of the table of tokens, projected to the model's width and, for the decoder, back; 0: no projections."""
    embedding_norm: bool = True
    """A norm on the embedding, before a projection."""
    first_norm: bool = True
    """Whether block 0 norms its mixer's input; ModernBERT does not, its embedding being normed already. Placements pre and
    sandwich; in parallel blocks it is the network's norm as well."""
    final_norm: bool = True
    """A norm after the last block."""
    qkv_bias: bool = False
    """Biases where mixers project their inputs: queries, keys and values. Fourier and identity project nothing."""
    mixer_bias: bool = False
    """Biases in the mixers' other projections, where they have some."""
    feedforward_bias: bool = False
    """Biases in the feed-forward networks, where blocks have one."""
    dropout: float = 0.0
    """Dropout probability on embedding, attention and both residual branches while training."""
    head_transform: bool = True
    """A dense layer, GELU and norm between hidden state and decoder."""
    head_activation: bool = True
    """GELU and norm behind that dense layer; without them it is a bare matrix, as in arXiv 2212.14034's first version."""
    head_bias: bool = False
    """A bias in that dense layer, or in the projection to the table's width that stands there without it."""
    decoder_bias: bool = False
    """A bias for every vocabulary entry."""
    tied: bool = True
    """Whether the decoder is the embedding table."""
    logit_cap: float = 0.0
    """Logits z become cap * tanh(z / cap); 0 leaves them as they are (Gemma 2, arXiv 2408.00118)."""
    init: Literal["normal", "small", "megatron", "wang", "deepnorm"] = "normal"
    """How widely matrices and tables are drawn: see models/init.py."""
    init_std: float = 0.02
    """Standard deviation of normal and megatron, and of the tables of deepnorm."""
    zero_output: bool = False
    """Start the matrices that write into the residual stream at zero, so that every block starts as the identity; or as its
    norms alone (post, deepnorm), or as a mixer without matrices (fourier, identity)."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2:
            raise UsageError(f"width {self.width} is not a positive even number", where="model.width", fix="e.g. 256")
        within(
            "model",
            width=(self.width, 2, MOST_WIDTH),
            init_std=(self.init_std, 0.0, 10.0),
            norm_eps=(self.norm_eps, 0.0, 1.0),
            logit_cap=(self.logit_cap, 0.0, 1e6),
            embedding_width=(self.embedding_width, 0, MOST_WIDTH),
            feedforward_every=(self.feedforward_every, 0, MOST_LAYERS),
        )
        for name, probability in (("dropout", self.dropout), ("layer_drop", self.layer_drop)):
            if not 0.0 <= probability < 1.0:
                raise UsageError(f"{name} {probability} is not in [0, 1)", where=f"model.{name}", fix="e.g. 0.1")
        if self.embedding_width % 2:
            raise UsageError(
                f"embedding_width {self.embedding_width} is odd", where="model.embedding_width", fix="e.g. 128"
            )
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        once = self.shape.blocks == self.shape.depth and self.shape.multiple == 1
        plain = "choose the plain shape"
        for wrong, key, what, fix in (
            (
                self.block == "parallel" and self.placement != "pre",
                "block",
                f"parallel blocks have one norm, before both layers, and placement {self.placement} asks for others",
                "choose placement pre, or sequential blocks",
            ),
            (
                self.zero_output and self.placement == "sandwich",
                "zero_output",
                "the norm behind each layer scales outputs to full size, however near to zero they start",
                "choose another placement, or zero_output=false",
            ),
            (
                self.position in ("rotary", "alibi") and not self.mixer.traits.scored,
                "position",
                f"{self.position} positions act on scores, and this mixer has none",
                "choose learned, sinusoidal, scaled_sinusoidal or none, or another mixer",
            ),
            (
                self.block == "parallel" and self.feedforward_every == 0,
                "block",
                "no block has a network that could stand beside its mixer",
                "set model.block=sequential, or model.feedforward_every=1",
            ),
            (
                self.mixer.traits.recalls and not once,
                "mixer.value_residual",
                "values of the first layer for later ones need blocks that are passed once, at full length",
                f"{plain}, or value_residual=false",
            ),
            (
                not self.head_activation and not self.head_transform,
                "head_activation",
                "there is no head transform whose activation could be left out",
                "choose head_transform=true, or head_activation=true",
            ),
            (
                self.skip == "unet" and not once,
                "skip",
                "skips from block to mirrored block need blocks that are passed once, at full length",
                f"{plain}, or the skip x0",
            ),
            (
                self.skip == "unet" and self.shape.blocks == 1,
                "skip",
                "one block has no mirror image",
                "give the model more blocks, or skip=none",
            ),
            (
                not self.first_norm and self.placement not in ("pre", "sandwich"),
                "first_norm",
                f"with placement {self.placement} no block norms its mixer's input",
                "set model.first_norm=true, or choose placement pre or sandwich",
            ),
            (
                not self.first_norm and [passed.layer for passed in self.shape.passes].count(0) > 1,
                "first_norm",
                "block 0 is passed more than once, and only at first is its input normed already",
                "set model.first_norm=true, or choose a shape that passes its blocks once",
            ),
            (
                self.head_bias and not self.head_matrix,
                "head_bias",
                "the head has no dense layer whose bias this could be",
                "set head_transform=true, or head_bias=false",
            ),
            (
                self.feedforward_every > self.shape.blocks,
                "feedforward_every",
                f"a network in every {self.feedforward_every}th of {self.shape.blocks} blocks is in none",
                f"give at most {self.shape.blocks}, or 0 for none",
            ),
        ):
            if wrong:
                raise UsageError(what, where=f"model.{key}", fix=fix)
        self.mixer.check(width=self.width, layers=self.shape.blocks)

    def shortened(self, blocks: int) -> "EncoderConfig":
        """What comes closest to it in so many blocks in a row."""
        return replace(
            self,
            shape=Plain(layers=blocks),
            mixer=self.mixer.resized(blocks, before=self.shape.blocks),
            feedforward_every=min(self.feedforward_every, blocks),
            skip="none" if self.skip == "unet" and blocks == 1 else self.skip,
        )

    def place(self, layer: int, length: int) -> Place:
        return Place(
            width=self.width,
            layer=layer,
            depth=self.shape.blocks,
            length=length,
            qkv_bias=self.qkv_bias,
            bias=self.mixer_bias,
            position=self.position,
            dropout=self.dropout,
        )

    @property
    def table_width(self) -> int:
        """Width E of the table of tokens."""
        return self.embedding_width or self.width

    @property
    def head_matrix(self) -> bool:
        """Whether a matrix stands between hidden state and decoder."""
        return self.head_transform or self.embedding_width > 0

    @property
    def causal(self) -> bool:
        """Whether hidden states can be kept from depending on what stands after them."""
        return self.mixer.traits.causal and self.shape.multiple == 1

    def has_feedforward(self, layer: int) -> bool:
        return self.feedforward_every > 0 and (layer + 1) % self.feedforward_every == 0

    def build_norm(self, width: int | None = None) -> Norm:
        return Norm(width or self.width, kind=self.norm, eps=self.norm_eps, bias=self.norm_bias, scale=self.norm_scale)


class Encoder(nn.Module):
    """ids [B, L] int64, mask [B, L] bool or None (True = a real token) -> hidden states [B, L, D] in `dtype`.

    With segments [B, L] int, the number of every token's document, each document is encoded as if it stood alone: its
    tokens attend to one another only, and added positions start anew. Rotary ones need not: they are relative.

    With asked [B, A] int64, places in each row, the answer is theirs alone, [B, A, D], and the last block computes no more
    than it takes.
    """

    def __init__(self, config: EncoderConfig, *, vocab: int, length: int) -> None:
        super().__init__()
        if length % config.shape.multiple:
            raise UsageError(
                f"rows of {length} positions do not suit a shape that averages over {config.shape.multiple}",
                where="data.length",
                fix=f"give a multiple of {config.shape.multiple}",
            )
        self.config, self.vocab, self.length = config, vocab, length
        self.dtype = torch.float32
        self.kernel: Kernel = "sdpa"  # see models/kernels.py; set before anything is compiled, like dtype
        table = config.table_width
        self.embedding = Embedding(vocab, table)
        added = config.position in ADDED
        self.positions = AddedPositions(length, table, kind=config.position) if added else None
        self.embedding_norm = config.build_norm(table) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.projection = Linear(table, config.width, bias=False) if config.embedding_width else nn.Identity()
        lengths = config.shape.lengths(length)
        self.stack = config.shape.build(lambda layer: Block(config, layer, lengths[layer]))
        self.final_norm = config.build_norm() if config.final_norm else nn.Identity()

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        causal: bool = False,
        asked: Tensor | None = None,
    ) -> Tensor:
        if causal and not self.config.causal:
            by_mixer = not self.config.mixer.traits.causal
            raise UsageError(
                f"this model cannot look back only: its {'mixer sees both sides' if by_mixer else 'shape averages'}",
                where="model.mixer" if by_mixer else "model.shape",
                fix=f"choose another {'mixer' if by_mixer else 'shape'}, such as {'softmax' if by_mixer else 'plain'},"
                " or an objective that sees both sides",
            )
        length, short = ids.shape[1], -ids.shape[1] % self.config.shape.multiple
        if short:  # a shape that averages; what fills the last group is padding
            real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            ids, mask = F.pad(ids, (0, short)), F.pad(real, (0, short))
        x = self.embedding(ids, self.dtype)
        if self.positions is not None:
            x = self.positions(x, segments)
        x = self.projection(self.dropout(self.embedding_norm(x)))
        seen = Visible(mask, segments, self.kernel, causal=causal, asked=asked)
        if self.config.skip == "x0":
            seen.kept["x0"] = x
        if asked is None:
            return self.final_norm(self.stack(x, seen))[:, :length]
        x = self.stack(x, seen)
        return self.final_norm(x if self.config.shape.ends_whole else at_places(x, asked))
