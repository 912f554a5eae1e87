"""Runs tasks and seeds on a trained run, writes each score to its file, and sums them up for summary.json.

A score that is there for the same weights, rows, protocol and task version is not made again, so that the same call
resumes. All tasks are read and checked before the first is trained.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import xxhash
from torch import nn

from gpuday import __version__
from gpuday.core import config
from gpuday.core.errors import DataError, UsageError, nearest
from gpuday.core.rundir import RunDir, read_json, write_json
from gpuday.evaluate import baselines
from gpuday.evaluate.finetune import P1, PROTOCOLS, Protocol, Tell, encode_task, finetune
from gpuday.evaluate.tasks import Selection, TaskData, load, parse_tasks
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.train.device import describe
from gpuday.train.trained import Trained, load_trained

SHORT = "-short"  # added to the protocol's name where not all train rows were used


@dataclass(frozen=True, kw_only=True)
class Score:
    """One file of `scores/<suite>/<task>/<seed>.json`. All values of metrics are shares of 1."""

    task: str
    version: int
    protocol: str
    """Name; with `-short` where train rows were capped."""
    hyperparameters: dict[str, Any]
    """The whole protocol."""
    seed: int
    metric: str
    """The main metric, whose value is `value`."""
    value: float
    metrics: dict[str, float]
    baseline: dict[str, float]
    """The main metric without an encoder, by method."""
    train_rows: int
    train_rows_available: int
    dev_rows: int
    partial: bool
    """Whether the files hold a part of the official rows."""
    train_loss: float
    steps: int
    seconds: float
    examples_per_second: float
    dtype: str
    device: str
    data_hash: str
    model_hash: str
    recipe_fingerprint: str
    package_version: str


IDENTITY = ("task", "version", "protocol", "hyperparameters", "seed", "train_rows", "data_hash", "model_hash")


def evaluate(run: RunDir | Path, **options: Any) -> dict[str, Any]:
    """`evaluate_tasks` of the run in a folder."""
    return evaluate_tasks(load_trained(run.root if isinstance(run, RunDir) else run), **options)


def evaluate_tasks(
    trained: Trained,
    *,
    tasks: str | Selection = "pydocs",
    task_data: Path | None = None,
    seeds: int = 1,
    train_rows: int | None = None,
    protocol: Protocol | str = P1,
    progress: Tell | None = None,
) -> dict[str, Any]:
    """Fine-tune on every task with seeds 0 .. `seeds` - 1 and give the `scores` section of summary.json; see `section`.

    `train_rows` caps each task's train set; the protocol is then called `P1-short` where the cap bites. Scores of any
    protocol but P1 have a suite of their own: `scores/glue-P1-short/CoLA/0.json`.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise UsageError(
                f"no protocol is called {protocol!r}", where="--protocol", fix=nearest(protocol, PROTOCOLS)
            )
        protocol = PROTOCOLS[protocol]
    if seeds < 1 or (train_rows is not None and train_rows < protocol.batch):
        raise UsageError("too few seeds or train rows", fix=f"give 1 seed or more, {protocol.batch} train rows or more")
    selection = parse_tasks(tasks, task_data) if isinstance(tasks, str) else tasks
    data = [load(task, task_data, train_rows=train_rows) for task in selection.tasks]
    model_hash = hash_weights(trained.model) if data else ""
    scores = [_task_scores(trained, d, seeds, protocol, model_hash, progress) for d in data]
    return section(selection, scores)


def section(selection: Selection, scores: Sequence[Sequence[Score]]) -> dict[str, Any]:
    """The `scores` of summary.json from the scores [task][seed] of the selected tasks.

    {"protocol", "seeds", "tasks": {name: {"metric", "median", "spread", "values", "n", "baseline", ...}}, "mean",
    "mean_of"}. The mean is over the medians of GLUE's tasks but WNLI, MNLI once; `mean_of` says of which, under which
    protocol, and which of them had partial rows. Spread is the largest value less the smallest.
    """
    rows = {task.name: _summed(found) for task, found in zip(selection.tasks, scores, strict=True)}
    counted = [task.name for task in selection.tasks if task.in_mean]
    return {
        "protocol": _protocol_of(list(rows.values())),
        "seeds": sorted({score.seed for found in scores for score in found}),
        "tasks": rows,
        "mean": statistics.fmean(rows[name]["median"] for name in counted) if counted else None,
        "mean_of": {
            "tasks": counted,
            "protocol": _protocol_of([rows[name] for name in counted]),
            "partial": [name for name in counted if rows[name]["partial"]],
        },
        "left_out": dict(selection.left_out),
    }


