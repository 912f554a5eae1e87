from gpuday.evaluate.tasks.task import Task, Tsv


def test_the_head_has_one_output_a_class_or_one_for_a_number() -> None:
    """Regression predicts a single value."""
    assert Task(name="x", suite="s", classes=("a", "b", "c")).outputs == 3
    assert Task(name="x", suite="s", kind="regression", metrics=("pearson",)).outputs == 1


def test_the_first_metric_is_the_main_one() -> None:
    """The order in the table decides."""
    assert Task(name="x", suite="s", metrics=("f1", "accuracy")).main == "f1"


def test_the_head_of_each_kind_has_its_width() -> None:
    """A choice scores one candidate at a time, a span has a begin and an end, a tagging a number for each class."""
    assert Task(name="x", suite="s", kind="choice", options=4).outputs == 1
    assert Task(name="x", suite="s", kind="span").outputs == 2
    assert Task(name="x", suite="s", kind="tagging", classes=("B-A", "I-A", "O")).outputs == 3


def test_a_test_file_may_name_its_columns_otherwise() -> None:
    """As the diagnostic set of GLUE does."""
    table = Tsv(text_a="Premise", text_b="Hypothesis", label="Label", test=("sentence1", "sentence2"))
    assert table.columns(labelled=True) == ("Premise", "Hypothesis", "Label")
    assert table.columns(labelled=False) == ("sentence1", "sentence2", None)
