"""What is trained while it is timed: a preset's model at a size, its inputs from random rows, and its real steps."""

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuday.core.clock import Budget
from gpuday.data.orders.random import Random
from gpuday.data.tokenfile import TokenStore, TokenWriter
from gpuday.models.kernels import choose_attention, needs_of
from gpuday.objectives import Learner, Vocabulary
from gpuday.objectives.mlm import CAUSAL, Mlm
from gpuday.optim import Stepper
from gpuday.presets import find
from gpuday.recipe import Recipe
from gpuday.schedules.constant import Constant
from gpuday.train.assemble import make_learner
from gpuday.train.batches import Batches
from gpuday.train.device import configure, has_bf16, pick_device, synchronise
from gpuday.train.parallel import Ranks
from gpuday.train.parameters import named_parameters
from gpuday.train.step import Outcome, take_step
from gpuday.train.useful import flops_per_token

SPECIALS = 5
TOKENS_PER_ROW_SHORT = 128  # of the presets, for budgets up to an hour
RATE = 0.01  # of the peak learning rates: weights move, and do not run away
# Tokens that saturate two CPU cores, or one large GPU.
MICROBATCH_TOKENS = {"cpu": {"base": 1024, "large": 1024, "small": 2048, "mini": 2048}, "cuda": {}}
DEFAULT_MICROBATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
USEFUL_FLOPS_PER_SECOND = {"cpu": 0.2e12, "cuda": 200e12}  # to expect, for the batch rule's answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One shape to time: recipe, vocabulary, rows in a micro-batch and in a step, and the kind of steps."""

    name: str
    recipe: Recipe
    vocab: int
    microbatch: int
    rows: int
    kind: str
    """Of the steps that are timed."""

    @property
    def length(self) -> int:
        return self.recipe.data.length

    @property
    def flops_per_token(self) -> float:
        """Useful FLOPs of training on one token at the peak mask rate."""
        return flops_per_token(self.recipe, vocab=self.vocab, kind=self.kind)

    def shape(self) -> dict[str, Any]:
        """What a reader must know to compare."""
        model = self.recipe.model
        return {
            "name": self.name,
            "preset": self.recipe.preset,
            "layers": model.shape.depth,
            "width": model.width,
            "vocabulary": self.vocab,
            "length": self.length,
            "kind": self.kind,
            "predicted": self.recipe.objective.predicted(self.length, 1.0, self.kind),
            "microbatch": self.microbatch,
            "rows": self.rows,
        }


