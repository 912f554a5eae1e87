"""Batches: one stream of rows and masks, cut into micro-batches of any size, from any position."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpuday.data.orders import Order
from gpuday.data.prepare import PreparedData
from gpuday.objectives import Learner, Objective, Vocabulary
from gpuday.objectives.mlm import Mlm
from gpuday.recipe import Recipe
from gpuday.train.batches import Batches

MakeBatches = Callable[..., Batches]
LENGTH = 32
PEAK: dict[str, Any] = {"multiplier": 1.0, "kind": "masked"}


class FewRows:
    """The first rows of a store, so that epochs end soon."""

    def __init__(self, data: PreparedData, count: int) -> None:
        self._store, self._count, self.length = data.train, count, data.train.length

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> np.ndarray:
        assert indices.max() < self._count
        return self._store.rows(indices)


def whole(batches: Batches, position: int, rows: int, microbatch: int, multiplier: float = 1.0) -> dict[str, Tensor]:
    """A step's inputs without its padding, positions counted from the step's first row."""
    pieces: dict[str, list[Tensor]] = {}
    for i, inputs in enumerate(
        batches.step(position, rows, multiplier=multiplier, kind="masked", microbatch=microbatch)
    ):
        assert inputs["ids"].shape == (microbatch, LENGTH)
        real = min(microbatch, rows - i * microbatch)
        counted = inputs["weights"] > 0
        pieces.setdefault("ids", []).append(inputs["ids"][:real])
        for name in ("labels", "weights"):
            pieces.setdefault(name, []).append(inputs[name][counted])
        pieces.setdefault("positions", []).append(inputs["positions"][counted] + i * microbatch * LENGTH)
    return {name: torch.cat(values) for name, values in pieces.items()}


@given(
    position=st.integers(0, 10**7),
    rows=st.integers(1, 40),
    sizes=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    multiplier=st.sampled_from([0.2, 0.5, 1.0]),
)
@settings(max_examples=60)
def test_the_stream_is_the_same_for_every_micro_batch_size(
    data: PreparedData,
    tiny: Recipe,
    vocabulary: Vocabulary,
    position: int,
    rows: int,
    sizes: tuple[int, int],
    multiplier: float,
) -> None:
    """Tokens, masked positions, labels and weights of a step, whatever the device can hold at a time."""
    batches = loader(data, tiny, vocabulary)
    a, b = (whole(batches, position, rows, size, multiplier) for size in sizes)
    batches.close()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@given(position=st.integers(0, 3000), first=st.integers(1, 30), second=st.integers(1, 30))
@settings(max_examples=40)
def test_the_position_is_the_loaders_whole_state(
    data: PreparedData, tiny: Recipe, vocabulary: Vocabulary, position: int, first: int, second: int
) -> None:
    """A loader that starts in the middle reads what one that came there reads: the same rows, shown the same way."""
    came, started = loader(data, tiny, vocabulary), loader(data, tiny, vocabulary)
    whole(came, position, first, 4)
    a, b = whole(came, position + first, second, 4), whole(started, position + first, second, 7)
    both = whole(started, position, first + second, 5)
    came.close()
    started.close()
    assert torch.equal(a["ids"], b["ids"]) and torch.equal(a["positions"], b["positions"])
    assert torch.equal(a["ids"], both["ids"][first:])


def loader(data: PreparedData, recipe: Recipe, vocabulary: Vocabulary, **more: Any) -> Batches:
    """Eleven rows in an epoch."""
    options = {"seed": 3, "expected_rows": 100, "device": torch.device("cpu"), **more}
    return Batches(FewRows(data, 11), recipe.data.order, recipe.objective, vocabulary, **options)


def test_every_row_comes_once_an_epoch_in_another_order_each_time(
    make_batches: MakeBatches, data: PreparedData
) -> None:
    """Three epochs of eleven rows, read in steps that end anywhere."""
    batches = make_batches(store=FewRows(data, 11))
    read: list[tuple[int, int]] = []
    for position in range(0, 33, 3):
        for part in batches.row_indices(position, 3):
            read += [(part.epoch, int(row)) for row in part.rows]
    assert [epoch for epoch, _ in read] == [0] * 11 + [1] * 11 + [2] * 11
    orders = [[row for e, row in read if e == epoch] for epoch in range(3)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_a_step_may_hold_the_end_of_one_epoch_and_the_whole_of_the_next(
    make_batches: MakeBatches, data: PreparedData
) -> None:
    """By hand: from row 9 of 11, 15 rows are 2 of epoch 0, 11 of epoch 1, 2 of epoch 2."""
    batches = make_batches(store=FewRows(data, 11))
    assert [(s.epoch, len(s.rows)) for s in batches.row_indices(9, 15)] == [(0, 2), (1, 11), (2, 2)]


def test_the_rows_are_those_of_the_order(make_batches: MakeBatches, data: PreparedData, tiny: Recipe) -> None:
    """Against the order itself: row order[i % N] of epoch i // N, its tokens unmasked by the labels."""
    batches, count = make_batches(seed=5), len(data.train)
    order: Order = tiny.data.order
    for epoch in (0, 2):
        wanted = order.rows(data.train, seed=5, epoch=epoch, expected_rows=1000)(np.arange(4, 10))
        step = whole(batches, epoch * count + 4, 6, 6)
        ids = step["ids"].clone()
        ids.view(-1)[step["positions"]] = step["labels"]
        assert ids.numpy().tolist() == data.train.rows(wanted).tolist()


