"""How a model is fine-tuned, as values: every hyperparameter of a score, under a name that stands in each table.

P1 is the evaluation of Geiping & Goldstein, arXiv 2212.14034 (`GLUE_sane` in their code): one setting for all tasks. Not
theirs: batches of like length instead of random ones, and bf16 without autocast instead of fp16 with it.

P2 is that of Warner et al., arXiv 2412.13663 (ModernBERT): the best of a sweep on dev for each task, and RTE, MRPC and STS-B
from the encoder that was fine-tuned on MNLI. Grid, epochs, parent and batch are those of their appendix E.1 (the batch in its
second version). Head, optimizer, betas, eps and length are those of their code (`src/bert_layers/model.py` and the defaults of
`src/evals/glue_jobs.py`); rise and fall of the rate are those of MosaicBERT's recipe (Portes et al., arXiv 2312.17482), on
which that code is built. Not found in print, and chosen here: dropout as in P1; what the head reads of a row, which is the
subject's own pooling. Not theirs: an incomplete last batch is dropped; the setting is chosen by a seed of its own, so that no
reported seed was chosen for its luck; no fine-tuning ends early, since their rule for that is not published.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from gpuday.models.downstream import Head, Pooling

SHORT_ROWS = 8000  # train rows of P1-short
SHORT_SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The settings of which a task's best on dev is taken: all combinations. Tasks are named in lower case."""

    lrs: tuple[float, ...]
    """Peak learning rates."""
    weight_decays: tuple[float, ...]
    """Decoupled weight decays."""
    few_epochs: tuple[int, ...]
    """Epochs of the tasks in `few`."""
    many_epochs: tuple[int, ...]
    """Epochs of the others."""
    few: tuple[str, ...]
    """Tasks that are passed over few times."""
    parent: str
    """The task whose fine-tuned encoder others start from."""
    children: tuple[str, ...]
    """Those others."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every hyperparameter of a fine-tuning. The metric is taken on dev after the last epoch; no epoch is selected."""

    name: str = "P1"
    """Scores of two names never share a table."""
    epochs: int = 5
    """Passes over the train rows."""
    batch: int = 16
    """Rows in a step; an epoch's incomplete last batch is dropped."""
    lr: float = 4e-5
    """Peak learning rate of AdamW."""
    beta1: float = 0.9
    """Decay of the mean gradient."""
    beta2: float = 0.98
    """Decay of the mean squared gradient."""
    eps: float = 1e-6
    """Added to the root of the latter."""
    weight_decay: float = 0.0
    """Decoupled weight decay; a step takes this times the rate off the weights."""
    decay_by_share: bool = False
    """Whether it takes weight_decay times the share of the peak rate instead, as Composer's DecoupledAdamW does."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises; after them it falls to 0."""
    schedule: Literal["cosine", "linear"] = "cosine"
    """How it falls: along half a cosine, or in a line."""
    dropout: float = 0.1
    """Dropout probability in the encoder and the head."""
    max_tokens: int = 128
    """Longer rows are cut; contexts of span tasks become several windows."""
    head: Head = "paper"
    """Which layers stand between the encoder and the answer: models/downstream.py."""
    pooling: Pooling | None = None
    """What the head of a task of whole rows reads of them; None: what the subject's own does."""
    rows: int | None = None
    """Train rows that are used; None: all."""
    seeds: int = 5
    """Fine-tunings whose median is reported, unless asked otherwise."""
    sweep: Sweep | None = None
    """What is tried for each task on dev; None: this one setting holds for all tasks."""

    def settings(self, task: str) -> tuple["Protocol", ...]:
        """What is to be tried for a task, without sweeps; this protocol alone where it has none."""
        if self.sweep is None:
            return (self,)
        epochs = self.sweep.few_epochs if task.lower() in self.sweep.few else self.sweep.many_epochs
        return tuple(
            replace(self, sweep=None, lr=lr, weight_decay=decay, epochs=passes)
            for lr, decay, passes in product(self.sweep.lrs, self.sweep.weight_decays, epochs)
        )

    def parent(self, task: str) -> str | None:
        """Name in lower case of the task whose fine-tuned encoder this one starts from; None: from the subject's own."""
        return self.sweep.parent if self.sweep is not None and task.lower() in self.sweep.children else None


P2_SWEEP = Sweep(
    lrs=(1e-5, 3e-5, 5e-5, 8e-5),
    weight_decays=(1e-6, 5e-6, 8e-6, 1e-5),
    few_epochs=(1, 2, 3),
    many_epochs=(2, 5, 10),
    few=("mnli", "sst-2", "rte"),
    parent="mnli",
    children=("rte", "mrpc", "sts-b"),
)

P1 = Protocol()
# P1's rate belongs to encoders of base size; it leaves a narrow one near the majority class.
P1_SMALL = replace(P1, name="P1-small", lr=5e-4)
P1_SHORT, P1_SMALL_SHORT = (
    replace(p, name=f"{p.name}-short", rows=SHORT_ROWS, seeds=SHORT_SEEDS) for p in (P1, P1_SMALL)
)
P2 = Protocol(
    name="P2",
    batch=64,
    decay_by_share=True,
    warmup=0.06,
    schedule="linear",
    max_tokens=256,
    head="modernbert",
    sweep=P2_SWEEP,
)
PROTOCOLS = {p.name: p for p in (P1, P1_SMALL, P1_SHORT, P1_SMALL_SHORT, P2)}
