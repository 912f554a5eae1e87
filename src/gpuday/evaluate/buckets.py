"""Batches of rows of like length, so that little of a batch is padding.

Shapes: N rows, M token rows (a row has one, or one for each of its candidates), L tokens at most in a token row, B rows in a
batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.seeds import generator

MULTIPLE = 8  # of a padded length: the matrix units of GPUs and CPUs work on such tiles
CHUNK = 32  # batches inside which rows are sorted: random enough for training, and 90% of tokens are real
IGNORED = -100  # the target of a token that has none; cross_entropy leaves it out


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Rows as tokens on the device."""

    ids: Tensor
    """int32 [M, L], padded."""
    lengths: Tensor
    """int64 [M], real tokens."""
    host_lengths: NDArray[np.int64]
    """[N], on the host: tokens of the longest token row of each row."""
    labels: Tensor | None
    """int64 or float32 [N]; of tagging int64 [N, L] with IGNORED where nothing is asked; of span int64 [N, 2], first and
    last token. None: unlabelled."""
    types: Tensor | None = None
    """int8 [M, L], which text a token is of; None where the body does not ask."""
    context: Tensor | None = None
    """Span: bool [M, L], the tokens that an answer can consist of."""
    candidates: int = 1
    """Token rows of a row."""

    def __len__(self) -> int:
        return len(self.host_lengths)

    def width(self, longest: int) -> int:
        """Columns of a batch whose longest row has `longest` tokens."""
        return min(-(-longest // MULTIPLE) * MULTIPLE, self.ids.shape[1])

    def batch(self, rows: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """(ids [B', l] int64, mask [B', l] bool, types [B', l] int64 or None) of rows [B] of which the longest has
        `longest` tokens; B' is B times the candidates. Nothing syncs."""
        width = self.width(longest)
        if self.candidates > 1:
            rows = (rows[:, None] * self.candidates + torch.arange(self.candidates, device=rows.device)).flatten()
        ids = self.ids.index_select(0, rows)[:, :width].long()
        mask = torch.arange(width, device=ids.device) < self.lengths.index_select(0, rows)[:, None]
        types = None if self.types is None else self.types.index_select(0, rows)[:, :width].long()
        return ids, mask, types

    def targets(self, rows: Tensor, longest: int) -> Tensor:
        """Labels of rows [B], cut to the batch's width where there is one for every token."""
        assert self.labels is not None, "only labelled rows are trained on"
        chosen = self.labels.index_select(0, rows)
        return chosen[:, : self.width(longest)] if self.labels.shape[1:] == self.ids.shape[1:] else chosen


def train_batches(lengths: NDArray[np.int64], batch: int, seed: int, name: str, epoch: int) -> NDArray[np.int64]:
    """Row numbers [N // B, B] of one epoch: every row once, but for the N % B that this epoch's shuffle puts last.

    Shuffled, sorted by length inside chunks of 32 batches, and the batches shuffled again; a function of its arguments.
    """
    draw = generator(seed, name, epoch)
    order = draw.permutation(len(lengths))[: len(lengths) // batch * batch]
    chunks = [order[i : i + CHUNK * batch] for i in range(0, len(order), CHUNK * batch)]
    ordered = [chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks]
    batches = np.concatenate([order[:0], *ordered]).reshape(-1, batch)
    return batches[draw.permutation(len(batches))]


def dev_batches(lengths: NDArray[np.int64], batch: int) -> list[NDArray[np.int64]]:
    """Row numbers of every row once, by length; the last batch may be smaller."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch] for i in range(0, len(order), batch)]
