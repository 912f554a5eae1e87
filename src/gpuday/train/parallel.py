"""The ranks of a run: one process for each device, over any number of nodes, started by `torchrun`.

Gradients are summed by one all-reduce for each optimizer step, after its last micro-batch, and not by a wrapper around
the model: the weights of the loss are already divided by the count of the whole step, so that the sum is the gradient
of the whole batch. What the host decides goes through gloo, so that it waits for no device. Every collective has a
time limit, and `torchrun` ends all ranks when one fails: nothing waits for ever. A collective that fails because ranks
are gone is a `RankGone`, which names them.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor

from gpuday.core import launched
from gpuday.core.errors import EnvironmentFault, GpudayError, Interrupted
from gpuday.train.device import is_out_of_memory, pick_device
from gpuday.train.peers import Peers, RankGone
from gpuday.train.signals import Leave

T = TypeVar("T")
BUCKET_BYTES = 64 << 20  # of gradient that is copied together: few launches, little memory
STEP_LIMIT = timedelta(minutes=30)  # rank 0 may save while the others wait, and each of them compiles for itself
PREPARE_LIMIT = timedelta(days=2)  # rank 0 reads the corpus
LOOK = timedelta(seconds=5)  # whoever has waited so long for others looks whether they are still there


@dataclass(frozen=True)
class _Groups:
    """Process groups: for what happens once, for the host's decisions in each step, for tensors on the device."""

    preparing: dist.ProcessGroup | None
    host: dist.ProcessGroup
    device: dist.ProcessGroup


class TooLarge(Exception):
    """What was tried did not fit the memory of this rank's device, or of another's."""


