"""Tokens/s against other training code at one model shape: 4 layers, width 256, vocabulary 16,384, 128 tokens, 25% masks.

Peers: the Hugging Face `Trainer` with BERT as it comes (fp32), with bf16, with bf16 and torch.compile, and with
ModernBERT at its best setting; and, with `--cramming DIR`, the original cramming code from a checkout of
JonasGeiping/cramming, which is no part of this repository. A peer's step is what its own loop does: batch, forward,
backward, clipping where it clips, AdamW. Ours is the training loop's step: loader, micro-batches, optimizer (Muon for
`modern`, AdamW for `crammed`, which is the original code's own model). Their steps and ours alternate on the same number of
tokens, each peer in a process of its own.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beside import beside, give, pause
from measure import Record, Spread, need, parser
from peer_cramming import ARMS as CRAMMING_ARMS
from peer_cramming import cramming_seconds
from peer_trainer import ARMS, WARM_UP, trainer_seconds
from workload import Training, Workload, training, workload


def main() -> None:
    """Time ours beside each setting of each peer."""
    asked = parser(__doc__, settings=",".join(ARMS))
    asked.add_argument("--cramming", type=Path, help="a checkout of the original code (needs omegaconf and einops)")
    asked.add_argument("--be", choices=[*ARMS, *CRAMMING_ARMS], help=argparse.SUPPRESS)  # the peer's own process
    arguments = asked.parse_args()
    rounds = 3 if arguments.quick else 7
    if arguments.be:
        be(arguments.be, arguments.cramming, rounds)
        return
    if arguments.settings:
        need("accelerate", "the Hugging Face Trainer")
    record = Record("peers", arguments.out)
    theirs = [sys.executable, __file__, *(["--quick"] if arguments.quick else [])]
    work, same = step_of(workload("compare")), step_of(workload("compare", preset="crammed"))
    with training(work, compiled=True) as modern, training(same, compiled=True) as crammed:
        for run in (modern, crammed):
            warm_up(run)
        for name in arguments.settings:
            compare(record, name, [*theirs, "--be", name], work, {"ours": modern.step})
        if arguments.cramming:
            ours = {"crammed": crammed.step, "modern": modern.step}
            for name in CRAMMING_ARMS:
                compare(record, name, [*theirs, "--be", name, "--cramming", str(arguments.cramming)], same, ours)
    record.table()


def compare(
    record: Record, name: str, command: list[str], work: Workload, ours: dict[str, Callable[[], object]]
) -> None:
    """Write down one peer's speed and ours."""
    seconds, own = beside(command, ours, warm_up=WARM_UP)
    record.add(name, shape=work.shape(), figures=figures(seconds, work.rows * work.length, **own))


def be(name: str, checkout: Path, rounds: int) -> None:
    """The peer's process: its steps, a pause after each."""
    if name in CRAMMING_ARMS:
        give(cramming_seconds(name, checkout, step_of(workload("compare", preset="crammed")), pause, rounds=rounds))
        return
    with tempfile.TemporaryDirectory() as scratch:
        give(trainer_seconds(name, step_of(workload("compare")), pause, rounds=rounds, scratch=Path(scratch)))


def step_of(work: Workload) -> Workload:
    """The shape with two micro-batches a step: fp32 takes seconds for each."""
    return dataclasses.replace(work, rows=2 * work.microbatch)


def warm_up(run: Training) -> None:
    """Compile, and let the optimizer allocate."""
    for _ in range(3):
        run.step()


def figures(theirs: Spread, tokens: int, **ours: Spread) -> dict[str, Any]:
    """Tokens/s of all, and for each of ours how many times as fast it is: the ratio of the medians, and of the fastest
    rounds, which other programs on the machine disturb least."""
    answer: dict[str, Any] = {"theirs_tokens_per_second": theirs.rate(tokens)}
    for name, own in ours.items():
        answer[f"{name}_tokens_per_second"] = own.rate(tokens)
        answer |= {f"{name}_ratio": theirs.median / own.median, f"{name}_best_ratio": theirs.low / own.low}
    return answer


if __name__ == "__main__":
    main()
