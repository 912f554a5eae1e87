"""Ranks: sums over processes that are exact and equal everywhere, an order of who goes first, and nothing for one alone."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core.errors import EnvironmentFault, UsageError
from gpuday.train.parallel import Ranks, buckets
from warm import Popen, run

ROOT = Path(__file__).resolve().parents[2]
SIZE = 3
CPU = torch.device("cpu")

SCRIPT = """
import json, sys, time
import torch
from gpuday.core.errors import EnvironmentFault, Interrupted
from gpuday.train import parallel
from gpuday.train.signals import Leave

ranks = parallel.Ranks.of_environment()
parallel.BUCKET_BYTES = 64
told = {"rank": ranks.rank, "size": ranks.size, "leads": ranks.leads}
trace = open(sys.argv[1], "a")
try:
    with ranks.joined(ranks.device()):
        torch.manual_seed(ranks.rank)
        tensors = [torch.randn(shape) for shape in ((), (3, 5), (4,), (100,), (2, 2))]
        told["own"] = [t.tolist() for t in tensors]
        ranks.add(tensors, ranks.room(tensors))
        told["sums"] = [t.tolist() for t in tensors]
        told["broadcast"] = ranks.broadcast([0.1 + ranks.rank, -2.0 + 3 * ranks.rank])
        told["largest"] = ranks.largest(float(ranks.rank))

        def full():
            if ranks.rank == 1:
                raise torch.OutOfMemoryError("out of memory")
            return "there was room"

        try:
            told["attempt"] = ranks.attempt(full)
        except parallel.TooLarge:
            told["attempt"] = "too large"

        def torn():
            if ranks.rank == 1:
                raise torch.OutOfMemoryError("out of memory")
            if ranks.rank == 2:
                raise Leave("SIGUSR1")

        try:
            told["torn"] = ranks.attempt(torn)
        except Leave as leave:
            told["torn"] = leave.signal
        told["another attempt"] = ranks.attempt(lambda: None if ranks.leads else ranks.rank)
        told["total"] = ranks.total([0.1, 2.0**40 + ranks.rank])

        def work(name):
            if ranks.leads:
                time.sleep(0.3)
            trace.write(f"{name}\\n")
            trace.flush()
            return name

        told["first"] = [ranks.lead_first(lambda: work("lead"), lambda: work("other")), ranks.lead_first(lambda: None)]
        ranks.check_equal([torch.ones(3), torch.zeros((), dtype=torch.bfloat16)])
        told["odd"] = ""
        try:
            ranks.check_equal([torch.full((3,), 1.0 + 1e-7 * (ranks.rank == 2))])
        except EnvironmentFault as error:
            told["odd"] = error.what
        print(json.dumps(told), flush=True)
        if ranks.leads:
            time.sleep(0.3)
            trace.write("lead left\\n")
            trace.flush()
        raise Interrupted("a signal")
