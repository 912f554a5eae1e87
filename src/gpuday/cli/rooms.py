"""The rooms after training, one by one: evaluate, export, report; and the commands that only look."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpuday import presets
from gpuday.cli.flags import Flags, Output, TaskFlags
from gpuday.cli.resolve import know_parts, resolve_recipe
from gpuday.cli.screen import Screen
from gpuday.core import config, parts
from gpuday.core.absent import why_absent
from gpuday.core.errors import DataError, UsageError, nearest
from gpuday.core.explained import Knob, knobs, papers, plain, summary
from gpuday.core.rundir import RunDir, read_json
from gpuday.evaluate.fill_mask import samples
from gpuday.evaluate.finetune import PROTOCOLS
from gpuday.evaluate.score import evaluate_tasks
from gpuday.evaluate.tasks import load, parse_tasks
from gpuday.evaluate.word_bits import word_bits
from gpuday.export.hf import export
from gpuday.models.encoder import EncoderConfig
from gpuday.presets.sizes import SIZES
from gpuday.recipe import KINDS
from gpuday.report.page import write_report
from gpuday.report.tables import list_runs, show_run
from gpuday.train.trained import load_trained


def evaluate_command(run: Path, *, tasks: TaskFlags = TaskFlags(), output: Output = Output()) -> None:  # noqa: B008
    """Score a trained run: held-out words, fill-mask samples, downstream tasks."""
    with Screen(as_json=output.json) as screen:
        check_tasks(tasks)
        with _existing(run, output, screen).lock():
            evaluate_room(RunDir(run), tasks, screen)


def export_command(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a trained run as a Hugging Face folder, with its parity checked."""
    with Screen(as_json=output.json) as screen, _existing(run, output, screen).lock():
        export_room(RunDir(run), screen)


def report_command(run: Path, *, output: Output = Output()) -> None:  # noqa: B008
    """Write a run's report.html."""
    with Screen(as_json=output.json) as screen:
        report_room(_existing(run, output, screen), screen)


def list_command(what: str = "runs", *, output: Output = Output()) -> None:  # noqa: B008
    """Runs in a folder; or, given a kind, its parts; `parts` of all kinds, `axes` of a model, `presets`, `sizes`."""
    with Screen(as_json=output.json) as screen:
        know_parts(output.part, screen)
        if what == "presets":
            screen.table("presets", [{"preset": n, "what": summary(presets.find(n))} for n in presets.names()])
        elif what == "sizes":
            screen.table("sizes", [{"size": name, **asdict(size)} for name, size in SIZES.items()])
        elif what in KINDS or what == "parts":
            kinds = KINDS if what == "parts" else {what: KINDS[what]}
            rows = [(name, kind, part) for name, kind in kinds.items() for part in parts.names(kind)]
            screen.table("parts", [_part_row(n, parts.find(k, p), brief=not screen.as_json) for n, k, p in rows])
        elif what == "axes":
            screen.table("axes of the model", [_axis_row(k, brief=not screen.as_json) for k in knobs(EncoderConfig)])
        elif Path(what).is_dir():
            runs = list_runs(Path(what))
            screen.table("runs", runs)
            if not runs:
                screen.tell("nothing", message=f"no runs in {what}")
        elif what == "runs":
            screen.table("runs", [])
        else:
            known = [*KINDS, "parts", "axes", "presets", "sizes", "runs"]
            fix = why_absent(what) if "/" in what and not Path(what).exists() else nearest(what, known)
            raise UsageError(f"{what!r} is neither a folder nor a kind", where="list", fix=fix)


def show_command(what: str, *, flags: Flags = Flags()) -> None:  # noqa: B008
    """The recipe of a preset or TOML file with the flags applied, or the record of a run."""
    with Screen(as_json=flags.json) as screen:
        if "/" in what and not Path(what).exists():
            fix = f"{why_absent(what)}; a preset's name, a TOML file or a run's folder is shown"
            raise DataError(f"{what} is not there", where="WHAT", fix=fix)
        record = show_run(Path(what)) if Path(what).is_dir() else config.to_dict(resolve_recipe(what, flags, screen))
        screen.document(record)


