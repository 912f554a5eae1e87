"""What the benchmarks share: the order of calls, medians, the JSON lines, the table."""

import json
from pathlib import Path

import pytest
from measure import Record, Spread, alternate, comma_separated, need, parser, shown, table


def test_arms_are_called_in_turn_and_the_warm_up_is_left_out() -> None:
    """Both sides see the same machine: a, b, a, b; the first round, in which things compile, counts for neither."""
    order: list[str] = []
    clock = iter([0.0, 100.0, 0.0, 50.0, 0.0, 2.0, 0.0, 4.0, 0.0, 3.0, 0.0, 9.0])
    arms = {name: lambda n=name: order.append(n) for name in ("a", "b")}
    seconds = alternate(arms, rounds=2, warm_up=1, now=lambda: next(clock))
    assert ["a", "b"] * 3 == order
    assert {"a": Spread(2.5, 2.0, 3.0, 2), "b": Spread(6.5, 4.0, 9.0, 2)} == seconds


def test_a_rate_turns_slow_rounds_into_low_rates() -> None:
    """100 tokens in 2, 4 and 5 seconds are 50, 25 and 20 a second."""
    assert Spread(25.0, 20.0, 50.0, 3) == Spread.of([4.0, 2.0, 5.0]).rate(100.0)


def test_a_measurement_is_one_json_line_with_its_environment(tmp_path: Path) -> None:
    """Name, shape, medians, spread and environment stand on the line, which is written at once."""
    record = Record("speed", tmp_path / "deep" / "out.jsonl")
    record.add("nano", shape={"layers": 4}, figures={"tokens_per_second": Spread(2.0, 1.0, 3.0, 3), "ratio": 1.5})
    record.add("micro", shape={}, figures={"ratio": 2.0})
    first, second = [json.loads(line) for line in (tmp_path / "deep" / "out.jsonl").read_text().splitlines()]
    assert {"tokens_per_second": 2.0, "ratio": 1.5} == first["figures"]
    assert {"tokens_per_second": {"low": 1.0, "high": 3.0, "rounds": 3}} == first["spread"]
    assert ("speed", "nano", {"layers": 4}) == (first["benchmark"], first["what"], first["shape"])
    assert {"device", "libraries", "source", "cores"} <= first["environment"].keys()
    assert second["what"] == "micro"


def test_a_figure_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """JSON has no NaN; a measurement that gave one is a fault, not a line."""
    with pytest.raises(ValueError, match="JSON"):
        Record("speed", tmp_path / "out.jsonl").add("nano", shape={}, figures={"ratio": float("nan")})


def test_a_table_has_a_column_for_every_key() -> None:
    """Rows of different keys stand in one table, empty where a row has none."""
    assert "  what  a_b".replace("_", " ") == table([{"what": "x", "a_b": 1}, {"what": "y"}]).splitlines()[0]
    assert ["x", "1", "y"] == " ".join(table([{"what": "x", "a_b": 1}, {"what": "y"}]).splitlines()[1:]).split()


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.1235"), (25311.4, "25,311"), (4.25e11, "425G"), ("bf16", "bf16"), (True, "True")]
)
def test_figures_are_shown_for_people(value: object, text: str) -> None:
    """Four digits, thousands apart, prefixes for the large ones; what is no number as it is."""
    assert text == shown(value)


def test_lists_are_given_with_commas() -> None:
    """`--sizes nano,micro`, with spaces or without."""
    assert ["nano", "micro"] == comma_separated("nano, micro,")
    assert ["base"] == parser("", sizes="nano,micro").parse_args(["--sizes", "base"]).sizes


def test_a_peer_that_is_not_installed_is_named() -> None:
    """A peer's library is no dependency: its absence ends the benchmark with a sentence that says how to get it."""
    with pytest.raises(SystemExit, match="pip install no_such_module_here"):
        need("no_such_module_here", "the peer")
