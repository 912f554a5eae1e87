"""Every epoch another random permutation: the default, and the baseline of every curriculum.

The permutation is computed, not stored: see `gpuday.data.permutation` (Black & Rogaway, CT-RSA 2002).
"""

from dataclasses import dataclass

from gpuday.data.orders import Order, RowScore


@dataclass(frozen=True, kw_only=True)
class Random(Order):
    """A counter-based permutation of (seed, epoch)."""

    def score(self) -> RowScore | None:
        return None
