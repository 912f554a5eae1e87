import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuday.core.errors import DataError, UsageError
from gpuday.evaluate import taskrun
from gpuday.evaluate.plan import make_plan
from gpuday.evaluate.protocols import P1
from gpuday.evaluate.score import evaluate_tasks
from gpuday.evaluate.sections import sections
from gpuday.evaluate.subject import hash_weights, subject_of_run
from gpuday.train.trained import Trained

QUICK = replace(P1, epochs=1)
PAIRS = [("one river", "many rivers", i % 2) for i in range(40)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CoLA, RTE and WNLI with forty rows each."""
    for task, fields in (("CoLA", 1), ("RTE", 2), ("WNLI", 2)):
        (tmp_path / task).mkdir()
        for part in ("train", "dev"):
            rows = [{"text_a": f"{a} {i}", "text_b": b, "label": y} for i, (a, b, y) in enumerate(PAIRS)]
            rows = [{k: v for k, v in row.items() if fields == 2 or k != "text_b"} for row in rows]
            (tmp_path / task / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(trained: Trained, folder: Path, **options: Any) -> tuple[dict[str, Any], list[tuple[str, int, bool]]]:
    """(sections, [(task, seed, reused)] of the scores told)"""
    told = []

    def listen(event: str, /, **values: Any) -> None:
        if event == "score":
            told.append((values["task"], values["seed"], values["reused"]))

    plan = make_plan(**{"tasks": "glue", "protocol": QUICK, "task_data": folder, "seeds": 1, **options})
    result = evaluate_tasks(subject_of_run(trained), plan, progress=listen)
    return sections(result.scored, dict(plan.left_out)), told


def test_every_score_has_its_file_with_its_evidence(trained: Trained, folder: Path) -> None:
    """What was asked, of which weights and rows, and what came out."""
    run(trained, folder, tasks="rte", seeds=2)
    files = sorted((trained.run.scores / "glue" / "RTE").iterdir())
    assert [f.name for f in files] == ["0.json", "1.json"]
    values = json.loads(files[1].read_text())
    assert (values["task"], values["seed"], values["protocol"], values["metric"]) == ("RTE", 1, "P1", "accuracy")
    assert values["value"] == values["metrics"]["accuracy"]
    assert (values["train_rows"], values["dev_rows"], values["partial"]) == (40, 40, False)
    assert values["model_hash"] == hash_weights(trained.model)
    assert values["baseline"] == {"majority": 0.5}
    assert values["hyperparameters"]["lr"] == 4e-5


def test_what_will_be_done_is_said_before_it_is(
    trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks with their rows, protocol, seeds, how many fine-tunings there will be and how many are on file; and how many
    scores another version of this package wrote, which are made anew."""
    told: list[tuple[str, dict[str, Any]]] = []

    def announced(seeds: int) -> dict[str, Any]:
        told.clear()
        plan = make_plan(tasks="cola,rte", protocol=QUICK, task_data=folder, seeds=seeds)
        evaluate_tasks(subject_of_run(trained), plan, progress=lambda event, /, **values: told.append((event, values)))
        assert told[0][0] == "plan"
        return told[0][1]

    asked = {"subject": "run", "train_rows": {"CoLA": 40, "RTE": 40}, "protocol": "P1"}
    assert announced(1) == {**asked, "seeds": 1, "finetunings": 2, "on_file": 0}
    old = trained.run.scores / "glue" / "RTE" / "0.json"
    values = json.loads(old.read_text())
    old.write_text(json.dumps({key: value for key, value in values.items() if key != "longest_row"}))
    assert announced(2) == {**asked, "seeds": 2, "finetunings": 3, "on_file": 1}
    assert [v["message"] for event, v in told if event == "notice"] == ["1 score of an older format is made anew"]
    assert sum(event == "score" and not v["reused"] for event, v in told) == 3
    assert announced(2)["on_file"] == 4 and "notice" not in [event for event, _ in told]


def test_answers_that_are_not_on_file_are_announced(trained: Trained, folder: Path) -> None:
    """Scores are there, and rows without labels are still to be answered: the fine-tuning of the median is made again."""
    for part, rows in (("train", 40), ("dev", 20), ("test", 5)):
        lines = [{"text_a": f"fox {i}", "idx": i} | ({} if part == "test" else {"label": i % 2}) for i in range(rows)]
        (folder / "CoLA" / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told: list[tuple[str, dict[str, Any]]] = []
    plans = [
        make_plan(tasks="cola", protocol=QUICK, task_data=folder, seeds=1, test=test) for test in (False, True, True)
    ]
    for plan in plans:
        evaluate_tasks(subject_of_run(trained), plan, progress=lambda event, /, **values: told.append((event, values)))
    counts = [(values["finetunings"], values["on_file"]) for event, values in told if event == "plan"]
    assert counts == [(1, 0), (1, 1), (0, 1)]


def test_the_section_has_medians_and_a_mean_without_wnli(trained: Trained, folder: Path) -> None:
    """The mean is the arithmetic one of CoLA and RTE; what is missing is named."""
    (section,) = run(trained, folder, seeds=3)[0].values()
    tasks = section["tasks"]
    assert list(tasks) == ["CoLA", "RTE", "WNLI"]
    for row in tasks.values():
        assert row["n"] == len(row["values"]) == 3
        assert row["median"] == sorted(row["values"])[1]
        assert row["spread"] == max(row["values"]) - min(row["values"])
    assert section["mean"] == pytest.approx((tasks["CoLA"]["median"] + tasks["RTE"]["median"]) / 2)
    assert section["mean_of"] == {"tasks": ["CoLA", "RTE"], "protocol": "P1", "partial": []}
    assert section["seeds"] == [0, 1, 2]
    assert section["left_out"]["MNLI"] == "no folder"
    json.dumps(section, allow_nan=False)


def test_a_second_call_makes_only_what_is_missing(trained: Trained, folder: Path) -> None:
    """The same question is answered from the files, with the same section; another seed is added to it."""
    first, told = run(trained, folder, tasks="cola,rte")
    assert told == [("CoLA", 0, False), ("RTE", 0, False)]
    again, told = run(trained, folder, tasks="cola,rte")
    assert told == [("CoLA", 0, True), ("RTE", 0, True)]
    assert again == first
    _, told = run(trained, folder, tasks="cola", seeds=2)
    assert told == [("CoLA", 0, True), ("CoLA", 1, False)]


def test_other_weights_rows_or_protocol_make_the_score_anew(trained: Trained, folder: Path) -> None:
    """A file answers only the question that it was asked; a damaged one answers none."""
    run(trained, folder, tasks="cola")
    path = trained.run.scores / "glue" / "CoLA" / "0.json"
    path.write_text(path.read_text()[:-20])
    assert run(trained, folder, tasks="cola")[1] == [("CoLA", 0, False)]
    assert run(trained, folder, tasks="cola", protocol=replace(QUICK, lr=1e-4))[1] == [("CoLA", 0, False)]
    trained.model.head.dense.weight.data.mul_(2)
    assert run(trained, folder, tasks="cola")[1] == [("CoLA", 0, False)]
    with open(folder / "CoLA" / "dev.jsonl", "a") as file:
        file.write('{"text_a": "one more", "label": 0}\n')
    assert run(trained, folder, tasks="cola")[1] == [("CoLA", 0, False)]


def test_capped_rows_have_another_protocol(trained: Trained, folder: Path) -> None:
    """`P1-rows-40` where the cap bites, P1 where it does not, and never P1 on the mean of both."""
    with open(folder / "CoLA" / "train.jsonl", "a") as file:
        file.write('{"text_a": "one more", "label": 0}\n')
    found, _ = run(trained, folder, tasks="cola,rte", train_rows=40)
    section = found["glue-P1-rows-40"]
    assert [section["tasks"][t]["protocol"] for t in ("CoLA", "RTE")] == ["P1-rows-40", "P1"]
    assert section["protocol"] == section["mean_of"]["protocol"] == "P1-rows-40"
    assert (trained.run.scores / "glue-P1-rows-40" / "CoLA" / "0.json").is_file()
    assert (trained.run.scores / "glue" / "RTE" / "0.json").is_file()
    assert (section["tasks"]["CoLA"]["train_rows"], section["tasks"]["CoLA"]["train_rows_available"]) == (40, 41)


def test_a_bad_file_stops_before_any_training(trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last task's missing label is found before the first task is trained."""
    (folder / "WNLI" / "dev.jsonl").write_text('{"text_a": "a", "text_b": "b"}\n')
    monkeypatch.setattr(taskrun, "finetune", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(DataError, match="label None"):
        run(trained, folder)


def test_no_tasks_give_no_section(trained: Trained, folder: Path) -> None:
    """`none` trains nothing and sums nothing up."""
    assert run(trained, folder, tasks="none") == ({}, [])


def test_protocols_have_names_and_keep_apart(trained: Trained, folder: Path) -> None:
    """Another protocol is another suite of scores, and P1's file stays; an unknown name is refused."""
    run(trained, folder, tasks="cola")
    found, told = run(trained, folder, tasks="cola", protocol="P1-small")
    assert (found["glue-P1-small"]["protocol"], told) == ("P1-small", [("CoLA", 0, False)])
    assert run(trained, folder, tasks="cola")[1] == [("CoLA", 0, True)]
    with pytest.raises(UsageError, match="no protocol"):
        run(trained, folder, protocol="P3")


@pytest.mark.parametrize(("options", "told"), [({"seeds": 0}, "0 task seeds"), ({"train_rows": 15}, "15 task rows")])
def test_too_few_seeds_or_rows_are_refused(trained: Trained, folder: Path, options: dict[str, int], told: str) -> None:
    """One seed and one batch are the least."""
    with pytest.raises(UsageError, match=told):
        run(trained, folder, **options)


def test_a_share_that_fills_no_batch_is_found_before_any_training(
    trained: Trained, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rows are a tenth of CoLA's here."""
    monkeypatch.setattr(taskrun, "finetune", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(DataError, match=r"0\.1 of CoLA's train rows are 4, fewer than a batch"):
        run(trained, folder, tasks="cola", fractions=(1.0, 0.1))


def test_a_curve_is_made_of_shares_of_the_rows(trained: Trained, folder: Path) -> None:
    """A share has files of its own and stands in the curve; the scores of the tasks are those of all rows."""
    found, told = run(trained, folder, tasks="cola", fractions=(0.5,), seeds=2)
    section = found["glue-P1"]
    assert [(point["fraction"], point["rows"], point["n"]) for point in section["curves"]["CoLA"]] == [
        (0.5, 20, 2),
        (1.0, 40, 2),
    ]
    assert section["tasks"]["CoLA"]["train_rows"] == 40
    assert len(told) == 4
    values = json.loads((trained.run.scores / "glue-fraction-0.5" / "CoLA" / "1.json").read_text())
    assert (values["fraction"], values["train_rows"], values["protocol"]) == (0.5, 20, "P1")