def _existing(run: Path, output: Output, screen: Screen) -> RunDir:
    """A run directory that is there, with the user's own parts known; no folder is made for a misspelt name."""
    know_parts(output.part, screen)
    if not RunDir(run).recipe.exists():
        raise DataError(f"{run} is not a run directory", where="RUN", fix=_run_meant(run))
    return RunDir(run)


def _run_meant(run: Path) -> str:
    """Where the run that was meant may be: below this folder, in runs/, or beside it under a name that is near."""
    if run.is_dir() and (inside := sorted(p for p in run.iterdir() if RunDir(p).recipe.exists())):
        return f"it holds runs: give one, such as {inside[0]}"
    if RunDir("runs" / run).recipe.exists():
        return f"write {'runs' / run}"
    plain = "give the folder of a run; see gpuday list runs"
    return plain if run.exists() else f"{why_absent(str(run))}; {plain}"


def check_tasks(flags: TaskFlags) -> None:
    """Check the flags and read the tasks' files, so that a fault is reported before anything is spent."""
    least = PROTOCOLS[flags.protocol].batch
    if flags.task_seeds < 1:
        raise UsageError(f"{flags.task_seeds} task seeds", where="--task-seeds", fix="give 1 seed or more")
    if flags.task_rows is not None and flags.task_rows < least:
        raise UsageError(
            f"{flags.task_rows} task rows", where="--task-rows", fix=f"give {least} rows or more, which is one batch"
        )
    for task in parse_tasks(flags.tasks, flags.task_data).tasks:
        if task.suite != "pydocs":  # needs no file
            load(task, flags.task_data, train_rows=flags.task_rows)


def evaluate_room(run: RunDir, flags: TaskFlags, screen: Screen) -> None:
    """Add held-out words, samples and scores to the summary."""
    trained = load_trained(run.root)
    bits = word_bits(trained)
    summary = read_json(run.summary)
    renamed = {"bytes": "word_bytes", "tokens": "word_tokens", "skipped": "words_skipped"}
    heldout = {**summary["heldout"], **{renamed.get(key, key): value for key, value in bits.items()}}
    run.update_summary(heldout=heldout, samples=samples(trained))
    screen.tell("heldout", nats_per_token=heldout["nats_per_token"], word_bits_per_byte=heldout["word_bits_per_byte"])
    scores = evaluate_tasks(
        trained,
        tasks=flags.tasks,
        task_data=flags.task_data,
        seeds=flags.task_seeds,
        train_rows=flags.task_rows,
        protocol=flags.protocol,
        progress=screen.tell,
    )
    if scores["tasks"]:
        run.update_summary(scores=scores)
        rows = [{"task": name, "metric": t["metric"], "median": t["median"]} for name, t in scores["tasks"].items()]
        screen.table("scores", rows)


def export_room(run: RunDir, screen: Screen) -> None:
    """Export and add the parity to the summary."""
    section = export(run.root)
    run.update_summary(export=section)
    screen.tell("export", kind=section["kind"], parity_max_abs=section["parity_max_abs"], reason=section["reason"])


def report_room(run: RunDir, screen: Screen) -> None:
    """Write the page."""
    screen.tell("report", file=str(write_report(run.root)))


def _part_row(kind: str, part: type, *, brief: bool) -> dict[str, Any]:
    """What a part is, its knobs with their defaults, and the papers it is from; `brief` is for people."""
    defaults = {knob.name: plain(knob.default) for knob in knobs(part)}
    shown = ", ".join(f"{name} {_brief(value)}" for name, value in defaults.items()) if brief else defaults
    source = ", ".join(papers(part)) if brief else papers(part)
    return {"kind": kind, "part": parts.name_of(part), "what": summary(part), "knobs": shown, "source": source}


def _axis_row(axis: Knob, *, brief: bool) -> dict[str, Any]:
    """An axis of the model: its default, what it can be, and its explanation."""
    values = ", ".join(map(_brief, axis.values)) or axis.type if brief else axis.values or axis.type
    default = plain(axis.default)
    return {"axis": axis.name, "default": _brief(default) if brief else default, "values": values, "what": axis.what}


def _brief(value: Any) -> str:
    """A value as it is written after `--set key=`; of a table only that it is one."""
    return "{...}" if isinstance(value, dict) else str(value) if isinstance(value, str) else json.dumps(value)