def test_masks_follow_seed_epoch_and_row(make_batches: MakeBatches, data: PreparedData) -> None:
    """A row is masked anew in each epoch and for each seed, and never by where it stands in a batch."""
    few = FewRows(data, 1)
    one = make_batches(store=few)
    epochs = [whole(one, epoch, 1, 1)["positions"].tolist() for epoch in range(4)]
    assert len({tuple(p) for p in epochs}) == 4
    together = whole(one, 0, 4, 4)["positions"].view(4, -1) - LENGTH * torch.arange(4)[:, None]
    assert together.tolist() == epochs
    assert whole(make_batches(store=few, seed=1), 0, 1, 1)["positions"].tolist() != epochs[0]


@pytest.mark.parametrize(("rows", "microbatch"), [(8, 4), (8, 8), (8, 3), (5, 8), (1, 6), (13, 5)])
@pytest.mark.parametrize("multiplier", [1.0, 0.3])
def test_the_weights_of_a_step_add_up_to_one(
    make_batches: MakeBatches, rows: int, microbatch: int, multiplier: float
) -> None:
    """Equal for all predicted positions, zero for padding, and the same shape for every micro-batch."""
    batches = make_batches()
    weights = [
        inputs["weights"]
        for inputs in batches.step(7, rows, multiplier=multiplier, kind="masked", microbatch=microbatch)
    ]
    assert len({w.shape for w in weights}) == 1
    joined = torch.cat(weights).double()
    predicted = round(0.4 * multiplier * LENGTH)
    assert sorted({round(float(w), 7) for w in joined} - {0.0}) == [round(1 / (rows * predicted), 7)]
    assert (joined > 0).sum() == rows * predicted
    torch.testing.assert_close(joined.sum(), torch.tensor(1.0).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("objective", [Mlm(rate=0.4), Mlm(rate=0.25, masked=0.8, random=0.1), Mlm(rate=1.0)])
def test_padded_rows_change_neither_loss_nor_gradient(
    make_batches: MakeBatches, learner: Learner, objective: Objective
) -> None:
    """Five rows in one micro-batch of five, and of eight and of three with padding: one loss, one gradient."""
    results = []
    for microbatch in (5, 8, 3):
        batches = make_batches(objective=objective)
        learner.zero_grad()
        total = 0.0
        for inputs in batches.step(100, 5, **PEAK, microbatch=microbatch):
            loss = learner(inputs, "masked")
            loss.backward()
            total += loss.item()
        gradient = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        results.append((total, gradient))
    for loss, gradient in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-4, atol=1e-8)


