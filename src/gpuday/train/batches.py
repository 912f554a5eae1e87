"""Micro-batches of any step, from one integer: the position in the stream of rows.

Position i is epoch i // N, row order[i % N] of N rows; masks are keyed by (seed, epoch, row). The stream is thus the
same for every micro-batch size, and the loader's whole state is the position. A step is cut into micro-batches, which
are dealt to the ranks in turn: they are the same ones for every number of ranks. A worker thread makes the next one
while the device works on the present one, over the end of a step too.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from gpuday.core.seeds import U64
from gpuday.data.orders import Order, RowOrder
from gpuday.data.tokenfile import TokenStore
from gpuday.objectives import Int, Objective, Vocabulary

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class EpochRows:
    """Consecutive positions of one epoch: their rows and the epoch."""

    epoch: int
    rows: Int


@dataclass(frozen=True)
class MicroBatch:
    """All that the inputs of a micro-batch depend on, but for the number that the step's weights are divided by.

    `count` rows from `start` on, padded to `size` rows with weight zero; no row counts where `count` is 0.
    """

    start: int
    count: int
    size: int
    multiplier: float


@dataclass(frozen=True)
class Made:
    """Inputs on their device, and the event after which a copy from the host is complete."""

    inputs: Inputs
    copied: torch.cuda.Event | None = None


class Batches:
    """Reads `store` in `order`, makes inputs by `objective`, hands them out on `device`: the share of rank `rank`."""

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
        rank: int = 0,
        ranks: int = 1,
        isolate: bool = False,
    ) -> None:
        self._store, self._order, self._objective, self._vocabulary = store, order, objective, vocabulary
        self._seed, self._expected_rows, self._device = seed, expected_rows, device
        self._rank, self._ranks, self._isolate = rank, ranks, isolate
        self._epoch_order: tuple[int, RowOrder] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="gpuday-batches", initializer=partial(_use, device))
        self._ahead: tuple[MicroBatch, Future[Made]] | None = None
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.waited_seconds = 0.0  # by whoever asked for inputs, in all

    def step(self, position: int, rows: int, *, multiplier: float, microbatch: int) -> Iterator[Inputs]:
        """This rank's micro-batches of the step that reads `rows` rows from `position` on, each of `microbatch` rows.

        `weights` add up to 1 over the step and all ranks; the last micro-batch is padded with rows of weight zero, and a
        rank for which none is left gets one that weighs nothing. What comes ahead of the next step is a guess that it
        has as many rows at the same multiplier: only what fits what is then asked for is used.
        """
        mine = self._cut(position, rows, multiplier, microbatch)
        guess = self._cut(position + rows, rows, multiplier, microbatch)[0]
        for wanted, then in pairwise([*mine, guess]):
            inputs = self._take(wanted, then)
            per_row = len(inputs["weights"]) // microbatch
            # Not part of what is made ahead: the next step's number of rows is known when it begins.
            yield {**inputs, "weights": inputs["weights"] / (per_row * rows)}

    def _cut(self, position: int, rows: int, multiplier: float, microbatch: int) -> list[MicroBatch]:
        """This rank's, every `ranks`th. An even cut of the rows would keep no rank busy for a shorter time: sizes are
        equal, and ceil(ceil(rows / ranks) / microbatch) = ceil(ceil(rows / microbatch) / ranks)."""
        stop = position + rows
        starts = range(position, stop, microbatch)[self._rank :: self._ranks]
        cut = [MicroBatch(start, min(microbatch, stop - start), microbatch, multiplier) for start in starts]
        return cut or [MicroBatch(position, 0, microbatch, multiplier)]

    def _take(self, wanted: MicroBatch, then: MicroBatch) -> Inputs:
        """The wanted inputs, made now unless they were made ahead; `then` is begun."""
        began = perf_counter()
        if self._ahead is None or self._ahead[0] != wanted:
            if self._ahead is not None:
                self._ahead[1].cancel()
            self._ahead = wanted, self._worker.submit(self._make, wanted)
        made = self._ahead[1].result()
        self._ahead = then, self._worker.submit(self._make, then)
        self.waited_seconds += perf_counter() - began
        if made.copied is not None:
            here = torch.cuda.current_stream(self._device)
            here.wait_event(made.copied)
            for tensor in made.inputs.values():
                tensor.record_stream(here)  # else its memory could be given away before the model has read it
        return made.inputs

    def row_indices(self, position: int, count: int) -> list[EpochRows]:
        """Which rows the positions stand for, split where an epoch ends."""
        split = []
        total = len(self._store)
        while count > 0:
            epoch, within = divmod(position, total)
            here = min(count, total - within)
            split.append(EpochRows(epoch, self._rows(epoch, np.arange(within, within + here))))
            position, count = position + here, count - here
        return split

    def close(self) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _rows(self, epoch: int, positions: Int) -> Int:
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            made = self._order.rows(self._store, seed=self._seed, epoch=epoch, expected_rows=self._expected_rows)
            self._epoch_order = (epoch, made)
        return self._epoch_order[1](positions)

    def _make(self, wanted: MicroBatch) -> Made:
        read = max(wanted.count, 1)
        parts = [self._inputs(part, wanted.multiplier) for part in self.row_indices(wanted.start, read)]
        whole = parts[0] if len(parts) == 1 else _join(parts, self._store.length)
        if read < wanted.size:
            whole = _pad(whole, read, wanted.size, self._store.length)
        if not wanted.count:
            whole["weights"] = np.zeros_like(whole["weights"])
        host = {k: torch.from_numpy(v) for k, v in whole.items()}
        if self._copies is None:
            return Made(host)
        # From here, and on a stream of its own: the loop is about to wait for the device at the end of a step, and the
        # copy must neither wait for the kernels before it nor hold up those behind it.
        with torch.cuda.stream(self._copies):
            inputs = {k: v.pin_memory().to(self._device, non_blocking=True) for k, v in host.items()}
            return Made(inputs, self._copies.record_event())

    def _inputs(self, part: EpochRows, multiplier: float) -> dict[str, np.ndarray]:
        rows = self._store.rows(part.rows)
        keys: U64 = part.rows.astype(np.uint64)
        made = self._objective.inputs(
            rows, keys, seed=self._seed, epoch=part.epoch, multiplier=multiplier, vocabulary=self._vocabulary
        )
        return made | {"segments": self._store.segments(part.rows)} if self._isolate else made


def _use(device: torch.device) -> None:
    """Make it this thread's own: a new thread has the first GPU, where its copies would open a context."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def _join(parts: list[dict[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """One set of inputs from several, flattened positions moved on by the rows before them."""
    joined: dict[str, list[np.ndarray]] = {name: [] for name in parts[0]}
    before = 0
    for part in parts:
        for name, values in part.items():
            joined[name].append(values + before * length if name == "positions" else values)
        before += len(part["ids"])
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
