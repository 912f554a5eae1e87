"""Batches of rows of like length, so that little of a batch is padding.

Shapes: N rows, L tokens at most in a row, B rows in a batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.seeds import generator
from gpuday.data.tokenizer import TextTokenizer
from gpuday.evaluate.tasks.rows import Rows

MULTIPLE = 8  # of a padded length: the matrix units of GPUs and CPUs work on such tiles
CHUNK = 32  # batches inside which rows are sorted: random enough for training, and 90% of tokens are real


@dataclass(frozen=True)
class Encoded:
    """Rows as tokens on the device: ids int32 [N, L] padded with `pad`, lengths int64 [N] on the device and the host."""

    ids: Tensor
    lengths: Tensor
    host_lengths: NDArray[np.int64]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.host_lengths)

    def batch(self, rows: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """(ids [B, l] int64, mask [B, l] bool) of rows [B] of which the longest has `longest` tokens; nothing syncs."""
        width = min(-(-longest // MULTIPLE) * MULTIPLE, self.ids.shape[1])
        ids = self.ids.index_select(0, rows)[:, :width].long()
        return ids, torch.arange(width, device=ids.device) < self.lengths.index_select(0, rows)[:, None]


def encode(rows: Rows, tokenizer: TextTokenizer, *, max_tokens: int, device: torch.device) -> Encoded:
    """`<cls> A <sep> [B <sep>]` of every row, cut to `max_tokens`."""
    tokens = tokenizer.encode_pairs(rows.text_a, rows.text_b, max_tokens)
    lengths = np.array([len(t) for t in tokens], dtype=np.int64)
    ids = np.full((len(tokens), int(lengths.max())), tokenizer.pad_id, dtype=np.int32)
    for row, t in zip(ids, tokens, strict=True):
        row[: len(t)] = t
    labels = torch.from_numpy(rows.labels)
    labels = labels if rows.labels.dtype == np.int64 else labels.float()
    on_device = torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)
    return Encoded(ids=on_device[0], lengths=on_device[1], host_lengths=lengths, labels=labels.to(device))


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
