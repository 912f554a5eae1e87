import pytest

from gpuday.evaluate.metrics import METRICS
from gpuday.evaluate.tasks.glue import AX, GLUE, MNLI_MM


def test_the_main_metrics_are_those_of_the_paper() -> None:
    """Matthews for CoLA, F1 for MRPC and QQP, Pearson for STS-B, accuracy for the rest."""
    main = {task.name: task.main for task in GLUE}
    assert main == {
        "CoLA": "matthews", "SST-2": "accuracy", "MRPC": "f1", "STS-B": "pearson", "QQP": "f1", "MNLI": "accuracy",
        "QNLI": "accuracy", "RTE": "accuracy", "WNLI": "accuracy",
    }  # fmt: skip


def test_every_task_can_be_scored_and_cited() -> None:
    """Known metrics, a citation, and for pairs two columns in the official file."""
    for task in GLUE:
        assert set(task.metrics) <= set(METRICS)
        assert task.citation
        assert task.tsv is not None
        assert (task.tsv.text_b is not None) == task.pair


def test_only_wnli_is_outside_the_mean() -> None:
    """Its dev set answers train questions the other way round."""
    assert [task.name for task in GLUE if not task.in_mean] == ["WNLI"]


def test_mnli_brings_its_other_dev_set_and_the_diagnostic_set() -> None:
    """Both outside the mean, answered with the classes of MNLI."""
    (mnli,) = (task for task in GLUE if task.companions)
    assert (mnli.name, mnli.companions) == ("MNLI", (MNLI_MM, AX))
    assert all((c.in_mean, c.classes) == (False, mnli.classes) for c in mnli.companions)
    assert (mnli.dev_file, MNLI_MM.dev_file) == ("dev_matched", "dev_mismatched")


def test_people_average_what_their_paper_says() -> None:
    """87.1 over nine tasks, with both metrics of those that have two and both sets of MNLI (arXiv 1905.10425)."""
    main = {task.name: 100 * task.reference for task in (*GLUE, MNLI_MM)}
    beside = {"MRPC": 80.8, "STS-B": 92.6, "QQP": 80.4, "MNLI": main.pop("MNLI-mm")}
    average = sum((v + beside.get(n, v)) / 2 for n, v in main.items()) / len(main)
    assert average == pytest.approx(87.1, abs=0.1)
