"""Micro-batches of any step, from one integer: the position in the stream of rows.

Position i is epoch i // N, row order[i % N] of N rows; masks are keyed by (seed, epoch, row). The stream is thus the
same for every micro-batch size, and the loader's whole state is the position. A worker thread makes the next
micro-batch while the device works on the present one.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gpuday.core.seeds import U64
from gpuday.data.orders import Order, RowOrder
from gpuday.data.tokenfile import TokenStore
from gpuday.objectives import Int, Objective, Vocabulary

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Segment:
    """Consecutive positions of one epoch: their rows and the epoch."""

    epoch: int
    rows: Int


class Batches:
    """Reads `store` in `order`, makes inputs by `objective`, hands them out on `device`."""

    def __init__(
        self,
        store: TokenStore,
        order: Order,
        objective: Objective,
        vocabulary: Vocabulary,
        *,
        seed: int,
        expected_rows: int,
        device: torch.device,
    ) -> None:
        self._store, self._order, self._objective, self._vocabulary = store, order, objective, vocabulary
        self._seed, self._expected_rows, self._device = seed, expected_rows, device
        self._epoch_order: tuple[int, RowOrder] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gpuday-batches")

    def step(self, position: int, rows: int, *, multiplier: float, microbatch: int) -> Iterator[Inputs]:
        """The micro-batches of the step that reads `rows` rows from `position` on, each of `microbatch` rows.

        `weights` add up to 1 over the step; the last micro-batch is padded with rows of weight zero.
        """
        starts = range(position, position + rows, microbatch)
        stop = position + rows

        def make(start: int) -> Inputs:
            return self._make(start, min(microbatch, stop - start), microbatch, multiplier, rows)

        ahead: Future[Inputs] = self._worker.submit(make, starts[0])
        for start in [*starts[1:], None]:
            ready = ahead.result()
            if start is not None:
                ahead = self._worker.submit(make, start)
            yield {k: v.to(self._device, non_blocking=True) for k, v in ready.items()}

    def row_indices(self, position: int, count: int) -> list[Segment]:
        """Which rows the positions stand for, split where an epoch ends."""
        segments = []
        total = len(self._store)
        while count > 0:
            epoch, within = divmod(position, total)
            here = min(count, total - within)
            segments.append(Segment(epoch, self._rows(epoch, np.arange(within, within + here))))
            position, count = position + here, count - here
        return segments

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _rows(self, epoch: int, positions: Int) -> Int:
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            made = self._order.rows(self._store, seed=self._seed, epoch=epoch, expected_rows=self._expected_rows)
            self._epoch_order = (epoch, made)
        return self._epoch_order[1](positions)

    def _make(self, position: int, count: int, microbatch: int, multiplier: float, step_rows: int) -> Inputs:
        pieces = [self._segment(segment, multiplier) for segment in self.row_indices(position, count)]
        whole = pieces[0] if len(pieces) == 1 else _join(pieces, self._store.length)
        if count < microbatch:
            whole = _pad(whole, count, microbatch, self._store.length)
        per_row = len(whole["weights"]) // microbatch
        whole["weights"] = whole["weights"] / np.float32(per_row * step_rows)
        made = {k: torch.from_numpy(v) for k, v in whole.items()}
        return {k: v.pin_memory() for k, v in made.items()} if self._device.type == "cuda" else made

    def _segment(self, segment: Segment, multiplier: float) -> dict[str, np.ndarray]:
        rows = self._store.rows(segment.rows)
        keys: U64 = segment.rows.astype(np.uint64)
        return self._objective.inputs(
            rows, keys, seed=self._seed, epoch=segment.epoch, multiplier=multiplier, vocabulary=self._vocabulary
        )


def _join(pieces: list[dict[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """One set of inputs from several, flattened positions moved on by the rows before them."""
    joined: dict[str, list[np.ndarray]] = {name: [] for name in pieces[0]}
    before = 0
    for piece in pieces:
        for name, values in piece.items():
            joined[name].append(values + before * length if name == "positions" else values)
        before += len(piece["ids"])
    return {name: np.concatenate(values) for name, values in joined.items()}


def _pad(inputs: dict[str, np.ndarray], count: int, microbatch: int, length: int) -> dict[str, np.ndarray]:
    """Repeat the first row until there are `microbatch` rows, with weight zero."""
    extra = microbatch - count
    padded = dict(inputs)
    per_row = len(inputs["weights"]) // count
    for name, values in inputs.items():
        if values.ndim > 1:
            padded[name] = np.concatenate([values, np.repeat(values[:1], extra, axis=0)])
        elif name == "positions":
            moved = [values[:per_row] + length * (count + i) for i in range(extra)]
            padded[name] = np.concatenate([values, *moved])
        else:
            fill = np.zeros(extra * per_row, values.dtype) if name == "weights" else np.tile(values[:per_row], extra)
            padded[name] = np.concatenate([values, fill])
    return padded
