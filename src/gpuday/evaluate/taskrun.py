"""One task of a plan on a subject: its shares of the rows and its seeds, from their files or made anew.

A file is used where it answers the same question: same weights, rows, protocol, seed and task version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from torch import Tensor

from gpuday import __version__
from gpuday.evaluate import baselines
from gpuday.evaluate.checking import longest_row
from gpuday.evaluate.course import Course, Size
from gpuday.evaluate.encoding import Asked, EncodedTask, encode_task
from gpuday.evaluate.finetune import Finetuned, finetune
from gpuday.evaluate.intervals import Interval, rows_interval
from gpuday.evaluate.metrics import Predicted
from gpuday.evaluate.plan import Plan, settings_of
from gpuday.evaluate.pooling import pooling_for
from gpuday.evaluate.protocols import Protocol
from gpuday.evaluate.resume import (
    hash_rows,
    read_answers,
    read_start,
    read_trials,
    write_answers,
    write_start,
    write_trials,
)
from gpuday.evaluate.scorefile import (
    Score,
    hyperparameters,
    is_older,
    plain_interval,
    read_score,
    suite_folder,
    surroundings,
    write_score,
)
from gpuday.evaluate.sections import Scored, median_of
from gpuday.evaluate.subject import Subject
from gpuday.evaluate.sweep import SEED as TRIALS
from gpuday.evaluate.sweep import Picked, pick
from gpuday.evaluate.tasks import Rows, Task, TaskData
from gpuday.evaluate.tasks.own import SUITE as OWN
from gpuday.evaluate.tasks.pydocs import PYDOCS
from gpuday.models.downstream import Head
from gpuday.train.device import describe


class Keep(Interface):
    """What becomes of fine-tuned models."""

    def wants(self, task: Task) -> bool:
        """Whether the models of a task are kept."""
        ...

    def has(self, score: Score) -> bool:
        """Whether the model of this very score is there."""
        ...

    def check(self, task: Task, protocol: Protocol, seed: int) -> None:
        """Raise UsageError where there is no place for a model, before it is made."""
        ...

    def __call__(
        self, tuned: Finetuned, data: TaskData, protocol: Protocol, score: Score, interval: Interval | None
    ) -> None:
        """Keep the model of a score."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """Fine-tunings of a task, counted before the first of them."""

    made: int
    """Whose scores, models to keep or answers to unlabelled rows are to be made."""
    trials: int
    """Of a sweep, that are to be made beside."""
    on_file: int
    older: int
    """Score files that another version of this package wrote, among those to be made."""


class TaskRun:
    """One task of a plan on a subject: its shares and seeds, with what they have in common."""

    is_parent = False
    parent: "TaskRun | None" = None

    def __init__(self, subject: Subject, plan: Plan, data: TaskData, own_head: Head, keep: Keep | None) -> None:
        own = data.task.suite == OWN
        self.task, self.subject, self.plan, self.keep = data.task, subject, plan, keep
        self.protocol = _under(plan.used(data), own_head if own else plan.protocol.head)
        self.asked = _under(plan.protocol, self.protocol.head).name
        self.pooling = pooling_for(subject, self.task, self.protocol)
        self.parts = [plan.part(data, fraction) for fraction in plan.fractions]
        self._sizes = {fraction: Size.of(part) for fraction, part in zip(plan.fractions, self.parts, strict=True)}
        self._settings = settings_of(self.protocol, self.task)
        self._picked: Picked | None = None
        self._encoded: tuple[float, EncodedTask] | None = None
        self._baselines: dict[tuple[str, float], dict[str, float]] = {}

    @property
    def work(self) -> float:
        """Of all its fine-tunings, a sweep's trials included."""
        trials = self._settings if self.protocol.sweep is not None else ()
        return sum(map(self._sizes[1.0].work, trials)) + sum(map(self._work, self._sizes)) * self.plan.seeds

    def _work(self, fraction: float) -> float:
        """Of one fine-tuning; where a sweep chooses how long it is, of the longest."""
        return max(map(self._sizes[fraction].work, self._settings))

    @property
    def origin(self) -> str:
        """What its fine-tuned encoder came from, beside the subject, the seed and the hyperparameters."""
        data, name = self.parts[0], f"{self.task.name} version {self.task.version}"
        return f"{name}, {self.protocol.name}, {len(data.train)} rows, {data.data_hash}"

    def folder(self, name: str, fraction: float = 1.0) -> Path:
        """Of the scores of the task, or of a companion."""
        return self.subject.scores / suite_folder(self.task.suite, self.protocol.name, fraction) / name

    def score(self, course: Course) -> list[Scored]:
        """The scores of the task and its companions, those on file included."""
        found: dict[tuple[str, float], list[Score]] = {}
        for fraction, data in zip(self.plan.fractions, self.parts, strict=True):
            for seed in range(self.plan.seeds):
                scores = self._on_file(data, fraction, seed)
                reused = scores is not None
                if scores is None:
                    scores = self._made(data, fraction, seed, course)[0]
                else:
                    course.skip(self._work(fraction))
                for score in scores:
                    found.setdefault((score.task, fraction), []).append(score)
                    told = {"task": score.task, "seed": seed, "metric": score.metric, "value": score.value}
                    rare = {} if fraction == 1.0 else {"fraction": fraction}
                    rare |= {"unread_words": score.unread_words} if score.unread_words else {}
                    course("score", **told, reused=reused, **rare)
        self._encoded = None  # the next task needs the memory
        tasks = {t.name: t for t in (self.task, *self.task.companions)}
        return [
            Scored(
                task=tasks[name],
                asked=self.asked,
                scores=tuple(found[name, 1.0]),
                shares=tuple(s for f in self.plan.fractions if f < 1.0 for s in found[name, f]),
            )
            for name, fraction in found
            if fraction == 1.0
        ]

    def ahead(self) -> Ahead:
        """What `score` and `answers` will find and make. What is made again for its encoder alone, or for its answers beside
        scores that are yet to be made, is not foreseen."""
        made = on_file = older = 0
        whole = list[Score]()
        for fraction, data in zip(self.plan.fractions, self.parts, strict=True):
            for seed in range(self.plan.seeds):
                if (found := self._on_file(data, fraction, seed)) is not None:
                    on_file += 1
                    whole += found[:1] if fraction == 1.0 else ()
                    continue
                made += 1
                files = (self.folder(task.name, fraction) / f"{seed}.json" for task, _ in self._named(data))
                older += sum(map(is_older, files))
        if len(whole) == self.plan.seeds and self._answers_on_file(median_of(whole).seed) is None:
            made += 1
        trials = 0
        if made and self.protocol.sweep is not None:
            path, identity = self._trials_file()
            trials = len(self._settings) - len(read_trials(path, identity, self._settings))
        return Ahead(made=made, trials=trials, on_file=on_file, older=older)

    def _trials_file(self) -> tuple[Path, dict[str, Any]]:
        """With its identity."""
        return self.folder(self.task.name) / "sweep" / "trials.json", self._identity(self.parts[0], 1.0, TRIALS)

    def answers(self, scored: Scored, course: Course) -> dict[str, Predicted]:
        """Those of the seed whose score is the median, to the unlabelled rows; fine-tuned again where they are not on file."""
        seed = median_of(scored.scores).seed
        found = self._answers_on_file(seed)
        return self._made(self.parts[0], 1.0, seed, course)[1] if found is None else found

    def _answers_on_file(self, seed: int) -> dict[str, Predicted] | None:
        """None where they are to be made; where there is nothing to answer, none are."""
        test = self.parts[0].test
        return read_answers(*self._answer_file(seed), {name: len(rows) for name, rows in test.items()}) if test else {}

    def start(self, seed: int, course: Course) -> Mapping[str, Tensor]:
        """The encoder that this task's fine-tuning ends with, for others to start from."""
        path, identity = self.folder(self.task.name) / f"{seed}.safetensors", self._identity(self.parts[0], 1.0, seed)
        found = read_start(path, identity)
        if found is None:
            self._made(self.parts[0], 1.0, seed, course)
            found = read_start(path, identity)
        assert found is not None, "it was just written"
        return found

    def _answer_file(self, seed: int) -> tuple[Path, dict[str, Any]]:
        """With its identity, to which the rows that are answered belong."""
        data = self.parts[0]
        identity = {**self._identity(data, 1.0, seed), "test_hash": hash_rows(data.test)}
        return self.folder(self.task.name) / "test" / f"{seed}.json", identity

    def _identity(self, data: TaskData, fraction: float, seed: int, companion: Task | None = None) -> dict[str, Any]:
        task = companion or self.task
        return {
            "task": task.name,
            "version": task.version,
            "protocol": self.protocol.name,
            "hyperparameters": hyperparameters(self.protocol),
            "seed": seed,
            "fraction": fraction,
            "train_rows": len(data.train),
            "data_hash": data.data_hash + (f"+{data.companion_hashes[task.name]}" if companion else ""),
            "model_hash": self.subject.model_hash,
            "start": None if self.parent is None else self.parent.origin,
            "pooling": self.pooling,
        }

    def _named(self, data: TaskData) -> list[tuple[Task, Rows]]:
        """The task with its dev set, and its companions with theirs."""
        theirs = [(c, data.companions[c.name]) for c in self.task.companions if c.name in data.companions]
        return [(self.task, data.dev), *theirs]

    def _on_file(self, data: TaskData, fraction: float, seed: int) -> list[Score] | None:
        """The scores of one fine-tuning, or None where one of them, or the model that is to be kept, is not there."""
        found = []
        for task, _ in self._named(data):
            identity = self._identity(data, fraction, seed, None if task is self.task else task)
            score = read_score(self.folder(task.name, fraction) / f"{seed}.json", identity)
            if score is None:
                return None
            found.append(score)
        return None if self._keeps(fraction) and self.keep and not self.keep.has(found[0]) else found

    def _keeps(self, fraction: float) -> bool:
        return fraction == 1.0 and self.keep is not None and self.keep.wants(self.task)

    def _made(
        self, data: TaskData, fraction: float, seed: int, course: Course
    ) -> tuple[list[Score], dict[str, Predicted]]:
        """Fine-tune once, and write what came out: the score files after what is resumed from, since they say that it is
        there, and before the model, which is asked for by itself: a score that was paid for outlives a fault in keeping."""
        for task, rows in self._named(data):
            self._baseline(task, data, rows, fraction)  # what is wrong with the rows must not come out after hours
        if self.keep is not None and self._keeps(fraction):
            self.keep.check(self.task, self.protocol, seed)  # likewise
        start = None if self.parent is None else self.parent.start(seed, course)
        if self._encoded is None or self._encoded[0] != fraction:
            self._encoded = fraction, encode_task(self.subject, data, self.protocol)
        encoded, first = self._encoded[1], self._picked is None
        picked = self._pick(data, encoded, course)
        course.begin(self._work(fraction))
        tuned = finetune(self.subject, data, picked.protocol, seed, encoded=encoded, progress=course, start=start)
        course.end()
        answers = {name: tuned.predicted[f"test:{name}"] for name in data.test}
        if answers and fraction == 1.0:
            write_answers(*self._answer_file(seed), answers)
        if self.is_parent:
            path = self.folder(self.task.name) / f"{seed}.safetensors"
            write_start(path, self._identity(data, fraction, seed), tuned.model.get_submodule("body").state_dict())
        extra = picked.seconds if first else 0.0
        made = [
            self._score(task, encoded.asked[task.name], data, tuned, picked, fraction, seed, extra)
            for task, _ in self._named(data)
        ]
        for score, _ in reversed(made):
            write_score(self.folder(score.task, fraction) / f"{seed}.json", score)
        if self.keep is not None and self._keeps(fraction):
            self.keep(tuned, data, picked.protocol, made[0][0], made[0][1])
        return [score for score, _ in made], answers

    def _pick(self, data: TaskData, encoded: EncodedTask, course: Course) -> Picked:
        """The setting of a sweep, which is made once for all seeds; its trials are on file."""
        if self._picked is not None:
            return self._picked
        if self.protocol.sweep is None:
            self._picked = pick(self.subject, data, self.protocol)
            return self._picked
        path, identity = self._trials_file()
        settings, size = self._settings, self._sizes[1.0]
        known = read_trials(path, identity, settings)
        values, todo = dict(known), [setting for setting in settings if setting not in known]

        def found(setting: Protocol, value: float | None) -> None:
            course.end()
            values[setting] = value
            write_trials(path, identity, values)
            if len(values) < len(settings):
                course.begin(size.work(todo[len(values) - len(known)]))

        course.skip(sum(map(size.work, known)))
        start = None
        if todo:
            if self.parent is not None:
                start = self.parent.start(0, course)  # the same, whichever seed is missing
            course.begin(size.work(todo[0]))
        self._picked = pick(
            self.subject, data, self.protocol, encoded=encoded, start=start, progress=course, known=known, found=found
        )
        return self._picked

    def _score(
        self,
        task: Task,
        asked: Asked,
        data: TaskData,
        tuned: Finetuned,
        picked: Picked,
        fraction: float,
        seed: int,
        extra: float,
    ) -> tuple[Score, Interval | None]:
        outcome, own, rows = tuned.outcome, task is self.task, asked.rows
        metrics = outcome.metrics if own else outcome.companions[task.name]
        interval = rows_interval(task, rows, tuned.predicted[task.name])
        device = describe(self.subject.device)
        setting = hyperparameters(picked.protocol)
        swept = ("lr", "weight_decay", "epochs") if self.protocol.sweep is not None else ()
        score = Score(
            **self._identity(data, fraction, seed, None if own else task),
            suite=task.suite,
            kind=task.kind,
            chosen={key: setting[key] for key in swept},
            metric=task.main,
            value=metrics[task.main],
            metrics=metrics,
            interval=plain_interval(interval),
            baseline=self._baseline(task, data, rows, fraction),
            train_rows_available=data.train_rows_available,
            dev_rows=len(rows),
            longest_row=longest_row(self.subject, self.protocol),
            unread_words=asked.unread_words,
            partial=data.partial,
            train_loss=outcome.train_loss,
            steps=outcome.steps,
            seconds=outcome.seconds + (extra if own else 0.0),
            examples_per_second=outcome.examples_per_second,
            dtype=outcome.dtype,
            device=device,
            subject=self.subject.name,
            subject_kind=self.subject.kind,
            recipe_fingerprint=self.subject.recipe_fingerprint,
            environment=surroundings(device),
            package_version=__version__,
        )
        return score, interval

    def _baseline(self, task: Task, data: TaskData, rows: Rows, fraction: float) -> dict[str, float]:
        """The main metric without an encoder: of the commonest label; of a bag of words where nobody has published one."""
        if (found := self._baselines.get((task.name, fraction))) is None:
            found = {"majority": baselines.majority(replace(data, task=task), rows)}
            chance = baselines.best_constant(replace(data, task=task), rows) if task.chance is None else task.chance
            if task.chance is not None or chance != found["majority"]:
                found["chance"] = chance
            if task is self.task and task.suite in (PYDOCS.suite, OWN):
                words = baselines.bag_of_words(data)
                found |= {} if words is None else {"bag_of_words": words}
            self._baselines[task.name, fraction] = found
        return found


def _under(protocol: Protocol, head: Head) -> Protocol:
    """The protocol with a head, named by it where it is not the protocol's own."""
    return protocol if head == protocol.head else replace(protocol, head=head, name=f"{protocol.name}-{head}")
