"""One task of a plan: resumed, started from another one, swept, kept, and asked for rows without labels."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuday.core.errors import UsageError
from gpuday.evaluate import sweep, taskrun
from gpuday.evaluate.finetune import Finetuned
from gpuday.evaluate.intervals import Interval
from gpuday.evaluate.plan import Plan, make_plan
from gpuday.evaluate.protocols import P1, P2, P2_SWEEP, Protocol
from gpuday.evaluate.score import Result, evaluate_tasks
from gpuday.evaluate.scorefile import Score
from gpuday.evaluate.sections import median_of
from gpuday.evaluate.subject import Subject, subject_of_run
from gpuday.evaluate.tasks import Task, TaskData
from gpuday.train.trained import Trained
from toy_tasks import toy

QUICK = replace(P1, epochs=1, lr=1e-3)
QUICK_P2 = replace(
    P2, batch=16, sweep=replace(P2_SWEEP, lrs=(1e-4, 1e-2), weight_decays=(1e-6,), few_epochs=(1,), many_epochs=(1,))
)
WORDS = ["river", "bridge", "mango", "zebra", "house"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MNLI with both its dev sets and a matched test set, and RTE."""
    for task, files, labels in (
        ("MNLI", ("train", "dev_matched", "dev_mismatched", "test_matched"), 3),
        ("RTE", ("train", "dev"), 2),
    ):
        (tmp_path / task).mkdir()
        for part in files:
            rows: list[dict[str, Any]] = [
                {"text_a": f"one {WORDS[i % 5]} {i}", "text_b": f"a {WORDS[i % 3]}", "label": i % labels, "idx": i}
                for i in range(32)
            ]
            rows = [{k: v for k, v in row.items() if k != "label" or part != "test_matched"} for row in rows]
            (tmp_path / task / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def subject(trained: Trained) -> Subject:
    return subject_of_run(trained)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(task, seed) of every fine-tuning; a sweep's trials have a seed of their own."""
    calls: list[tuple[str, int]] = []

    for module in (taskrun, sweep):
        real = module.finetune

        def listed(
            subject: Subject, data: TaskData, protocol: Protocol, seed: int, real: Any = real, **rest: Any
        ) -> Finetuned:
            calls.append((data.task.name, seed))
            return real(subject, data, protocol, seed, **rest)

        monkeypatch.setattr(module, "finetune", listed)
    return calls


def score_of(result: Result, task: str) -> Score:
    (found,) = (s.scores[0] for s in result.scored if s.task.name == task)
    return found


def file_of(subject: Subject, suite: str, task: str, seed: int = 0) -> Path:
    return subject.scores / suite / task / f"{seed}.json"


def test_a_companion_has_a_score_of_its_own_from_the_same_model(
    subject: Subject, folder: Path, made: list[Any]
) -> None:
    """MNLI's other dev set: another file, another hash, one fine-tuning; without that file both are made anew."""
    plan = make_plan(tasks="mnli", task_data=folder, protocol=QUICK, seeds=1)
    result = evaluate_tasks(subject, plan)
    assert [s.task.name for s in result.scored] == ["MNLI", "MNLI-mm"] and made == [("MNLI", 0)]
    values = json.loads(file_of(subject, "glue", "MNLI-mm").read_text())
    main = json.loads(file_of(subject, "glue", "MNLI").read_text())
    assert values["task"] == "MNLI-mm" and values["data_hash"].startswith(main["data_hash"] + "+")
    assert values["baseline"]["majority"] == pytest.approx(11 / 32)
    assert evaluate_tasks(subject, plan) == result and len(made) == 1
    file_of(subject, "glue", "MNLI-mm").unlink()
    assert evaluate_tasks(subject, plan).scored[0].scores[0].value == main["value"]
    assert len(made) == 2


def test_a_score_belongs_to_one_pooling(subject: Subject, folder: Path, made: list[Any]) -> None:
    """The file says what was read, and one of another pooling is made anew under the same name, not taken for it."""
    plan = make_plan(tasks="rte", task_data=folder, protocol=QUICK, seeds=1)
    first = score_of(evaluate_tasks(subject, plan), "RTE")
    other = replace(subject, pooling="mean")
    mean = score_of(evaluate_tasks(other, plan), "RTE")
    assert (first.pooling, mean.pooling, len(made)) == ("first", "mean", 2)
    assert first.train_loss != mean.train_loss
    assert score_of(evaluate_tasks(other, plan), "RTE") == mean and len(made) == 2
    asked = make_plan(tasks="rte", task_data=folder, protocol=QUICK, seeds=1, pooling="mean")
    assert score_of(evaluate_tasks(subject, asked), "RTE").train_loss == mean.train_loss
    assert json.loads(file_of(subject, "glue-P1-mean", "RTE").read_text())["pooling"] == "mean"


def test_a_pooling_that_is_not_here_is_told_before_the_first_task(
    subject: Subject, folder: Path, made: list[Any]
) -> None:
    """Nothing is trained."""
    odd = replace(subject, pooling=None, no_pooling="it says max")
    with pytest.raises(UsageError, match="it says max"):
        evaluate_tasks(odd, make_plan(tasks="mnli,rte", task_data=folder, protocol=QUICK, seeds=1))
    assert made == []


def test_a_task_starts_from_the_encoder_of_its_parent(subject: Subject, folder: Path, made: list[Any]) -> None:
    """P2: MNLI comes first, though it was not named, and RTE's score says where it started; the encoder outlives a stop."""
    plan = make_plan(tasks="rte", task_data=folder, protocol=QUICK_P2, seeds=1)
    result = evaluate_tasks(subject, plan)
    assert made == [("MNLI", -1), ("MNLI", -1), ("MNLI", 0), ("RTE", -1), ("RTE", -1), ("RTE", 0)]
    rte, mnli = score_of(result, "RTE"), score_of(result, "MNLI")
    assert (rte.start, mnli.start) == (f"MNLI version 1, P2, 32 rows, {mnli.data_hash}", None)
    assert rte.train_loss != pytest.approx(alone(subject, folder), abs=1e-6)
    file_of(subject, "glue-P2", "RTE").unlink()
    made.clear()
    assert score_of(evaluate_tasks(subject, plan), "RTE").value == rte.value
    assert made == [("RTE", 0)]
    file_of(subject, "glue-P2", "MNLI").with_suffix(".safetensors").write_bytes(b"torn")
    file_of(subject, "glue-P2", "RTE").unlink()
    made.clear()
    again = score_of(evaluate_tasks(subject, plan), "RTE")
    assert (again.train_loss, again.value) == (rte.train_loss, rte.value)
    assert made == [("MNLI", 0), ("RTE", 0)]


def alone(subject: Subject, folder: Path) -> float:
    """The loss of RTE fine-tuned by the same grid from the subject's own encoder."""
    assert QUICK_P2.sweep is not None
    bare = replace(QUICK_P2, name="other", sweep=replace(QUICK_P2.sweep, children=()))
    return score_of(
        evaluate_tasks(subject, make_plan(tasks="rte", task_data=folder, protocol=bare, seeds=1)), "RTE"
    ).train_loss


def test_a_sweep_that_was_stopped_goes_on_where_it_was(subject: Subject, folder: Path, made: list[Any]) -> None:
    """Trials are on file as soon as they are made; the score names the setting that won."""
    plan = make_plan(tasks="mnli", task_data=folder, protocol=QUICK_P2, seeds=2)

    def stop(event: str, /, **values: Any) -> None:
        if event == "trial":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(subject, plan, progress=stop)
    assert made == [("MNLI", -1)]
    result = evaluate_tasks(subject, plan)
    assert made == [("MNLI", -1), ("MNLI", -1), ("MNLI", 0), ("MNLI", 1)]
    trials = json.loads((subject.scores / "glue-P2" / "MNLI" / "sweep" / "trials.json").read_text())["values"]
    best = max(trials, key=lambda trial: trial["value"])["setting"]
    assert score_of(result, "MNLI").chosen == {key: best[key] for key in ("lr", "weight_decay", "epochs")}
    assert len(score_of(result, "MNLI").hyperparameters["sweep"]["lrs"]) == 2


def test_rows_without_labels_are_answered_by_the_median_seed(subject: Subject, folder: Path, made: list[Any]) -> None:
    """From file where they are there; a seed that was scored before without them is fine-tuned again, and alone."""
    plan = make_plan(tasks="mnli", task_data=folder, protocol=QUICK, seeds=3)
    middle = median_of(evaluate_tasks(subject, plan).scored[0].scores).seed
    asked = make_plan(tasks="mnli", task_data=folder, protocol=QUICK, seeds=3, test=True)
    made.clear()
    first = evaluate_tasks(subject, asked).answers
    assert made == [("MNLI", middle)]
    assert list(first) == ["MNLI"] and first["MNLI"].shape == (32,)  # type: ignore[union-attr]
    np.testing.assert_array_equal(evaluate_tasks(subject, asked).answers["MNLI"], first["MNLI"])
    assert len(made) == 1


def test_answers_are_to_the_rows_that_are_there(subject: Subject, folder: Path, made: list[Any]) -> None:
    """As many other rows under the same name are answered anew."""
    asked: dict[str, Any] = {"tasks": "mnli", "task_data": folder, "protocol": QUICK, "seeds": 1, "test": True}
    evaluate_tasks(subject, make_plan(**asked))
    path = folder / "MNLI" / "test_matched.jsonl"
    path.write_text(path.read_text().replace("one ", "two "))
    made.clear()
    evaluate_tasks(subject, make_plan(**asked))
    evaluate_tasks(subject, make_plan(**asked))
    assert made == [("MNLI", 0)]


def test_a_task_is_not_reused_where_its_parent_was_capped(subject: Subject, folder: Path, made: list[Any]) -> None:
    """MNLI on a part of its rows gives another start; RTE, all of whose rows are used both times, is made anew."""
    rte = folder / "RTE" / "train.jsonl"
    rte.write_text("".join(rte.read_text().splitlines(keepends=True)[:16]))
    capped = make_plan(tasks="rte", task_data=folder, protocol=QUICK_P2, seeds=1, train_rows=20)
    first = score_of(evaluate_tasks(subject, capped), "RTE")
    made.clear()
    second = score_of(
        evaluate_tasks(subject, make_plan(tasks="rte", task_data=folder, protocol=QUICK_P2, seeds=1)), "RTE"
    )
    assert (first.protocol, second.protocol) == ("P2-rows-20", "P2") and first.start != second.start
    assert ("RTE", 0) in made and first.train_rows == second.train_rows == 16


def test_a_parent_is_not_made_again_for_trials_that_are_known(subject: Subject, folder: Path, made: list[Any]) -> None:
    """Only the encoder of the seed that is missing is asked for."""
    plan = make_plan(tasks="rte", task_data=folder, protocol=QUICK_P2, seeds=2)
    evaluate_tasks(subject, plan)
    file_of(subject, "glue-P2", "MNLI", 0).with_suffix(".safetensors").unlink()
    file_of(subject, "glue-P2", "RTE", 1).unlink()
    made.clear()
    evaluate_tasks(subject, plan)
    assert made == [("RTE", 1)]


def test_words_beyond_the_length_are_counted_and_told(subject: Subject) -> None:
    """In the score and in its event, with the length that there was."""
    told: list[dict[str, Any]] = []
    plan = make_plan(tasks="none", own=toy("tagging"), protocol=replace(QUICK, max_tokens=8), seeds=1)
    (found,) = evaluate_tasks(subject, plan, progress=lambda event, /, **values: told.append(values)).scored
    score = found.scores[0]
    assert score.longest_row == 8 and score.unread_words > 0
    assert [values["unread_words"] for values in told if "reused" in values] == [score.unread_words]
    plan = make_plan(tasks="none", own=toy("tagging"), protocol=QUICK, seeds=1)
    score = evaluate_tasks(subject, plan).scored[0].scores[0]
    assert (score.longest_row, score.unread_words) == (subject.length, 0)


@dataclass
class Shelf:
    """Keeps names of models."""

    there: list[tuple[str, int]] = field(default_factory=list)

    def wants(self, task: Task) -> bool:
        return task.name == "RTE"

    def has(self, score: Score) -> bool:
        return (score.task, score.seed) in self.there

    def check(self, task: Task, protocol: Protocol, seed: int) -> None:
        assert (task.name, protocol.name, seed) == ("RTE", "P1", 0)

    def __call__(
        self, tuned: Finetuned, data: TaskData, protocol: Protocol, score: Score, interval: Interval | None
    ) -> None:
        assert tuned.predicted[data.task.name] is not None and protocol.sweep is None and interval is not None
        self.there.append((score.task, score.seed))


def test_a_model_that_is_to_be_kept_is_made_again_where_it_is_gone(
    subject: Subject, folder: Path, made: list[Any]
) -> None:
    """A score on file is not enough then; of tasks whose models are not wanted it is."""
    shelf, plan = Shelf(), make_plan(tasks="rte,mnli", task_data=folder, protocol=QUICK, seeds=1)
    evaluate_tasks(subject, plan)
    made.clear()
    evaluate_tasks(subject, plan, keep=shelf)
    assert (made, shelf.there) == ([("RTE", 0)], [("RTE", 0)])
    evaluate_tasks(subject, plan, keep=shelf)
    assert made == [("RTE", 0)]


class Full(Shelf):
    """Has no room."""

    def __call__(self, *_: Any) -> None:
        raise UsageError("no room")


class Taken(Shelf):
    """Has something else standing there."""

    def check(self, *_: Any) -> None:
        raise UsageError("not an earlier export")


def test_a_score_outlives_a_fault_in_keeping(subject: Subject, folder: Path, made: list[Any]) -> None:
    """What was paid for is on file; a place that is taken is found before anything is paid."""
    plan = make_plan(tasks="rte", task_data=folder, protocol=QUICK, seeds=1)
    with pytest.raises(UsageError, match="earlier export"):
        evaluate_tasks(subject, plan, keep=Taken())
    assert made == []
    with pytest.raises(UsageError, match="no room"):
        evaluate_tasks(subject, plan, keep=Full())
    assert made == [("RTE", 0)] and file_of(subject, "glue", "RTE").is_file()
    evaluate_tasks(subject, plan)
    assert len(made) == 1


def test_a_users_own_task_is_scored_by_the_head_that_a_class_has(subject: Subject, toy_data: TaskData) -> None:
    """And the protocol's name says so, in the file's place too; a bag of words stands beside it."""
    own = replace(toy_data, task=replace(toy_data.task, suite="own"))
    plan = make_plan(tasks="none", own=own, protocol=QUICK, seeds=1)
    result = evaluate_tasks(subject, plan, own_head="bert")
    score = result.scored[0].scores[0]
    assert (score.protocol, score.hyperparameters["head"]) == ("P1-bert", "bert")
    assert file_of(subject, "own-P1-bert", "toy").is_file()
    assert score.baseline.keys() == {"majority", "bag_of_words"} and score.baseline["bag_of_words"] > 0.9


def test_an_evaluation_says_how_long_the_whole_will_take(subject: Subject, folder: Path) -> None:
    """Every event inside a fine-tuning has `left`, which falls; scores that were there are told as reused."""
    told: list[tuple[str, dict[str, Any]]] = []
    plan: Plan = make_plan(tasks="mnli", task_data=folder, protocol=replace(QUICK, epochs=2), seeds=2)
    evaluate_tasks(subject, plan, progress=lambda event, **values: told.append((event, values)))
    left = [values["left"] for event, values in told if event == "epoch"]
    assert len(left) == 4 and left[0] > left[-1] >= 0
    assert [values["reused"] for event, values in told if event == "score"] == [False] * 4