def test_padding_weighs_nothing_where_a_row_has_one_predicted_position(make_batches: MakeBatches) -> None:
    """Short rows at a low rate: as many positions as rows, and still three of five weights are zero."""
    (inputs,) = make_batches().step(0, 2, multiplier=0.1, kind="masked", microbatch=5)
    assert inputs["weights"].tolist() == [0.5, 0.5, 0, 0, 0]
    assert (inputs["positions"] // LENGTH).tolist() == [0, 1, 2, 3, 4]


def test_padding_is_inert_whatever_stands_in_it(make_batches: MakeBatches, learner: Learner) -> None:
    """The weights alone decide: other tokens in the padded rows leave the loss as it is, to the bit."""
    (inputs,) = make_batches().step(0, 2, **PEAK, microbatch=4)
    before = learner(inputs, "masked")
    inputs["ids"][2:] = 300
    assert torch.equal(learner(inputs, "masked"), before)


def test_the_loss_of_a_step_is_the_mean_over_its_predicted_tokens(make_batches: MakeBatches, learner: Learner) -> None:
    """Against torch's own cross-entropy over the whole step at once."""
    batches = make_batches()
    total = sum(learner(inputs, "masked").item() for inputs in batches.step(0, 6, **PEAK, microbatch=4))
    step = whole(batches, 0, 6, 6)
    with torch.no_grad():
        logits = learner.model(step["ids"], step["positions"])
        wanted = torch.nn.functional.cross_entropy(logits, step["labels"])
    assert total == pytest.approx(float(wanted), rel=1e-5)


def test_a_fault_in_the_worker_reaches_the_loop(make_batches: MakeBatches, data: PreparedData) -> None:
    """A row that cannot be read stops the step with its own error, in the thread that asked."""

    class Torn(FewRows):
        def rows(self, indices: np.ndarray) -> np.ndarray:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(make_batches(store=Torn(data, 11)).step(0, 4, **PEAK, microbatch=2))


def test_the_next_micro_batch_is_made_while_the_present_one_is_used(
    make_batches: MakeBatches, data: PreparedData
) -> None:
    """Reading runs ahead by one, in its own thread, and no further: memory holds two micro-batches."""
    threads: list[str] = []
    second = threading.Event()

    class Watched(FewRows):
        def rows(self, indices: np.ndarray) -> np.ndarray:
            threads.append(threading.current_thread().name)
            if len(threads) == 2:
                second.set()
            return super().rows(indices)

    step = make_batches(store=Watched(data, 11)).step(0, 8, **PEAK, microbatch=2)
    next(step)
    assert second.wait(60)
    assert len(threads) == 2
    assert all(name.startswith("gpuday-batches") for name in threads)
    assert len(list(step)) == 3


def test_a_step_begins_with_what_was_made_during_the_one_before(make_batches: MakeBatches, data: PreparedData) -> None:
    """Its first micro-batch is made while the last one of the step before is in use, and not made twice."""
    read: list[int] = []
    next_step = threading.Event()

    class Watched(FewRows):
        def rows(self, indices: np.ndarray) -> np.ndarray:
            read.append(len(indices))
            if len(read) == 3:
                next_step.set()
            return super().rows(indices)

    batches = make_batches(store=Watched(data, 11))
    assert len(list(batches.step(0, 4, **PEAK, microbatch=2))) == 2
    assert next_step.wait(60)
    first = next(batches.step(4, 4, **PEAK, microbatch=2))
    wanted = next(make_batches(store=FewRows(data, 11)).step(4, 4, **PEAK, microbatch=2))
    assert all(torch.equal(first[name], wanted[name]) for name in wanted)
    batches.close()
    assert read in ([2] * 3, [2] * 4)  # three of the two steps, and the fourth where the worker was quick


# (rows, multiplier, micro-batch) of steps that come after each other: equal ones, a batch that grows, a mask rate that
# falls, a micro-batch that is halved in the middle, a padded one, and rows that were the guess at another divisor.
STEPS = [
    (8, 1.0, 4),
    (8, 1.0, 4),
    (12, 1.0, 4),
    (12, 0.5, 4),
    (12, 0.5, 2),
    (5, 0.5, 4),
    (5, 0.5, 4),
    (3, 0.5, 4),
    (3, 1.0, 8),
]


@pytest.mark.parametrize(("rank", "ranks"), [(0, 1), (0, 3), (2, 3)])
def test_what_is_made_ahead_is_to_the_bit_what_is_made_on_demand(
    make_batches: MakeBatches, data: PreparedData, rank: int, ranks: int
) -> None:
    """Whatever the next step turns out to be: one loader all along against a fresh one for each step."""
    options = {"store": FewRows(data, 11), "rank": rank, "ranks": ranks}
    along, position = make_batches(**options), 0
    for rows, multiplier, microbatch in STEPS:
        ahead, fresh = (
            list(b.step(position, rows, multiplier=multiplier, kind="masked", microbatch=microbatch))
            for b in (along, make_batches(**options))
        )
        assert len(ahead) == len(fresh)
        for a, b in zip(ahead, fresh, strict=True):
            assert a.keys() == b.keys()
            assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in b)
        position += rows


