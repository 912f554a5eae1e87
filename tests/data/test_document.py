import json
from pathlib import Path

from gpuday.data.document import Drop, DropCounter


def test_drops_are_counted_by_stage_and_reason() -> None:
    """Two reasons in one stage and one reason in two stages are kept apart."""
    drops = DropCounter()
    drops.add("read", Drop("bad", "a"))
    drops.add("read", Drop("empty"), times=3)
    drops.add("train", Drop("bad", "b"))
    assert list(drops) == [("read", "bad", 1), ("read", "empty", 3), ("train", "bad", 1)]
    assert drops.count() == 5
    assert drops.count("read") == 4
    assert drops.count(reason="bad") == 2


def test_the_first_twenty_samples_are_kept_and_cut(tmp_path: Path) -> None:
    """drops.json holds 20 samples of at most 200 characters however many drops there were."""
    drops = DropCounter()
    for i in range(50):
        drops.add("read", Drop("bad", f"{i}:" + "x" * 500))
    drops.write(tmp_path / "drops.json")
    row = json.loads((tmp_path / "drops.json").read_text())["read"]["bad"]
    assert row["count"] == 50
    assert [s.split(":")[0] for s in row["samples"]] == [str(i) for i in range(20)]
    assert {len(s) for s in row["samples"]} == {200}


def test_a_sample_that_is_not_unicode_can_be_written(tmp_path: Path) -> None:
    """A lone surrogate in a sample does not stop the report about it."""
    drops = DropCounter()
    drops.add("read", Drop("lone surrogate", "a\ud800b"))
    drops.write(tmp_path / "drops.json")
    assert json.loads((tmp_path / "drops.json").read_text())["read"]["lone surrogate"]["samples"] == ["a?b"]
