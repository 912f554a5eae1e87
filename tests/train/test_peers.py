"""Peers: which ranks are gone, by the processes that really are, and who of the others says so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import psutil
import pytest
import torch.distributed as dist

from gpuday.train import peers
from gpuday.train.peers import Peers, Process, RankGone, beginning

CLOSED = RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:25007")
LATE = RuntimeError("[unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete")
Sleeper = subprocess.Popen[bytes]


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look once: the processes of these tests are dead, or will not die."""
    monkeypatch.setattr(peers, "GRACE", 0.0)


@pytest.fixture
def sleepers() -> Iterator[list[Sleeper]]:
    """Two processes, as ranks 1 and 2."""
    made = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
    yield made
    for process in made:
        process.kill()
        process.wait()


def process_of(pid: int) -> Process:
    return replace(Process.own(), pid=pid, began=beginning(pid))


@pytest.fixture
def meet(sleepers: list[Sleeper]) -> Callable[..., Peers]:
    """`meet(store)` is rank 0 among the two, or another rank; `**where` says that rank 2 lives elsewhere."""

    def make(store: dist.Store, rank: int = 0, **where: str) -> Peers:
        known = [Process.own(), *(process_of(p.pid) for p in sleepers)]
        known[2] = replace(known[2], **where)
        for number, process in enumerate(known):
            dist.PrefixStore("gpuday", store).set(f"process {number}", json.dumps(asdict(process)))
        return Peers(store, rank, 3)

    return make


Meet = Callable[..., Peers]


def fault(at: Peers, error: BaseException = CLOSED) -> RankGone:
    gone = at.fault(error)
    assert gone is not None
    return gone


@pytest.mark.parametrize("waited_for", [False, True])
def test_a_killed_process_is_named(meet: Meet, sleepers: list[Sleeper], waited_for: bool) -> None:
    """Whether its parent has taken notice or it is a zombie; with what the library said, and how to go on."""
    at, (one, _) = meet(dist.HashStore()), sleepers
    one.kill()
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    if waited_for:
        one.wait()
    gone = fault(at)
    assert gone.what == f"rank 1 (process {one.pid} on {Process.own().host}) is gone: killed, or crashed"
    assert gone.where == str(CLOSED)
    assert "also with fewer ranks" in gone.fix
    assert (gone.exit_code, gone.told) == (5, False)


def test_an_id_that_another_process_has_now_is_not_the_rank(meet: Meet) -> None:
    """A busy machine gives the ids of dead processes away."""
    own = Process.own()
    assert own.status() in (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING)
    assert replace(own, began=own.began - 1).status() == psutil.STATUS_DEAD


def test_all_that_are_gone_are_named(meet: Meet, sleepers: list[Sleeper]) -> None:
    """A node's out-of-memory killer seldom takes one."""
    at = meet(dist.HashStore())
    for process in sleepers:
        process.kill()
        process.wait()
    what = fault(at).what
    assert all(f"rank {r} (process {p.pid}" in what for r, p in enumerate(sleepers, 1))
    assert " are gone" in what


def test_a_rank_that_followed_is_not_taken_for_the_dead_one(meet: Meet, sleepers: list[Sleeper]) -> None:
    """Rank 1 is killed, rank 2 hears it and leaves, rank 0 hears it last: it names rank 1 alone, and need not say so."""
    store, (one, two) = dist.HashStore(), sleepers
    first, last = meet(store, rank=2), meet(store)
    one.kill()
    one.wait()
    assert not fault(first).told
    two.kill()
    two.wait()
    gone = fault(last)
    assert "rank 1" in gone.what and "rank 2" not in gone.what
    assert gone.told


