"""Ranks: sums over processes that are exact and equal everywhere, an order of who goes first, and nothing for one alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpuday.core.errors import EnvironmentFault
from gpuday.train.parallel import Ranks, buckets

ROOT = Path(__file__).resolve().parents[2]
SIZE = 3
CPU = torch.device("cpu")

SCRIPT = """
import json, sys, time
import torch
from gpuday.core.errors import EnvironmentFault, Interrupted
from gpuday.train import parallel

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
    trace = tmp_path_factory.mktemp("ranks") / "trace"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": str(ROOT / "src")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(trace)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(SIZE)
    ]
    try:
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0] * SIZE, ended[0][1].decode()[-2000:]
    return [json.loads(out) for out, _ in ended], trace.read_text().splitlines()


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