def test_a_step_that_is_asked_for_again_is_the_same(make_batches: MakeBatches) -> None:
    """As an optimizer does that looks at a second point, and a step that ran out of memory half-way."""
    batches = make_batches()
    first = list(batches.step(0, 8, **PEAK, microbatch=4))
    next(batches.step(0, 8, **PEAK, microbatch=4))
    again = list(batches.step(0, 8, **PEAK, microbatch=4))
    assert all(torch.equal(a[k], b[k]) for a, b in zip(first, again, strict=True) for k in a)


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize(("rows", "microbatch"), [(16, 4), (13, 4), (3, 4), (9, 2)])
def test_the_ranks_together_read_what_one_reads_alone(
    make_batches: MakeBatches, rows: int, microbatch: int, ranks: int
) -> None:
    """The very micro-batches of a rank alone, each dealt to one rank, in turn; who gets none weighs nothing."""
    alone = list(make_batches().step(40, rows, **PEAK, microbatch=microbatch))
    for rank in range(ranks):
        share = list(make_batches(rank=rank, ranks=ranks).step(40, rows, **PEAK, microbatch=microbatch))
        wanted = alone[rank::ranks]
        if not wanted:
            (idle,) = share
            assert idle["ids"].shape == (microbatch, LENGTH)
            assert idle["weights"].shape == alone[0]["weights"].shape
            assert not idle["weights"].any()
            continue
        assert len(share) == len(wanted)
        assert all(torch.equal(a[k], b[k]) for a, b in zip(share, wanted, strict=True) for k in b)


@given(rows=st.integers(1, 300), microbatch=st.integers(1, 40), ranks=st.integers(1, 9))
def test_no_rank_computes_longer_than_an_even_cut_of_the_rows_would_take(
    data: PreparedData, tiny: Recipe, vocabulary: Vocabulary, rows: int, microbatch: int, ranks: int
) -> None:
    """The most micro-batches that a rank gets, against those for the largest share of rows dealt one by one."""
    most = 0
    for rank in range(ranks):
        batches = loader(data, tiny, vocabulary, rank=rank, ranks=ranks)
        most = max(most, len(batches._cut(0, rows, microbatch, 1.0, "masked", LENGTH)))
        batches.close()
    assert most == math.ceil(math.ceil(rows / ranks) / microbatch)


@pytest.mark.parametrize(("name", "chosen"), [("cuda:1", [torch.device("cuda:1")]), ("cuda", []), ("cpu", [])])
def test_the_worker_uses_the_device_of_its_rank(
    make_batches: MakeBatches, monkeypatch: pytest.MonkeyPatch, name: str, chosen: list[torch.device]
) -> None:
    """A thread starts on the first GPU, whatever its process uses."""
    used: list[tuple[str, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: used.append((threading.current_thread().name, device)))
    batches = make_batches(device=torch.device(name))
    batches._worker.submit(int).result()
    assert [device for _, device in used] == chosen
    assert all(thread.startswith("gpuday-batches") for thread, _ in used)


def test_the_time_that_the_loop_waits_is_counted(make_batches: MakeBatches, data: PreparedData) -> None:
    """A store that takes half a second a read: the first micro-batch is waited for, one that had time to come is not."""
    release = threading.Event()

    class Slow(FewRows):
        def rows(self, indices: np.ndarray) -> np.ndarray:
            release.wait(0.5)
            return super().rows(indices)

    batches = make_batches(store=Slow(data, 11))
    step = batches.step(0, 4, **PEAK, microbatch=2)
    next(step)
    assert 0.5 <= batches.waited_seconds < 30
    release.set()
    before, (ahead,) = batches.waited_seconds, batches._ahead.values()
    ahead.result()
    next(step)
    assert batches.waited_seconds - before < 0.4


@pytest.mark.parametrize("microbatch", [4, 5])
def test_isolated_rows_come_with_their_segments(make_batches: MakeBatches, data: PreparedData, microbatch: int) -> None:
    """Row for row those of the store, over the end of an epoch and into padding; otherwise none come."""
    batches = make_batches(isolate=True)
    start = len(data.train) - 3
    found = torch.cat([inputs["segments"] for inputs in batches.step(start, 7, **PEAK, microbatch=microbatch)])
    rows = np.concatenate([part.rows for part in batches.row_indices(start, 7)])
    assert len(found) == -(-7 // microbatch) * microbatch
    assert found[:7].tolist() == data.train.segments(rows).tolist()
    assert all("segments" not in inputs for inputs in make_batches().step(0, 4, **PEAK, microbatch=4))


def test_closing_ends_the_worker(make_batches: MakeBatches) -> None:
    """No thread stays behind a run."""
    before = threading.active_count()
    batches = make_batches()
    list(batches.step(0, 2, **PEAK, microbatch=2))
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before
