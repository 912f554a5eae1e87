"""One block of the stack: a mixer and a feed-forward network, their norms and what passes around them.

With f a layer and n, m norms, the placements are: pre x + f(n(x)); post n(x + f(x)), as in Vaswani et al., arXiv
1706.03762; sandwich x + m(f(n(x))), Ding et al., arXiv 2105.13290 (CogView); deepnorm n(a x + f(x)) with
a = (2 N)^(1/4) for an encoder of N blocks, Wang et al., arXiv 2203.00555. Parallel blocks are x + f(n(x)) + g(n(x)) with
one norm, as in GPT-J and PaLM (Chowdhery et al., arXiv 2204.02311). Shapes: B rows, L positions, D width.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gpuday.models.dropout import Dropout
from gpuday.models.skip import build_skip, output_name
from gpuday.models.visible import Visible, at_places

if TYPE_CHECKING:
    from gpuday.models.encoder import EncoderConfig


class LayerDrop(nn.Module):
    """x [B, L, D] -> the factor [B, 1, 1] of a block's updates: 0 with probability p = `dropout`, else 1 / (1 - p).

    Huang et al., arXiv 1603.09382 (stochastic depth), with one draw for each row and block, from the stream that dropout
    draws from. In evaluation, and where p is 0, there is no factor: None. A block that is passed again and again has p in
    its last passage, and in the ones before it a share of p each.
    """

    def __init__(self, dropout: float, shares: tuple[float, ...] = (1.0,)) -> None:
        super().__init__()
        self.dropout = dropout  # of this name, so that a schedule of dropout moves it as well
        self.shares = shares

    def forward(self, x: Tensor, repeat: int = 0) -> Tensor | None:
        dropout = self.dropout * self.shares[repeat]
        if not self.training or dropout == 0.0:
            return None
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= dropout
        return (kept / (1.0 - dropout)).to(x.dtype)


class Block(nn.Module):
    """(x [B, L, D], what is seen) -> [B, L, D]; of the stack's last passage [B, A, D] where A places of a row are asked for."""

    def __init__(self, config: "EncoderConfig", layer: int, length: int) -> None:
        super().__init__()
        blocks = config.shape.blocks
        self.parallel = config.block == "parallel"
        self.after_sum = config.placement in ("post", "deepnorm")
        self.alpha = (2.0 * config.shape.depth) ** 0.25 if config.placement == "deepnorm" else 1.0
        self.skip = build_skip(config.skip, layer, blocks)
        self.leaves = output_name(layer) if config.skip == "unet" and layer < blocks // 2 else None
        has_feedforward = config.has_feedforward(layer)

        self.mixer = config.mixer.build(config.place(layer, length))
        self.feedforward = (
            config.feedforward.build(config.width, bias=config.feedforward_bias) if has_feedforward else None
        )
        self.mixer_norm = config.build_norm() if self.after_sum or config.first_norm or layer > 0 else nn.Identity()
        self.feedforward_norm = config.build_norm() if has_feedforward and not self.parallel else nn.Identity()
        sandwich = config.placement == "sandwich"
        self.mixer_end_norm = config.build_norm() if sandwich else nn.Identity()
        self.feedforward_end_norm = config.build_norm() if sandwich and has_feedforward else nn.Identity()
        self.dropout = Dropout(config.dropout)
        at = [number for number, passed in enumerate(config.shape.passes, 1) if passed.layer == layer]
        ends = at[-1] == config.shape.depth and config.shape.ends_whole
        self.last = len(at) - 1 if ends else None  # the repeat in which it ends the stack
        self.mixes_asked = config.mixer.traits.asked
        shares = tuple(number / at[-1] for number in at)
        self.layer_drop = LayerDrop(config.layer_drop * at[-1] / config.shape.depth, shares)

    def forward(self, x: Tensor, seen: Visible) -> Tensor:
        if self.skip is not None:
            x = self.skip(x, seen)
        factor = self.layer_drop(x, seen.repeat)
        asked = seen.asked if seen.repeat == self.last else None
        if self.parallel:
            x = at_places(x, asked) + self._thinned(self._parallel(self.mixer_norm(x), seen, asked), factor)
        else:
            mixed = partial(self._mixed, seen=seen, asked=asked)
            x = self._step(x, mixed, self.mixer_norm, self.mixer_end_norm, factor, asked)
            if self.feedforward is not None:
                x = self._step(x, self.feedforward, self.feedforward_norm, self.feedforward_end_norm, factor)
        if self.leaves is not None:
            seen.kept[self.leaves] = x
        return x

    def _mixed(self, x: Tensor, seen: Visible, asked: Tensor | None) -> Tensor:
        if asked is not None and self.mixes_asked:
            mixed: Tensor = self.mixer(x, seen, asked)
            return mixed
        return at_places(self.mixer(x, seen), asked)

    def _parallel(self, normed: Tensor, seen: Visible, asked: Tensor | None) -> Tensor:
        mixed = self._mixed(normed, seen, asked)
        return mixed if self.feedforward is None else mixed + self.feedforward(at_places(normed, asked))

    def _step(
        self,
        x: Tensor,
        layer: Callable[[Tensor], Tensor],
        norm: nn.Module,
        end: nn.Module,
        factor: Tensor | None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """asked: the places of x that the layer answers for."""
        kept = at_places(x, asked)
        if self.after_sum:
            kept = kept if self.alpha == 1.0 else self.alpha * kept
            return norm(kept + self._thinned(layer(x), factor))
        return kept + self._thinned(end(layer(norm(x))), factor)

    def _thinned(self, update: Tensor, factor: Tensor | None) -> Tensor:
        update = self.dropout(update)
        return update if factor is None else factor * update
