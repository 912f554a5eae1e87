"""Scores a subject on the tasks of a plan, each under its protocol, and gives all the scores.

A score that is there for the same weights, rows, protocol and task version is not made again, so that the same call resumes
after a stop. The rows of a plan were checked when it was made; what the subject cannot take is found before the first task
is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpuday.evaluate.checking import check_length
from gpuday.evaluate.course import Course
from gpuday.evaluate.finetune import Tell
from gpuday.evaluate.metrics import Predicted
from gpuday.evaluate.plan import STARTING, Plan, parent_of
from gpuday.evaluate.sections import Scored
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.taskrun import Keep, TaskRun
from gpuday.models.downstream import Head


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an evaluation gave."""

    scored: tuple[Scored, ...]
    """Every task in the plan's order, its companions behind it."""
    answers: dict[str, Predicted]
    """Of the unlabelled rows, where the plan has some, by name of the set: those of each task's median seed."""


def evaluate_tasks(
    subject: Subject,
    plan: Plan,
    *,
    own_head: Head = "paper",
    keep: Keep | None = None,
    progress: Tell | None = None,
    later: int = 0,
) -> Result:
    """Fine-tune on every task of the plan by every share and seed that is not on file, and give all the scores.

    Scores of any protocol but P1 have a suite of their own: `scores/glue-P1-short/CoLA/0.json`. `own_head` is the head of
    the user's own tasks; the protocol's name then ends in it. Events: `plan`, what will be done; `epoch`, `finetune` and
    `trial` with `left`, the seconds until all is done; and `score`. `later` says for how many more subjects the same will be
    done, which `left` counts.
    """
    runs = [TaskRun(subject, plan, data, own_head, keep) for data in plan.data]
    if plan.data:
        check_length(subject, plan.protocol)
    parents = {parent for run in runs if (parent := parent_of(plan.protocol, run.task))}
    course = Course(sum(run.work for run in runs) * (1 + later), progress)
    by_name: dict[str, TaskRun] = {}
    for run in runs:
        if run.task.suite == STARTING:
            by_name[run.task.name.lower()] = run
            run.is_parent = run.task.name.lower() in parents
        run.parent = by_name.get(parent_of(plan.protocol, run.task) or "")
    if runs:
        _announce(subject, plan, runs, course)
    scored: list[Scored] = []
    answers: dict[str, Predicted] = {}
    for run in runs:
        found = run.score(course)
        scored += found
        answers |= run.answers(found[0], course)
    return Result(scored=tuple(scored), answers=answers)


def _announce(subject: Subject, plan: Plan, runs: Sequence[TaskRun], tell: Tell) -> None:
    """Say what will be done before anything is: the first event of a fine-tuning may be a minute away."""
    ahead = [run.ahead() for run in runs]
    trials = sum(one.trials for one in ahead)
    tell(
        "plan",
        subject=subject.name,
        train_rows={run.task.name: len(run.parts[0].train) for run in runs},
        protocol=plan.protocol.name,
        seeds=plan.seeds,
        **({} if plan.fractions == (1.0,) else {"fractions": list(plan.fractions)}),
        finetunings=sum(one.made for one in ahead),
        **({"trials": trials} if trials else {}),
        on_file=sum(one.on_file for one in ahead),
    )
    if older := sum(one.older for one in ahead):
        what = "1 score of an older format is" if older == 1 else f"{older:,} scores of an older format are"
        tell("notice", message=f"{what} made anew")
