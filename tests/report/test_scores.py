"""The table of scores."""

from collections.abc import Callable
from pathlib import Path

from gpuday.report import scores
from gpuday.report.load import load_run


def test_a_task_has_median_spread_seeds_and_baselines(run: Path) -> None:
    """Hand-written values of the first task."""
    task = scores.tasks(load_run(run))[0]
    assert (task.name, task.metric, task.median, task.spread, task.n) == (
        "package",
        "accuracy",
        "0.713",
        "0.699 to 0.720",
        5,
    )
    assert task.baselines == "majority 0.213, bag_of_words 0.681"
    assert task.rows == "8,000 of 14,206 train, 1,702 dev"
    assert task.dots[0] == 70.11
    assert task.marks == (21.3, 68.1)


def test_percentages_are_drawn_on_their_own_scale(new_run: Callable[..., Path]) -> None:
    """A score of 71 is not drawn beyond the end."""
    section = {"tasks": {"rte": {"values": [71.0], "baseline": 52.7, "chance": 50}}}
    (task,) = scores.tasks(load_run(new_run(summary={"scores": section})))
    assert (task.dots, sorted(task.marks), task.median, task.spread) == ((71.0,), [50.0, 52.7], "71.000", "\N{EN DASH}")


def test_the_protocol_is_stated(new_run: Callable[..., Path]) -> None:
    """And where it is not known, that is stated."""
    assert scores.protocol(load_run(new_run())).startswith(
        "P1 (one set of hyperparameters, at most 5 epochs); seeds 0, 1"
    )
    unnamed = load_run(new_run("b", summary={"scores": {"tasks": {"a": 0.5}}}))
    assert scores.protocol(unnamed) == "protocol not stated"
    assert scores.tasks(unnamed)[0].median == "0.500"
    assert scores.protocol(load_run(new_run("c", summary={"scores": None}))) == ""


def test_scores_of_tasks_that_are_done_stand_in_for_the_summary(new_run: Callable[..., Path]) -> None:
    """A run whose evaluation was interrupted shows what it has."""
    run = new_run(summary={"scores": None})
    for seed, value in ((0, 0.6), (1, 0.7)):
        path = run / "scores" / "glue" / "rte" / f"{seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"metric": "accuracy", "value": {value}}}')
    (task,) = scores.tasks(load_run(run))
    assert (task.name, task.median, task.n) == ("glue/rte", "0.650", 2)
