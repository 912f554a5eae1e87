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

    `count` rows from `start` on, padded to `size` rows with weight zero; no row counts where `count` is 0. Each is read
    in pieces of `length` tokens.
    """

    start: int
    count: int
    size: int
    multiplier: float
    kind: str
    length: int


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
        # What comes next; and the beginning of the next step, where this one's rows are read once more before it.
        self._ahead: dict[MicroBatch, Future[Made]] = {}
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.waited_seconds = 0.0  # by whoever asked for inputs, in all

    def step(
        self,
        position: int,
        rows: int,
        *,
        multiplier: float,
        kind: str,
        microbatch: int,
        length: int = 0,
        of: int = 0,
    ) -> Iterator[Inputs]:
        """This rank's micro-batches of the step that reads `rows` rows from `position` on, each of `microbatch` rows.

        With a `length` below that of the rows, each is read as so many shorter ones, which know nothing of each other.
        `weights` add up to 1 over the step and all ranks, or to the share that the rows are `of` a larger step; the last
        micro-batch is padded with rows of weight zero, and a rank for which none is left gets one that weighs nothing.
        What comes ahead of the next step is a guess that it has as many rows of the same kind: only what fits what is
        then asked for is used. It stays until rows behind its own are asked for: an optimizer may read a step again.
        """
        of, length = of or rows, length or self._store.length
        mine = self._cut(position, rows, microbatch, multiplier, kind, length)
        guess = self._cut(position + rows, rows, microbatch, multiplier, kind, length)[0]
        for wanted, then in pairwise([*mine, guess]):
            inputs = self._take(wanted, then)
            per_row = len(inputs["weights"]) // microbatch
            # Not part of what is made ahead: the next step's number of rows is known when it begins.
            yield {**inputs, "weights": inputs["weights"] / (per_row * of)}

    def _cut(
        self, position: int, rows: int, microbatch: int, multiplier: float, kind: str, length: int
    ) -> list[MicroBatch]:
        """This rank's, every `ranks`th. An even cut of the rows would keep no rank busy for a shorter time: sizes are
        equal, and ceil(ceil(rows / ranks) / microbatch) = ceil(ceil(rows / microbatch) / ranks)."""
        stop = position + rows
        starts = range(position, stop, microbatch)[self._rank :: self._ranks]
        cut = [(start, min(microbatch, stop - start)) for start in starts] or [(position, 0)]
        return [MicroBatch(start, count, microbatch, multiplier, kind, length) for start, count in cut]

    def _take(self, wanted: MicroBatch, then: MicroBatch) -> Inputs:
        """The wanted inputs, made now unless they were made ahead; `then` is begun."""
        began = perf_counter()
        ready = self._ahead.pop(wanted, None)
        for guess in [guess for guess in self._ahead if guess.start <= wanted.start]:
            self._ahead.pop(guess).cancel()
        made = (ready or self._worker.submit(self._make, wanted)).result()
        if then not in self._ahead:
            self._ahead[then] = self._worker.submit(self._make, then)
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
        parts = [self._inputs(part, wanted) for part in self.row_indices(wanted.start, read)]
        whole = parts[0] if len(parts) == 1 else _join(parts)
        if read < wanted.size:
            whole = _pad(whole, wanted.size * (self._store.length // wanted.length))
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

    def _inputs(self, part: EpochRows, wanted: MicroBatch) -> dict[str, np.ndarray]:
        pieces = self._store.length // wanted.length
        made = self._objective.inputs(
            self._store.rows(part.rows).reshape(-1, wanted.length),
            piece_keys(part.rows, pieces),
            seed=self._seed,
            epoch=part.epoch,
            multiplier=wanted.multiplier,
            kind=wanted.kind,
            vocabulary=self._vocabulary,
        )
        if self._isolate:
            segments = self._store.segments(part.rows).reshape(-1, wanted.length)
            made["segments"] = np.take_along_axis(segments, made["columns"], 1) if "columns" in made else segments
        return made


def piece_keys(rows: Int, pieces: int) -> U64:
    """A key for each of the `pieces` of these rows, in their order; a whole row's is its number.

    No two pieces have the same key, be they of different lengths: bits 40 on number the piece, bits 56 on say into how
    many pieces the row was cut. Rows are fewer than 2^40, pieces fewer than 2^16.
    """
    number = np.arange(pieces, dtype=np.uint64) << np.uint64(40)
    cut = np.uint64((pieces.bit_length() - 1) << 56)
    keys: U64 = (rows.astype(np.uint64)[:, None] | number | cut).reshape(-1)
    return keys


def _use(device: torch.device) -> None:
    """Make it this thread's own: a new thread has the first GPU, where its copies would open a context."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def _join(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One set of inputs from several, flattened positions moved on by the rows before them."""
    joined: dict[str, list[np.ndarray]] = {name: [] for name in parts[0]}
    before = 0
    for part in parts:
        for name, values in part.items():
            joined[name].append(values + before if name == "positions" else values)
        before += part["ids"].size
    return {name: np.concatenate(values) for name, values in joined.items()}


def _pad(inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Repeat the first row until there are that many, with weight zero."""
    count, width = inputs["ids"].shape
    extra = rows - count
    padded = dict(inputs)
    for name, values in inputs.items():
        per_row = len(values) // count
        if values.ndim > 1:
            padded[name] = np.concatenate([values, np.repeat(values[:1], extra, axis=0)])
        elif name == "positions":
            moved = [values[:per_row] + width * (count + i) for i in range(extra)]
            padded[name] = np.concatenate([values, *moved])
        else:
            fill = np.zeros(extra * per_row, values.dtype) if name == "weights" else np.tile(values[:per_row], extra)
            padded[name] = np.concatenate([values, fill])
    return padded
