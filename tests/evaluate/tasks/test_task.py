from gpuday.evaluate.tasks import Task


def test_the_head_has_one_output_a_class_or_one_for_a_number() -> None:
    """Regression predicts a single value."""
    assert Task(name="x", suite="s", classes=("a", "b", "c")).outputs == 3
    assert Task(name="x", suite="s", kind="regression", metrics=("pearson",)).outputs == 1


def test_the_first_metric_is_the_main_one() -> None:
    """The order in the table decides."""
    assert Task(name="x", suite="s", metrics=("f1", "accuracy")).main == "f1"
