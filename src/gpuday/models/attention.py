"""Softmax attention of projected queries, keys and values, by whichever kernel is fastest for what is asked.

Vaswani et al., arXiv 1706.03762. Where kernels differ they differ in speed: `models/kernels.py` checks that before one is
used. Shapes: B rows, L positions, H heads of width K.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gpuday.models.visible import Visible, first_of_document

EXPLICIT_UP_TO = 256  # positions; beyond, the scores' memory traffic outweighs what is gained
MOST_DOCUMENTS = 8  # in a row, for `varlen`: its lengths have a fixed shape, and a place for each costs a thread block


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Visible, *, reach: int | None = None, dropout: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(K)) v for [B, H, L, K] over the keys that `seen` and `reach` leave each query.

    On a CPU two plain batched products with the softmax between them, fused by the compiler, train a 4x256 model at 128
    positions 1.4 times as fast as the flash kernel behind SDPA, whose backward is slow there (docs/experiments.md).
    """
    length = q.shape[2]
    reach = None if reach is None or reach >= length - 1 else reach
    if dropout == 0.0:
        if seen.mask is None and (reach is not None or seen.segments is not None):
            if seen.kernel == "varlen":
                return varlen(q, k, v, seen, reach)
            if seen.kernel == "flex" and torch.compiler.is_compiling():  # eager, it would be slower than SDPA
                return flex(q, k, v, seen, reach)
        if q.device.type == "cpu":
            if reach and length >= 4 * reach and length > EXPLICIT_UP_TO and length % reach == 0:
                return in_chunks(q, k, v, seen, reach)
            if length <= EXPLICIT_UP_TO:
                return explicit(q, k, v, seen.pairs(reach, length, q.device))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen.pairs(reach, length, q.device), dropout_p=dropout)


def explicit(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """Two products with the softmax in fp32 between them; [..., L, K] and `allowed` bool, broadcastable to the scores."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return torch.softmax(scores, dim=-1).to(q.dtype) @ v


def in_chunks(q: Tensor, k: Tensor, v: Tensor, seen: Visible, reach: int) -> Tensor:
    """Local attention at the cost of 3 `reach` keys a query instead of L: chunks of queries see three chunks of keys.

    Beltagy et al., arXiv 2004.05150, section 3.1. L must be a multiple of `reach`.
    """
    b, h, l, width = q.shape
    chunks = l // reach
    k, v = (_three_chunks(t, chunks, reach) for t in (k, v))
    mixed = explicit(q.reshape(b, h, chunks, reach, width), k, v, seen.bands(reach, l, q.device))
    return mixed.reshape(b, h, l, width)


def _three_chunks(x: Tensor, chunks: int, reach: int) -> Tensor:
    """[B, H, L, K] -> [B, H, chunks, 3 reach, K]: each chunk between its neighbours, zeros beyond the ends."""
    b, h, _, width = x.shape
    padded = F.pad(x, (0, 0, reach, reach)).view(b, h, chunks + 2, reach, width)
    return torch.cat((padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]), dim=3)


def flex(q: Tensor, k: Tensor, v: Tensor, seen: Visible, reach: int | None) -> Tensor:
    """FlexAttention over the blocks that hold a visible pair (Dong et al., arXiv 2412.05496); to be compiled."""
    mixed = flex_attention(q, k, v, block_mask=seen.once(("flex", reach), lambda: _block_mask(q, seen.segments, reach)))
    assert isinstance(mixed, Tensor)  # a tuple only where more than the answer is asked for
    return mixed


def _block_mask(q: Tensor, segments: Tensor | None, reach: int | None) -> BlockMask:
    def visible(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = query >= 0 if reach is None else (query - key).abs() <= reach
        return allowed if segments is None else allowed & (segments[row, query] == segments[row, key])

    rows, length = None if segments is None else q.shape[0], q.shape[2]
    return create_block_mask(visible, rows, None, length, length, device=q.device)


def varlen(q: Tensor, k: Tensor, v: Tensor, seen: Visible, reach: int | None) -> Tensor:
    """Flash attention over documents of their own lengths, at most MOST_DOCUMENTS in a row."""
    from torch.nn.attention.varlen import varlen_attn  # a second to import, and for CUDA only

    b, h, l, width = q.shape
    bounds = seen.once("bounds", lambda: document_bounds(seen.segments, b, l, q.device))
    window = (-1, -1) if reach is None else (reach, reach)
    q, k, v = (t.transpose(1, 2).reshape(b * l, h, width) for t in (q, k, v))
    mixed = varlen_attn(q, k, v, bounds, bounds, l, l, window_size=window)
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
