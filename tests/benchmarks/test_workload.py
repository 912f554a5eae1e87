"""What is timed: the training loop's own step on random rows."""

import dataclasses
from pathlib import Path

import torch
from workload import Workload, fixed_inputs, random_store, training, workload

from gpuday.core import config
from gpuday.train.useful import flops_per_token

CPU = torch.device("cpu")


def small() -> Workload:
    """The comparison shape cut down to what a test can pay for."""
    work = workload("compare")
    recipe = config.replace_at(work.recipe, "model.shape.layers", 1)
    return dataclasses.replace(work, recipe=recipe, vocab=320, microbatch=2, rows=4)


def test_a_step_reads_the_next_rows_and_moves_the_weights() -> None:
    """Two steps of two micro-batches: the weights differ after each, and nothing is skipped."""
    with training(small(), compiled=False, device=CPU) as run:
        weight = run.learner.model.encoder.embedding.weight
        seen = [weight.detach().clone()]
        for _ in range(2):
            assert not run.step().skipped
            seen.append(weight.detach().clone())
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_inputs_are_a_micro_batch_masked_at_the_peak_rate() -> None:
    """Two rows of 128 tokens, a quarter of their positions predicted."""
    inputs = fixed_inputs(small(), CPU)
    assert (2, 128) == tuple(inputs["ids"].shape)
    assert 2 * 32 == len(inputs["labels"])


def test_what_is_timed_is_what_is_counted() -> None:
    """modern's masked steps, which are most of its run, and their FLOPs; of the causal ones, those of the causal ones."""
    work = workload("nano", preset="modern")
    causal = dataclasses.replace(work, kind="causal")
    found = [(w.kind, w.shape()["kind"], w.shape()["predicted"], fixed_inputs(w, CPU)) for w in (work, causal)]
    assert [(kind, told, count) for kind, told, count, _ in found] == [
        ("masked", "masked", 51),
        ("causal", "causal", 127),
    ]
    assert [len(inputs["labels"]) for *_, inputs in found] == [work.microbatch * 51, work.microbatch * 127]
    assert (
        causal.flops_per_token > work.flops_per_token == flops_per_token(work.recipe, vocab=work.vocab, kind="masked")
    )


def test_random_rows_are_a_store_like_any_other(tmp_path: Path) -> None:
    """The store that is timed passes the checks of one that was prepared, and holds no special token."""
    store = random_store(tmp_path / "train.tok", rows=6, length=16, vocab=320)
    store.verify()
    assert (6, 16) == (len(store), store.length)
    assert min(int(block.min()) for block in store.blocks()) >= 5
