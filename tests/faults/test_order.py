"""Order: the stream of tokens is one, for any number of ranks, any micro-batch, read ahead or not, resumed anywhere.

Two hundred runs are drawn. What their loaders hand out is compared, to the bit, with a stream that is put together here
row by row, from order, store and objective alone.
"""

import dataclasses
import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gpuday.core import parts
from gpuday.data.orders import Order
from gpuday.data.tokenfile import TokenStore, TokenWriter
from gpuday.data.tokenizer import TextTokenizer, train_tokenizer
from gpuday.objectives import Objective, Vocabulary
from gpuday.train.batches import Batches

CASES = 200
RANKS = (1, 2, 4)
LENGTH = 16
SOURCES = ("a", "b")
VARIED: dict[str, list[Any]] = {
    "reverse": [False, True],
    "rate": [0.05, 0.3, 1.0],
    "masked": [0.8, 0.0],
    "random": [0.1, 0.2],
    "predict_specials": [False, True],
}


@dataclass(frozen=True)
class Step:
    """Rows and mask multiplier of a step; the stream has both, whatever it is cut into."""

    position: int
    rows: int
    multiplier: float


@dataclass(frozen=True)
class Case:
    """A run as it is drawn from its number."""

    store: TokenStore
    order: Order
    objective: Objective
    seed: int
    expected_rows: int
    isolate: bool
    steps: tuple[Step, ...]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """Of a few words; what counts is that the orders can ask it."""
    return train_tokenizer(iter(["one two. three four, five."] * 20), kind="bpe", normalizer="light", vocab=320)[0]


@pytest.fixture(scope="module")
def store_of(tmp_path_factory: pytest.TempPathFactory, tokenizer: TextTokenizer) -> Any:
    """`store_of(rows)`: a store of random tokens, in shards and documents cut anywhere, with the scores of all orders."""
    place = tmp_path_factory.mktemp("stores")

    @functools.cache
    def make(rows: int) -> TokenStore:
        draw = np.random.default_rng(rows)
        writer = TokenWriter(place / str(rows), length=LENGTH, vocab_size=tokenizer.vocab_size, vocabulary="v")
        cuts = sorted({0, rows, *draw.integers(0, rows + 1, size=2).tolist()})
        for number, (begin, end) in enumerate(pairwise(cuts)):
            tokens = (end - begin) * LENGTH
            writer.append(draw.integers(0, tokenizer.vocab_size, size=(end - begin, LENGTH)))
            starts = np.unique([0, *draw.integers(0, tokens, size=draw.integers(0, 3 * (end - begin)))])
            writer.end_shard(SOURCES[number % 2], starts)
        store = writer.finish()
        for order in orders():
            score = order.score()
            if score is not None and not store.has_scores(score.name):
                store.write_scores(score.name, score.compute(store, tokenizer))
        return store

    return make


def variants(kind: type[Any]) -> Iterator[Any]:
    """Every part of a kind, with its defaults and with each value of a knob that is listed here."""
    for name in parts.names(kind):
        part = parts.find(kind, name)
        yield part()
        for field in dataclasses.fields(part):
            for value in VARIED.get(field.name, []):
                more = {"masked": 0.5} if field.name == "random" else {}
                yield part(**{field.name: value, **more})


def orders() -> list[Order]:
    return list(variants(Order))


def draw_case(number: int, store_of: Any) -> Case:
    """The orders and objectives in turn, so that each comes; the rest by chance. Batches grow, and epochs are short."""
    draw, every = random.Random(number), list(variants(Objective))
    store = store_of(draw.choice([1, 2, 3, 5, 8, 13, 21, 34, 55]))
    position, rows, steps = draw.randrange(6 * len(store)), draw.randint(1, 6), []
    for _ in range(draw.randint(2, 4)):
        steps.append(Step(position, rows, draw.choice([0.25, 0.5, 1.0, 1.0])))
        position += rows
        rows += draw.choice([0, 0, 1, 4, 7])
    return Case(
        store=store,
        order=orders()[number % len(orders())],
        objective=every[number % len(every)],
        seed=draw.randrange(1 << 40),
        expected_rows=draw.randrange(5 * len(store)),
        isolate=draw.random() < 0.5,
        steps=tuple(steps),
    )


