"""Shorter and shorter rows inside, whole ones at both ends (Dai et al., arXiv 2006.03236: Funnel-Transformer).

Between stages neighbours are averaged (the paper's strided mean, on the whole hidden state instead of the queries alone,
so that any mixer fits). The decoder's input is the last stage stretched to full length by repetition plus the first
stage's output, so that every masked position can be told from its neighbours. Or rows grow step by step, and every step
adds the output of the stage of its length, as in the U of Geiping & Goldstein, arXiv 2212.14034. Shapes: B rows, L
positions, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gpuday.core.errors import UsageError, within
from gpuday.models.shapes import MOST_LAYERS, Pass, Shape
from gpuday.models.visible import Visible

MOST_SHRINK = 1024


@dataclass(frozen=True, kw_only=True)
class Funnel(Shape):
    """Stages of blocks, each on rows `factor` times shorter than the one before, then a decoder at full length.

    Rows must be packed without isolating documents, and nothing can look back only: an average has no order.
    """

    stages: tuple[int, ...] = (2, 2)
    """Number of blocks of every stage, from full length on."""
    factor: int = 2
    """How many neighbours are averaged between one stage and the next."""
    decoder: int = 1
    """Number of blocks at full length after the last stage; at each length on the way there, if `stepwise`."""
    stepwise: bool = False
    """Whether rows grow back through the lengths of all stages, or at once."""

    def __post_init__(self) -> None:
        within("model.shape", factor=(self.factor, 2, MOST_SHRINK), decoder=(self.decoder, 0, MOST_LAYERS))
        if len(self.stages) < 2 or min(self.stages) < 1 or sum(self.stages) > MOST_LAYERS:
            raise UsageError(
                f"stages {list(self.stages)} are no funnel",
                where="model.shape.stages",
                fix=f"give two or more numbers of blocks, {MOST_LAYERS} in all at most, such as [4, 4, 4]",
            )
        if self.factor ** (len(self.stages) - 1) > MOST_SHRINK:
            raise UsageError(
                f"{len(self.stages)} stages average over more than {MOST_SHRINK} positions",
                where="model.shape.stages",
                fix="give fewer stages or a smaller factor",
            )

    @property
    def passes(self) -> tuple[Pass, ...]:
        shrinks = [self.factor**stage for stage, blocks in enumerate(self.stages) for _ in range(blocks)]
        shrinks += [self.factor**stage for stage in self.returns for _ in range(self.decoder)]
        return tuple(Pass(layer, shrink) for layer, shrink in enumerate(shrinks))

    @property
    def returns(self) -> tuple[int, ...]:
        """The stages whose lengths the rows come back to."""
        return tuple(reversed(range(len(self.stages) - 1))) if self.stepwise else (0,)

    def build(self, block: Callable[[int], nn.Module]) -> nn.Module:
        return FunnelStack(self, [block(layer) for layer in range(self.depth)])


class FunnelStack(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D], L a multiple of the averaged positions."""

    def __init__(self, config: Funnel, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.factor, self.multiple = nn.ModuleList(blocks), config.factor, config.multiple
        self.stages, self.returns, self.decoder = config.stages, config.returns, config.decoder

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        if x.shape[1] % self.multiple:
            raise UsageError(
                f"rows of {x.shape[1]} positions cannot be averaged over {self.multiple}",
                where="model.shape.factor",
                fix=f"give a length that is a multiple of {self.multiple}",
            )
        blocks = iter(self.blocks)
        above: list[tuple[Tensor, Visible]] = []  # what the stages of longer rows answered, and what is seen there
        for stage, count in enumerate(self.stages):
            if stage:
                above.append((x, seen))
                x, seen = mean_of_groups(x, seen.mask, self.factor), self._shorter(seen)
            for _ in range(count):
                x = next(blocks)(x, seen)
        for stage in self.returns:
            longer, seen = above[stage]
            x = stretched(x, longer.shape[1] // x.shape[1]) + longer
            for _ in range(self.decoder):
                x = next(blocks)(x, seen)
        return x

    def _shorter(self, seen: Visible) -> Visible:
        """What was left for later layers is averaged like the hidden state."""
        shorter = seen.pooled(self.factor)
        shorter.kept |= {name: mean_of_groups(x, seen.mask, self.factor) for name, x in seen.kept.items()}
        return shorter


def stretched(x: Tensor, times: int) -> Tensor:
    """x [B, L, D] -> [B, L times, D], every position repeated."""
    return x[:, :, None].expand(-1, -1, times, -1).flatten(1, 2)


def mean_of_groups(x: Tensor, mask: Tensor | None, factor: int) -> Tensor:
    """x [B, ..., L, D], mask [B, L] bool or None -> [B, ..., L / factor, D]: means over the real ones of each group.

    A group without a real one is zero.
    """
    groups = x.unflatten(-2, (-1, factor))
    if mask is None:
        return groups.mean(-2)
    real = mask.view(len(mask), *[1] * (x.dim() - 3), -1, factor, 1).to(x.dtype)
    return (groups * real).sum(-2) / real.sum(-2).clamp(min=1.0)
