"""Cross-entropy by pieces against logits that exist whole: tokens/s of a compiled micro-batch, both in one process."""

from functools import partial

import torch
import torch.nn.functional as F
from measure import Record, alternate, parser
from torch import Tensor
from workload import build_learner, fixed_inputs, workload

from gpuday.objectives import Learner
from gpuday.train.device import pick_device, synchronise


def main() -> None:
    """Time both at each size."""
    arguments = parser(__doc__, sizes="nano,compare,micro").parse_args()
    record = Record("loss", arguments.out)
    device = pick_device()
    for size in arguments.sizes[: 1 if arguments.quick else None]:
        work = workload(size)
        inputs = fixed_inputs(work, device)
        learner = build_learner(work, device, compiled=True)
        arms = {
            "pieces": partial(by_pieces, learner, work.kind, inputs),
            "whole": partial(whole_logits(learner), inputs),
        }
        seconds = alternate(arms, rounds=3 if arguments.quick else 15, warm_up=2)
        tokens = work.microbatch * work.length
        figures = {f"{name}_tokens_per_second": spread.rate(tokens) for name, spread in seconds.items()}
        ratio = seconds["whole"].median / seconds["pieces"].median
        record.add(size, shape=work.shape(), figures={**figures, "ratio": ratio})
    record.table()


def by_pieces(learner: Learner, kind: str, inputs: dict[str, Tensor]) -> None:
    """The learner as it is."""
    learner(inputs, kind).backward()
    synchronise(inputs["ids"].device)


def whole_logits(learner: Learner) -> partial[None]:
    """The same with torch's own loss over all logits at once, compiled."""
    trunk = torch.compile(learner.model.encoder, dynamic=False, fullgraph=True)

    def plain(hidden: Tensor, positions: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        logits = learner.model.predict(hidden, positions).float()
        return (F.cross_entropy(logits, labels, reduction="none") * weights).sum()

    loss = torch.compile(plain, dynamic=False, fullgraph=True)

    def step(inputs: dict[str, Tensor]) -> None:
        loss(trunk(inputs["ids"]), inputs["positions"], inputs["labels"], inputs["weights"]).backward()
        synchronise(inputs["ids"].device)

    return partial(step)


if __name__ == "__main__":
    main()