def test_a_rank_that_leaves_and_ends_while_one_looks_is_not_taken_for_the_dead_one(
    meet: Meet, sleepers: list[Sleeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 2 follows rank 1 and is gone between two questions of rank 0's: it has said so first, and rank 0 asks last."""
    store, (one, two) = dist.HashStore(), sleepers
    leaving, looking = meet(store, rank=2), meet(store)
    one.kill()
    one.wait()
    status = Process.status

    def leave_first(process: Process) -> str:
        if process.pid == two.pid and two.poll() is None:
            leaving.leave(followed=True)
            two.kill()
            two.wait()
        return status(process)

    monkeypatch.setattr(Process, "status", leave_first)
    gone = fault(looking)
    assert "rank 1" in gone.what and "rank 2" not in gone.what


def test_every_host_has_one_that_says_it(meet: Meet, sleepers: list[Sleeper]) -> None:
    """Each node's launcher prints to its own screen."""
    store, (one, _) = dist.HashStore(), sleepers
    here, there = meet(store), meet(store, rank=2)
    there._own = replace(there._own, space="another")
    one.kill()
    one.wait()
    assert not fault(here).told
    assert not fault(there, LATE).told


def test_whoever_left_by_its_own_fault_has_told_it(meet: Meet, sleepers: list[Sleeper]) -> None:
    """The others name it and are silent: its message says what to mend. It may be gone by then."""
    store, (one, _) = dist.HashStore(), sleepers
    faulty, waiting = meet(store, rank=1), meet(store)
    faulty.leave()
    one.kill()
    one.wait()
    gone = fault(waiting)
    assert gone.what.startswith("rank 1 (process") and gone.what.endswith("left by a fault of its own")
    assert "mend what is printed there" in gone.fix
    assert gone.told


def test_a_rank_on_another_host_is_not_looked_for_here(meet: Meet, sleepers: list[Sleeper]) -> None:
    """Its process id means nothing on this one."""
    at, (_, two) = meet(dist.HashStore(), space="another"), sleepers
    two.kill()
    two.wait()
    gone = fault(at)
    assert gone.what.startswith("a rank on another node is gone")
    assert "what the other nodes print" in gone.fix


def test_a_stopped_rank_is_named_when_the_time_is_up(meet: Meet, sleepers: list[Sleeper]) -> None:
    """Its process lives, so that only the time limit of a collective finds it."""
    at, (one, _) = meet(dist.HashStore()), sleepers
    one.send_signal(signal.SIGSTOP)
    while psutil.Process(one.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert fault(at, LATE).what.endswith("is stopped and did not answer in time")


def test_a_rank_that_hangs_is_not_called_gone(meet: Meet) -> None:
    """All processes are there: the message says that one of them does not answer."""
    assert "all of them run" in fault(meet(dist.HashStore()), LATE).what


@pytest.mark.parametrize("error", [RuntimeError("a shape is wrong"), KeyboardInterrupt()])
def test_other_errors_are_left_as_they_are(meet: Meet, error: BaseException) -> None:
    """With every rank there: a fault of this program stays one, and so does a signal."""
    assert meet(dist.HashStore()).fault(error) is None


def test_a_signal_to_the_survivors_of_a_dead_rank_names_it(meet: Meet, sleepers: list[Sleeper]) -> None:
    """The launcher's, which comes while rank 0 is busy with something else than the others."""
    at = meet(dist.HashStore())
    sleepers[1].kill()
    sleepers[1].wait()
    assert fault(at, KeyboardInterrupt()).what.startswith("rank 2 (process")


def test_without_the_store_each_says_what_it_sees(meet: Meet, sleepers: list[Sleeper]) -> None:
    """Whoever kept it is dead as well: better told twice than not at all."""
    keeper: Any = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    clients = [
        dist.TCPStore("127.0.0.1", keeper.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        for _ in range(2)
    ]
    first, second = meet(clients[0]), meet(clients[1], rank=2)
    del keeper
    sleepers[0].kill()
    sleepers[0].wait()
    for gone in (fault(first), fault(second)):
        assert gone.what.startswith("rank 1 (process")
        assert not gone.told
    first.leave()


def test_a_fault_that_ranks_share_is_said_by_one_of_each_host(meet: Meet) -> None:
    """By whoever comes first, each time it is asked; another fault is another's to say."""
    store = dist.HashStore()
    ranks = [meet(store, rank) for rank in range(3)]
    ranks[2]._own = replace(ranks[2]._own, space="another")
    assert [at.claim("it diverged") for at in ranks] == [True, False, True]
    assert [at.claim("it diverged") for at in ranks] == [True, False, True]
    assert ranks[1].claim("something else")
