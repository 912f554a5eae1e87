"""Runs in brief, as a terminal shows them."""

from typing import Any

from gpuday.cli.listing import in_brief, places
from gpuday.recipe import KINDS


def row(name: str, changed: list[str] | None, **values: Any) -> dict[str, Any]:
    """A row of `list_runs`."""
    return {
        "name": name,
        "preset": "modern",
        "size": "nano",
        "budget": "10 min",
        "used_seconds": 599.0,
        "nats_per_token": 4.5,
        "word_bits_per_byte": None,
        "mean_scores": {},
        "status": "finished",
        "changed": changed,
        "not_comparable": None,
        **values,
    }


def test_what_all_runs_have_in_common_stands_in_the_title() -> None:
    """And a column that none has anything in is not there."""
    rows = [row("a", ["data.vocab=512"]), row("b", ["data.vocab=512", "optimizer.lr=0.02"])]
    title, (first, second) = in_brief(rows)
    assert title == "runs, all with nano 10 min data.vocab=512"
    assert first == {"name": "a", "recipe": "modern", "changed": "", "nats": 4.5, "status": "finished 9 min 59 s"}
    assert second["changed"] == "optimizer.lr=0.02"


def test_what_runs_do_not_have_in_common_stands_with_each() -> None:
    """Scores by suite and protocol, why losses do not compare, what is wrong with a damaged run, a run alone."""
    other = row("b", None, size="base", mean_scores={"glue-P1": 0.75}, not_comparable="other held-out text than a")
    gone = row("c", None, preset=None, status="damaged", problem="recipe.json is gone")
    title, (first, second, third) = in_brief([row("a", ["seed=1"]), other, gone])
    assert (title, first["recipe"], second["recipe"]) == ("runs, all with 10 min seed=1", "modern nano", "modern base")
    assert (second["means"], second["nats do not compare"]) == ("glue-P1 0.75", "other held-out text than a")
    assert (third["recipe"], third["nats do not compare"]) == ("nano", "recipe.json is gone")
    title, (alone,) = in_brief([row("a", ["seed=1"])])
    assert (title, alone["recipe"], alone["changed"]) == ("runs", "modern nano 10 min", "seed=1")
    assert in_brief([]) == ("runs", [])


def test_every_place_of_a_recipe_has_its_kind_by_its_key_and_by_its_last_name() -> None:
    """What users type."""
    found = places()
    assert {found[key] for key in ("rate", "mask_rate", "decay", "dropout", "length", "batch.ramp", "ramp")} == {
        "schedule"
    }
    assert (found["model.mixer"], found["mixer"], found["data.order"]) == ("mixer", "mixer", "order")
    assert set(found.values()) == set(KINDS) - {"source"}  # a corpus is text that names its source
