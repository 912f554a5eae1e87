"""The fixed held-out question (a): 15% of tokens, all replaced by the mask, the same positions for every run.

Special tokens are never masked. The answer is nats per masked token, overall and by source; it compares runs that share
a tokenizer.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpuday.core.seeds import hashes
from gpuday.data.tokenfile import TokenStore
from gpuday.models.heads import MaskedLM
from gpuday.objectives import Int, Vocabulary
from gpuday.train.parallel import Ranks
from gpuday.train.signals import Interruptible

RATE = 0.15
CHUNK = 1024  # positions whose logits exist at a time: with 32,768 entries 128 MiB in fp32


@dataclass(frozen=True)
class Answer:
    """Mean loss in nats per masked token, over `rows` rows, and the same by source."""

    nats_per_token: float
    rows: int
    masked: int
    by_source: dict[str, float]


class HeldOut:
    """Held-out rows [N, L] with their masks, read once; `ask` takes the loss on a prefix of them.

    Rows are visited in an order fixed by their index alone, so that a prefix is a fair sample of every source.
    """

    def __init__(self, store: TokenStore, vocabulary: Vocabulary, *, isolate: bool = False) -> None:
        count = len(store)
        keys = np.arange(count, dtype=np.uint64)
        shuffle = np.argsort(hashes(0, "heldout order", 0, keys, 1)[:, 0], kind="stable")
        self._ids: Int = store.rows(shuffle)
        self._segments = store.segments(shuffle) if isolate else None
        draw = hashes(0, "heldout mask", 0, keys[shuffle], self._ids.shape[1])
        special = np.isin(self._ids, np.array(vocabulary.special_ids))
        self._masked: NDArray[np.bool_] = (draw < np.uint64(int(RATE * 2**64))) & ~special
        self._source, self._names = store.source_of(shuffle), store.sources
        self._mask_id = vocabulary.mask_id

    def __len__(self) -> int:
        return len(self._ids)

    @torch.no_grad()
    def ask(
        self,
        model: MaskedLM,
        *,
        rows: int,
        microbatch: int,
        device: torch.device,
        ranks: Ranks,
        interruptible: Interruptible = nullcontext,
    ) -> Answer:
        """The loss on the first `rows` rows, micro-batches of which are dealt to the ranks in turn: the same answer on all.

        A model that is `shifted` sees the same rows, and is not asked for their first position. The model's mode (training or not) is put back afterwards. Raises TooLarge, on all ranks, when memory ran out on
        one, and Leave when one came within `interruptible`: each micro-batch is such a block.
        """
        rows = min(rows, len(self))
        was_training = model.training
        model.eval()
        try:
            mine = ranks.attempt(lambda: self._sums(model, rows, microbatch, device, ranks, interruptible))
        finally:
            model.train(was_training)
        totals, counts = np.array(ranks.total(mine)).reshape(2, -1)
        by_source = {n: float(t / c) for n, t, c in zip(self._names, totals, counts, strict=True) if c}
        return Answer(float(totals.sum() / counts.sum()), rows, int(counts.sum()), by_source)

    def _sums(
        self,
        model: MaskedLM,
        rows: int,
        microbatch: int,
        device: torch.device,
        ranks: Ranks,
        interruptible: Interruptible,
    ) -> list[float]:
        """The losses of this rank's share by source, added up, then the masked positions by source."""
        totals, counts = np.zeros((2, len(self._names)))
        asked = self._masked.copy()
        asked[:, :1] &= not model.shifted
        most = _most_in_a_microbatch(asked, microbatch)
        for start in range(0, rows, microbatch)[ranks.rank :: ranks.size]:
            stop = min(start + microbatch, rows)
            hidden_ids = np.where(self._masked[start:stop], self._mask_id, self._ids[start:stop])
            masked, ids = asked[start:stop], torch.from_numpy(hidden_ids).to(device)
            # Padded to one shape: on a CPU every new shape of a product costs more than the product.
            count = int(masked.sum())
            positions, labels = np.zeros((2, most), dtype=np.int64)
            positions[:count], labels[:count] = np.flatnonzero(masked), self._ids[start:stop][masked]
            segments = None if self._segments is None else torch.from_numpy(self._segments[start:stop]).to(device)
            with interruptible():
                hidden = model.encoder(ids, segments=segments)
                every = _losses(
                    model, hidden, torch.from_numpy(positions).to(device), torch.from_numpy(labels).to(device)
                )
                losses = every.double().cpu().numpy()[:count]
            sources = np.repeat(self._source[start:stop], masked.sum(axis=1))
            totals += np.bincount(sources, losses, minlength=len(totals))
            counts += np.bincount(sources, minlength=len(counts))
        return [*totals, *counts]


def _most_in_a_microbatch(masked: NDArray[np.bool_], microbatch: int) -> int:
    """The most masked positions in any micro-batch of that many rows."""
    per_row = masked.sum(axis=1)
    return int(np.add.reduceat(per_row, np.arange(0, len(per_row), microbatch)).max())


def _losses(model: MaskedLM, hidden: Tensor, positions: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy [P] fp32 of labels [P] at positions [P] of the flattened hidden states [B, L, D]."""
    chunks = zip(positions.split(CHUNK), labels.split(CHUNK), strict=True)
    return torch.cat([F.cross_entropy(model.predict(hidden, p).float(), y, reduction="none") for p, y in chunks])
