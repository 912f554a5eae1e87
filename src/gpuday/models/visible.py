"""What the tokens of a batch may see of each other, worked out once for all layers of a forward pass.

Packed rows hold several documents; with segments a token sees its own document only, as in Krell et al.,
arXiv 2107.02027. Shapes: B rows, L positions, r the reach of a local layer.
"""

from collections.abc import Callable, Hashable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Literal["sdpa", "flex", "varlen"]


class Visible:
    """Lives for one forward pass. A `reach` of r limits a token to positions at distance r at most; None does not.

    mask [B, L] bool or None: False marks padding, which nobody sees. segments [B, L] int or None: the number of each
    token's document, equal numbers side by side; tokens see their own document only.
    """

    def __init__(self, mask: Tensor | None = None, segments: Tensor | None = None, kernel: Kernel = "sdpa") -> None:
        self.mask, self.segments, self.kernel = mask, segments, kernel
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returned when this key was first asked for: layers of equal kind share it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def pairs(self, reach: int | None, length: int, device: torch.device) -> Tensor | None:
        """Which key each query sees: bool, broadcastable to [B, heads, L, L]; None where each sees every one."""
        return self.once(("pairs", reach), lambda: self._pairs(reach, length, device))  # type: ignore[no-any-return]

    def bands(self, reach: int, length: int, device: torch.device) -> Tensor:
        """`pairs` for queries in L / r chunks and, for each, the keys of three: bool [B or 1, 1, L / r, r, 3 r]."""
        return self.once(("bands", reach), lambda: self._bands(reach, length, device))  # type: ignore[no-any-return]

    def _pairs(self, reach: int | None, length: int, device: torch.device) -> Tensor | None:
        limits = []
        if reach is not None:
            at = torch.arange(length, device=device)
            limits.append((at[:, None] - at).abs() <= reach)
        if self.segments is not None:
            limits.append((self.segments[:, :, None] == self.segments[:, None, :])[:, None])
        allowed = limits[0] & limits[-1] if limits else None
        if self.mask is None:
            return allowed
        real = self.mask[:, None, None, :]
        if allowed is None:
            return real
        # A padded query with no real key in sight would attend to nothing, and softmax over nothing is NaN.
        return (allowed & real) | torch.eye(length, dtype=torch.bool, device=device)

    def _bands(self, reach: int, length: int, device: torch.device) -> Tensor:
        chunks, window = length // reach, 3 * reach
        query = torch.arange(length, device=device).view(chunks, reach, 1)
        key = torch.arange(-reach, length + reach, device=device).unfold(0, window, reach)[:, None, :]
        allowed = ((query - key).abs() <= reach) & (key >= 0) & (key < length)
        if self.segments is not None:
            theirs = F.pad(self.segments, (reach, reach)).unfold(1, window, reach)
            allowed = allowed & (self.segments.view(-1, chunks, reach, 1) == theirs[:, :, None, :])
        if self.mask is not None:
            real = F.pad(self.mask, (reach, reach)).unfold(1, window, reach)
            allowed = (allowed & real[:, :, None, :]) | (query == key)
        return allowed.view(-1, 1, chunks, reach, window)


def first_of_document(segments: Tensor) -> Tensor:
    """Whether each token is the first of its document within its row; bool [B, L]."""
    return F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)


def places_in_document(segments: Tensor) -> Tensor:
    """Each token's position counted from the start of its document; int64 [B, L]."""
    at = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.where(first_of_document(segments), at, 0)
    return at - starts.cummax(dim=1).values