class Ranks:
    """This process among those that train one run. Alone, which is the default, it says nothing to anybody.

    Every method but `of_environment` is to be called by all ranks, in the same order.
    """

    def __init__(self, rank: int = 0, size: int = 1, *, local: int = 0) -> None:
        self.rank, self.size, self._local = rank, size, local
        self._groups: _Groups | None = None
        self._peers: Peers | None = None

    @staticmethod
    def of_environment() -> "Ranks":
        """As the launcher says, else a rank alone. Raises UsageError for what it never says."""
        rank, size, local = launched.place()
        return Ranks(rank, size, local=local)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which owns the clock and writes every file."""
        return self.rank == 0

    def device(self) -> torch.device:
        """This rank's device. Raises EnvironmentFault when the node has fewer devices than ranks."""
        device = pick_device()
        if device.type != "cuda" or self.size == 1:
            return device
        if self._local >= torch.cuda.device_count():
            raise EnvironmentFault(
                f"rank {self.rank} wants device {self._local}, and this node has {torch.cuda.device_count()}",
                fix="give torchrun at most that many as --nproc-per-node",
            )
        torch.cuda.set_device(self._local)
        return torch.device("cuda", self._local)

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Inside the block the ranks hear each other. They leave together, after a signal too, so that nobody's exit
        lets `torchrun` end a rank that still writes. Whoever leaves by a fault leaves at once, for all: the others then
        raise RankGone, as they do for a rank that was killed. Of a fault that ranks of a host share, all but one are `told`."""
        if self.size == 1:
            yield
            return
        store, *_ = next(dist.rendezvous("env://", self.rank, self.size, timeout=PREPARE_LIMIT))
        self._peers = Peers(store, self.rank, self.size)
        with self._together():
            dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.size, timeout=PREPARE_LIMIT)
            host = dist.new_group(backend="gloo", timeout=STEP_LIMIT)
            wide = dist.new_group(backend="nccl", timeout=STEP_LIMIT) if device.type == "cuda" else host
        self._groups = _Groups(dist.group.WORLD, host, wide)
        try:
            yield
        except Interrupted:
            with contextlib.suppress(RankGone):  # the signal is why this rank leaves, and its state is saved
                self._leave()
            raise
        except RankGone:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and (gone := self._peers.fault(error)):
                raise gone from error  # `torchrun` stops the others of a rank that died by a signal
            self._peers.leave()
            if isinstance(error, GpudayError):
                error.told = not self._peers.claim(xxhash.xxh3_64_hexdigest(str(error).encode(errors="replace")))
            raise
        self._leave()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """Around collectives, and nothing else. Raises RankGone when they fail because ranks are gone or do not answer."""
        try:
            yield
        except RuntimeError as error:
            gone = None if self._peers is None or is_out_of_memory(error) else self._peers.fault(error)
            if gone is None:
                raise
            raise gone from error

    def _wait(self, work: dist.Work | None) -> None:
        """Wait until hosts have done something together. Raises RuntimeError when it fails, and when a rank of this host
        is dead at two looks: its connection may stay open, held by a process that it started, and gloo may miss its end."""
        if work is None or self._peers is None:
            return
        before: set[int] = set()
        while not work.is_completed():
            with contextlib.suppress(RuntimeError):  # not done by then; what it ends with comes below
                work.wait(LOOK)
                return
            dead = set() if work.is_completed() else set(self._peers.dead())
            if dead & before:
                raise dist.DistError(f"nothing came for {LOOK.total_seconds():g} s, and the connection is open")
            before = dead
        work.wait()

    def _leave(self) -> None:
        if self._groups is not None:
            with self._together():
                self._wait(dist.barrier(self._groups.host, async_op=True))
            self._groups = None
            dist.destroy_process_group()

    def lead_first(self, lead: Callable[[], T], others: Callable[[], T] | None = None) -> T:
        """What `lead` returns on rank 0 and then, once that is done, `others` (or `lead` again) on the other ranks."""
        if self._groups is None:
            return lead()
        done = [lead()] if self.leads else []
        with self._together():
            self._wait(dist.barrier(self._groups.preparing, async_op=True))
        return done[0] if done else (others or lead)()

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The values of rank 0, in fp64."""
        if self._groups is None:
            return list(values)
        theirs = torch.tensor(values, dtype=torch.float64)
        with self._together():
            self._wait(dist.broadcast(theirs, 0, group=self._groups.host, async_op=True))
        return theirs.tolist()

    def largest(self, value: float) -> float:
        """The largest over the ranks."""
        return self._reduced([value], dist.ReduceOp.MAX)[0]

    def total(self, values: Sequence[float]) -> list[float]:
        """The sum over the ranks of each value, in fp64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def attempt(self, call: Callable[[], T]) -> T:
        """What the call returns. Raises TooLarge, on all ranks, when memory ran out in it on one of them, and Leave when
        it was raised on one: all leave by that signal.

        The call must not wait for other ranks where either may happen on one: that one would not be there.
        """
        made: list[T] = []
        verdict = 0  # what all ranks do is the largest: 1 says too large, and 1 + n to leave by signal n
        try:
            made.append(call())
        except Leave as leave:
            verdict = 1 + signal.Signals[leave.signal]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            verdict = 1
        # Behind the block above, what the call held is free again.
        agreed = int(self.largest(verdict))
        if agreed > 1:
            raise Leave(signal.Signals(agreed - 1).name)
        if agreed:
            raise TooLarge
        return made[0]

    def room(self, tensors: Sequence[Tensor]) -> Tensor:
        """What `add` needs of memory for these tensors: a place for the largest bucket, none for a rank alone."""
        many = 0 if self._groups is None else max(map(_elements, buckets(tensors, BUCKET_BYTES)))
        return torch.empty(many, device=tensors[0].device)

    def add(self, tensors: Sequence[Tensor], room: Tensor) -> None:
        """Replace each fp32 tensor by its sum over the ranks, equal to the bit on all of them; the device is not waited
        for. They travel in flat buckets of at most BUCKET_BYTES, one after the other through `room`; a larger tensor
        travels alone."""
        if self._groups is None:
            return
        for bucket in buckets(tensors, BUCKET_BYTES):
            flat = torch.cat([t.reshape(-1) for t in bucket], out=room[: _elements(bucket)])
            with self._together():
                if self._groups.device is self._groups.host:
                    self._wait(dist.all_reduce(flat, group=self._groups.host, async_op=True))
                else:  # the host goes on
                    dist.all_reduce(flat, group=self._groups.device)
            for tensor, piece in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(piece.view_as(tensor))

    def check_equal(self, tensors: Sequence[Tensor]) -> None:
        """Raise EnvironmentFault unless all ranks hold the same bytes."""
        if self._groups is None:
            return
        digest = xxhash.xxh3_64()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        mine = torch.tensor([digest.intdigest() >> 1])
        seen = [torch.zeros_like(mine) for _ in range(self.size)]
        with self._together():
            self._wait(dist.all_gather(seen, mine, group=self._groups.host, async_op=True))
        if odd := [rank for rank, other in enumerate(seen) if not torch.equal(other, seen[0])]:
            raise EnvironmentFault(
                f"the weights of ranks {odd} differ from those of rank 0",
                fix="let every node see the same run folder, and run the same versions of Python packages",
            )

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self._groups is None:
            return list(values)
        both = torch.tensor(values, dtype=torch.float64)
        with self._together():
            self._wait(dist.all_reduce(both, how, group=self._groups.host, async_op=True))
        return both.tolist()


def _elements(tensors: Sequence[Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def buckets(tensors: Sequence[Tensor], most_bytes: int) -> Iterator[list[Tensor]]:
    """The tensors in their order, as few together as keeps each list below `most_bytes`, and never none."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > most_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