def stream(case: Case, step: Step, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The inputs of a step as the promise has them: row by row, each for itself."""
    pieces: dict[str, list[np.ndarray]] = {}
    for number in range(step.rows):
        epoch, within = divmod(step.position + number, len(case.store))
        permutation = case.order.rows(case.store, seed=case.seed, epoch=epoch, expected_rows=case.expected_rows)
        row = permutation(np.array([within]))
        made = case.objective.inputs(
            case.store.rows(row),
            row.astype(np.uint64),
            seed=case.seed,
            epoch=epoch,
            multiplier=step.multiplier,
            kind="masked",
            vocabulary=vocabulary,
        )
        made["positions"] = made["positions"] + number * LENGTH
        if case.isolate:
            made["segments"] = case.store.segments(row)
        for name, values in made.items():
            pieces.setdefault(name, []).append(values)
    whole = {name: torch.from_numpy(np.concatenate(values)) for name, values in pieces.items()}
    return whole | {"weights": whole["weights"] / len(whole["weights"])}


def dealt(loaders: list[Batches], step: Step, microbatch: int) -> dict[str, Tensor]:
    """What all ranks are handed for a step, in the order in which it was dealt, its padding checked and taken off."""
    hands = [
        list(b.step(step.position, step.rows, multiplier=step.multiplier, kind="masked", microbatch=microbatch))
        for b in loaders
    ]
    count = -(-step.rows // microbatch)
    pieces: dict[str, list[Tensor]] = {}
    for turn in range(max(map(len, hands)) * len(hands)):
        hand, number = hands[turn % len(hands)], turn // len(hands)
        if turn >= count:  # a rank for which none is left has one that weighs nothing, or none
            assert number == len(hand) or (number == 0 and len(hand) == 1 and not hand[0]["weights"].any())
            continue
        inputs, real = hand[number], min(microbatch, step.rows - turn * microbatch)
        per_row = len(inputs["weights"]) // microbatch
        assert len(inputs["ids"]) == microbatch
        assert not inputs["weights"][real * per_row :].any()
        for name, values in inputs.items():
            kept = values[: real * (1 if values.ndim > 1 else per_row)]
            pieces.setdefault(name, []).append(kept + turn * microbatch * LENGTH if name == "positions" else kept)
    return {name: torch.cat(values) for name, values in pieces.items()}


def loaders(case: Case, vocabulary: Vocabulary, ranks: int) -> list[Batches]:
    """One for each rank."""
    return [
        Batches(
            case.store,
            case.order,
            case.objective,
            vocabulary,
            seed=case.seed,
            expected_rows=case.expected_rows,
            device=torch.device("cpu"),
            rank=rank,
            ranks=ranks,
            isolate=case.isolate,
        )
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("number", range(CASES))
def test_the_ranks_together_are_handed_the_one_stream(number: int, store_of: Any, tokenizer: TextTokenizer) -> None:
    """Ids, positions, labels, weights and segments of 1, 2 and 4 ranks: by loaders that read ahead from the first step
    to the last, and by new ones that begin at each step, as a resume does; every number of ranks in micro-batches of
    its own."""
    vocabulary = Vocabulary(size=tokenizer.vocab_size, mask_id=tokenizer.mask_id, special_ids=tokenizer.special_ids)
    case, draw = draw_case(number, store_of), random.Random(-1 - number)
    wanted = [stream(case, step, vocabulary) for step in case.steps]
    for ranks in RANKS:
        along = loaders(case, vocabulary, ranks)
        microbatch = draw.choice([1, 3, 4, 6, 7, 10, 16])
        for step, whole in zip(case.steps, wanted, strict=True):
            resumed = loaders(case, vocabulary, ranks) if ranks == draw.choice(RANKS) else []
            for handed in (dealt(some, step, microbatch) for some in (along, resumed) if some):
                assert handed.keys() == whole.keys()
                for name, values in whole.items():
                    assert handed[name].dtype == values.dtype
                    assert torch.equal(handed[name], values), (ranks, microbatch, step, name)
            for batches in resumed:
                batches.close()
            microbatch = max(1, microbatch // 2) if draw.random() < 0.2 else microbatch  # memory ran out
        for batches in along:
            batches.close()


@pytest.mark.parametrize("order", orders(), ids=repr)
def test_each_row_comes_once_an_epoch(order: Order, store_of: Any, tokenizer: TextTokenizer) -> None:
    """In every order, whatever part of the epoch the budget was expected to read, and wherever steps end."""
    vocabulary = Vocabulary(size=tokenizer.vocab_size, mask_id=tokenizer.mask_id, special_ids=tokenizer.special_ids)
    objective = parts.find(Objective, "mlm")()
    for rows in (1, 2, 21, 34):
        for expected in (0, 1, rows, 2 * rows + rows // 2):
            case = Case(store_of(rows), order, objective, rows, expected, False, ())
            (batches,) = loaders(case, vocabulary, 1)
            seen: list[list[int]] = [[] for _ in range(4)]
            for begin in range(0, 4 * rows, 5):
                for part in batches.row_indices(begin, min(5, 4 * rows - begin)):
                    seen[part.epoch] += part.rows.tolist()
            batches.close()
            assert [sorted(epoch) for epoch in seen] == [list(range(rows))] * 4


def test_the_cases_hold_what_can_go_wrong(store_of: Any) -> None:
    """Every order and objective; steps that end an epoch, that hold a whole one, and that grow; both kinds of rows."""
    cases = [draw_case(number, store_of) for number in range(CASES)]
    assert {repr(case.order) for case in cases} == set(map(repr, orders()))
    assert {repr(case.objective) for case in cases} == set(map(repr, variants(Objective)))
    assert {case.isolate for case in cases} == {False, True}
    steps = [(case, step) for case in cases for step in case.steps]
    ends = [(c.store, (s.position + s.rows - 1) // len(c.store) - s.position // len(c.store)) for c, s in steps]
    assert len([over for _, over in ends if over == 1]) > CASES / 4
    assert len([over for _, over in ends if over > 1]) > CASES / 4
    assert len([case for case in cases if case.steps[-1].rows > case.steps[0].rows]) > CASES / 2
    assert len([case for case in cases if len(case.store.index["shards"]) > 1]) > CASES / 2
