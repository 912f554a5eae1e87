"""Softmax attention of projected queries, keys and values, by whichever kernel is fastest for what is asked.

Vaswani et al., arXiv 1706.03762. Where kernels differ they differ in speed: `models/kernels.py` checks that before one is
used. Linear biases (ALiBi): Press et al., arXiv 2108.12409, by |i - j| so that both sides count. Capped scores: Gemma 2,
arXiv 2408.00118. Shapes: B rows, L positions, H heads of width K.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gpuday.models.dropout import dropped
from gpuday.models.visible import Visible, first_of_document

EXPLICIT_UP_TO = 256  # positions; beyond, the scores' memory traffic outweighs what is gained
MOST_DOCUMENTS = 8  # in a row, for `varlen`: its lengths have a fixed shape, and a place for each costs a thread block

Weigh = Callable[[Tensor, Tensor | None], Tensor]
"""(scores fp32 [..., L, L], which pairs are allowed, None for all) -> weights, zero where not allowed."""


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Visible,
    *,
    reach: int | None = None,
    dropout: float = 0.0,
    cap: float = 0.0,
    slopes: Tensor | None = None,
    asked: Tensor | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(K)) v for [B, H, L, K] over the keys that `seen` and `reach` leave each query.

    With a cap c a score s is first c tanh(s / c); with slopes [H] it then loses its head's slope for each position
    between query and key. With asked [B, A] the queries [B, H, A, K] are those of such places in each row.

    On a CPU two plain batched products with the softmax between them, fused by the compiler, train a 4x256 model at 128
    positions 1.4 times as fast as the flash kernel behind SDPA, whose backward is slow there (docs/experiments.md).
    """
    length = k.shape[2]
    reach = None if reach is None or reach >= length - 1 else reach
    if asked is not None:  # so few queries that no kernel gains on two small products
        biases = of_queries(None if slopes is None else linear_biases(slopes, seen, length), asked)
        allowed = of_queries(seen.pairs(reach, length, q.device), asked)
        return explicit(q, k, v, allowed, biases=biases, cap=cap, dropout=dropout)
    plain = cap == 0.0 and slopes is None
    if dropout == 0.0:
        if seen.mask is None and (reach is not None or seen.segments is not None or not plain):
            if seen.kernel == "varlen" and plain:
                return varlen(q, k, v, seen, reach)
            if seen.kernel == "flex" and torch.compiler.is_compiling():  # eager, it would be slower than SDPA
                return flex(q, k, v, seen, reach, cap=cap, slopes=slopes)
        if q.device.type == "cpu" and reach and length >= 4 * reach and length > EXPLICIT_UP_TO and length % reach == 0:
            return in_chunks(q, k, v, seen, reach, cap=cap, slopes=slopes)
    if cap or (q.device.type == "cpu" and length <= EXPLICIT_UP_TO):  # SDPA cannot cap its scores
        biases = None if slopes is None else linear_biases(slopes, seen, length)
        allowed = seen.pairs(reach, length, q.device)
        return explicit(q, k, v, allowed, biases=biases, cap=cap, dropout=dropout)
    if slopes is None and reach is None and seen.causal and seen.mask is None and seen.segments is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    if slopes is None:
        allowed = seen.pairs(reach, length, q.device)
    else:  # four dimensions, without which SDPA takes a slow path
        make = partial(_sdpa_biases, slopes, seen, reach, length, q.dtype)
        allowed = seen.once(("alibi", reach, len(slopes), q.dtype), make)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)


def _sdpa_biases(slopes: Tensor, seen: Visible, reach: int | None, length: int, dtype: torch.dtype) -> Tensor:
    """Linear biases of the allowed pairs, -inf elsewhere; [B or 1, H, L, L]."""
    allowed = seen.pairs(reach, length, slopes.device)
    return where_allowed(linear_biases(slopes, seen, length)[None], allowed, float("-inf")).to(dtype)


def of_queries(pairs: Tensor | None, asked: Tensor | None) -> Tensor | None:
    """Of pairs, broadcastable to [B, H, L, L], those of the queries at places [B, A]; all where None are asked for."""
    if pairs is None or asked is None or pairs.shape[-2] == 1:
        return pairs
    pairs = pairs[(None,) * (4 - pairs.dim())].expand(len(asked), -1, -1, -1)
    index = asked[:, None, :, None].expand(-1, pairs.shape[1], -1, pairs.shape[3])
    return pairs.gather(2, index)


def where_allowed(x: Tensor, allowed: Tensor | None, otherwise: float = 0.0) -> Tensor:
    """x [..., L, L] at the allowed pairs, all if None, and a number elsewhere."""
    return x if allowed is None else x.masked_fill(~allowed, otherwise)


def softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Weights that sum to one over the allowed keys."""
    return torch.softmax(where_allowed(scores, allowed, float("-inf")), dim=-1)


def explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None,
    *,
    biases: Tensor | None = None,
    cap: float = 0.0,
    dropout: float = 0.0,
    weigh: Weigh = softmax,
) -> Tensor:
    """Two products with the weights in fp32 between them; [..., L, K], `allowed` bool, broadcastable to the scores."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if cap:
        scores = cap * torch.tanh(scores / cap)
    if biases is not None:
        scores = scores + biases
    weights = weigh(scores, allowed)
    if dropout:
        weights = dropped(weights, dropout)
    return weights.to(q.dtype) @ v


