"""What the tokens of a batch may see of each other, worked out once for all layers of a forward pass.

Packed rows hold several documents; with segments a token sees its own document only, as in Krell et al.,
arXiv 2107.02027. Shapes: B rows, L positions, r the reach of a local layer.
"""

from collections.abc import Callable, Hashable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gpuday.core.errors import UsageError

Kernel = Literal["sdpa", "flex", "varlen"]


class Visible:
    """Lives for one forward pass. A `reach` of r limits a token to positions at distance r at most; None does not.

    mask [B, L] bool or None: False marks padding, which nobody sees. segments [B, L] int or None: the number of each
    token's document, equal numbers side by side; tokens see their own document only. causal: a token sees itself and
    what stands before it. `kept` begins empty: layers leave there, by name, what later layers of the pass read. asked
    [B, A] int64 or None: the places of each row that the stack's last block answers for; None, all.
    """

    def __init__(
        self,
        mask: Tensor | None = None,
        segments: Tensor | None = None,
        kernel: Kernel = "sdpa",
        *,
        causal: bool = False,
        asked: Tensor | None = None,
    ) -> None:
        self.mask, self.segments, self.kernel, self.causal = mask, segments, kernel, causal
        self.asked = asked
        self.kept: dict[str, Tensor] = {}
        self.repeat = 0  # how often the blocks were passed through before, where a shape passes them again
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returned when this key was first asked for: layers of equal kind share it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def pooled(self, factor: int) -> "Visible":
        """What groups of `factor` neighbours see of each other; a group is real where one of its tokens is."""
        if self.segments is not None or self.causal:
            raise UsageError(
                "positions that are averaged can neither keep documents apart nor look back only",
                where="model.shape",
                fix="choose the plain shape, or set train.isolate=false and an objective that sees both sides",
            )
        mask = None if self.mask is None else self.mask.unflatten(1, (-1, factor)).any(-1)
        return self.once(("pooled", factor), lambda: Visible(mask, None, self.kernel))  # type: ignore[no-any-return]

    def pairs(self, reach: int | None, length: int, device: torch.device) -> Tensor | None:
        """Which key each query sees: bool, broadcastable to [B, heads, L, L]; None where each sees every one."""
        return self.once(("pairs", reach), lambda: self._pairs(reach, length, device))  # type: ignore[no-any-return]

    def bands(self, reach: int, length: int, device: torch.device) -> Tensor:
        """`pairs` for queries in L / r chunks and, for each, the keys of three: bool [B or 1, 1, L / r, r, 3 r]."""
        return self.once(("bands", reach), lambda: self._bands(reach, length, device))  # type: ignore[no-any-return]

    def _pairs(self, reach: int | None, length: int, device: torch.device) -> Tensor | None:
        limits = []
        if reach is not None or self.causal:
            at = torch.arange(length, device=device)
            limits.append(self._near(at[:, None] - at, reach))
        if self.segments is not None:
            limits.append((self.segments[:, :, None] == self.segments[:, None, :])[:, None])
        allowed = limits[0] & limits[-1] if limits else None
        if self.mask is None:
            return allowed
        # Padding sees the real keys, too; in a row of nothing but padding all of it, since softmax over nothing is NaN.
        real = (self.mask | ~self.mask.any(1, keepdim=True))[:, None, None, :]
        if allowed is None:
            return real
        # So may a single query be left with nothing.
        return (allowed & real) | torch.eye(length, dtype=torch.bool, device=device)

    def _near(self, behind: Tensor, reach: int | None) -> Tensor:
        """Whether a key so many positions behind its query (before it, if negative) is in sight."""
        if reach is None:
            return behind >= 0
        return (behind >= 0) & (behind <= reach) if self.causal else behind.abs() <= reach

    def _bands(self, reach: int, length: int, device: torch.device) -> Tensor:
        chunks, window = length // reach, 3 * reach
        query = torch.arange(length, device=device).view(chunks, reach, 1)
        key = torch.arange(-reach, length + reach, device=device).unfold(0, window, reach)[:, None, :]
        allowed = self._near(query - key, reach) & (key >= 0) & (key < length)
        if self.segments is not None:
            theirs = F.pad(self.segments, (reach, reach)).unfold(1, window, reach)
            allowed = allowed & (self.segments.view(-1, chunks, reach, 1) == theirs[:, :, None, :])
        if self.mask is not None:
            real = F.pad(self.mask, (reach, reach)).unfold(1, window, reach)
            allowed = (allowed & real[:, :, None, :]) | (query == key)
        return allowed.view(-1, 1, chunks, reach, window)


def at_places(x: Tensor, asked: Tensor | None) -> Tensor:
    """x [B, L, D] at places [B, A] of each row: [B, A, D]; x itself where None are asked for."""
    return x if asked is None else x.gather(1, asked[..., None].expand(-1, -1, x.shape[-1]))


def first_of_document(segments: Tensor) -> Tensor:
    """Whether each token is the first of its document within its row; bool [B, L]."""
    return F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)


def places_in_document(segments: Tensor) -> Tensor:
    """Each token's position counted from the start of its document; int64 [B, L]."""
    at = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.where(first_of_document(segments), at, 0)
    return at - starts.cummax(dim=1).values
