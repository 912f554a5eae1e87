from gpuday.evaluate.metrics import METRICS
from gpuday.evaluate.tasks.glue import GLUE


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
