"""`gpuday evaluate`: everything named is read and checked first, then measured and scored, then summed up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpuday.cli.flags import Output, ScoreFlags, TaskFlags
from gpuday.cli.probes import check_probes, check_subject, probe
from gpuday.cli.resolve import know_parts
from gpuday.cli.rooms import existing
from gpuday.cli.scores import show_scores
from gpuday.cli.screen import Screen
from gpuday.core.errors import UsageError
from gpuday.core.rundir import RunDir, read_json
from gpuday.evaluate import submission
from gpuday.evaluate.checking import check_length, longest_row
from gpuday.evaluate.fill_mask import samples
from gpuday.evaluate.finetune import Finetuned
from gpuday.evaluate.huggingface import subject_of_folder
from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.model_folder import is_huggingface
from gpuday.evaluate.plan import Plan, fractions_of, make_plan
from gpuday.evaluate.pooling import is_pooled, pooling_for
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.score import evaluate_tasks
from gpuday.evaluate.scorefile import Score
from gpuday.evaluate.sections import added, backed, sections
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.tasks import Selection, Task, TaskData, parse_tasks
from gpuday.evaluate.tasks.own import SUITE as OWN
from gpuday.evaluate.tasks.own import own_task, told
from gpuday.evaluate.tasks.parsing import Columns
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.evaluate.untrained import untrained_folder, untrained_run
from gpuday.evaluate.word_bits import word_bits
from gpuday.export.finetuned import check_place, head_for, is_kept, keep, kept_folder
from gpuday.train.trained import Trained, load_trained

HUB = "hub:"


def evaluate_command(run: Path, *, tasks: ScoreFlags = ScoreFlags(), output: Output = Output()) -> None:  # noqa: B008
    """Score a trained run, or any encoder in a Hugging Face folder: downstream tasks and probes."""
    with Screen(as_json=output.json) as screen:
        _selection(tasks, own=tasks.task is not None)  # names first: a slip is told whatever else is wrong
        if RunDir(run).recipe.exists() or not (str(run).startswith(HUB) or is_huggingface(run)):
            place = existing(run, output, screen)  # before any task is made: a name that is misspelt is told at once
            if tasks.out is not None:
                fix = "leave it out: the scores of a run go into its folder"
                raise UsageError("--out beside a run", where="--out", fix=fix)
            with place.lock():
                evaluate_room(place, tasks, screen)
            return
        know_parts(output.part, screen)
        folder = Path(str(run).removeprefix(HUB))
        place = RunDir(tasks.out or Path("runs") / f"{folder.name}-scores")
        if place.recipe.exists():
            raise UsageError(
                f"{place.root} is a run", where="--out", fix="give the scores of another model a folder of their own"
            )
        _tell_reading(folder, tasks, screen)
        plan = check_tasks(tasks)
        with place.lock():
            subject = subject_of_folder(folder, place.scores)
            _require_same(place, subject)
            _require_able(subject, plan, tasks)
            place.update_summary(subject={"name": subject.name, "kind": subject.kind, "model_hash": subject.model_hash})
            _score(place, subject, untrained_folder(subject) if tasks.untrained else None, plan, tasks, screen)


def check_tasks(flags: TaskFlags, *, ahead: bool = False) -> Plan:
    """Check the flags and read everything that they name, so that a fault is reported before anything is spent.

    `ahead` of a training the task that needs no file is not made yet.
    """
    fractions = fractions_of(flags.train_fraction)
    own = _own_task(flags)
    selection = _selection(flags, own=own is not None)
    _refuse_idle(flags, [*selection.tasks, *([own.task] if own else [])])
    if ahead:
        selection = replace(selection, tasks=tuple(t for t in selection.tasks if t.suite != PYDOCS.suite))
    plan = make_plan(
        tasks=selection,
        task_data=flags.task_data,
        own=own,
        protocol=flags.protocol,
        seeds=flags.task_seeds,
        train_rows=flags.task_rows,
        pooling=flags.pooling,
        fractions=fractions,
        test=flags.submission is not None,
    )
    check_probes(flags)
    if flags.submission is not None:
        rows = {name: len(found) for name, found in _test_rows(plan).items()}
        submission.require_whole(rows, fill=flags.submission_fill)
        if not flags.submission.absolute().parent.is_dir():
            fix = "name a file in a folder that is there"
            raise UsageError(f"{flags.submission} lies in no folder", where="--submission", fix=fix)
        if flags.submission.is_dir():
            raise UsageError(f"{flags.submission} is a folder", where="--submission", fix="name a file in it")
    return plan


def _selection(flags: TaskFlags, *, own: bool) -> Selection:
    """The tasks that are named; without a name the one that needs no file, or none beside the user's own."""
    named = flags.tasks if flags.tasks is not None else "none" if own else PYDOCS.name
    return parse_tasks(named, flags.task_data)


