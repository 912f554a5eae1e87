"""`gpuday replay`: 0 when the weights come out the same, 70 when they do not, and a sentence where it cannot say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_run_that_is_replayed_alike_ends_with_0_and_another_with_70(call: Callable[..., Any], tmp_path: Path) -> None:
    """The answer is an event; what differs stands in the error, with the step at which the losses part."""
    assert call("train", "tiny.toml", "--out", "runs/a").code == 0
    done = call("replay", "runs/a", "--json")
    assert done.code == 0, done.err
    answer = next(event for event in done.events if event.get("event") == "replay")
    assert (answer["equal"], answer["steps"], answer["parted_at"], answer["differing"]) == (True, 3, 0, "")
    journal = tmp_path / "runs" / "a" / "journal.jsonl"
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    step = next(row for row in rows if row["kind"] == "step" and row["step"] == 2)
    step["fraction"] = 0.0
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = call("replay", "runs/a")
    assert done.code == 70
    assert "losses part at step" in done.err and "the first tensor that differs is model." in done.err
    assert not next(event for event in done.events if event.get("event") == "replay")["equal"]


def test_what_cannot_be_replayed_is_told(call: Callable[..., Any], tmp_path: Path) -> None:
    """No run: 3. No training yet: 3. Another machine: 5, with both names."""
    assert call("replay", "nowhere").code == 3
    assert call("prepare", "tiny.toml", "--out", "runs/b").code == 0
    done = call("replay", "runs/b")
    assert (done.code, "was not trained" in done.err) == (3, True)
    assert call("train", "tiny.toml", "--out", "runs/b").code == 0
    fit = tmp_path / "runs" / "b" / "fit.json"
    pinned = json.loads(fit.read_text())
    fit.write_text(json.dumps({**pinned, "device": "an old card"}))
    done = call("replay", "runs/b")
    assert done.code == 5
    assert "trained on an old card" in done.err