def hash_weights(model: nn.Module) -> str:
    """xxh3-128 of the names, shapes and bytes of all parameters."""
    digest = xxhash.xxh3_128()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _task_scores(
    trained: Trained, data: TaskData, seeds: int, protocol: Protocol, model_hash: str, progress: Tell | None
) -> list[Score]:
    """The scores of one task by seed, those from files included."""
    used = replace(protocol, name=protocol.name + SHORT) if data.capped else protocol
    tell: Tell = progress or _silent
    suite = data.task.suite if used.name == P1.name else f"{data.task.suite}-{used.name}"
    folder = trained.run.scores / suite / data.task.name
    identity: dict[str, Any] = {
        "task": data.task.name,
        "version": data.task.version,
        "protocol": used.name,
        "hyperparameters": asdict(used),
        "train_rows": len(data.train),
        "data_hash": data.data_hash,
        "model_hash": model_hash,
    }
    found = {seed: _read(folder / f"{seed}.json", {**identity, "seed": seed}) for seed in range(seeds)}
    kept = {seed: score for seed, score in found.items() if score is not None}
    for seed, score in kept.items():
        tell("score", task=data.task.name, seed=seed, metric=score.metric, value=score.value, reused=True)
    if len(kept) == seeds:
        return [kept[seed] for seed in range(seeds)]
    encoded, known = encode_task(trained, data, used), _baselines(data)
    for seed in sorted(set(range(seeds)) - set(kept)):
        outcome = finetune(trained, data, used, seed, encoded=encoded, progress=progress)
        score = Score(
            **identity,
            seed=seed,
            metric=data.task.main,
            value=outcome.metrics[data.task.main],
            metrics=outcome.metrics,
            baseline=known,
            train_rows_available=data.train_rows_available,
            dev_rows=len(data.dev),
            partial=data.partial,
            train_loss=outcome.train_loss,
            steps=outcome.steps,
            seconds=outcome.seconds,
            examples_per_second=outcome.examples_per_second,
            dtype=outcome.dtype,
            device=describe(trained.device),
            recipe_fingerprint=config.fingerprint(trained.recipe),
            package_version=__version__,
        )
        write_json(folder / f"{seed}.json", asdict(score))
        kept[seed] = score
        tell("score", task=data.task.name, seed=seed, metric=score.metric, value=score.value, reused=False)
    return [kept[seed] for seed in range(seeds)]


def _read(path: Path, identity: dict[str, Any]) -> Score | None:
    """The score in a file, or None where there is none, it is damaged, or it answers another question."""
    if not path.is_file():
        return None
    try:
        values = read_json(path)
    except DataError:
        return None  # it is made anew
    if not isinstance(values, dict) or any(values.get(key) != identity[key] for key in IDENTITY):
        return None
    try:
        return Score(**values)
    except TypeError:
        return None  # the fields of another version of this package


def _baselines(data: TaskData) -> dict[str, float]:
    found = {"majority": baselines.majority(data)}
    if data.task.suite == PYDOCS.suite:
        found["bag_of_words"] = baselines.bag_of_words(data)
    return found


def _summed(scores: Sequence[Score]) -> dict[str, Any]:
    values, first = [score.value for score in scores], scores[0]
    return {
        "metric": first.metric,
        "median": statistics.median(values),
        "spread": max(values) - min(values),
        "values": values,
        "n": len(values),
        "baseline": first.baseline,
        "metrics": {m: statistics.median(s.metrics[m] for s in scores) for m in first.metrics},
        "protocol": first.protocol,
        "version": first.version,
        "train_rows": first.train_rows,
        "train_rows_available": first.train_rows_available,
        "dev_rows": first.dev_rows,
        "partial": first.partial,
        "data_hash": first.data_hash,
        "seconds": sum(score.seconds for score in scores),
    }


def _protocol_of(rows: Sequence[dict[str, Any]]) -> str | None:
    """The name that all share; where only some were capped, the capped name, since the whole is not comparable to P1."""
    names = sorted({row["protocol"] for row in rows}, key=lambda name: name.endswith(SHORT))
    return names[-1] if names else None


def _silent(event: str, /, **values: Any) -> None:
    del event, values