def alibi_slopes(heads: int) -> Tensor:
    """2^(-8 / H), 2^(-16 / H), ..., 2^-8 for a number of heads that is a power of two; fp32 [H].

    Otherwise those of the power of two below, and what lacks from every other one of twice as many heads.
    """
    below = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-4.0 * i / below) for i in range(1, 2 * (heads - below), 2)]
    return torch.tensor(slopes)


def linear_biases(slopes: Tensor, seen: Visible, length: int) -> Tensor:
    """-slope |i - j|, fp32 [H, L, L]; heads are as many in every layer, so that layers share it."""

    def make() -> Tensor:
        at = torch.arange(length, device=slopes.device)
        return -slopes[:, None, None] * (at[:, None] - at).abs()

    biases: Tensor = seen.once(("biases", len(slopes), length), make)
    return biases


def in_chunks(
    q: Tensor, k: Tensor, v: Tensor, seen: Visible, reach: int, *, cap: float = 0.0, slopes: Tensor | None = None
) -> Tensor:
    """Local attention at the cost of 3 `reach` keys a query instead of L: chunks of queries see three chunks of keys.

    Beltagy et al., arXiv 2004.05150, section 3.1. L must be a multiple of `reach`.
    """
    b, h, l, width = q.shape
    chunks = l // reach
    k, v = (_three_chunks(t, chunks, reach) for t in (k, v))
    biases = None
    if slopes is not None:
        at = torch.arange(3 * reach, device=q.device)
        biases = -slopes[:, None, None, None] * (at[reach : 2 * reach, None] - at).abs()
    queries = q.reshape(b, h, chunks, reach, width)
    mixed = explicit(queries, k, v, seen.bands(reach, l, q.device), biases=biases, cap=cap)
    return mixed.reshape(b, h, l, width)


def _three_chunks(x: Tensor, chunks: int, reach: int) -> Tensor:
    """[B, H, L, K] -> [B, H, chunks, 3 reach, K]: each chunk between its neighbours, zeros beyond the ends."""
    b, h, _, width = x.shape
    padded = F.pad(x, (0, 0, reach, reach)).view(b, h, chunks + 2, reach, width)
    return torch.cat((padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]), dim=3)


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Visible,
    reach: int | None,
    *,
    cap: float = 0.0,
    slopes: Tensor | None = None,
) -> Tensor:
    """FlexAttention over the blocks that hold a visible pair (Dong et al., arXiv 2412.05496); to be compiled."""

    def altered(score: Tensor, _row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if cap:
            score = cap * torch.tanh(score / cap)
        return score if slopes is None else score - slopes[head] * (query - key).abs()

    blocks = seen.once(("flex", reach), lambda: _block_mask(q, seen, reach))
    change = altered if cap or slopes is not None else None
    mixed = flex_attention(q, k, v, score_mod=change, block_mask=blocks)
    assert isinstance(mixed, Tensor)  # a tuple only where more than the answer is asked for
    return mixed


def _block_mask(q: Tensor, seen: Visible, reach: int | None) -> BlockMask:
    segments, causal = seen.segments, seen.causal

    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = query >= (key if causal else 0)
        if reach is not None:
            allowed = allowed & ((query - key).abs() <= reach)
        return allowed if segments is None else allowed & (segments[row, query] == segments[row, key])

    rows, length = None if segments is None else q.shape[0], q.shape[2]
    return create_block_mask(visible, rows, None, length, length, device=q.device)


def varlen(q: Tensor, k: Tensor, v: Tensor, seen: Visible, reach: int | None) -> Tensor:
    """Flash attention over documents of their own lengths, at most MOST_DOCUMENTS in a row."""
    from torch.nn.attention.varlen import varlen_attn  # a second to import, and for CUDA only

    b, h, l, width = q.shape
    bounds = seen.once("bounds", lambda: document_bounds(seen.segments, b, l, q.device))
    left = -1 if reach is None else reach  # -1 is no bound
    q, k, v = (t.transpose(1, 2).reshape(b * l, h, width) for t in (q, k, v))
    mixed = varlen_attn(q, k, v, bounds, bounds, l, l, window_size=(left, 0 if seen.causal else left))
    assert isinstance(mixed, Tensor)
    return mixed.view(b, l, h, width).transpose(1, 2)


def document_bounds(segments: Tensor | None, rows: int, length: int, device: torch.device) -> Tensor:
    """Where documents start in the flattened B L tokens, then B L as often as fills the fixed shape.

    int32 [B MOST_DOCUMENTS + 1], or [B + 1] where every row is one document. Documents of no length cost little.
    """
    if segments is None:
        return torch.arange(rows + 1, device=device, dtype=torch.int32) * length
    end = rows * length
    starts = first_of_document(segments).flatten()
    bounds = torch.where(starts, torch.arange(end, device=device), end).sort().values
    room = rows * MOST_DOCUMENTS
    if end < room:
        bounds = F.pad(bounds, (0, room - end), value=end)
    return F.pad(bounds[:room], (0, 1), value=end).int()
