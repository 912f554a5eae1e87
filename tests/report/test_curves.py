"""The numbers behind the charts."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

from gpuday.report.curves import axes, curves, describe, kinds
from gpuday.report.load import load_run


def test_every_column_is_as_long_as_its_axes(run: Path) -> None:
    """A chart that is one point short is wrong everywhere after."""
    data = curves(load_run(run))
    assert {len(column) for column in data["steps"].values()} == {300}
    assert {len(column) for column in data["heldout"].values()} == {11}
    assert [axis["key"] for axis in data["axes"]] == ["seconds", "tokens", "flops", "step"]


def test_the_columns_hold_the_journals_numbers(run: Path) -> None:
    """Minutes on the clock, tokens, FLOPs and steps of the last step; the final held-out loss."""
    record = load_run(run)
    data, last = curves(record), record.steps[-1]
    assert math.isclose(data["steps"]["seconds"][-1], last.seconds / 60, rel_tol=1e-5)
    assert data["steps"]["tokens"][-1] == 7_864_320
    assert math.isclose(data["steps"]["flops"][-1], last.flops, rel_tol=1e-5)
    assert data["steps"]["step"][-1] == 300
    assert data["heldout"]["nats"][-1] == 4.127
    assert data["heldout"]["final"] == [False] * 10 + [True]


def test_the_clocks_unit_follows_its_length(run: Path) -> None:
    """Nobody reads 86,400 seconds."""
    record = load_run(run)
    for seconds, unit in ((90.0, "seconds"), (600.0, "minutes"), (86400.0, "hours")):
        longest = dataclasses.replace(record.steps[-1], seconds=seconds)
        assert axes(dataclasses.replace(record, steps=(longest,), validations=()))[0].title.startswith(unit)


def test_a_resume_is_marked_where_it_continued(run: Path) -> None:
    """The second attempt began after step 194."""
    assert curves(load_run(run))["resumes"]["step"] == [194.0]


def test_a_loss_that_is_no_number_is_null(run: Path) -> None:
    """JSON has no NaN, and the chart shows a gap."""
    record = load_run(run)
    steps = (dataclasses.replace(record.steps[0], loss=math.nan), *record.steps[1:])
    data = curves(dataclasses.replace(record, steps=steps))
    assert data["steps"]["loss"][0] is None
    json.dumps(data, allow_nan=False)


def test_no_text_of_the_run_is_among_the_data(run: Path) -> None:
    """plotly reads HTML in labels, so none may come from the run."""
    record = load_run(run)
    evil = "<a href='javascript:alert(1)'>x</a>"
    starts = tuple((n, dataclasses.replace(s, device=evil)) for n, s in record.attempts)
    text = json.dumps(curves(dataclasses.replace(record, name=evil, attempts=starts, notes=())))
    assert "<" not in text


def test_the_charts_are_described_in_words(run: Path) -> None:
    """For a reader who cannot see them."""
    described = describe(load_run(run))
    assert "held-out loss from 9.016 to 4.127 nats over 11 looks" in described["loss"]
    assert "rows in a step from" in described["schedule"]


def test_a_curve_of_several_kinds_of_steps_is_said_to_be_one(run: Path) -> None:
    """Where a run turns from next tokens to masked ones; nothing is said where all steps ask the same."""
    record = load_run(run)
    steps = [dataclasses.replace(s, question="causal" if s.step <= 75 else "masked") for s in record.steps]
    assert "do not compare" in kinds(dataclasses.replace(record, steps=tuple(steps)))
    assert kinds(record) == ""


def test_a_run_without_steps_is_described_too(new_run: Callable[..., Path]) -> None:
    """No chart is not a fault."""
    run = new_run()
    (run / "journal.jsonl").unlink()
    assert describe(load_run(run))["schedule"] == "No step was made yet."