def workload(name: str, *, preset: str = "modern", budget: str = "10m") -> Workload:
    """The preset at a size, as its recipe for `budget` says. `compare` is the shape that other code is compared at:
    modern's 4x256 with a vocabulary of 16,384, tied, and a quarter of the positions predicted, as in the crammed recipe.
    Steps are of the objective's first kind, the masked ones, which modern spends most of its budget on."""
    recipe = find(preset)("nano" if name == "compare" else name, Budget.parse(budget))
    vocab = recipe.data.vocab
    if name == "compare":
        vocab = 16384
        recipe = dataclasses.replace(
            recipe,
            model=dataclasses.replace(recipe.model, tied=True),
            objective=Mlm(rate=0.25, masked=0.8, random=0.1),
            mask_rate=Constant(),
            rate=Constant(),
        )
    length, device = recipe.data.length, pick_device().type
    tokens = MICROBATCH_TOKENS[device].get(name, DEFAULT_MICROBATCH_TOKENS[device])
    microbatch = max(1, tokens // length)
    kind = recipe.objective.kinds[0]
    made = Workload(name=name, recipe=recipe, vocab=vocab, microbatch=microbatch, rows=microbatch, kind=kind)
    expected = USEFUL_FLOPS_PER_SECOND[device] / made.flops_per_token * (recipe.budget.seconds or 600.0)
    rows = recipe.batch.full_rows(expected_tokens=expected, length=length)
    microbatch = min(microbatch, rows)
    return dataclasses.replace(made, microbatch=microbatch, rows=rows // microbatch * microbatch)


def vocabulary(vocab: int) -> Vocabulary:
    """Five special ids, the last of them the mask."""
    return Vocabulary(size=vocab, mask_id=SPECIALS - 1, special_ids=tuple(range(SPECIALS)))


def random_rows(rows: int, length: int, vocab: int, seed: int = 0) -> np.ndarray:
    """Token ids [rows, length], uniform over what is not special."""
    return np.random.default_rng(seed).integers(SPECIALS, vocab, (rows, length))


@cache
def compute_dtype(device: torch.device) -> torch.dtype:
    """What training would compute in here; measured once, so that whatever is compared computes in the same."""
    return torch.bfloat16 if has_bf16(device) else torch.float32


def build_learner(work: Workload, device: torch.device, *, compiled: bool) -> Learner:
    """The learner as the training loop builds it."""
    configure(device)
    learner = make_learner(work.recipe, vocab=work.vocab).to(device).train(work.recipe.train.dropout)
    encoder = learner.model.encoder
    causal = CAUSAL in work.recipe.objective.kinds
    needs = needs_of(encoder, documents=0, compiled=compiled, causal=causal)
    for each in learner.encoders():
        each.dtype = compute_dtype(device)
        each.kernel = choose_attention(device, each.dtype, needs).kernel
    if compiled:
        learner.compile(dynamic=False, fullgraph=True)
    return learner


def fixed_inputs(work: Workload, device: torch.device) -> dict[str, Tensor]:
    """One micro-batch of random rows, masked at the peak rate."""
    ids = random_rows(work.microbatch, work.length, work.vocab)
    keys = np.arange(work.microbatch, dtype=np.uint64)
    arrays = work.recipe.objective.inputs(
        ids, keys, seed=0, epoch=0, multiplier=1.0, kind=work.kind, vocabulary=vocabulary(work.vocab)
    )
    return {name: torch.from_numpy(values).to(device) for name, values in arrays.items()}


class Training:
    """The training loop's own step over random rows on disk: loader, micro-batches, guard, optimizer."""

    def __init__(self, work: Workload, learner: Learner, store: TokenStore, device: torch.device) -> None:
        self.work, self.learner, self.device = work, learner, device
        dtype = compute_dtype(device)
        self.stepper: Stepper = work.recipe.optimizer.build(named_parameters(learner), dtype=dtype)
        self.batches = Batches(
            store,
            Random(),
            work.recipe.objective,
            vocabulary(work.vocab),
            seed=0,
            expected_rows=len(store),
            device=device,
        )
        self._position = 0

    def microbatches(self) -> Iterator[dict[str, Tensor]]:
        """Those of the next step."""
        return self.batches.step(
            self._position, self.work.rows, multiplier=1.0, kind=self.work.kind, microbatch=self.work.microbatch
        )

    def step(self) -> Outcome:
        """One optimizer step on the next rows, the device waited for."""
        outcome = take_step(
            self.learner,
            self.stepper,
            self.microbatches,
            ranks=Ranks(),
            multiplier=RATE,
            kind=self.work.kind,
            clip=self.work.recipe.train.clip,
        )
        self._position += self.work.rows
        synchronise(self.device)
        return outcome


@contextmanager
def training(work: Workload, *, compiled: bool, device: torch.device | None = None) -> Iterator[Training]:
    """A `Training` over a temporary store of random rows."""
    device = device or pick_device()
    folder = Path(tempfile.mkdtemp(prefix="gpuday-bench-"))
    try:
        store = random_store(folder / "train.tok", rows=max(4 * work.rows, 256), length=work.length, vocab=work.vocab)
        made = Training(work, build_learner(work, device, compiled=compiled), store, device)
        try:
            yield made
        finally:
            made.batches.close()
    finally:
        shutil.rmtree(folder)


def random_store(folder: Path, *, rows: int, length: int, vocab: int) -> TokenStore:
    """A token store of one shard of random rows, each its own document."""
    with TokenWriter(folder, length=length, vocab_size=vocab, vocabulary="random") as writer:
        writer.append(random_rows(rows, length, vocab))
        writer.end_shard("random", np.arange(rows, dtype=np.int64) * length)
        return writer.finish()