def _refuse_idle(flags: TaskFlags, tasks: Sequence[Task]) -> None:
    """Raise UsageError for a flag that would change nothing."""
    reads = any(task.suite not in (PYDOCS.suite, OWN) for task in tasks)
    idle = {
        "--task-data": ("a task that is read from it", flags.task_data is not None and not reads),
        "--submission-fill": ("--submission", flags.submission_fill and flags.submission is None),
        "--keep": ("a task", flags.keep and not tasks),
        "--train-fraction": ("a task", flags.train_fraction is not None and not tasks),
        "--untrained": ("a task", flags.untrained and not tasks),
        "--pooling": ("a task of whole rows", flags.pooling is not None and not any(map(is_pooled, tasks))),
        "--pll": ("--pairs", flags.pll is not None and flags.pairs is None),
    }
    for flag, (lacking, is_idle) in idle.items():
        if is_idle:
            fix = f"name {lacking} with --tasks" if "task" in lacking else f"add {lacking}"
            raise UsageError(f"{flag} without {lacking}", where=flag, fix=f"{fix}, or leave {flag} out")


def _require_same(place: RunDir, subject: Subject) -> None:
    """Raise UsageError for a folder that holds the scores of another model."""
    known = (read_json(place.summary).get("subject") if place.summary.exists() else None) or {}
    if known.get("model_hash", subject.model_hash) != subject.model_hash:
        raise UsageError(
            f"{place.root} holds the scores of another model, {known.get('name')}: its weights, config, pooling or tokenizer differ",
            where="--out",
            fix="give the scores of this one a folder of their own",
        )


def _require_able(subject: Subject, plan: Plan, flags: TaskFlags) -> None:
    """Raise UsageError for what the subject cannot do, before anything is measured."""
    check_subject(subject, flags)
    for data in plan.data:
        pooling_for(subject, data.task, plan.protocol)
    if plan.data:
        check_length(subject, plan.protocol)


def evaluate_room(run: RunDir, flags: TaskFlags, screen: Screen) -> None:
    """Add held-out words, samples, scores and probes to the summary."""
    trained = load_trained(run.root)
    _tell_reading(run.root, flags, screen)
    plan = check_tasks(flags)
    subject = subject_of_run(trained)
    _require_able(subject, plan, flags)
    _measure_words(run, trained, screen)
    _score(run, subject, untrained_run(subject, trained) if flags.untrained else None, plan, flags, screen)


def _tell_reading(model: Path, flags: TaskFlags, screen: Screen) -> None:
    """What comes before the first figure, and takes its time: rows are read, tokenized and scored without the model."""
    tasks = [task.name for task in _selection(flags, own=flags.task is not None).tasks]
    tasks += [] if flags.task is None else [str(flags.task)]
    read = {"tasks": ", ".join(tasks), "pairs": flags.pairs, "perplexity": flags.perplexity}
    screen.tell("reading", model=str(model), **{what: str(name) for what, name in read.items() if name})


def _measure_words(run: RunDir, trained: Trained, screen: Screen) -> None:
    bits = word_bits(trained)
    summary = read_json(run.summary)
    renamed = {"bytes": "word_bytes", "tokens": "word_tokens", "skipped": "words_skipped"}
    heldout = {**summary["heldout"], **{renamed.get(key, key): value for key, value in bits.items()}}
    run.update_summary(heldout=heldout, samples=samples(trained))
    told = {key: heldout[key] for key in ("nats_per_token", "word_bits_per_byte")}
    if any(summary["heldout"].get(key) != value for key, value in told.items()):  # known since an earlier evaluation
        screen.tell("heldout", **told)