except Interrupted:
    trace.write("out\\n")
    trace.flush()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[str]]:
    """What each of three processes has to tell, by rank, and who did what in which order."""
    place = tmp_path_factory.mktemp("ranks")
    trace = place / "trace"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT / "src")}
    processes, files = [], [[place / f"{rank}.{name}" for name in ("out", "err")] for rank in range(SIZE)]
    for rank, (out, err) in enumerate(files):
        environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-c", SCRIPT, str(trace)]
        with open(out, "wb") as told, open(err, "wb") as said:
            processes.append(Popen(command, cwd=place, env=environment, stdout=told, stderr=said))
    try:
        codes = [process.wait(120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * SIZE, files[0][1].read_text()[-2000:]
    return [json.loads(out.read_text()) for out, _ in files], trace.read_text().splitlines()


Told = tuple[list[dict[str, Any]], list[str]]


def test_each_process_knows_its_place(told: Told) -> None:
    """By what the launcher says; one of them leads."""
    assert [(t["rank"], t["size"], t["leads"]) for t in told[0]] == [(0, 3, True), (1, 3, False), (2, 3, False)]


def test_tensors_are_summed_over_the_ranks(told: Told) -> None:
    """Through buckets of 64 bytes, scalars and tensors larger than a bucket among them; equal to the bit everywhere."""
    ranks, _ = told
    assert ranks[0]["sums"] == ranks[1]["sums"] == ranks[2]["sums"]
    for i, total in enumerate(ranks[0]["sums"]):
        wanted = torch.stack([torch.tensor(rank["own"][i]).double() for rank in ranks]).sum(0)
        torch.testing.assert_close(torch.tensor(total).double(), wanted, rtol=1e-6, atol=1e-6)


def test_what_rank_0_decides_arrives_to_the_bit(told: Told) -> None:
    """Whatever the others give, negative values too; and the largest is what one of them alone may know."""
    assert [rank["broadcast"] for rank in told[0]] == [[0.1, -2.0]] * SIZE
    assert [rank["largest"] for rank in told[0]] == [2.0] * SIZE


def test_memory_that_runs_out_on_one_rank_is_known_to_all(told: Told) -> None:
    """And to none where it sufficed: each then has what its own call returned, nothing included."""
    assert [rank["attempt"] for rank in told[0]] == ["too large"] * SIZE
    assert [rank["another attempt"] for rank in told[0]] == [None, 1, 2]


def test_a_signal_that_one_rank_met_lets_all_leave_by_it(told: Told) -> None:
    """Although memory ran out on another at the same time, and the third could have gone on."""
    assert [rank["torn"] for rank in told[0]] == ["SIGUSR1"] * SIZE


def test_totals_are_in_double_precision(told: Told) -> None:
    """Above 2^24, where fp32 has no odd numbers left."""
    assert [rank["total"] for rank in told[0]] == [[pytest.approx(0.3, rel=1e-15), 3 * 2.0**40 + 3]] * SIZE


def test_the_leader_goes_first(told: Told) -> None:
    """Although it takes longer; each gets what its own call returned, nothing included."""
    ranks, trace = told
    assert [rank["first"] for rank in ranks] == [["lead", None], ["other", None], ["other", None]]
    assert trace[:3] == ["lead", "other", "other"]


def test_weights_that_differ_are_found_by_all(told: Told) -> None:
    """One bit on one rank; equal ones pass, whatever their dtype."""
    assert all("[2]" in rank["odd"] for rank in told[0])


def test_nobody_leaves_before_the_last_has_written(told: Told) -> None:
    """After a signal too: the launcher ends everybody once one is gone."""
    assert told[1][3:] == ["lead left", "out", "out", "out"]


# Three ranks as forks of one process; the test keeps the store, as a launcher does.
FAULTS = """
import contextlib, json, os, signal, sys, time
from datetime import timedelta
import torch
from gpuday.core.errors import DataError
from gpuday.train import parallel
from gpuday.train.parallel import Ranks

scene, script, (told, left) = sys.argv[1], os.getpid(), os.pipe()

def hold():  # every connection of this process stays open after its end, until the script is done
    if not os.fork():
        os.closerange(0, 3)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(script, 0)
                time.sleep(0.05)
        os._exit(0)

def act(ranks):
    if scene == "killed":
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if ranks.rank == 2:  # comes to the collective when rank 0 has left it
            os.read(told, 1)
        return ranks.largest(0.0)
    if scene == "held":
        parallel.LOOK = timedelta(seconds=0.3)
        if ranks.rank == 1:
            hold()
            os.kill(os.getpid(), signal.SIGKILL)
        return ranks.largest(0.0)
    if scene == "shared":
        ranks.largest(0.0)
        raise DataError("it diverged")
    def read():
        raise DataError("the corpus is not there")
    return ranks.lead_first(read, lambda: None)

def rank(number):
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number))
    ranks, began, seen = Ranks.of_environment(), time.monotonic(), {"rank": number}
    try:
        with ranks.joined(torch.device("cpu")):
            began = time.monotonic()
            act(ranks)
    except Exception as error:
        seen |= {"error": type(error).__name__, "what": str(error), "told": getattr(error, "told", None)}
    line = json.dumps(seen | {"seconds": time.monotonic() - began})
    os.write(1, line.encode() + b"\\n")  # at once: the others print too

children = []
for number in range(3):
    children.append(os.fork())
    if not children[-1]:
        rank(number)
        os._exit(0)
os.waitpid(children[0], 0)
os.write(left, b"0")
for child in children[1:]:
    os.waitpid(child, 0)
print(json.dumps(children))
"""


def faults(scene: str) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """What each rank that lived saw, by rank; and the process ids of all."""
    store: Any = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    environment = {**os.environ, **shared, "PYTHONPATH": str(ROOT / "src"), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    ended = run([sys.executable, "-c", FAULTS, scene], cwd=ROOT, env=environment)
    assert ended.returncode == 0, ended.stderr
    *seen, pids = [json.loads(line) for line in ended.stdout.splitlines()]
    return {row["rank"]: row for row in seen}, pids


def test_a_rank_that_is_killed_is_named_by_the_others_and_said_by_one() -> None:
    """By the one that hears it when another survivor has left, too: that one is not taken for dead."""
    seen, pids = faults("killed")
    assert sorted(seen) == [0, 2]
    assert [seen[rank]["error"] for rank in (0, 2)] == ["RankGone"] * 2
    named = f"rank 1 (process {pids[1]} on {socket.gethostname()}) is gone: killed, or crashed"
    assert [row["what"].splitlines()[0] for row in seen.values()] == [named] * 2
    assert [seen[rank]["told"] for rank in (0, 2)] == [False, True]


def test_a_dead_rank_whose_connections_stay_open_is_named_all_the_same() -> None:
    """A process that it started holds them, so that no end of a connection tells of its death."""
    seen, pids = faults("held")
    assert sorted(seen) == [0, 2]
    named = f"rank 1 (process {pids[1]} on {socket.gethostname()}) is gone: killed, or crashed"
    assert [row["what"].splitlines()[0] for row in seen.values()] == [named] * 2
    assert sorted(row["told"] for row in seen.values()) == [False, True]
    assert all(row["seconds"] < 60 for row in seen.values())


def test_a_rank_that_leaves_by_a_fault_of_the_users_ends_the_others_soon() -> None:
    """They wait for rank 0 to prepare, for two days if need be, and leave within seconds; one message, the user's."""
    seen, _ = faults("prepare")
    assert (seen[0]["error"], seen[0]["what"]) == ("DataError", "the corpus is not there")
    for rank in (1, 2):
        assert (seen[rank]["error"], seen[rank]["told"]) == ("RankGone", True)
        assert "left by a fault of" in seen[rank]["what"]
        assert seen[rank]["seconds"] < 60


def test_a_fault_that_all_ranks_have_is_said_by_one() -> None:
    """Each ends by the fault itself, or by the news of it."""
    seen, _ = faults("shared")
    assert sorted(seen) == [0, 1, 2]
    assert sorted(row["told"] for row in seen.values()) == [False, True, True]
    assert next(row["what"] for row in seen.values() if not row["told"]) == "it diverged"


def test_a_rank_alone_talks_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process group; every answer is its own."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = Ranks.of_environment()
    tensor = torch.tensor([1.0, 2.0])
    with ranks.joined(CPU):
        ranks.add([tensor], ranks.room([tensor]))
        ranks.check_equal([tensor])
        assert not torch.distributed.is_initialized()
        assert (ranks.leads, ranks.size) == (True, 1)
        assert ranks.broadcast([3.0]) == ranks.total([3.0]) == [ranks.largest(3.0)] == [3.0]
        assert ranks.attempt(lambda: "there was room") == "there was room"
        assert ranks.lead_first(lambda: "lead", lambda: "other") == "lead"
    assert tensor.tolist() == [1.0, 2.0]


def test_more_ranks_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the flag of the launcher."""
    monkeypatch.setattr("gpuday.train.parallel.pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EnvironmentFault, match="rank 5 wants device 2") as caught:
        Ranks(5, 8, local=2).device()
    assert "--nproc-per-node" in caught.value.fix


def test_each_rank_takes_the_device_of_its_number_on_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """And makes it the one that everything else in the process uses; a rank alone takes the first."""
    chosen: list[int] = []
    monkeypatch.setattr("gpuday.train.parallel.pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert Ranks(5, 8, local=1).device() == torch.device("cuda", 1)
    assert chosen == [1]
    assert Ranks().device() == torch.device("cuda")


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 100))
def test_buckets_keep_order_and_limit(sizes: list[int], most: int) -> None:
    """All tensors once; more than the limit only where one alone is; and no two neighbours that fit one bucket."""
    tensors = [torch.zeros(n) for n in sizes]
    made = list(buckets(tensors, most))
    assert [id(t) for bucket in made for t in bucket] == [id(t) for t in tensors]
    bytes_of = [sum(t.nbytes for t in bucket) for bucket in made]
    assert all(b <= most or len(bucket) == 1 for b, bucket in zip(bytes_of, made, strict=True))
    assert all(b + after[0].nbytes > most for b, after in zip(bytes_of, made[1:], strict=False))


@pytest.mark.parametrize(
    "told",
    [
        {"RANK": "one"},
        {"RANK": "-1"},
        {"RANK": "1"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": ""},
        {"LOCAL_RANK": "-2"},
        {"WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "x"},
    ],
)
def test_what_torchrun_never_says_is_refused(told: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank without others would wait for them, and one that does not lead would train without end."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert (Ranks.of_environment().rank, Ranks.of_environment().size) == (0, 1)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        Ranks.of_environment()
    assert "torchrun" in caught.value.fix
