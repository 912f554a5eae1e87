"""Lengths on a schedule: rows are read in shorter pieces, and nothing else changes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpuday.core.journal import Step
from gpuday.core.rundir import RunDir
from gpuday.data.prepared import PreparedData
from gpuday.recipe import Recipe
from gpuday.train.assemble import make_learner, vocabulary_of
from gpuday.train.batches import Batches, piece_keys
from trained_run import rows

MakeBatches = Callable[..., Batches]
TrainRun = Callable[..., Any]
CURRICULUM = {"part": "stages", "stages": [[0.4, 0.5], [1.0, 1.0]]}


@pytest.mark.parametrize(("rank", "ranks"), [(0, 1), (1, 2)])
@pytest.mark.parametrize(("microbatch", "isolate"), [(3, True), (8, False)])
def test_a_shorter_length_reads_the_same_tokens_in_more_rows(
    make_batches: MakeBatches, data: PreparedData, microbatch: int, isolate: bool, rank: int, ranks: int
) -> None:
    """Each micro-batch in halves of 16 tokens: with its masks taken off, it is the micro-batch of whole rows to the token,
    segments too, over the end of an epoch and its padding. Every half is masked for itself, positions ascend, and the
    weights of a step still add up to 1."""
    options = {"isolate": isolate, "rank": rank, "ranks": ranks}
    step = {"multiplier": 1.0, "kind": "masked", "microbatch": microbatch}
    shown = []
    for length in (32, 16):
        some = list(make_batches(**options).step(len(data.train) - 4, 10, **step, length=length))
        shown.append([unmasked(inputs) for inputs in some])
        assert {inputs["ids"].shape for inputs in some} == {(microbatch * 32 // length, length)}
        assert sum(float(inputs["weights"].double().sum()) for inputs in some) == pytest.approx(
            1.0 if ranks == 1 else share_of(rank, microbatch), rel=1e-6
        )
        for inputs in some:
            rows, counts = (inputs["positions"] // length).unique_consecutive(return_counts=True)
            assert rows.tolist() == list(range(len(inputs["ids"])))
            assert set(counts.tolist()) == {round(0.4 * length)}
            assert inputs["positions"].tolist() == inputs["positions"].sort().values.tolist()
            if isolate:
                assert inputs["segments"].shape == inputs["ids"].shape
    assert shown[0] == shown[1]


def share_of(rank: int, microbatch: int) -> float:
    """Of ten rows cut into micro-batches that are dealt to two ranks in turn, those of one."""
    return sum(min(microbatch, 10 - start) for start in range(0, 10, microbatch)[rank::2]) / 10


def unmasked(inputs: dict[str, Tensor]) -> list[tuple[int, ...]]:
    """Its tokens with the labels put back, and the segments, in the order of the stream and without the padding."""
    ids = inputs["ids"].clone().view(-1)
    ids[inputs["positions"]] = inputs["labels"]
    read = int(len(ids) * (inputs["weights"] > 0).double().mean())
    return list(zip(ids.tolist(), inputs.get("segments", ids).reshape(-1).tolist(), strict=True))[:read]


@given(
    rows=st.lists(st.integers(0, 2**40 - 1), min_size=2, max_size=2, unique=True),
    powers=st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
def test_no_two_pieces_of_the_stream_share_a_key(rows: list[int], powers: tuple[int, int]) -> None:
    """Of the same row or of two, of one length or of two; and a whole row's key is its number."""
    both = [piece_keys(np.array(rows), 1 << power) for power in {*powers}]
    keys = np.concatenate(both).tolist()
    assert len(set(keys)) == len(keys) == sum(2 << power for power in {*powers})
    assert piece_keys(np.array(rows), 1).tolist() == rows


def test_pieces_are_masked_like_rows_of_their_own(make_batches: MakeBatches, data: PreparedData, tiny: Recipe) -> None:
    """Against the objective, asked for each half alone with the key that it has by hand."""
    (inputs,) = make_batches().step(0, 1, multiplier=1.0, kind="masked", microbatch=1, length=16)
    (row,) = tiny.data.order.rows(data.train, seed=0, epoch=0, expected_rows=1000)(np.array([0])).tolist()
    tokens = data.train.rows(np.array([row])).reshape(2, 16)
    for half in range(2):
        alone = tiny.objective.inputs(
            tokens[half : half + 1],
            np.array([row + (half << 40) + (1 << 56)], dtype=np.uint64),
            seed=0,
            epoch=0,
            multiplier=1.0,
            kind="masked",
            vocabulary=vocabulary_of(data.tokenizer),
        )
        assert inputs["ids"][half].tolist() == alone["ids"][0].tolist()


def test_a_curriculum_of_lengths_is_what_a_run_trains_with(
    train_run: TrainRun, make_recipe: Callable[..., Recipe], run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half and then all of 32 tokens: what the encoder is given is 16 and 32 tokens long, while rows, tokens and positions
    of the stream go on as in a run of whole rows, and a shorter row costs fewer FLOPs."""
    given: list[tuple[int, ...]] = []
    real = Batches.step

    def step(*arguments: Any, **options: Any) -> Any:
        for inputs in real(*arguments, **options):
            given.append(tuple(inputs["ids"].shape))
            yield inputs

    monkeypatch.setattr(Batches, "step", step)
    train_run(make_recipe("5steps", length=CURRICULUM, mask_rate={"part": "constant"}, objective="mlm"))
    steps = rows(run, Step)
    assert [row.length for row in steps] == [16] * 2 + [32] * 3
    assert given == [(8, 16)] * 4 + [(4, 32)] * 6
    assert [row.first_row for row in steps] == [8 * i for i in range(5)]
    assert [row.tokens for row in steps] == [256 * (i + 1) for i in range(5)]
    costs = np.diff([0.0, *(row.flops for row in steps)])
    assert costs[0] == costs[1] < costs[2] == costs[4]
    assert all(math.isfinite(row.loss) for row in steps)


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
def test_positions_begin_anew_in_each_piece(
    make_recipe: Callable[..., Recipe], data: PreparedData, position: str
) -> None:
    """The hidden states of a piece are those of the same tokens alone, wherever in its row the piece stood."""
    torch.manual_seed(0)
    encoder = make_learner(make_recipe(model__position=position), vocab=512).model.encoder.eval()
    pieces = torch.from_numpy(data.train.rows(np.array([3, 4])).reshape(-1, 16))
    with torch.no_grad():
        together = encoder(pieces)
        alone = torch.cat([encoder(piece[None]) for piece in pieces])
    torch.testing.assert_close(together, alone)