def _score(
    place: RunDir, subject: Subject, fresh: Subject | None, plan: Plan, flags: TaskFlags, screen: Screen
) -> None:
    """Probe and fine-tune, write the sections, show the tables, and write the submission."""
    longest, asked = longest_row(subject, plan.protocol), plan.protocol.max_tokens
    if plan.data and longest < asked:
        message = f"rows are cut to {longest} tokens, the most that {subject.name} takes; {plan.protocol.name} asks for {asked}"
        screen.tell("notice", message=message)
    probe(place, subject, flags, screen)
    own = next((d.task for d in plan.data if d.task.suite == OWN), None)
    head = plan.protocol.head if own is None else head_for(subject, pooling_for(subject, own, plan.protocol))
    for data in plan.data:
        if data.task.suite == OWN:
            screen.tell("task", **told(data))
    keeping = _Keeping(root=place.root, subject=subject, flags=flags, screen=screen)
    later = 0 if fresh is None else 1
    result = evaluate_tasks(subject, plan, own_head=head, keep=keeping, progress=screen.tell, later=later)
    found = sections(result.scored, dict(plan.left_out))
    without = {}
    if fresh is not None:
        bare = replace(plan, data=tuple(replace(d, test={}) for d in plan.data))
        without = sections(evaluate_tasks(fresh, bare, own_head=head, progress=screen.tell).scored, {})
    summary = read_json(place.summary)
    known, gone = backed(summary.get("scores"), subject.scores)
    if gone:
        message = f"{', '.join(gone)}: no longer in summary.json, since the score files are gone"
        screen.tell("notice", message=message)
    if found or gone:
        place.update_summary(scores=added(known, found))
    if without:
        place.update_summary(untrained=added(summary.get("untrained"), without))
    show_scores(found, without, screen)
    if flags.submission is not None:
        filled = submission.write_submission(flags.submission, result.answers, fill=flags.submission_fill)
        screen.tell("submission", file=str(flags.submission), filled_with_a_constant=", ".join(filled))


def _own_task(flags: TaskFlags) -> TaskData | None:
    """The user's own task, if one is named."""
    columns = {"--text": flags.text, "--text-b": flags.text_b, "--label": flags.label, "--dev": flags.dev}
    if flags.task is not None:
        return own_task(flags.task, text=flags.text, text_b=flags.text_b, label=flags.label, dev=flags.dev)
    if given := [flag for flag, value in columns.items() if value is not None]:
        raise UsageError(f"{given[0]} without --task", where=given[0], fix="name the file of your task with --task")
    return None


def _test_rows(plan: Plan) -> dict[str, Any]:
    return {name: rows for d in plan.data if d.task.suite == "glue" for name, rows in d.test.items()}


@dataclass(frozen=True, kw_only=True)
class _Keeping:
    """Keeps the models of the user's own tasks, or of all, in the folder of the run."""

    root: Path
    subject: Subject
    flags: TaskFlags
    screen: Screen

    def wants(self, task: Task) -> bool:
        return self.flags.keep or task.suite == OWN

    def check(self, task: Task, protocol: Protocol, seed: int) -> None:
        check_place(kept_folder(self.root, task.suite, protocol.name, task.name, seed))

    def _folder(self, score: Score) -> Path:
        return kept_folder(self.root, score.suite, score.protocol, score.task, score.seed)

    def has(self, score: Score) -> bool:
        return is_kept(self._folder(score), score)

    def __call__(
        self, tuned: Finetuned, data: TaskData, protocol: Protocol, score: Score, interval: Interval | None
    ) -> None:
        folder = self._folder(score)
        flags, columns = self.flags, None
        if data.task.suite == OWN and flags.text is not None:
            columns = Columns(text_a=flags.text, text_b=flags.text_b, label=flags.label)
        kept = keep(tuned, self.subject, data, protocol, score, folder, interval=interval, columns=columns)
        self.screen.tell("kept", folder=kept["folder"], format=kept["format"], reason=kept["reason"])
